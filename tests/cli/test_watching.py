"""`sidecarctl quality` and `drift` as they are used: processes of their own, against a real control socket."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.chromium import CHROMIUM, displayed, photographed
from support.labelled import (
    NOON,
    Listening,
    column,
    decided,
    id_at,
    labels,
    readings,
    spread_baseline,
    watched,
)
from support.rpc_control import ADDER, Control
from support.served import A

from model_sidecar.config import MonitorSettings
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.readings import Watched
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.baseline import Baseline, Classes, StreamKind

COMMAND = (sys.executable, "-W", "error", "-m", "model_sidecar_client.cli")
PATIENCE_S = 60


class Watching:
    """A control plane, the monitor's observers behind it, and the command before it."""

    def __init__(self, control: Control, here: Listening, drift: Drift) -> None:
        self.control = control
        self.here = here
        self.drift = drift

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "--control", f"unix:{self.control.socket}", *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("MODEL_SIDECAR_")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def went_wrong(self) -> Watched:
        """A version of six features that is right in four of five cases only, and one of whose features is doubled."""
        names = [f"feature_{n}" for n in range(6)]
        baseline = Baseline(
            rows=20_000,
            streams=(*(column(each) for each in names), column("confidence", StreamKind.CONFIDENCE)),
            classes=Classes(("0", "1", "2"), (9_000, 8_000, 3_000), 0),
        )
        version = watched(
            A,
            site=ADDER,
            features=tuple(names),
            metrics={"accuracy": 0.98, "f1": 0.95, "auc": 0.99},
            baseline=baseline,
        )
        rng = np.random.default_rng(11)
        for tick in range(12):
            rows = readings(NOON, 200)
            rows.ids[:] = id_at(NOON, tick * 1000) + np.arange(200)
            rows = type(rows)(
                **{
                    **{name: getattr(rows, name) for name in rows.__dataclass_fields__},
                    "features": rng.random((200, 6)) * np.array([2, 1, 1, 1, 1, 1]),
                    "confidence": rng.random(200),
                    "prediction": rng.choice([0.0, 1.0, 2.0], 200, p=[0.4, 0.45, 0.15]),
                }
            )
            self.drift.observe(version, rows)
            self.here.quality.observe(version, rows)
        truths = [n % 5 > 0 for n in range(900)]
        self.here.quality.joined(version.key, labels(NOON, truths))
        return version


@pytest.fixture
def sidecarctl(tmp_path: Path) -> Iterator[Watching]:
    here, drift = Listening(), Drift(MonitorSettings())
    reports = Reports(quality=here.quality, drift=drift, decisions=decided(ADDER))
    with Control(tmp_path, reports=reports).running() as control:
        yield Watching(control, here, drift)


def test_quality_is_read_at_a_glance(sidecarctl: Watching) -> None:
    """The verdict first, a sentence, then each metric with its bounds beside what was published."""
    sidecarctl.went_wrong()
    shown = sidecarctl("quality", "adder", "--environment", "prod")

    assert (shown.returncode, shown.stderr) == (0, "")
    first, sentence, head, accuracy, *_ = shown.stdout.splitlines()
    assert first == f"adder prod {A}: BELOW ALARM since 2026-11-23T12:30:00Z"
    assert "below what was published" in sentence
    assert head.split() == ["METRIC", "VALUE", "LOWER", "UPPER", "PUBLISHED", "VERDICT"]
    assert re.fullmatch(r"  accuracy +0\.8 +0\.77\d+ +0\.82\d+ +0\.98 +below", accuracy)


def test_drift_names_its_cause(sidecarctl: Watching) -> None:
    """The stream that says most stands first, with what it says; the guard's decisions follow."""
    sidecarctl.went_wrong()
    shown = sidecarctl("drift", "adder", "--environment", "prod")

    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"adder prod {A}: ALARM since ")
    assert "feature_0" in lines[1]
    table = next(place for place, line in enumerate(lines) if line.split()[:1] == ["STREAM"])
    assert "alarm" in lines[table + 1]
    assert any("guard: dry-run" in line for line in lines)
    assert any("would_roll_back" in line for line in lines)


@pytest.mark.parametrize(
    ("command", "fail_on", "before", "after"),
    [
        ("quality", "alarm", 0, 6),
        ("quality", "below", 0, 6),
        ("quality", "inconclusive", 6, 6),
        ("drift", "alarm", 0, 6),
        ("drift", "inconclusive", 6, 6),
    ],
)
def test_scripts_can_fail_on_it(
    sidecarctl: Watching, command: str, fail_on: str, before: int, after: int
) -> None:
    """Exit code 6, and one line why, where the condition is met; nothing known is inconclusive and no alarm."""
    words = (command, "adder", "--environment", "prod", "--fail-on", fail_on)
    assert sidecarctl(*words).returncode == before
    sidecarctl.went_wrong()
    shown = sidecarctl(*words)
    assert shown.returncode == after
    assert f"--fail-on {fail_on} is met: {A}" in shown.stderr


def test_programs_are_told_everything(sidecarctl: Watching) -> None:
    """-o json has the records' fields, of the window that was asked for."""
    sidecarctl.went_wrong()
    shown = sidecarctl("quality", "adder", "--environment", "prod", "--window", "2h", "-o", "json")
    (model,) = json.loads(shown.stdout)["quality"]
    (version,) = model["versions"]
    assert (version["version"], version["verdict"], version["labels"]) == (A, "below", 900)
    assert version["metrics"][0]["name"] == "accuracy"

    shown = sidecarctl("drift", "adder", "--environment", "prod", "-o", "json")
    (model,) = json.loads(shown.stdout)["drift"]
    assert model["versions"][0]["streams"][0]["bins"][0].keys() == {"label", "baseline_share", "share"}
    assert model["decisions"][0]["decision"] == "would_roll_back"


def test_a_wrong_name_is_an_error(sidecarctl: Watching) -> None:
    """An unknown model, an unknown version and a file that cannot be written end with 1 and one line."""
    for words in (
        ("quality", "nobody"),
        ("drift", "adder", "--version", "2020.01.01.prod"),
        ("quality", "adder", "--html", "/nowhere/at/all.html"),
    ):
        shown = sidecarctl(*words, "--environment", "prod")
        assert shown.returncode == 1, shown
        assert len(shown.stderr.splitlines()) == 1


def test_a_page_is_written_into_a_directory_that_is_there(sidecarctl: Watching, tmp_path: Path) -> None:
    """A mistyped directory is an error that names the file and is not made."""
    sidecarctl.went_wrong()
    page = tmp_path / "nodir" / "x.html"
    for command in ("quality", "drift"):
        shown = sidecarctl(command, "adder", "--environment", "prod", "--html", str(page))
        assert shown.returncode == 1
        assert shown.stderr == f"sidecarctl: cannot write {page}: No such file or directory\n"
        assert not page.parent.exists()


def test_what_cannot_be_known_is_not_called_good(sidecarctl: Watching) -> None:
    """Without a baseline there is neither drift nor none, and a metric that was not published has no verdict."""
    version = watched(A, site=ADDER, metrics={}, baseline=None)
    rows = readings(NOON, 900)
    rows.ids[:] = id_at(NOON, 0) + np.arange(900)
    sidecarctl.drift.observe(version, rows)
    sidecarctl.here.quality.observe(version, rows)
    sidecarctl.here.quality.joined(version.key, labels(NOON, [True] * 900))

    shown = sidecarctl("drift", "adder", "--environment", "prod").stdout
    assert shown.startswith(f"adder prod {A}: not known: no baseline\n")
    assert "no drift" not in shown
    assert "no alarm" not in shown

    shown = sidecarctl("quality", "adder", "--environment", "prod").stdout
    (accuracy,) = re.findall(r"^  accuracy  +.*$", shown, re.MULTILINE)
    assert accuracy.split()[-2:] == ["-", "-"]


def test_hours_of_a_window_are_told(sidecarctl: Watching) -> None:
    """Whoever asks for ten minutes is told that he gets hours."""
    assert "by whole hours" in " ".join(sidecarctl("quality", "--help").stdout.split())


def test_one_file_holds_the_whole_report(sidecarctl: Watching, tmp_path: Path) -> None:
    """The page has no script and asks the network for nothing."""
    version = watched(A, site=ADDER, baseline=spread_baseline())
    sidecarctl.here.quality.observe(version, readings(NOON, 10))
    sidecarctl.drift.observe(version, readings(NOON, 10))
    page = tmp_path / "report.html"
    shown = sidecarctl("quality", "adder", "--environment", "prod", "--html", str(page))
    assert (shown.returncode, shown.stderr) == (0, f"wrote {page}\n")

    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r"""(?:src|href|url|@import)\s*[=(]""", text)
    assert text.count("<svg") >= 4


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_a_browser_shows_it(sidecarctl: Watching, tmp_path: Path) -> None:
    """Chromium draws the histograms, evidence, intervals and decisions, in light and in dark, and nothing overflows."""
    sidecarctl.went_wrong()
    page = tmp_path / "report.html"
    assert sidecarctl("drift", "adder", "--environment", "prod", "--html", str(page)).returncode == 0

    shown = displayed(page.as_uri(), tmp_path / "profile")
    assert shown.count('class="plot"') == 7 + 1  # the columns, and the classes
    assert shown.count('class="span"') >= 3
    assert "would roll back" in shown
    for name, dark in (("light", False), ("dark", True)):
        picture = tmp_path / f"{name}.png"
        photographed(page.as_uri(), picture, tmp_path / f"profile-{name}", dark=dark)
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()

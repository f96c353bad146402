"""The page for whoever was woken, where a version has gone wrong: read in a real browser, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from support.chromium import CHROMIUM, displayed, photographed
from support.labelled import NOON, Listening, column, decided, id_at, labels, readings, watched
from support.served import SITE, A, B, Bench, StillModel

from model_sidecar.config import Address, MonitorSettings
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.readings import Watched
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.baseline import Baseline, Classes, StreamKind
from model_sidecar.telemetry import statusz_monitor
from model_sidecar.telemetry.http import HttpServer
from model_sidecar.telemetry.metrics import Metrics
from model_sidecar.telemetry.pages import Pages
from model_sidecar.telemetry.readiness import Readiness
from model_sidecar.telemetry.statusz import StatusPage

FEATURES = ("age", "income", "tenure_months", "visits", "basket", "returns")


class Woken:
    """A site whose live version B came after A, and everything that watches it, behind an HTTP server."""

    def __init__(self, store: Path) -> None:
        self.here, self.drift = Listening(), Drift(MonitorSettings())
        self.bench = Bench(store)
        registry = CollectorRegistry()
        metrics = Metrics(registry, software="0.1.0")
        metrics.watch(self.bench.served)
        for version in (A, B):
            generation = self.bench.record(version, reason="weekly retrain")
            metrics.on_event(self.bench.publish(StillModel(version), generation=generation))
        readiness = Readiness([self.bench.served])
        page = StatusPage(
            [self.bench.served],
            meters=metrics.meters,
            readiness=readiness,
            software="0.1.0",
            control="unix:/run/sidecar/control.sock",
            reports=Reports(quality=self.here.quality, drift=self.drift, decisions=decided()),
        )
        pages = Pages([self.bench.served], registry=registry, readiness=readiness, status_page=page)
        self.page = page
        self.server = HttpServer(Address(host="127.0.0.1", port=0), pages)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.address.port}/statusz"

    def observe(self, version: Watched, *, factor: float, wrong: int) -> None:
        """Show 2,400 rows of it, one feature times a factor; one in `wrong` of 900 labels says that it was wrong."""
        rng = np.random.default_rng(5)
        for tick in range(12):
            rows = replace(
                readings(NOON, 200),
                ids=id_at(NOON, tick * 1000) + np.arange(200),
                features=rng.random((200, 6)) * np.array([1, factor, 1, 1, 1, 1]),
                confidence=rng.random(200),
                prediction=rng.choice([0.0, 1.0, 2.0], 200, p=[0.45, 0.4, 0.15]),
            )
            self.drift.observe(version, rows)
            self.here.quality.observe(version, rows)
        self.here.quality.joined(version.key, labels(NOON, [n % wrong > 0 for n in range(900)]))


@pytest.fixture
def woken(tmp_path: Path) -> Iterator[Woken]:
    made = Woken(tmp_path / "ml-models")
    made.server.start()
    yield made
    made.server.stop(timeout_s=1)


def known(version: str) -> Watched:
    baseline = Baseline(
        rows=20_000,
        streams=(*map(column, FEATURES), column("confidence", StreamKind.CONFIDENCE)),
        classes=Classes(("0", "1", "2"), (9_000, 8_000, 3_000), 0),
    )
    metrics = {"accuracy": 0.9811, "f1": 0.95, "log_loss": 0.071}
    return watched(B if version == B else A, features=FEATURES, metrics=metrics, baseline=baseline)


def test_nothing_watched_nothing_said(woken: Woken) -> None:
    """Before the first prediction the page is what it was; the guard's decisions are on it all the same."""
    text = woken.page.render().decode()
    assert "Drift" not in text
    assert "would roll back" in text


def test_alarms_of_the_live_version_stand_at_the_top(woken: Woken) -> None:
    """What went wrong comes before the history, and next to it the command that goes back."""
    woken.observe(known(B), factor=2, wrong=5)
    woken.observe(known(A), factor=1, wrong=50)
    text = woken.page.render().decode()

    places = [
        text.index(each) for each in ("predicts worse than", "has drifted", "rollback", "Last 2 deployments")
    ]
    assert places == sorted(places)
    assert "feature income is outside of what the baseline had" in text
    assert re.search(rf"<details><summary>Quality and drift of {A}</summary>", text), (
        "the standby's is folded away"
    )
    assert "<script" not in text


@pytest.mark.parametrize("part", ["reports", "section"])
def test_what_cannot_be_told_costs_the_page_no_more(
    woken: Woken, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Where quality fails, asked or drawn, the page says so in its place; drift, history and the way back are there."""
    woken.observe(known(B), factor=2, wrong=5)
    if part == "reports":
        monkeypatch.setattr(woken.here.quality, "reports", lambda *_: 1 / 0)
    else:
        monkeypatch.setattr(statusz_monitor, "quality_section", lambda _: 1 / 0)
    text = woken.page.render().decode()
    assert "on the status page cannot be told here: ZeroDivisionError" in text
    for each in ("has drifted", "rollback", "Last 2 deployments", "would roll back"):
        assert each in text


def test_a_version_as_published_raises_no_notice(woken: Woken) -> None:
    """Numbers and plots, and nothing that alarms."""
    woken.observe(known(B), factor=1, wrong=50)
    text = woken.page.render().decode()
    assert 'class="plot"' in text
    assert "notice bad" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_a_browser_shows_it(woken: Woken, tmp_path: Path) -> None:
    """Chromium fetches one page and nothing else of ours, and draws the histograms of both versions."""
    woken.observe(known(B), factor=2, wrong=5)
    woken.observe(known(A), factor=1, wrong=50)
    shown = displayed(woken.url, tmp_path / "profile")
    assert shown.count('class="plot"') == 2 * 8
    assert SITE.model in shown
    for name, dark in (("light", False), ("dark", True)):
        photographed(
            woken.url, tmp_path / f"{name}.png", tmp_path / f"profile-{name}", dark=dark, size="1280,2400"
        )
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()

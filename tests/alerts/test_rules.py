"""The alerting rules, by Prometheus' own tool: they parse, fire when they should, and speak of metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "model-sidecar.rules.yml"
CASES = tuple(Path(__file__).with_name(name) for name in ("rules.test.yml", "slow_rules.test.yml"))
RUNBOOK = ROOT / "docs" / "alerts.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here: scripts/need.sh prometheus installs it"
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("promtool")), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def alerts() -> set[str]:
    return set(re.findall(r"- alert: (\w+)", RULES.read_text()))


@needs_promtool
def test_the_rules_are_rules() -> None:
    """Prometheus takes the file."""
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_each_alert_fires_when_it_should_and_keeps_quiet_otherwise() -> None:
    """The cases of both files pass."""
    tested = promtool("test", "rules", *CASES)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_no_alert_is_untested() -> None:
    """For each alert some case expects that it fires, and some that it does not."""
    cases = "\n".join(each.read_text() for each in CASES)
    entry = re.compile(r"alertname: (\w+)(\s+exp_alerts:)?")
    fires = {name for name, expected in entry.findall(cases) if expected}
    quiet = {name for name, expected in entry.findall(cases) if not expected}

    assert fires == quiet == alerts()


def test_the_rules_speak_of_metrics_that_exist() -> None:
    """Every metric that a rule reads stands in docs/metrics.md, which a test of its own holds against the sidecar."""
    known = set(re.findall(r"^### `(\w+)[{`]", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    read = set(re.findall(r"\bmodel_sidecar_\w+", RULES.read_text()))

    assert {re.sub(r"_(bucket|count|sum)$", "", each) for each in read} <= known


def test_each_alert_has_a_runbook() -> None:
    """Whoever is woken finds a heading for the alert in docs/alerts.md or the page on monitoring."""
    headings = {each.lower() for each in re.findall(r"^## (\w+)", RUNBOOK.read_text(), re.MULTILINE)}
    linked = re.findall(r"runbook: (\S+)", RULES.read_text())

    assert len(linked) == len(alerts())
    for link in linked:
        page, _, anchor = link.partition("#")
        assert (ROOT / page).exists()
        assert not anchor or anchor in headings

"""Metrics that events move, and those that are read when somebody scrapes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.openmetrics import parser
from support.labelled import NOON, Listening, labels, readings, spread_baseline, watched
from support.served import SITE, A, B, Bench, C, StillModel

from model_sidecar.config import MonitorSettings
from model_sidecar.errors import Reason
from model_sidecar.events import (
    Committed,
    Event,
    GuardDecided,
    Refused,
    Released,
    Restated,
    StoreRead,
    StoreUnreadable,
)
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.readings import NOWHERE, WatchedKey
from model_sidecar.monitor.reports import Reports
from model_sidecar.monitor.tallies import Tallies
from model_sidecar.release.digests import digest_of
from model_sidecar.telemetry.exposition import expose
from model_sidecar.telemetry.metrics import Metrics

LABELS = {"model": SITE.model, "environment": SITE.environment}
PROMTOOL = shutil.which("promtool")
parse_open_metrics: Callable[[str], Iterator[Metric]] = parser.text_string_to_metric_families
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry, clock: Hand) -> Metrics:
    return Metrics(registry, software="0.1.0", clock=clock)


@pytest.fixture
def bench(tmp_path: Path, metrics: Metrics) -> Bench:
    made = Bench(tmp_path)
    metrics.watch(made.served)
    return made


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"model_sidecar_{name}", {**LABELS, **labels})


def refused(reason: Reason, *, verification: bool) -> Refused:
    return Refused(SITE, C, reason, "no", verification)


def test_a_published_version_is_a_flip(registry: CollectorRegistry, metrics: Metrics, bench: Bench) -> None:
    """A flip is counted and timed by phase, and the last one counts as successful, now."""
    assert value(registry, "flips_total", outcome="published") == 0
    assert value(registry, "last_flip_successful") is None

    before = time.time()
    metrics.on_event(bench.publish(StillModel(A)))

    assert value(registry, "flips_total", outcome="published") == 1
    assert value(registry, "last_flip_successful") == 1
    at = value(registry, "last_flip_success_timestamp_seconds")
    assert at is not None
    assert before <= at <= time.time()
    for phase, seconds in {"verify": 0.2, "load": 0.3, "warm": 0.01, "commit": 0.003, "total": 0.004}.items():
        assert value(registry, "flip_duration_seconds_sum", phase=phase) == pytest.approx(seconds)


def test_a_refused_version_is_a_failed_flip(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A failed verification shows by its reason, until the pointer names what answers again."""
    metrics.on_event(bench.publish(StillModel(A)))
    metrics.on_event(refused(Reason.DIGEST_MISMATCH, verification=True))

    assert value(registry, "flips_total", outcome="refused") == 1
    assert value(registry, "verification_failures_total", reason="DIGEST_MISMATCH") == 1
    assert value(registry, "last_flip_successful") == 0

    metrics.on_event(Restated(SITE, A, StillModel(A).manifest.digest, 2))
    assert value(registry, "last_flip_successful") == 1


def test_a_mistaken_call_wakes_nobody(registry: CollectorRegistry, metrics: Metrics, bench: Bench) -> None:
    """An order that was turned down before any version was tried counts, but is no failed flip."""
    metrics.on_event(bench.publish(StillModel(A)))
    metrics.on_event(refused(Reason.GENERATION_MISMATCH, verification=False))

    assert value(registry, "flips_total", outcome="refused") == 1
    assert value(registry, "last_flip_successful") == 1
    assert value(registry, "verification_failures_total", reason="GENERATION_MISMATCH") is None


def test_rollbacks_are_counted_by_what_set_them_off(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A ROLLBACK record counts under its trigger; other records do not count here."""
    metrics.on_event(Committed(SITE, 2, A, "ROLLBACK", "operator", "uid:0", "precision"))
    metrics.on_event(Committed(SITE, 3, B, "DEPLOY", "operator", "uid:0", ""))

    assert value(registry, "rollbacks_total", trigger="operator") == 1
    assert value(registry, "rollbacks_total", trigger="pointer") == 0


def test_the_active_version_is_exactly_one(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """The info metric names the version that answers with its identity and generation, and no other."""
    assert value(registry, "resident_models") == 0
    bench.publish(StillModel(A), generation=1)
    bench.publish(StillModel(B), generation=2)

    shown = [
        sample.labels
        for family in registry.collect()
        if family.name == "model_sidecar_active_version"
        for sample in family.samples
    ]
    assert shown == [
        {**LABELS, "version": B, "manifest_sha256": StillModel(B).manifest.digest, "generation": "2"}
    ]
    assert value(registry, "resident_models") == 2


def test_the_pointers_generation_is_the_heads(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Nothing before the first look, 0 over an empty ledger, then the head's; nothing under an external pointer."""
    assert value(registry, "pointer_generation") is None
    bench.post()
    assert value(registry, "pointer_generation") == 0
    bench.record(A)
    bench.record(B)
    bench.post()
    assert value(registry, "pointer_generation") == 2
    bench.post(externally_managed=True)
    assert value(registry, "pointer_generation") is None


def test_staleness_grows_between_looks(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench, clock: Hand
) -> None:
    """The pointer's age is measured when scraped; before the first look it is the process' own age."""
    clock.now += 7
    assert value(registry, "pointer_staleness_seconds") == pytest.approx(7)
    bench.post(last_look=clock.now)
    assert value(registry, "pointer_staleness_seconds") == 0
    clock.now += 3
    assert value(registry, "pointer_staleness_seconds") == pytest.approx(3)


def test_an_unreachable_store_shows_for_how_long(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench, clock: Hand
) -> None:
    """Counted from the first failed look, however many follow, and 0 again after the first that succeeds."""
    assert value(registry, "store_unreachable_seconds") == 0
    metrics.on_event(StoreUnreadable(SITE, "EIO"))
    clock.now += 5
    metrics.on_event(StoreUnreadable(SITE, "EIO"))
    clock.now += 5
    assert value(registry, "store_unreachable_seconds") == pytest.approx(10)
    metrics.on_event(StoreRead(SITE, datetime.now(UTC), 1))
    assert value(registry, "store_unreachable_seconds") == 0


def test_an_event_that_cannot_be_counted_raises_nothing(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener runs on the thread that did the work, which must not suffer from it."""
    metrics.on_event(Event(site=None))  # type: ignore[arg-type]  # exactly what must not matter

    assert "could not count Event" in caplog.text


def test_nothing_is_put_on_the_global_registry() -> None:
    """Importing and building the metrics leaves prometheus_client's own registry as it was."""
    program = (
        "from prometheus_client import REGISTRY, CollectorRegistry\n"
        "before = set(REGISTRY._collector_to_names)\n"
        "from model_sidecar.telemetry.metrics import Metrics\n"
        "Metrics(CollectorRegistry(), software='0')\n"
        "assert set(REGISTRY._collector_to_names) == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("model_sidecar")]


def guard_decided(decision: str) -> GuardDecided:
    """The guard's word about A."""
    return GuardDecided(
        site=SITE,
        version=A,
        manifest=digest_of(A.encode()),
        decision=decision,
        trigger="nonfinite",
        target=B,
        generation=2,
        evidence_log10=8.0,
        message="30 of 100 answers hold NaN or infinity",
    )


def test_the_guards_decisions_are_counted_while_the_version_is_resident(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    """By what was decided; and no label set outlives its version."""
    for decision in ("held", "held", "rolled_back"):
        metrics.on_event(guard_decided(decision))
    labels = {"model": SITE.model, "environment": SITE.environment, "version": A}
    name = "model_sidecar_guard_decisions_total"

    assert registry.get_sample_value(name, {**labels, "decision": "held"}) == 2
    assert registry.get_sample_value(name, {**labels, "decision": "rolled_back"}) == 1
    metrics.on_event(Released(SITE, A, digest_of(A.encode())))
    assert registry.get_sample_value(name, {**labels, "decision": "held"}) is None


def busy(metrics: Metrics, bench: Bench) -> None:
    """Make every metric have a sample."""
    generation = bench.record(A)
    metrics.on_event(bench.publish(StillModel(A), generation=generation))
    metrics.on_event(refused(Reason.DIGEST_MISMATCH, verification=True))
    metrics.on_event(Committed(SITE, 2, A, "ROLLBACK", "operator", "uid:0", ""))
    metrics.on_event(guard_decided("held"))
    metrics.meters.predicted(SITE, A, code="OK", total_s=0.001, inference_s=0.0005, queue_s=0.0001, rows=2)
    metrics.meters.started("/inference.GRPCInferenceService/ModelInfer")
    metrics.meters.handled("/inference.GRPCInferenceService/ModelInfer", "OK", 0.001)


def test_the_exposition_is_what_a_scraper_parses(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Made in pieces, it is still one valid OpenMetrics document, and plain text where that is asked for."""
    busy(metrics, bench)
    open_metrics, plain = expose(registry, OPENMETRICS), expose(registry)

    assert open_metrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_open_metrics(open_metrics.body.decode()))
    assert {"model_sidecar_predictions", "model_sidecar_active_version", "process_open_fds"} <= {
        family.name for family in families
    }
    assert open_metrics.body.count(b"# EOF\n") == 1
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert b"# EOF" not in plain.body
    assert b"_created" not in plain.body + open_metrics.body


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_find_fault_with(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Names, units, types and help texts follow Prometheus' own rules."""
    busy(metrics, bench)
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=expose(registry).body, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_every_metric_is_documented_and_every_documented_metric_exists(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """docs/metrics.md has a section for each metric, with its very labels, and for nothing else."""
    busy(metrics, bench)
    tallies = Tallies()
    tallies.ticked()
    tallies.fed_back(WatchedKey(SITE, A, NOWHERE), "joined")
    metrics.watch_monitor([SITE], tallies.current)
    version, here, drift = watched(baseline=spread_baseline()), Listening(), Drift(MonitorSettings())
    drift.observe(version, readings(NOON, 10))
    here.quality.observe(version, readings(NOON, 10))
    here.quality.joined(version.key, labels(NOON, [True]))
    metrics.watch_versions([bench.served], Reports(quality=here.quality, drift=drift), stream_counters=True)
    exposed = {}
    for family in registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        exposed[name] = {
            label for sample in family.samples for label in sample.labels if label not in ("le", "quantile")
        }

    named = r"`([a-z0-9]+_[a-z0-9_]+)(?:\{([a-z0-9_, ]*)\})?`"
    found = re.findall(rf"^(?:### {named}|\| {named} \|)", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    documented = {one or other: set(filter(None, (a or b).split(", "))) for one, a, other, b in found}

    assert documented == exposed


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_every_documented_query_is_promql(tmp_path: Path) -> None:
    """What docs/metrics.md proposes can be pasted into Prometheus."""
    document = DOCUMENT.read_text("utf-8")
    queries = [
        query
        for block in re.findall(r"^```promql\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
        for query in re.split(r"^#.*\n", block, flags=re.MULTILINE)
        if query.strip()
    ]
    queries += re.findall(r"^\| `[a-z].*\| `([^`]+)` \|$", document, re.MULTILINE)
    rules = [{"record": f"documented:query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "documented", "rules": rules}]}))
    checked = subprocess.run(
        [str(PROMTOOL), "check", "rules", file], capture_output=True, check=False, text=True
    )

    assert len(queries) > 30
    assert checked.returncode == 0, checked.stderr

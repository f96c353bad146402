"""What operators are told of quality and drift, over a real control socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from support.labelled import NOON, Listening, decided, labels, readings, spread_baseline, watched
from support.rpc_control import ADDER, Control
from support.rpc_plane import RPC_S
from support.served import A, B

from model_sidecar.config import MonitorSettings
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.reports import Reports
from model_sidecar_client.wire import feedback as wire
from model_sidecar_client.wire import services


@pytest.fixture
def here() -> Listening:
    return Listening()


@pytest.fixture
def drift() -> Drift:
    return Drift(MonitorSettings())


@pytest.fixture
def calls(tmp_path: Path, here: Listening, drift: Drift) -> Iterator[SimpleNamespace]:
    reports = Reports(quality=here.quality, drift=drift, decisions=decided(ADDER))
    with (
        Control(tmp_path, reports=reports).running() as control,
        control.calling(services.FEEDBACK) as made,
    ):
        yield made


def test_quality_is_told_with_all_that_is_known(calls: SimpleNamespace, here: Listening) -> None:
    """Metrics with bounds, baseline and verdict, evidence and alarm, as the monitor has them."""
    version = watched(A, site=ADDER)
    here.quality.observe(version, readings(NOON, 1000))
    here.quality.joined(version.key, labels(NOON, [n % 4 > 0 for n in range(800)]))

    (model,) = calls.GetQuality(wire.GetQualityRequest(), timeout=RPC_S).models
    assert (model.model, model.environment) == ("adder", "prod")
    (told,) = model.versions
    (known,) = here.quality.reports(ADDER)
    assert (told.version, told.manifest_sha256, told.task) == (A, version.manifest, "classification")
    assert (told.predictions, told.labels, told.coverage) == (1000, 800, 0.8)
    assert told.verdict == wire.VERDICT_BELOW
    assert told.summary == known.summary
    assert told.alarm_since.ToDatetime().replace(tzinfo=None) == here.clock.now.replace(tzinfo=None)
    assert told.evidence_log10 == known.evidence_log10 > told.threshold_log10 == 5
    accuracy = told.metrics[0]
    assert (accuracy.name, accuracy.value, accuracy.baseline) == ("accuracy", 0.75, 0.98)
    assert accuracy.lower < 0.75 < accuracy.upper
    assert not told.metrics[1].HasField("baseline"), "of what the manifest does not tell, nothing is told"


def test_a_report_that_fits_no_message_costs_no_other(
    calls: SimpleNamespace, here: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers beyond the wire's cost that version's entry, which says so; the other version is told."""
    for each in (A, B):
        here.quality.observe(watched(each, site=ADDER), readings(NOON, 10))
    first, second = here.quality.reports(ADDER)
    monkeypatch.setattr(here.quality, "reports", lambda *_: (replace(first, predictions=1 << 70), second))

    (model,) = calls.GetQuality(wire.GetQualityRequest(), timeout=RPC_S).models
    beyond, told = model.versions
    assert (beyond.version, beyond.predictions) == (A, 0)
    assert f"the quality of {A} cannot be told here: ValueError" in beyond.summary
    assert (told.version, told.predictions) == (B, 10)


def test_a_window_and_a_version_are_chosen(calls: SimpleNamespace, here: Listening) -> None:
    """Only predictions made so long ago count, and only the version that was named is told of."""
    for each in (A, B):
        here.quality.observe(watched(each, site=ADDER), readings(NOON, 10))

    request = wire.GetQualityRequest(model="adder", environment="prod", version=B, window=timedelta(hours=2))
    (told,) = calls.GetQuality(request, timeout=RPC_S).models[0].versions
    assert (told.version, told.predictions) == (B, 10)
    here.clock.forward(hours=5)
    (told,) = calls.GetQuality(request, timeout=RPC_S).models[0].versions
    assert told.predictions == 0


def test_drift_is_told_with_histograms_and_the_guards_decisions(calls: SimpleNamespace, drift: Drift) -> None:
    """Each stream with its bins beside the baseline's, the cause of the alarm, and what the guard would have done."""
    version = watched(A, site=ADDER, baseline=spread_baseline())
    rows = readings(NOON, 500, confidence=0.99)
    rows.features[:] = np.linspace(0, 1, 500)[:, None]
    for _ in range(20):
        drift.observe(version, rows)

    (model,) = calls.GetDrift(wire.GetDriftRequest(model="adder"), timeout=RPC_S).models
    (told,) = model.versions
    (known,) = drift.snapshot(ADDER)
    assert (told.version, told.baseline_rows, told.rows) == (A, 20_000, known.rows)
    assert told.HasField("alarm_since")
    assert (told.cause, told.cause_kind, told.summary) == (known.cause, known.cause_kind, known.summary)
    assert [each.name for each in told.streams] == [each.name for each in known.streams]
    stream = told.streams[0]
    assert stream.kind == "feature"
    assert sum(each.baseline_share for each in stream.bins) == pytest.approx(1)
    assert model.guard == "dry-run"
    (decision,) = model.decisions
    assert (decision.decision, decision.target, decision.trigger) == ("would_roll_back", A, "disagreement")
    assert decision.time.ToDatetime().hour == 12


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("GetQuality", wire.GetQualityRequest(model="nobody"), grpc.StatusCode.NOT_FOUND),
        (
            "GetQuality",
            wire.GetQualityRequest(model="adder", environment="staging"),
            grpc.StatusCode.NOT_FOUND,
        ),
        ("GetQuality", wire.GetQualityRequest(model="adder", version=B), grpc.StatusCode.NOT_FOUND),
        ("GetQuality", wire.GetQualityRequest(window=timedelta()), grpc.StatusCode.INVALID_ARGUMENT),
        (
            "GetQuality",
            wire.GetQualityRequest(window=timedelta(seconds=-5)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ("GetDrift", wire.GetDriftRequest(model="adder", version="../x"), grpc.StatusCode.INVALID_ARGUMENT),
        ("GetDrift", wire.GetDriftRequest(model="adder", version=B), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_makes_no_sense_is_refused(
    calls: SimpleNamespace, method: str, request_: object, code: grpc.StatusCode
) -> None:
    """Unknown models, environments and versions are NOT_FOUND; windows and names that are none are refused."""
    with pytest.raises(grpc.RpcError) as refused:
        getattr(calls, method)(request_, timeout=RPC_S)
    assert refused.value.code() is code


def test_nothing_watched_is_an_empty_answer(tmp_path: Path) -> None:
    """With --no-monitor the calls answer: the model, no version, guard off."""
    with Control(tmp_path).running() as control, control.calling(services.FEEDBACK) as calls:
        (quality,) = calls.GetQuality(wire.GetQualityRequest(), timeout=RPC_S).models
        (drift,) = calls.GetDrift(wire.GetDriftRequest(), timeout=RPC_S).models
    assert (quality.model, len(quality.versions)) == ("adder", 0)
    assert (drift.guard, len(drift.versions), len(drift.decisions)) == ("off", 0, 0)

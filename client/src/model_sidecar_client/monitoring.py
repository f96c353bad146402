"""The exchanges about quality and drift: what is asked, and what becomes of the answers."""

from __future__ import annotations

from datetime import timedelta

from model_sidecar_client.errors import InvalidRequestError
from model_sidecar_client.exchange import Ask, Exchange, made
from model_sidecar_client.from_wire import when
from model_sidecar_client.monitoring_records import (
    DriftBin,
    DriftStream,
    GuardDecision,
    ModelDrift,
    ModelQuality,
    QualityMetric,
    Verdict,
    VersionDrift,
    VersionQuality,
)
from model_sidecar_client.wire import feedback as wire


def quality(
    model: str, environment: str, version: str, window_s: float | None
) -> Exchange[list[ModelQuality]]:
    """Ask how well versions predict."""
    window = None
    if window_s is not None:
        try:
            window = timedelta(seconds=window_s)
        except (OverflowError, ValueError, TypeError) as error:
            raise InvalidRequestError(f"window_s is {window_s!r}: expected seconds: {error}") from error
    request = made(
        wire.GetQualityRequest, model=model, environment=environment, version=version, window=window
    )
    reply: wire.GetQualityResponse = yield Ask("GetQuality", request)
    return [
        ModelQuality(
            model=each.model, environment=each.environment, versions=tuple(map(_quality, each.versions))
        )
        for each in reply.models
    ]


def drift(model: str, environment: str, version: str) -> Exchange[list[ModelDrift]]:
    """Ask how far versions have drifted."""
    request = made(wire.GetDriftRequest, model=model, environment=environment, version=version)
    reply: wire.GetDriftResponse = yield Ask("GetDrift", request)
    return [
        ModelDrift(
            model=each.model,
            environment=each.environment,
            versions=tuple(map(_drift, each.versions)),
            guard=each.guard,
            decisions=tuple(map(_decision, each.decisions)),
        )
        for each in reply.models
    ]


def _quality(said: wire.VersionQuality) -> VersionQuality:
    return VersionQuality(
        version=said.version,
        manifest_sha256=said.manifest_sha256,
        task=said.task,
        window_start=when(said, "window_start"),
        window_end=when(said, "window_end"),
        predictions=said.predictions,
        labels=said.labels,
        coverage=said.coverage,
        metrics=tuple(
            QualityMetric(
                name=each.name,
                value=each.value,
                lower=each.lower if each.HasField("lower") else None,
                upper=each.upper if each.HasField("upper") else None,
                baseline=each.baseline if each.HasField("baseline") else None,
                estimated=each.estimated,
                verdict=_verdict(each.verdict),
            )
            for each in said.metrics
        ),
        verdict=_verdict(said.verdict),
        evidence_log10=said.evidence_log10,
        threshold_log10=said.threshold_log10,
        alarm_since=when(said, "alarm_since"),
        summary=said.summary,
    )


def _drift(said: wire.VersionDrift) -> VersionDrift:
    return VersionDrift(
        version=said.version,
        manifest_sha256=said.manifest_sha256,
        baseline_rows=said.baseline_rows,
        band=said.band,
        rows=said.rows,
        evidence_log10=said.evidence_log10,
        threshold_log10=said.threshold_log10,
        alarm_since=when(said, "alarm_since"),
        cause=said.cause,
        cause_kind=said.cause_kind,
        summary=said.summary,
        streams=tuple(map(_stream, said.streams)),
        notes=tuple(said.notes),
    )


def _stream(said: wire.DriftStream) -> DriftStream:
    return DriftStream(
        name=said.name,
        kind=said.kind,
        baseline_rows=said.baseline_rows,
        rows=said.rows,
        evidence_log10=said.evidence_log10,
        direction=said.direction,
        size=said.size,
        alarm=said.alarm,
        bins=tuple(
            DriftBin(label=each.label, baseline_share=each.baseline_share, share=each.share)
            for each in said.bins
        ),
    )


def _decision(said: wire.GuardDecision) -> GuardDecision:
    return GuardDecision(
        time=when(said, "time"),
        decision=said.decision,
        trigger=said.trigger,
        version=said.version,
        target=said.target,
        generation=said.generation,
        evidence_log10=said.evidence_log10,
        message=said.message,
    )


def _verdict(number: int) -> Verdict:
    known: dict[int, Verdict] = {
        wire.VERDICT_INCONCLUSIVE: Verdict.INCONCLUSIVE,
        wire.VERDICT_WITHIN: Verdict.WITHIN,
        wire.VERDICT_BELOW: Verdict.BELOW,
    }
    return known.get(number, Verdict.UNKNOWN)

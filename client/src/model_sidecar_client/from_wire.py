"""Wire messages of the control plane become our frozen records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from model_sidecar_client.records import (
    Action,
    Actor,
    LastError,
    Record,
    ResidentVersion,
    ShadowReport,
    Standing,
    State,
    Status,
    Verification,
    VersionSummary,
    Writer,
)
from model_sidecar_client.wire import deployment as wire

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def record_of(record: wire.Record) -> Record:
    """Our record for the wire's."""
    return Record(
        schema=record.schema,
        generation=record.generation,
        previous_record_sha256=record.previous_record_sha256,
        model=record.model,
        environment=record.environment,
        action=_action(record.action),
        version=record.version,
        manifest_sha256=record.manifest_sha256,
        previous_version=record.previous_version,
        actor=Actor(id=record.actor.id, method=record.actor.method, on_behalf_of=record.actor.on_behalf_of),
        reason=record.reason,
        source_commit=record.source_commit,
        request_id=record.request_id,
        written_by=Writer(
            sidecar=record.written_by.sidecar,
            host=record.written_by.host,
            software=record.written_by.software,
        ),
        timestamp=when(record, "timestamp"),
        status=record.status,
        record_sha256=record.record_sha256,
    )


def shadow_of(report: wire.ShadowReport) -> ShadowReport:
    """Our report for the wire's."""
    return ShadowReport(
        against=report.against,
        compared=report.compared,
        disagreed=report.disagreed,
        failed=report.failed,
        median_ms=report.median_ms,
        against_median_ms=report.against_median_ms,
        mean_confidence=report.mean_confidence,
        against_mean_confidence=report.against_mean_confidence,
        seconds=report.seconds,
    )


def status_of(status: wire.ModelStatus) -> Status:
    """Our status for the wire's."""
    return Status(
        model=status.model,
        environment=status.environment,
        state=_state(status.state),
        desired=_standing(status.desired) if status.HasField("desired") else None,
        observed=_standing(status.observed) if status.HasField("observed") else None,
        loaded_at=when(status, "loaded_at"),
        resident=tuple(
            ResidentVersion(
                version=each.version,
                manifest_sha256=each.manifest_sha256,
                role=each.role,
                loaded_at=when(each, "loaded_at"),
                execution=each.execution,
                cost_seconds=each.cost_seconds,
                max_batch_rows=each.max_batch_rows,
            )
            for each in status.resident
        ),
        last_error=_last_error(status.last_error) if status.HasField("last_error") else None,
        pointer_externally_managed=status.pointer_externally_managed,
        pointer_staleness_seconds=status.pointer_staleness_seconds,
        sidecar=status.sidecar,
        live_since=when(status, "live_since"),
        unrecorded_version=status.unrecorded_version,
    )


def version_of(summary: wire.VersionSummary) -> VersionSummary:
    """Our summary of a version for the wire's."""
    return VersionSummary(
        version=summary.version,
        manifest_sha256=summary.manifest_sha256,
        state=summary.state,
        problem=summary.problem,
        training_date=summary.training_date,
        data_snapshot_id=summary.data_snapshot_id,
        preprocessing_version=summary.preprocessing_version,
        framework=summary.framework,
        metrics=dict(summary.metrics),
    )


def verification_of(reply: wire.VerifyVersionResponse) -> Verification:
    """Our verdict for the wire's."""
    return Verification(
        verified=reply.verified,
        manifest_sha256=reply.manifest_sha256,
        files=tuple(reply.files),
        reason=reply.reason,
        problem=reply.problem,
    )


def _action(number: int) -> Action:
    known: dict[int, Action] = {
        wire.ACTION_DEPLOY: Action.DEPLOY,
        wire.ACTION_ROLLBACK: Action.ROLLBACK,
        wire.ACTION_ADOPT: Action.ADOPT,
    }
    # A newer sidecar may do more: its records are listed all the same.
    return known.get(number, Action.UNKNOWN)


def _state(number: int) -> State:
    known: dict[int, State] = {
        wire.STATE_NOT_SERVING: State.NOT_SERVING,
        wire.STATE_LOADING: State.LOADING,
        wire.STATE_READY: State.READY,
        wire.STATE_DEGRADED: State.DEGRADED,
    }
    return known.get(number, State.UNKNOWN)


def _standing(standing: wire.Standing) -> Standing:
    return Standing(
        generation=standing.generation,
        version=standing.version,
        record_sha256=standing.record_sha256,
        manifest_sha256=standing.manifest_sha256,
    )


def _last_error(error: wire.StatusError) -> LastError:
    return LastError(
        reason=error.reason,
        message=error.message,
        version=error.version,
        generation=error.generation,
        since=when(error, "since"),
    )


def when(message: Any, field: str) -> datetime | None:
    """The moment in this field of a message, in UTC; None where it is absent."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)

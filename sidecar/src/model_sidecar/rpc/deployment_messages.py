"""What the control plane says, in its messages: records, statuses, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from model_sidecar.ledger import record as ledger
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import Version
from model_sidecar.rpc.status import printable
from model_sidecar.serving import status as serving
from model_sidecar.serving.orders import Order, Outcome, ShadowReport
from model_sidecar_client.wire import deployment as wire

_ACTIONS: Mapping[ledger.Action, wire.Action] = {
    ledger.Action.DEPLOY: wire.ACTION_DEPLOY,
    ledger.Action.ROLLBACK: wire.ACTION_ROLLBACK,
    ledger.Action.ADOPT: wire.ACTION_ADOPT,
}
_STATES: Mapping[serving.State, wire.State] = {
    serving.State.NOT_SERVING: wire.STATE_NOT_SERVING,
    serving.State.LOADING: wire.STATE_LOADING,
    serving.State.READY: wire.STATE_READY,
    serving.State.DEGRADED: wire.STATE_DEGRADED,
}
_DRAFT = "DRAFT"
_PENDING = "PENDING"
_PROBLEM_BYTES = 1024


def outcome_message(outcome: Outcome, order: Order) -> wire.Record:
    """The record that an order is answered with; where it does not stand in the ledger (yet), it says so."""
    if outcome.pending:
        return record_message(outcome.record, instead=_PENDING)
    drafted = order.validate_only and not outcome.replayed
    return record_message(outcome.record, instead=_DRAFT if drafted else "")


def record_message(record: ledger.Record, *, instead: str = "") -> wire.Record:
    """A record; one that does not stand in the ledger has another status `instead`, and no digest."""
    message = wire.Record(
        schema=record.schema,
        generation=record.generation,
        previous_record_sha256=record.previous_record_sha256 or "",
        model=record.model,
        environment=record.environment,
        action=_ACTIONS[record.action],
        version=record.version,
        manifest_sha256=record.manifest_sha256,
        previous_version=record.previous_version or "",
        actor=wire.Actor(
            id=record.actor.id, method=record.actor.method, on_behalf_of=record.actor.on_behalf_of
        ),
        reason=record.reason,
        source_commit=record.source_commit,
        request_id=record.request_id,
        written_by=wire.Writer(
            sidecar=record.written_by.sidecar,
            host=record.written_by.host,
            software=record.written_by.software,
        ),
        status=instead or record.status,
        record_sha256="" if instead else record.sha256,
    )
    _set(message.timestamp, record.timestamp)
    return message


def shadow_message(report: ShadowReport) -> wire.ShadowReport:
    """What a shadow has shown."""
    return wire.ShadowReport(**asdict(report))


def status_message(status: serving.Status) -> wire.ModelStatus:
    """A site's status."""
    message = wire.ModelStatus(
        model=status.site.model,
        environment=status.site.environment,
        state=_STATES[status.state],
        pointer_externally_managed=status.externally_managed,
        pointer_staleness_seconds=status.pointer_staleness_s,
        sidecar=status.sidecar,
        unrecorded_version=status.unrecorded or "",
    )
    if status.desired is not None:
        message.desired.CopyFrom(_standing(status.desired))
    if status.observed is not None:
        message.observed.CopyFrom(_standing(status.observed))
    for resident in status.resident:
        entry = message.resident.add(
            version=resident.version,
            manifest_sha256=resident.manifest,
            role=resident.role,
            execution=resident.execution,
            cost_seconds=resident.cost_s,
            max_batch_rows=resident.max_batch_rows,
        )
        _set(entry.loaded_at, resident.loaded_at)
        if resident.role == "live":
            _set(message.loaded_at, resident.loaded_at)
    if status.live_since is not None:
        _set(message.live_since, status.live_since)
    if status.last_error is not None:
        trouble = status.last_error
        message.last_error.reason = trouble.reason
        message.last_error.message = printable(trouble.message, limit=_PROBLEM_BYTES)
        message.last_error.version = trouble.version or ""
        message.last_error.generation = trouble.generation or 0
        _set(message.last_error.since, trouble.since)
    return message


def readable_version(manifest: Manifest, *, state: str) -> wire.VersionSummary:
    """A version whose manifest could be read; `state` is "live", "standby" or "available"."""
    return wire.VersionSummary(
        version=manifest.version,
        manifest_sha256=manifest.digest,
        state=state,
        training_date=manifest.training_date or "",
        data_snapshot_id=manifest.data_snapshot_id or "",
        preprocessing_version=manifest.preprocessing_version or "",
        framework=manifest.framework or "",
        metrics=dict(manifest.metrics),
    )


def unreadable_version(version: Version, problem: Exception) -> wire.VersionSummary:
    """A version whose manifest could not be read."""
    return wire.VersionSummary(
        version=version, state="unreadable", problem=printable(str(problem), limit=_PROBLEM_BYTES)
    )


def _standing(standing: serving.Standing) -> wire.Standing:
    return wire.Standing(
        generation=standing.generation or 0,
        version=standing.version,
        record_sha256=standing.record_sha256,
        manifest_sha256=standing.manifest or "",
    )


def _set(timestamp: Timestamp, moment: datetime) -> None:
    timestamp.FromDatetime(moment)

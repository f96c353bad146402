"""The control plane's exchanges: what `Operator` and `AsyncOperator` ask, and what becomes of the answers."""

from __future__ import annotations

import uuid
from typing import Any

from google.protobuf.message import Message

from model_sidecar_client.errors import InvalidRequestError, NotReachableError, SidecarError
from model_sidecar_client.exchange import Ask, Exchange, made
from model_sidecar_client.from_wire import record_of, shadow_of, status_of, verification_of, version_of
from model_sidecar_client.records import Deployed, Record, Shadow, Status, Verification, VersionSummary
from model_sidecar_client.wire import deployment as wire

# The sidecar gives at most 1000 at once; fewer keep its answers quick.
_PAGE = 200
_LONGEST_SHADOW_S = 3600.0


def deploy(
    model: str,
    version: str,
    *,
    environment: str,
    reason: str,
    expected_generation: int | None,
    request_id: str | None,
    validate_only: bool,
    allow_schema_change: bool,
    on_behalf_of: str,
    source_commit: str,
    shadow: Shadow | None,
) -> Exchange[Deployed]:
    """Ask for a version to be made live."""
    request = made(
        wire.DeployRequest,
        model=model,
        version=version,
        environment=environment,
        reason=reason,
        expected_generation=expected_generation,
        request_id=request_id or str(uuid.uuid4()),
        validate_only=validate_only,
        allow_schema_change=allow_schema_change,
        on_behalf_of=on_behalf_of,
        source_commit=source_commit,
        shadow=_plan(shadow) if shadow is not None else None,
    )
    return (yield from _act("Deploy", request, request.request_id))


def rollback(
    model: str,
    *,
    environment: str,
    reason: str,
    version: str | None,
    generation: int | None,
    expected_generation: int | None,
    request_id: str | None,
    validate_only: bool,
    on_behalf_of: str,
    source_commit: str,
    emergency: bool,
) -> Exchange[Deployed]:
    """Ask for an earlier version to be made live again: the previous good one unless a target is named."""
    if version is not None and generation is not None:
        raise InvalidRequestError(
            f"rollback to version {version} and to generation {generation}: expected at most one target"
        )
    request = made(
        wire.RollbackRequest,
        model=model,
        environment=environment,
        version=version,
        generation=generation,
        previous=True if version is None and generation is None else None,
        reason=reason,
        expected_generation=expected_generation,
        request_id=request_id or str(uuid.uuid4()),
        validate_only=validate_only,
        on_behalf_of=on_behalf_of,
        source_commit=source_commit,
        emergency=emergency,
    )
    return (yield from _act("Rollback", request, request.request_id))


def status(model: str, environment: str) -> Exchange[list[Status]]:
    """Ask for the status of one model, or of all."""
    request = made(wire.GetStatusRequest, model=model, environment=environment)
    reply: wire.GetStatusResponse = yield Ask("GetStatus", request)
    return [status_of(each) for each in reply.statuses]


def watch(model: str, environment: str) -> Ask:
    """The streaming call that tells of every change of a status; `watched` reads its messages."""
    return Ask("WatchStatus", made(wire.WatchStatusRequest, model=model, environment=environment))


def watched(reply: Any) -> Status:
    """The status in one message of that stream."""
    return status_of(reply.status)


def watch_ended(target: str) -> NotReachableError:
    """The error for a watch that the sidecar ended: whoever waits for a change must not take the end for one."""
    return NotReachableError(
        f"the sidecar at {target} ended the watch: it is shutting down", reason="DRAINING"
    )


def history(model: str, environment: str, limit: int | None) -> Exchange[list[Record]]:
    """Ask for the ledger, page after page, newest record first."""
    if limit is not None and limit < 1:
        raise InvalidRequestError(f"limit is {limit}: expected at least 1")
    records: list[Record] = []
    token = ""
    while True:
        request = made(
            wire.ListDeploymentsRequest,
            model=model,
            environment=environment,
            page_size=_PAGE if limit is None else min(_PAGE, limit - len(records)),
            page_token=token,
        )
        reply: wire.ListDeploymentsResponse = yield Ask("ListDeployments", request)
        records += [record_of(each) for each in reply.records]
        token = reply.next_page_token
        if not token or (limit is not None and len(records) >= limit):
            return records[:limit]


def versions(model: str, environment: str) -> Exchange[list[VersionSummary]]:
    """Ask for the versions in the store, newest name first."""
    request = made(wire.ListVersionsRequest, model=model, environment=environment)
    reply: wire.ListVersionsResponse = yield Ask("ListVersions", request)
    return [version_of(each) for each in reply.versions]


def verify(model: str, version: str) -> Exchange[Verification]:
    """Ask for a version's bytes to be checked against its manifest."""
    request = made(wire.VerifyVersionRequest, model=model, version=version)
    reply: wire.VerifyVersionResponse = yield Ask("VerifyVersion", request)
    return verification_of(reply)


def _act(method: str, request: Message, request_id: str) -> Exchange[Deployed]:
    try:
        reply = yield Ask(method, request)
    except SidecarError as error:
        # Whoever wants to try again needs the id under which it may already have been done.
        error.request_id = request_id
        raise
    return Deployed(
        record=record_of(reply.record),
        took_ms=reply.took_ms,
        replayed=reply.replayed,
        shadow=shadow_of(reply.shadow) if method == "Deploy" and reply.HasField("shadow") else None,
    )


def with_shadow(timeout_s: float, shadow: Shadow | None) -> float:
    """How long to wait for a deploy: what it takes by itself, and the shadow."""
    return timeout_s + shadow.duration_s if shadow is not None else timeout_s


def _plan(shadow: Shadow) -> wire.ShadowPlan:
    if not 0 < shadow.duration_s <= _LONGEST_SHADOW_S:  # also NaN, which no message could carry
        raise InvalidRequestError(
            f"a shadow of {shadow.duration_s} s: expected more than 0 s, and at most {_LONGEST_SHADOW_S:g} s"
        )
    plan = made(
        wire.ShadowPlan,
        max_disagreement=shadow.max_disagreement,
        max_slowdown=shadow.max_slowdown,
        min_predictions=shadow.min_predictions,
    )
    plan.duration.seconds, plan.duration.nanos = divmod(round(shadow.duration_s * 1e9), 10**9)
    return plan

"""`model_sidecar.v1.DeploymentService`, on a server with a thread pool: orders in, statuses and records out.

Calls that wait hold a thread, so each kind has its slots; all slots together are fewer than the pool's threads, so
that GetStatus, health and a rollback always find one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from model_sidecar.errors import DeadlineOverError, NotFoundError, StoreError, VerificationError
from model_sidecar.ledger.record import Actor
from model_sidecar.release.names import Version, parse_version
from model_sidecar.rpc.control_sites import ControlSites
from model_sidecar.rpc.deployment_messages import (
    outcome_message,
    readable_version,
    record_message,
    shadow_message,
    status_message,
    unreadable_version,
)
from model_sidecar.rpc.order_fields import (
    MAX_CLAIM,
    MAX_REASON,
    page_size,
    page_token,
    read_page_token,
    recorded_text,
    request_id,
    shadow_plan,
)
from model_sidecar.rpc.peer import peer_of
from model_sidecar.rpc.slots import Slots
from model_sidecar.rpc.status import printable
from model_sidecar.serving.orders import (
    DeployOrder,
    Outcome,
    RollbackOrder,
    RollbackTarget,
    ToGeneration,
    ToPrevious,
    ToVersion,
)
from model_sidecar.serving.site import ServedSite
from model_sidecar_client.wire.deployment import (
    DeployRequest,
    DeployResponse,
    GetStatusRequest,
    GetStatusResponse,
    ListDeploymentsRequest,
    ListDeploymentsResponse,
    ListVersionsRequest,
    ListVersionsResponse,
    RollbackRequest,
    RollbackResponse,
    VerifyVersionRequest,
    VerifyVersionResponse,
    WatchStatusRequest,
    WatchStatusResponse,
)

_WATCH_TURN_S = 0.5
_PAGE_BYTES = 2 << 20
_PROBLEM_BYTES = 1024


class DeploymentService:
    """Answers operators; its pool's threads call it."""

    def __init__(self, sites: Iterable[ServedSite]) -> None:
        """Take orders for these sites, one for each model."""
        self._sites = ControlSites(sites)
        self._watches = Slots("watches", 8)
        self._deploys = Slots("deploys", 6)
        # Many: rollbacks that wait behind a slow load must not be in the way of one to what is in memory.
        self._rollbacks = Slots("rollbacks", 32)
        self._reads = Slots("reads of the store", 6)
        self._verifications = Slots("verifications", 2)
        self._stopping = threading.Event()

    @property
    def waiting_calls(self) -> int:
        """How many threads its calls may hold for long, all together."""
        kinds = (self._watches, self._deploys, self._rollbacks, self._reads, self._verifications)
        return sum(slots.limit for slots in kinds)

    def stop(self) -> None:
        """End every watch within half a second."""
        self._stopping.set()

    def Deploy(self, request: DeployRequest, context: Any) -> DeployResponse:
        """Make a version the head; answers once this sidecar serves it."""
        received = time.monotonic()
        served = self._sites.served(request.model, request.environment)
        order = DeployOrder(
            version=parse_version(request.version),
            allow_schema_change=request.allow_schema_change,
            shadow=shadow_plan(request.shadow) if request.HasField("shadow") else None,
            received=received,
            **_what_every_order_says(request, context),
        )
        with self._deploys.taken():
            outcome = _awaited(served, order, context)
        return DeployResponse(
            record=outcome_message(outcome, order),
            took_ms=outcome.took_s * 1000,
            replayed=outcome.replayed,
            shadow=shadow_message(outcome.shadow) if outcome.shadow is not None else None,
        )

    def Rollback(self, request: RollbackRequest, context: Any) -> RollbackResponse:
        """Make an earlier version the head; answers once this sidecar serves it."""
        received = time.monotonic()
        served = self._sites.served(request.model, request.environment)
        order = RollbackOrder(
            target=_target(request),
            emergency=request.emergency,
            received=received,
            **_what_every_order_says(request, context),
        )
        with self._rollbacks.taken():
            outcome = _awaited(served, order, context)
        return RollbackResponse(
            record=outcome_message(outcome, order), took_ms=outcome.took_s * 1000, replayed=outcome.replayed
        )

    def GetStatus(self, request: GetStatusRequest, context: Any) -> GetStatusResponse:
        """What should answer and what does, for one model or for all."""
        asked = self._sites.asked(request.model, request.environment)
        return GetStatusResponse(statuses=[status_message(served.board.current()) for served in asked])

    def WatchStatus(self, request: WatchStatusRequest, context: Any) -> Iterator[WatchStatusResponse]:
        """The status now and after every change, until the caller, the site or the sidecar ends it."""
        board = self._sites.served(request.model, request.environment).board
        with self._watches.taken():
            status = board.current()
            yield WatchStatusResponse(status=status_message(status))
            while context.is_active() and not board.closed and not self._stopping.is_set():
                newer = board.wait_newer(status.revision, timeout_s=_WATCH_TURN_S)
                if newer is not None:
                    status = newer
                    yield WatchStatusResponse(status=status_message(status))

    def ListDeployments(self, request: ListDeploymentsRequest, context: Any) -> ListDeploymentsResponse:
        """A page of the ledger, newest record first; shorter than asked for where its records are long."""
        served = self._sites.served(request.model, request.environment)
        limit, before = page_size(request.page_size), read_page_token(request.page_token)
        if served.ledger.head is None and served.board.current().last_look is None:
            raise StoreError("the ledger has not been read yet: ask again in a moment")
        response = ListDeploymentsResponse()
        size = 0
        for record in served.ledger.records(before=before, limit=limit):  # from memory
            message = record_message(record)
            size += message.ByteSize()
            if response.records and size > _PAGE_BYTES:
                break
            response.records.append(message)
        if response.records and response.records[-1].generation > 1:
            response.next_page_token = page_token(response.records[-1].generation)
        return response

    def ListVersions(self, request: ListVersionsRequest, context: Any) -> ListVersionsResponse:
        """The versions that the store holds, newest name first, with what their manifests say."""
        served = self._sites.served(request.model, request.environment)
        residents = served.stage.residents()
        # What is in memory is shown as it is there, whatever became of its directory since.
        resident = {
            model.version: readable_version(model.manifest, state=state)
            for state, model in (("standby", residents.standby), ("live", residents.live))
            if model is not None
        }
        response = ListVersionsResponse()
        with self._reads.taken():
            for version in served.versions.versions(served.site.model):
                if version in resident:
                    response.versions.append(resident[version])
                    continue
                try:
                    manifest = served.versions.manifest(served.site.model, version)
                except NotFoundError:
                    continue  # gone since it was listed
                except VerificationError as error:
                    response.versions.append(unreadable_version(version, error))
                else:
                    response.versions.append(readable_version(manifest, state="available"))
        return response

    def VerifyVersion(self, request: VerifyVersionRequest, context: Any) -> VerifyVersionResponse:
        """Whether a version's bytes are what its manifest promises, and its manifest what the ledger recorded.

        One that is not there is NOT_FOUND.
        """
        served = self._sites.served(request.model, "")
        version: Version = parse_version(request.version)
        with self._verifications.taken():
            try:
                recorded = served.ledger.recorded_manifest(version)
                with served.versions.verify(
                    served.site.model, version, expected_manifest=recorded
                ) as verified:
                    return VerifyVersionResponse(
                        verified=True, manifest_sha256=verified.manifest.digest, files=sorted(verified.files)
                    )
            except VerificationError as error:
                return VerifyVersionResponse(
                    verified=False, reason=error.reason, problem=printable(str(error), limit=_PROBLEM_BYTES)
                )


def _what_every_order_says(request: DeployRequest | RollbackRequest, context: Any) -> dict[str, Any]:
    peer = peer_of(context.peer())
    return {
        "actor": Actor(
            id=peer.id,
            method=peer.method,
            on_behalf_of=recorded_text("on_behalf_of", request.on_behalf_of, limit=MAX_CLAIM),
        ),
        "reason": recorded_text("reason", request.reason, limit=MAX_REASON),
        "source_commit": recorded_text("source_commit", request.source_commit, limit=MAX_CLAIM),
        "request_id": request_id(request.request_id),
        "expected_generation": request.expected_generation
        if request.HasField("expected_generation")
        else None,
        "validate_only": request.validate_only,
    }


def _target(request: RollbackRequest) -> RollbackTarget:
    match request.WhichOneof("target"):
        case "generation":
            return ToGeneration(request.generation)
        case "version":
            return ToVersion(parse_version(request.version))
        case _:
            return ToPrevious()


def _awaited(served: ServedSite, order: DeployOrder | RollbackOrder, context: Any) -> Outcome:
    """The order's outcome. A caller that gives up ends the waiting, and not the order unless it only validates."""
    over = threading.Event()
    if not context.add_callback(over.set):
        raise DeadlineOverError("the caller was gone before the order was given")
    future = served.orders.submit(order)
    future.add_done_callback(lambda _: over.set())
    over.wait(context.time_remaining())
    if order.validate_only and future.cancel():
        raise DeadlineOverError("the caller's time was over before every check was done; nothing was changed")
    if not future.done():
        raise DeadlineOverError(
            "the caller's time was over before the order was done. It goes on: ask GetStatus, or again with request_id "
            f"{order.request_id}",
            request_id=order.request_id,
        )
    return future.result()

"""The stand-in's answers to DeploymentService: the real rules, over a ledger in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import grpc

from model_sidecar_client.testing.names import checked_version
from model_sidecar_client.testing.script import Failure
from model_sidecar_client.testing.shelf import Model, Shelf, manifest_sha256
from model_sidecar_client.wire import deployment as wire

# A watcher looks up this often whether its caller is still there.
_LOOK_UP_S = 0.2
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 1000


class ControlPlane:
    """model_sidecar.v1.DeploymentService over a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def Deploy(self, request: wire.DeployRequest, context: grpc.ServicerContext) -> wire.DeployResponse:
        started = time.monotonic()
        with self._shelf.model(request.model, request.environment) as model:
            record, replayed = self._act(model, request, wire.ACTION_DEPLOY, lambda: _named(request.version))
        return wire.DeployResponse(
            record=record, took_ms=(time.monotonic() - started) * 1000, replayed=replayed
        )

    def Rollback(self, request: wire.RollbackRequest, context: grpc.ServicerContext) -> wire.RollbackResponse:
        started = time.monotonic()
        with self._shelf.model(request.model, request.environment) as model:
            record, replayed = self._act(
                model, request, wire.ACTION_ROLLBACK, lambda: _target(model, request)
            )
        return wire.RollbackResponse(
            record=record, took_ms=(time.monotonic() - started) * 1000, replayed=replayed
        )

    def GetStatus(
        self, request: wire.GetStatusRequest, context: grpc.ServicerContext
    ) -> wire.GetStatusResponse:
        environment = request.environment or None
        if request.model:
            with self._shelf.model(request.model, environment) as model:
                return wire.GetStatusResponse(statuses=[self._status(model)])
        with self._shelf.models() as models:
            asked = models.values() if environment in {None, self._shelf.environment} else ()
            return wire.GetStatusResponse(statuses=[self._status(model) for model in asked])

    def WatchStatus(
        self, request: wire.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.WatchStatusResponse]:
        last = None
        while context.is_active() and not self._shelf.is_closed:
            changes = self._shelf.changes
            try:
                with self._shelf.model(request.model, request.environment) as model:
                    status = self._status(model)
            except Failure as failure:
                failure.abort(context)
            if status != last:
                last = status
                yield wire.WatchStatusResponse(status=status)
            else:
                self._shelf.wait(changes, _LOOK_UP_S)

    def ListDeployments(
        self, request: wire.ListDeploymentsRequest, context: grpc.ServicerContext
    ) -> wire.ListDeploymentsResponse:
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        with self._shelf.model(request.model, request.environment) as model:
            newest = int(request.page_token or model.generation)
            records = model.ledger[max(newest - size, 0) : newest][::-1]
        left = newest - len(records)
        return wire.ListDeploymentsResponse(records=records, next_page_token=str(left) if left else "")

    def ListVersions(
        self, request: wire.ListVersionsRequest, context: grpc.ServicerContext
    ) -> wire.ListVersionsResponse:
        response = wire.ListVersionsResponse()
        with self._shelf.model(request.model, request.environment) as model:
            for version, published in sorted(model.versions.items(), reverse=True):
                state = {model.live: "live", model.standby: "standby"}.get(version, "available")
                response.versions.add(
                    version=version,
                    manifest_sha256=manifest_sha256(model.name, version),
                    state="unreadable" if published.problem else state,
                    problem=published.problem,
                )
        return response

    def VerifyVersion(
        self, request: wire.VerifyVersionRequest, context: grpc.ServicerContext
    ) -> wire.VerifyVersionResponse:
        with self._shelf.model(request.model) as model:
            problem = model.published(request.version).problem
        return wire.VerifyVersionResponse(
            verified=not problem,
            manifest_sha256=manifest_sha256(request.model, request.version),
            files=["model.onnx"] if not problem else [],
            reason=problem,
            problem=f"told to fail with {problem}" if problem else "",
        )

    def _act(
        self,
        model: Model,
        request: wire.DeployRequest | wire.RollbackRequest,
        action: wire.Action,
        target: Callable[[], str],
    ) -> tuple[wire.Record, bool]:
        """The record of this action, and whether it had been done before. The order of checks is the contract's."""
        for record in model.ledger if request.request_id else ():
            if record.request_id == request.request_id:
                if (record.action, record.reason) != (action, request.reason):
                    raise Failure(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        "REQUEST_ID_REUSED",
                        f"request id {request.request_id!r} was used for another request",
                    )
                return record, True
        _check_expected(model, request)
        version = target()
        problem = model.published(version).problem
        if problem:
            raise Failure(
                grpc.StatusCode.FAILED_PRECONDITION,
                problem,
                f"version {version} of {model.name!r} was told to fail verification with {problem}",
                {"kind": "verification", "version": version},
            )
        record = model.drafted(action, version, self._shelf.environment)
        record.reason, record.request_id = request.reason, request.request_id
        record.source_commit, record.actor.on_behalf_of = request.source_commit, request.on_behalf_of
        if not request.validate_only:
            model.append(record)
        return record, False

    def _status(self, model: Model) -> wire.ModelStatus:
        status = wire.ModelStatus(
            model=model.name,
            environment=self._shelf.environment,
            state=wire.STATE_READY if model.live else wire.STATE_NOT_SERVING,
            sidecar="stand-in",
        )
        if model.ledger:
            head = model.ledger[-1]
            for standing in (status.desired, status.observed):
                standing.generation, standing.version = head.generation, head.version
                standing.record_sha256, standing.manifest_sha256 = head.record_sha256, head.manifest_sha256
            status.loaded_at.CopyFrom(model.loaded_by[model.live].timestamp)
            status.live_since.CopyFrom(model.live_by.timestamp)
        for version, role in ((model.live, "live"), (model.standby, "standby")):
            if version:
                status.resident.add(
                    version=version,
                    manifest_sha256=manifest_sha256(model.name, version),
                    role=role,
                    loaded_at=model.loaded_by[version].timestamp,
                    execution="inline",
                )
        return status


def _target(model: Model, request: wire.RollbackRequest) -> str:
    match request.WhichOneof("target"):
        case "version":
            return _named(request.version)
        case "generation":
            if not 1 <= request.generation <= model.generation:
                raise Failure(
                    grpc.StatusCode.NOT_FOUND,
                    "GENERATION_NOT_FOUND",
                    f"generation {request.generation} is not in the ledger: expected 1 to {model.generation}",
                )
            return model.ledger[request.generation - 1].version
        case _:
            return model.good_previous()


def _named(version: str) -> str:
    try:
        return checked_version(version)
    except ValueError as error:
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME", str(error)) from None


def _check_expected(model: Model, request: wire.DeployRequest | wire.RollbackRequest) -> None:
    if not request.HasField("expected_generation") or request.expected_generation == model.generation:
        return
    head = model.ledger[-1] if model.ledger else wire.Record()
    raise Failure(
        grpc.StatusCode.ABORTED,
        "GENERATION_MISMATCH",
        f"generation {request.expected_generation} was expected to be the newest, but {head.actor.id or 'nobody'} put "
        f"{head.version or 'nothing'} into service as generation {model.generation}",
        {"generation": str(head.generation), "version": head.version, "actor": head.actor.id},
    )

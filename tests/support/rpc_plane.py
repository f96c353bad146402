"""A data plane in this process: real stage, store, server and sockets; the models are computed."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.config import Address
from model_sidecar.events import Published, Site
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.rpc.feedback import AioFeedback
from model_sidecar.rpc.health import HealthBoard
from model_sidecar.rpc.inference import InferenceService
from model_sidecar.rpc.notes import Notes
from model_sidecar.rpc.servers import DataServer
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Model, Stage
from model_sidecar.serving.status import Status, StatusBoard
from model_sidecar.store.versions import VersionStore
from model_sidecar_client.wire import services
from model_sidecar_client.wire.error_details import ErrorInfo
from model_sidecar_client.wire.inference import ModelInferRequest
from model_sidecar_client.wire.status import Status as RpcStatus

ECHO = Site(ModelName("echo"), Environment("prod"))
RPC_S = 20.0


class NobodyOrders:
    """A site whose operators are away."""

    def submit(self, order: DeployOrder | RollbackOrder) -> Future[Outcome]:
        """Never called."""
        raise NotImplementedError(order)


class Noted:
    """Meters that remember what they were told."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.predictions: list[dict[str, Any]] = []
        self.working: dict[Site, int] = {}

    def started(self, method: str) -> None:
        with self.changed:
            self.begun.append(method)
            self.changed.notify_all()

    def handled(self, method: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        with self.changed:
            self.ended.append((method, code))
            self.changed.notify_all()

    def predicted(self, site: Site, version: Version | None, **facts: Any) -> None:
        with self.changed:
            self.predictions.append({"site": site, "version": version, **facts})
            self.changed.notify_all()

    def inflight(self, site: Site, delta: int) -> None:
        with self.changed:
            self.working[site] = self.working.get(site, 0) + delta
            self.changed.notify_all()

    def wait_ended(self, method: str, *codes: str) -> None:
        """Until a call of this method has ended in one of these ways."""
        wanted = {(method, code) for code in codes}
        with self.changed:
            assert self.changed.wait_for(lambda: not wanted.isdisjoint(self.ended), RPC_S), self.ended


class Plane:
    """One served model and a data server over it.

    Attributes:
        released: the models that were let go of, once nobody held them.
    """

    def __init__(
        self,
        store: Path,
        *,
        lanes: int = 2,
        max_inflight: int = 64,
        max_queue_wait_s: float = 60.0,
        max_run_s: float = 60.0,
        backlog: int = 512,
        max_message_bytes: int = 4 << 20,
        meters: Any = None,
        addresses: tuple[Address, ...] | None = None,
        site: Site = ECHO,
        notes: Notes | None = None,
        feedback: AioFeedback | None = None,
        shared_memory: bool = False,
    ) -> None:
        self.site = site
        self.released: list[Model] = []
        self.stage = Stage(keep_standby=True, on_idle=self.released.append)
        versions = VersionStore(store)
        ledger = open_ledger(versions.layout, site.model, site.environment)
        board = StatusBoard(Status(site=site, sidecar="one"))
        self.store = store
        self.served = ServedSite(site, self.stage, board, NobodyOrders(), ledger, versions)
        self.health = HealthBoard([site.model])
        self.meters = meters if meters is not None else Noted()
        # Not below pytest's directories: their names are longer than a socket's path may be.
        self.folder = Path(tempfile.mkdtemp(prefix="rpc-"))
        inference = InferenceService(
            [self.served],
            lanes=lanes,
            max_inflight=max_inflight,
            max_queue_wait_s=max_queue_wait_s,
            max_run_s=max_run_s,
            max_message_bytes=max_message_bytes,
            meters=self.meters,
            software="0.1.0",
            notes=notes,
            shared_memory=shared_memory,
        )
        self.server = DataServer(
            inference,
            self.health,
            addresses=addresses or (Address(path=str(self.folder / "data.sock")),),
            max_message_bytes=max_message_bytes,
            max_inflight=max_inflight,
            backlog=backlog,
            socket_mode=0o660,
            meters=self.meters,
            feedback=feedback,
        )
        self.bound: tuple[Address, ...] = ()

    def publish(self, model: Model, *, generation: int | None = 1) -> None:
        """Make a model the live one, and tell health of it."""
        before = self.stage.residents().live
        self.stage.publish(model, generation=generation)
        self.health.on_event(
            Published(
                self.site,
                model.version,
                model.manifest.digest,
                generation,
                previous=before.version if before else None,
                standby=before.version if before else None,
                from_standby=False,
                took_s=0.0,
            )
        )

    def shelve(self, version: str) -> None:
        """Put a version into the store, so that it exists without being resident."""
        folder = self.store / self.site.model / version
        folder.mkdir(parents=True)
        content = b"not read here"
        (folder / "model.onnx").write_bytes(content)
        manifest = {"version": version, "model_hash": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    @contextmanager
    def running(self) -> Iterator[Plane]:
        """Started, and stopped at the end."""
        self.bound = self.server.start()
        try:
            yield self
        finally:
            self.server.stop()
            with suppress(OSError):  # not empty: a test will say so
                self.folder.rmdir()

    @contextmanager
    def calling(self, **options: Any) -> Iterator[SimpleNamespace]:
        """A client's callables over the first address."""
        with grpc.insecure_channel(str(self.bound[0]), options=list(options.items())) as channel:
            yield services.multicallables(channel, services.INFERENCE)


def infer_request(
    raw: bytes | None = None,
    *,
    shape: tuple[int, ...] = (1, 2),
    name: str = "x",
    datatype: str = "FP32",
    **fields: Any,
) -> ModelInferRequest:
    """A request with one input; raw content if given, else none at all."""
    request = ModelInferRequest(model_name="echo", **fields)
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def error_info(error: grpc.RpcError) -> ErrorInfo:
    """The ErrorInfo that came with a failed call."""
    trailing: dict[str, Any] = dict(error.trailing_metadata())  # type: ignore[arg-type]  # pairs, whatever the stubs say
    status = RpcStatus.FromString(trailing["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    (found,) = (each.value for each in status.details if each.type_url.endswith("/google.rpc.ErrorInfo"))
    info = ErrorInfo.FromString(found)
    assert info.domain == "model-sidecar"
    return info

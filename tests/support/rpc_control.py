"""A control plane in this process: real manager, ledger, store folder, server and sockets; models only stand there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from support.resident import Shelf
from support.rpc_plane import Noted

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.config import Address
from model_sidecar.events import Event, Site
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.rpc.deployment import DeploymentService
from model_sidecar.rpc.health import HealthBoard
from model_sidecar.rpc.monitoring import MonitoringCalls
from model_sidecar.rpc.servers import ControlServer
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.janitor import Janitor
from model_sidecar.serving.loading import Loader
from model_sidecar.serving.manager import Manager
from model_sidecar.serving.patience import Patience
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import Status, StatusBoard
from model_sidecar.store.versions import VersionStore
from model_sidecar_client.wire import services

ADDER = Site(ModelName("adder"), Environment("prod"))
WAIT_S = 20.0


class Control:
    """One site under its manager, and a control server over it.

    Attributes:
        shelf: where versions to deploy are put.
        socket: where the server listens, if nothing else was asked for.
    """

    def __init__(
        self,
        store: Path,
        *,
        addresses: tuple[Address, ...] | None = None,
        reports: Reports | None = None,
    ) -> None:
        self.store = store
        self.shelf = Shelf()
        self.meters = Noted()
        self.folder = Path(tempfile.mkdtemp(prefix="rpc-"))
        self.socket = self.folder / "control.sock"
        versions = VersionStore(store)
        versions.layout.model(ADDER.model).mkdir(parents=True, exist_ok=True)
        self.health = HealthBoard([ADDER.model])
        self.ledger = open_ledger(versions.layout, ADDER.model, ADDER.environment, sidecar_id="one")
        self._janitor = Janitor(on_event=self._told)
        self.stage = Stage(keep_standby=True, on_idle=lambda model: self._janitor.release(model, site=ADDER))
        self.board = StatusBoard(Status(site=ADDER, sidecar="one"))
        scribe = Scribe(self.ledger, Patience("ledger"))
        self.manager = Manager(
            ADDER,
            flip=Flip(
                ADDER,
                stage=self.stage,
                signature_of=lambda _: None,
                scribe=scribe,
                janitor=self._janitor,
                on_event=self._told,
            ),
            scribe=scribe,
            emergency=Emergency(None),
            loader=Loader(self.shelf.prepare, name="load"),
            board=self.board,
            keep_standby=True,
            on_event=self._told,
        )
        self.served = ServedSite(ADDER, self.stage, self.board, self.manager, self.ledger, versions)
        self.server = ControlServer(
            DeploymentService([self.served]),
            self.health,
            monitoring=MonitoringCalls([self.served], reports or Reports()),
            addresses=addresses or (Address(path=str(self.socket)),),
            max_message_bytes=4 << 20,
            socket_mode=0o600,
            meters=self.meters,
        )
        self.bound: tuple[Address, ...] = ()

    def _told(self, event: Event) -> None:
        self.health.on_event(event)

    @contextmanager
    def running(self) -> Iterator[Control]:
        """Started, and stopped at the end."""
        self.bound = self.server.start()
        self.manager.start(look_again=lambda: None)
        try:
            yield self
        finally:
            self.server.stop()
            for gate in self.shelf.gates.values():
                gate.set()
            self.manager.stop(timeout_s=WAIT_S)
            self.board.close()
            self.stage.clear()
            self._janitor.stop()
            with suppress(OSError):  # not empty: a test will say so
                self.folder.rmdir()

    @contextmanager
    def channel(self, address: Address | None = None) -> Iterator[grpc.Channel]:
        """A connection of its own: gRPC would share one between channels to the same target."""
        with grpc.insecure_channel(
            str(address or self.bound[0]), options=[("grpc.use_local_subchannel_pool", 1)]
        ) as made:
            yield made

    @contextmanager
    def calling(self, service: str = services.DEPLOYMENT) -> Iterator[SimpleNamespace]:
        """A client's callables."""
        with self.channel() as channel:
            yield services.multicallables(channel, service)


def order(**fields: Any) -> dict[str, Any]:
    """The fields of an order, with these changes."""
    return {"model": "adder", "environment": "prod", "reason": "because", **fields}

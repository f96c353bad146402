"""A sidecar's site of which a test turns every wheel: the real rooms on a real directory, without a thread or a clock.

Ledger, pointer, version store, source, manager and stage are the product's own. In place of its threads stand methods:
`look` is what the source does once, `turn` empties the manager's mailbox, `finish_load` is the loader's thread. Only the
model is a stand-in: it adds the number that its verified bytes say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from support.ledgers import FaultyDisk
from support.resident import Adder

from model_sidecar.errors import SidecarError
from model_sidecar.events import Event, Site
from model_sidecar.ledger.face import PointerFace
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.record import Writer
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.release.tensors import Signature
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.flip import Flip
from model_sidecar.serving.in_hand import Ordered
from model_sidecar.serving.janitor import Janitor
from model_sidecar.serving.loading import Loader, Preparation
from model_sidecar.serving.manager import Manager
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder
from model_sidecar.serving.patience import Patience
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.source import Sighting, Source, Unseen
from model_sidecar.serving.stage import Model, Stage
from model_sidecar.serving.status import Status, StatusBoard
from model_sidecar.store.layout import Layout
from model_sidecar.store.versions import VersionStore

SITE = Site(ModelName("adder"), Environment("prod"))
_Result = TypeVar("_Result")


class _Impatience(Patience):
    """Does the work itself, and so waits for as long as it takes."""

    def call(self, work: Callable[[], _Result], *, limit_s: float | None = None) -> _Result:
        del limit_s
        return work()


class _InlineJanitor(Janitor):
    """Releases at once: there is no thread to hand a model to."""

    def __init__(self, *, on_event: Callable[[Event], None]) -> None:
        super().__init__(on_event=on_event)
        super().stop()

    def release(self, model: Model, *, site: Site) -> None:
        self._close(model, site)

    def stop(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Load:
    version: Version
    manifest: Digest | None
    done: Callable[[Preparation | SidecarError], None]


class _PatientLoader:
    """The loader's queue: a load is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[_Load] = deque()

    def start(
        self,
        version: Version,
        *,
        manifest: Digest | None,
        done: Callable[[Preparation | SidecarError], None],
        **_how: object,
    ) -> None:
        self.waiting.append(_Load(version, manifest, done))


@dataclass(frozen=True, slots=True)
class Answered:
    """A prediction: the number that was added, and what the answer is tagged with."""

    constant: float
    version: Version
    manifest: Digest
    generation: int | None


class HandDriven:
    """One sidecar. Errors that are not ours, and KilledError, come out of whatever method met them."""

    def __init__(self, root: Path, name: str, *, state: Path | None = None, links: bool = True) -> None:
        """Start it.

        Args:
            state: what it remembers through its deaths; None: nothing.
            links: whether the store's file system knows link(2).
        """
        self.name = name
        self.disk = FaultyDisk(links=links)
        self._store = VersionStore(root)
        layout = Layout(root)
        self.ledger = Ledger(
            FileBackend(layout.ledger(SITE.model, SITE.environment), disk=self.disk),
            PointerFace(layout.pointer(SITE.model, SITE.environment), disk=self.disk),
            model=SITE.model,
            environment=SITE.environment,
            writer=Writer(sidecar=name, host="host-1", software="test"),
            now=lambda: datetime.now(UTC),
            memory=Memory(state / "ledger.seen", disk=FaultyDisk()) if state else None,
        )
        self.ledger.recall()
        janitor = _InlineJanitor(on_event=_unheard)
        self.stage = Stage(keep_standby=True, on_idle=lambda model: janitor.release(model, site=SITE))
        self.board = StatusBoard(Status(site=SITE, sidecar=name))
        scribe = Scribe(self.ledger, _Impatience("ledger"))
        emergency = Emergency(PendingFile(state / "pending.json", disk=FaultyDisk()) if state else None)
        flip = Flip(
            SITE,
            stage=self.stage,
            scribe=scribe,
            signature_of=self._signature_of,
            janitor=janitor,
            on_event=_unheard,
        )
        self._loader = _PatientLoader()
        self._manager = Manager(
            SITE,
            flip=flip,
            scribe=scribe,
            emergency=emergency,
            loader=cast("Loader", self._loader),
            board=self.board,
            keep_standby=True,
            on_event=_unheard,
        )
        self._source = Source(
            SITE,
            ledger=self.ledger,
            fingerprint=lambda version: self._store.fingerprint(SITE.model, version),
            deliver=self._manager.sighted,
            before_look=lambda: None,
            on_event=_unheard,
            poll_interval_s=1.0,
        )
        self.blind: SidecarError | None = None
        """Why the last look failed; None if it did not."""
        self._news: Sighting | Unseen | None = None
        if (record := emergency.recall(self.ledger)) is not None:
            self._manager._wishes.hold(record)

    def look(self) -> None:
        """One look at the store, and what the manager makes of it."""
        self.glance()
        self.notice()

    def glance(self) -> None:
        """One look at the store, of which the manager does not know yet."""
        try:
            self._news = self._source.look()
            self.blind = None
        except SidecarError as error:
            self.blind = error
            self._news = Unseen(error)

    def notice(self) -> None:
        """The manager learns of the last look, if it has not yet."""
        if self._news is not None:
            self._manager.sighted(self._news)
            self._news = None
        self.turn()

    def turn(self) -> None:
        """Let the manager do all that it can do now."""
        inbox = self._manager._inbox
        while not inbox.empty():
            _, _, message = inbox.get()
            self._manager._handle(message)
            self._manager._advance()
            self._manager._post()

    def order(self, order: DeployOrder | RollbackOrder, future: Future[Outcome]) -> None:
        """Give an order; it may have to wait for a load."""
        self._manager._put(Ordered(order, future))
        self.turn()

    @property
    def loading(self) -> bool:
        """Whether a load waits to be finished."""
        return bool(self._loader.waiting)

    def finish_load(self) -> None:
        """Verify and load the version that the manager waits for."""
        load = self._loader.waiting.popleft()
        try:
            load.done(self._prepare(load.version, load.manifest))
        except SidecarError as error:
            load.done(error)
        self.turn()

    def predict(self) -> Answered | None:
        """An answer of the live model; None if nothing is live."""
        if self.stage.residents().live is None:
            return None
        with self.stage.lease() as lease:
            y = lease.model.run({"x": np.zeros((1, 2), np.float32)})["y"]
            return Answered(
                float(y[0][0]), lease.model.version, lease.model.manifest.digest, lease.generation
            )

    def _prepare(self, version: Version, manifest: Digest | None) -> Preparation:
        with self._store.verify(SITE.model, version, expected_manifest=manifest) as verified:
            constant = float(Path(verified.files["model.onnx"].path).read_bytes())
            return Preparation(Adder(version, constant, manifest=verified.manifest), {}, 0)

    def _signature_of(self, version: Version) -> Signature | None:
        try:
            return self._store.manifest(SITE.model, version).signature
        except SidecarError:
            return None


def _unheard(event: Event) -> None:
    """Nobody listens: what a test needs to know, it asks the stage and the board."""

"""A served site without its threads: real stage, board, ledger and version store, and models that only stand there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from support.ledgers import MODEL, PROD, Registry, commit, intent

from model_sidecar.events import Event, Published, Released, Site
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.record import Action
from model_sidecar.model.brake import Brake
from model_sidecar.model.execution import Batching
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import FileEntry, Manifest, Role
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import Standing, Status, StatusBoard, resident_of
from model_sidecar.store.versions import VersionStore

SITE = Site(MODEL, PROD)
SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (-1, 64)),),
    outputs=(TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("confidence", Datatype.FP32, (-1, 10))),
)
A, B, C = Version("2024.01.10.prod"), Version("2024.01.12.prod"), Version("2024.01.15.prod")


@dataclass(eq=False)
class StillModel:
    """A model that is resident and says who it is; it is never asked anything."""

    version: Version
    model: ModelName = MODEL
    metrics: Mapping[str, float] = field(default_factory=lambda: {"accuracy": 0.9811, "log_loss": 0.071})
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cost_s: float = 0.0001
    warm_bytes: int = 1 << 20
    batching: Batching | None = None
    signature: Signature = SIGNATURE
    baseline: Baseline | None = None

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            digest=digest_of(self.version.encode()),
            version=self.version,
            model_hash=digest_of(b"model"),
            training_date=f"{self.version[:10].replace('.', '-')}T01:12:00Z",
            data_snapshot_id=f"digits-{self.version[:10]}",
            preprocessing_version="3.2",
            framework="scikit-learn 1.7.2",
            metrics=self.metrics,
            deployed_by="ci@example.com",
            files={"model.onnx": FileEntry(digest_of(b"model"), 5, Role.MODEL)},
        )

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class NoOrders:
    """Nobody orders anything of a site without a manager."""

    def submit(self, order: DeployOrder | RollbackOrder) -> Future[Outcome]:
        raise NotImplementedError


class Bench:
    """One site, and the moves that its manager would make."""

    def __init__(self, store: Path, *, site: Site = SITE, keep_standby: bool = True) -> None:
        self.site = site
        self.released: list[Event] = []
        self.stage = Stage(keep_standby=keep_standby, on_idle=self._release)
        self.board = StatusBoard(Status(site=site, sidecar="sidecar-1"))
        self.ledger: Ledger = Registry(store).open()
        self.served = ServedSite(site, self.stage, self.board, NoOrders(), self.ledger, VersionStore(store))

    def _release(self, model: Any) -> None:
        self.released.append(Released(self.site, model.version, model.manifest.digest))

    def record(self, version: Version, *, action: Action = Action.DEPLOY, reason: str = "retrain") -> int:
        """Commit a record; its generation."""
        return commit(self.ledger, intent(version, action=action, reason=reason)).record.generation

    def publish(self, model: StillModel, *, generation: int | None = 1) -> Published:
        """Put a model on the stage, and give back the event that tells of it."""
        before = self.stage.residents()
        self.stage.publish(model, generation=generation)
        after = self.stage.residents()
        self.post()
        return Published(
            self.site,
            model.version,
            model.manifest.digest,
            generation,
            previous=before.live.version if before.live else None,
            standby=after.standby.version if after.standby else None,
            from_standby=before.standby is model,
            took_s=0.004,
            phases_s={"verify": 0.2, "load": 0.3, "warm": 0.01, "commit": 0.003, "swap": 0.00001},
        )

    def post(self, **changes: Any) -> None:
        """Bring the board up to the stage and the ledger; `changes` are fields of the status."""
        residents, head = self.stage.residents(), self.ledger.head
        live = residents.live
        status = replace(
            self.board.current(),
            desired=Standing(head.version, head.generation, head.manifest_sha256, head.sha256)
            if head
            else None,
            observed=Standing(live.version, residents.generation, live.manifest.digest, "") if live else None,
            resident=tuple(
                resident_of(each, role)
                for role, each in (("live", live), ("standby", residents.standby))
                if each is not None
            ),
            last_look=time.monotonic(),
        )
        self.board.post(replace(status, **changes))

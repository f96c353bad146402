"""Everything that belongs to one served model, as the rpc and telemetry rooms see it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from model_sidecar.events import Site
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder
from model_sidecar.serving.stage import Stage
from model_sidecar.serving.status import StatusBoard
from model_sidecar.store.versions import VersionStore


class Orders(Protocol):
    """Where operators' orders go; the manager carries them out one at a time."""

    def submit(self, order: DeployOrder | RollbackOrder) -> Future[Outcome]:
        """Take the order. The future ends with its outcome or one of our errors, after this sidecar serves it."""
        ...


@dataclass(frozen=True, slots=True)
class ServedSite:
    """One model in one environment, being served."""

    site: Site
    stage: Stage
    board: StatusBoard
    orders: Orders
    ledger: Ledger
    versions: VersionStore

"""Orders on their way through the manager's hands: as they arrived, as they were accepted, as they were carried out."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

from model_sidecar.errors import StoreError
from model_sidecar.ledger.ledger import Reception
from model_sidecar.ledger.record import Record
from model_sidecar.serving.loading import Preparation
from model_sidecar.serving.orders import DeployOrder, Outcome, RollbackOrder, ShadowPlan
from model_sidecar.serving.targets import Target


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order as it arrived, and the future that its giver waits for, or has cancelled."""

    order: DeployOrder | RollbackOrder
    future: Future[Outcome]

    def answer(self, outcome: Outcome) -> None:
        """Let the giver know what came of it."""
        with suppress(InvalidStateError):  # cancelled meanwhile: nobody waits
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Let the giver know that nothing came of it."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that makes sense: its target, and the head it was given on.

    That head is the order's condition even where the operator stated none: a deploy whose model took long to load must
    not undo a rollback that came meanwhile.

    Attributes:
        replay: the record that an earlier order with this id has written. The head, which is that record or has overtaken
            it, has only to be served here.
        no_store: why an emergency rollback cannot be recorded now.
        received: what it met in the store; None where that did not answer.
    """

    ordered: Ordered
    target: Target
    base_generation: int
    replay: Record | None = None
    no_store: StoreError | None = None
    received: Reception | None = None

    @property
    def shadow(self) -> ShadowPlan | None:
        """How its target is to run beside the live version first; None: not at all."""
        order = self.ordered.order
        return order.shadow if isinstance(order, DeployOrder) and self.replay is None else None


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """An order's record, and the model to publish.

    Attributes:
        record: what the order is answered with.
        head: what the model answers under: the record, unless that was replayed and others have overtaken it.
        no_store: why the record could not be written yet.
    """

    record: Record
    ready: Preparation
    head: Record
    replayed: bool = False
    no_store: str = ""

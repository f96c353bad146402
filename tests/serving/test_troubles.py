"""Which of several troubles Status shows."""

from __future__ import annotations

from model_sidecar.errors import Reason, RefusedError, StoreError, VerificationError
from model_sidecar.events import Event, Site
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.serving.troubles import Troubles


def test_a_refused_order_hides_neither_a_store_that_is_away_nor_is_it_hidden_by_an_older_refusal() -> None:
    """What lasts goes first; of what was refused, the newest; and once the store is back, the refusal is seen again."""
    told: list[Event] = []
    troubles = Troubles(Site(ModelName("adder"), Environment("prod")), on_event=told.append)

    def shown() -> Reason | None:
        return troubles.current.reason if troubles.current is not None else None

    troubles.tell(VerificationError("x", reason=Reason.OPERATOR_UNKNOWN), version=None, generation=None)
    troubles.order_refused(RefusedError("y"), version=None, generation=None)
    assert shown() is Reason.NO_PREVIOUS_VERSION
    troubles.unseen(StoreError("z", reason=Reason.LEDGER_INVALID))
    troubles.order_refused(RefusedError("y"), version=None, generation=None)
    assert shown() is Reason.LEDGER_INVALID
    troubles.seen()
    assert shown() is Reason.NO_PREVIOUS_VERSION
    troubles.over()
    assert shown() is None
    assert len(told) == 3

"""The ledger in the manager's hands: what would wait for the storage waits only so long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from model_sidecar.errors import CommitStateUnknownError, StoreError
from model_sidecar.ledger.ledger import Commit, Intent, Ledger, Reception
from model_sidecar.ledger.record import Record
from model_sidecar.release.digests import Digest
from model_sidecar.serving.patience import HURRY_S, Patience, UnfinishedError

_Answer = TypeVar("_Answer")


class Scribe:
    """Reads and writes one site's ledger. The manager's thread calls; each call ends within the patience's limit.

    Attributes:
        ledger: for what is answered from memory, at once.
    """

    def __init__(self, ledger: Ledger, patience: Patience) -> None:
        self.ledger = ledger
        self._patience = patience

    def receive(self, request_id: str, *, request_sha256: Digest, urgent: bool = False) -> Reception:
        """See `Ledger.receive`; StoreError where the storage hangs."""
        return self._patience.call(
            lambda: self.ledger.receive(request_id, request_sha256=request_sha256), limit_s=_limit(urgent)
        )

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """The answer to a question that only the store knows; StoreError where it hangs, or as the question raises."""
        return self._patience.call(question)

    def rewrite_face(self) -> str:
        """See `Ledger.rewrite_face`."""
        try:
            return self._patience.call(self.ledger.rewrite_face)
        except StoreError as error:
            return str(error)  # best effort: the next look finds it lagging again

    def enter(
        self,
        intent: Intent,
        *,
        expected_generation: int,
        received: Reception | None = None,
        urgent: bool = False,
    ) -> Commit:
        """See `Ledger.enter`."""
        return self._written(
            lambda: self.ledger.enter(intent, expected_generation=expected_generation, received=received),
            urgent=urgent,
        )

    def show(self, commit: Commit, *, urgent: bool = False) -> None:
        """See `Ledger.show`."""
        with suppress(StoreError):  # best effort: the next look finds it lagging
            self._patience.call(lambda: self.ledger.show(commit), limit_s=_limit(urgent))

    def append(self, record: Record) -> Commit:
        """See `Ledger.append`."""
        return self._written(lambda: self.ledger.append(record))

    def hurry(self) -> None:
        """An emergency is on its way: whatever the manager waits for now must not hold it up. Any thread may call."""
        self._patience.hurry()

    def calm(self) -> None:
        """It has come."""
        self._patience.calm()

    def close(self) -> None:
        """Read and write nothing more."""
        self._patience.close()

    def _written(self, write: Callable[[], Commit], *, urgent: bool = False) -> Commit:
        try:
            return self._patience.call(write, limit_s=_limit(urgent))
        except UnfinishedError as error:
            raise CommitStateUnknownError(
                f"{error} Whether it is recorded is not known: ask again with the same request id"
            ) from error


def _limit(urgent: bool) -> float | None:  # noqa: FBT001 - a helper of one word
    return HURRY_S if urgent else None

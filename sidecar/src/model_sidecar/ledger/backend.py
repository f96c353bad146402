"""Where records are kept, as the ledger needs it: numbered slots, each filled once and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class GenerationTakenError(Exception):
    """Another writer's record already stands in the slot. Private to this room: the ledger says who won."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"generation {generation} is taken")
        self.generation = generation


class Backend(Protocol):
    """The slots.

    Every method may be called from any thread, may block as long as the storage does, and raises StoreError when the
    storage cannot be read or written.
    """

    def read(self, generation: int) -> bytes | None:
        """The record's bytes, or None where there is none yet.

        Raises:
            StoreError: LEDGER_INVALID where something stands there that cannot be a record.
        """

    def put_if_absent(self, generation: int, content: bytes) -> None:
        """Fill the slot, atomically and durably. Filling it again with the very same bytes succeeds.

        Raises:
            GenerationTakenError: other bytes stand there. Nothing was changed.
            RefusedError: STORE_UNSUPPORTED; the storage cannot promise that a record is safe. Nothing was recorded.
            StoreFullError, StoreError: nothing was recorded.
            CommitStateUnknownError: the record may be there, but perhaps not for good.
        """

    def settle(self, generation: int) -> None:
        """Make durable what is visible in the slot, before it is acknowledged a second time.

        Raises:
            CommitStateUnknownError: it may still get lost.
        """

    def expect_records(self) -> None:
        """Records were seen here before, by an earlier process: their absence is trouble, and no empty ledger."""

    def latest_hint(self) -> int:
        """Some generation up to which records probably exist, or 0: where to begin to look, never an answer."""

    def first_missing(self, head: int) -> int | None:
        """The first generation up to `head` whose slot is empty, or None. No record is opened.

        Raises:
            StoreError: LEDGER_INVALID where something stands there that cannot be a record.
        """

    def survey(self, head: int) -> None:
        """A look ahead of the next `first_missing(head)`, which is then at hand if nothing comes or goes. Often free."""

    def unsupported(self) -> bool:
        """Whether the last try to record found that no record is safe here (STORE_UNSUPPORTED)."""

    def vanished(self) -> bool:
        """Whether every record that was read or written here is gone, though the place for them can be reached.

        Raises:
            StoreError: it cannot be reached.
        """

    def put_back(self, contents: Sequence[bytes]) -> None:
        """Fill the slots from generation 1 on of a ledger that has vanished: all in one atomic step, or none.

        Several may do so at once. Whoever comes second finds the same bytes, which is success; where the first one knew
        fewer records, the rest are put behind them.

        Raises:
            GenerationTakenError: other bytes stand there. None of these was added.
            RefusedError: STORE_UNSUPPORTED, as above.
            StoreFullError, StoreError: nothing was put back, and the same call again may succeed.
            CommitStateUnknownError: all are back, but perhaps not for good.
        """
        ...

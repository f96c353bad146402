"""What the ledger says of guards: what they have rolled back, and when. It outlives restarts, and is the same for N sidecars."""

from __future__ import annotations

from datetime import datetime

from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.record import GUARD
from model_sidecar.release.digests import Digest


class GuardRecords:
    """What the ledger says of guards, this one's and others': read forward, for it only grows. The guard's thread's own.

    Attributes:
        rolled_back: the identities that a guard has rolled back from.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read_to = 0
        self._last: datetime | None = None
        self.rolled_back: set[Digest] = set()

    def refresh(self) -> None:
        """Read on."""
        for record in self._ledger.rollbacks(GUARD.method, after=self._read_to):
            self._read_to = record.generation
            before = self._ledger.record(record.generation - 1)
            if before is not None and before.manifest_sha256 != record.manifest_sha256:
                self.rolled_back.add(before.manifest_sha256)
            self._last = record.timestamp

    def cooldown_left_s(self, cooldown_s: float, *, now: datetime) -> float:
        """Until so long after the last rollback of a guard; 0.0 where that is over. Clocks may differ by as much."""
        if self._last is None:
            return 0.0
        passed_s = (now - self._last).total_seconds()
        return cooldown_s - passed_s if -cooldown_s <= passed_s < cooldown_s else 0.0

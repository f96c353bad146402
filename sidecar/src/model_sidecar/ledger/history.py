"""What is known of a ledger, in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from model_sidecar.ledger.chain import GoodVersions
from model_sidecar.ledger.record import Record
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version


class History:
    """The known records, and what can be asked about them. Any thread may ask, and is answered at once."""

    def __init__(self) -> None:
        # Guards the four below, which always agree. Never held across I/O.
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._by_request: dict[str, Record] = {}
        self._by_version: dict[Version, Record] = {}
        self._good = GoodVersions()

    @property
    def head(self) -> Record | None:
        """The newest record that is known; None before the first."""
        with self._lock:
            return self._records[-1] if self._records else None

    def record(self, generation: int) -> Record | None:
        """The record of this generation, if it is known."""
        with self._lock:
            return self._records[generation - 1] if 1 <= generation <= len(self._records) else None

    def records(self, before: int | None = None, limit: int = 50) -> Sequence[Record]:
        """At most `limit` known records, newest first, all of generations below `before` (None: from the head on)."""
        with self._lock:
            end = len(self._records) if before is None else min(max(before - 1, 0), len(self._records))
            return tuple(reversed(self._records[max(end - max(limit, 0), 0) : end]))

    def find_request(self, request_id: str) -> Record | None:
        """The record that a request with this id wrote, if it is known."""
        with self._lock:
            return self._by_request.get(request_id)

    def previous_good(self) -> Record | None:
        """What a plain rollback goes back to: see `chain.previous_good`."""
        with self._lock:
            return self._good.previous

    def recorded_manifest(self, version: Version) -> Digest | None:
        """The digest of the manifest under which this version was last recorded, if it ever was."""
        with self._lock:
            record = self._by_version.get(version)
            return record.manifest_sha256 if record else None

    def _learn(self, records: Sequence[Record]) -> None:
        """Take over records that follow what is known, oldest first, their links checked."""
        with self._lock:
            for record in records:
                # Another thread may have been here first: slots are filled once, so it learned the same records.
                if record.generation != len(self._records) + 1:
                    continue
                self._records.append(record)
                self._by_request[record.request_id] = record
                self._by_version[record.version] = record
                self._good.add(record)

"""What is known of a ledger, in memory."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence

from model_sidecar.ledger.chain import GoodVersions
from model_sidecar.ledger.record import Action, Outline, Record, decode
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version


class History:
    """The known records, and what can be asked about them. Any thread may ask, and is answered at once.

    They are kept as their bytes, which is all there is to put back, and decoded when somebody asks for one.
    """

    def __init__(self) -> None:
        # Guards the six below, which always agree. Never held across I/O.
        self._lock = threading.Lock()
        self._contents: list[bytes] = []
        self._head: Record | None = None
        self._by_request: dict[str, int] = {}
        self._by_version: dict[Version, Digest] = {}
        self._rollbacks: dict[str, list[int]] = {}  # by the actor's method
        self._good = GoodVersions()

    @property
    def head(self) -> Record | None:
        """The newest record that is known; None before the first."""
        with self._lock:
            return self._head

    def record(self, generation: int) -> Record | None:
        """The record of this generation, if it is known."""
        with self._lock:
            if self._head is None or not 1 <= generation <= self._head.generation:
                return None
            if generation == self._head.generation:
                return self._head
            content = self._contents[generation - 1]
        return decode(content)

    def records(self, before: int | None = None, limit: int = 50) -> Sequence[Record]:
        """At most `limit` known records, newest first, all of generations below `before` (None: from the head on)."""
        with self._lock:
            end = len(self._contents) if before is None else min(max(before - 1, 0), len(self._contents))
            found = self._contents[max(end - max(limit, 0), 0) : end]
        return tuple(decode(content) for content in reversed(found))

    def find_request(self, request_id: str) -> Record | None:
        """The record that a request with this id wrote, if it is known."""
        with self._lock:
            generation = self._by_request.get(request_id)
        return None if generation is None else self.record(generation)

    def rollbacks(self, method: str, *, after: int = 0) -> Sequence[Record]:
        """The rollbacks that actors of this method ordered, of generations behind this one, oldest first."""
        with self._lock:
            all_of_them = self._rollbacks.get(method, [])
            found = all_of_them[bisect_right(all_of_them, after) :]
            contents = [self._contents[generation - 1] for generation in found]
        return tuple(decode(content) for content in contents)

    def previous_good(self) -> Record | None:
        """What a plain rollback goes back to: see `chain.previous_good`."""
        with self._lock:
            generation = self._good.previous
        return None if generation is None else self.record(generation)

    def recorded_manifest(self, version: Version) -> Digest | None:
        """The digest of the manifest under which this version was last recorded, if it ever was."""
        with self._lock:
            return self._by_version.get(version)

    def _contents_after(self, generation: int) -> Sequence[bytes]:
        """The bytes of all known records behind this generation, oldest first."""
        with self._lock:
            return self._contents[generation:]

    def _learn(self, found: Sequence[tuple[Outline, bytes]], newest: Record) -> None:
        """Take over records that follow what is known, oldest first, their links checked; `newest` is the last of them."""
        with self._lock:
            for outline, content in found:
                # Another thread may have been here first: slots are filled once, so it learned the same records.
                if outline.generation != len(self._contents) + 1:
                    continue
                self._contents.append(content)
                self._by_request[outline.request_id] = outline.generation
                self._by_version[outline.version] = outline.manifest_sha256
                self._good.add(outline)
                if outline.action is Action.ROLLBACK:
                    self._rollbacks.setdefault(outline.method, []).append(outline.generation)
            if newest.generation == len(self._contents):
                self._head = newest

"""The files of the prediction log: one is written, the others answer feedback, and the oldest leave whole.

Only the log's thread touches them; everything may raise sqlite3.Error or OSError.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from model_sidecar.monitor.log.segment import Answer, DamagedError, Segment, damage_told
from model_sidecar.monitor.readings import Joined, WatchedKey

log = logging.getLogger(__name__)

SEGMENTS = 8
"""So many files share the room: with each that leaves, an eighth of the log does."""
_LEAST_SEGMENT = 256 << 10
_FILE = re.compile(r"(?P<number>[0-9]{8})\.db", re.ASCII)
_BESIDE = ("", "-wal", "-shm")


class Segments:
    """The log's files in one directory, or with `folder` None in memory."""

    def __init__(self, folder: Path | None, *, limit: int) -> None:
        """Nothing is read yet; `limit` is how many bytes all of them may have."""
        self._folder = folder
        self._limit = limit
        self._segment_bytes = max(_LEAST_SEGMENT, limit // SEGMENTS)
        self._open: dict[int, Segment] = {}
        self._numbers: list[int] = []  # of all there are, oldest first
        self._current: Segment | None = None
        self._next = 1
        self._looked = folder is None

    def current(self) -> Segment:
        """The one that is written: another where it has become too large, or was given up."""
        if self._current is not None and self._current.path is not None and not self._current.path.exists():
            # Somebody removed it; SQLite would go on writing where nobody finds it.
            self.give_up()
        self._look()
        if self._current is not None and self._current.bytes >= self._segment_bytes:
            self._current = None
        if self._current is None:
            number = self._next
            self._next += 1
            self._numbers.append(number)
            try:
                self._current = self._open[number] = Segment(self._path(number), number=number)
            except (sqlite3.Error, OSError):
                self._remove(number)
                raise
            self._make_room()
        return self._current

    def give_up(self) -> None:
        """Let go of all of them, and see anew what is there; in memory only the present one is given up."""
        self.give_up_current()
        if self._folder is not None:
            self.close()
            self._looked = False

    def give_up_current(self) -> None:
        """Write no more to the present one: something is wrong with it."""
        if self._current is not None:
            self._close(self._current.number)
            self._current = None

    def find(self, id: int, process: str) -> tuple[Segment, Answer] | None:
        """The answer and the file that it is in, searched from the newest; None where nobody has it."""
        self._look()
        for segment in self._newest_first():
            with damage_told(segment.number):
                found = segment.answer(id, process)
            if found is not None:
                return segment, found
        return None

    def has_lost(self, id: int) -> bool:
        """Whether an answer of this id may have been in a file that has left."""
        if not self._numbers or self._numbers[0] == 1:
            return False
        for number in self._numbers:
            segment = self._opened(number)
            with damage_told(number):
                first = segment.first_id if segment is not None else None
            if first is not None:
                return id < first
        return False

    def joined(self, since_id: int, limit: int) -> Iterator[tuple[WatchedKey, Joined]]:
        """The newest predictions from this id on of which something counts, oldest first in each file, oldest file first."""
        self._look()
        for number in list(self._numbers):
            segment = self._opened(number)
            if segment is not None:
                try:
                    with damage_told(number):
                        yield from segment.joined(since_id, limit)
                except DamagedError as error:
                    self.set_aside(number, error)

    def bytes(self) -> int:
        """How large they are, all together."""
        if self._folder is None:
            return sum(segment.bytes for segment in self._open.values())
        return sum(self._bytes_on_disk(number) for number in self._numbers)

    def close(self) -> None:
        """Close all of them."""
        for number in list(self._open):
            self._close(number)
        self._current = None

    def _look(self) -> None:
        """See, once, what is there: the newest file is written on, unless it cannot be read."""
        if self._looked or self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {each.name for each in self._folder.iterdir()}
        self._numbers = sorted(int(match["number"]) for match in map(_FILE.fullmatch, names) if match)
        for name in names:
            base = name.removesuffix("-wal").removesuffix("-shm")
            if base != name and base not in names and _FILE.fullmatch(base):
                (self._folder / name).unlink(missing_ok=True)
        self._looked = True
        if self._numbers:
            self._next = max(self._next, self._numbers[-1] + 1)
            self._current = self._opened(self._numbers[-1])

    def _newest_first(self) -> Iterator[Segment]:
        for number in reversed(self._numbers):
            segment = self._opened(number)
            if segment is not None:
                yield segment

    def _opened(self, number: int) -> Segment | None:
        """The file of this number; None where it cannot be read, which is told once: then it only waits to leave."""
        segment = self._open.get(number)
        if segment is not None or self._folder is None:
            return segment
        try:
            segment = self._open[number] = Segment(self._path(number), number=number)
        except (sqlite3.Error, OSError) as error:
            self.set_aside(number, error)
            return None
        return segment

    def set_aside(self, number: int, error: Exception) -> None:
        """Let go of a file that cannot be read, and say so. It stays for those who want to know what became of it."""
        path = self._path(number)
        log.warning(
            "a file of the prediction log cannot be read, so feedback will not find what is in it: %s: %s",
            path,
            error,
        )
        if self._current is not None and self._current.number == number:
            self._current = None
        self._close(number)
        self._numbers.remove(number)
        if path is not None and path.exists():
            path.replace(path.with_suffix(".unreadable"))

    def _make_room(self) -> None:
        if self._folder is not None and self.bytes() + self._segment_bytes > self._limit:
            for path in self._folder.glob("*.unreadable"):
                path.unlink(missing_ok=True)
        while len(self._numbers) > 1 and self.bytes() + self._segment_bytes > self._limit:
            self._remove(self._numbers[0])

    def _remove(self, number: int) -> None:
        self._close(number)
        self._numbers.remove(number)
        path = self._path(number)
        for suffix in _BESIDE if path is not None else ():
            Path(f"{path}{suffix}").unlink(missing_ok=True)

    def _close(self, number: int) -> None:
        segment = self._open.pop(number, None)
        if segment is not None:
            try:
                segment.close()
            except sqlite3.Error as error:
                log.warning("a file of the prediction log could not be closed: %s", error)

    def _path(self, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"{number:08d}.db"

    def _bytes_on_disk(self, number: int) -> int:
        size = 0
        for suffix in _BESIDE:
            try:
                size += Path(f"{self._path(number)}{suffix}").stat().st_size
            except FileNotFoundError:
                continue
        return size

"""Where answers are noted, on the request's path: a block that is bounded in rows and bytes, and taken away whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from model_sidecar.events import Site
from model_sidecar.release.names import Version
from model_sidecar.serving.stage import Model

BLOCK_ROWS = 32_768
BLOCK_BYTES = 32 << 20
"""What notes may keep in memory until they are worked off, twice: in the block being filled, and in the one at work."""
_NOTE_BYTES = 1024


class Note(NamedTuple):
    """One answer, untouched.

    Attributes:
        site: whose model answered.
        model: which one.
        prediction_id: as the answer has it.
        inputs: the request's arrays; nobody may change them.
        outputs: of those that the model gave, at least what was asked for and what the prediction is read from.
        rows: how many rows the request had, one at least.
        key: what the rows depend on, where the caller said.
    """

    site: Site
    model: Model
    prediction_id: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    rows: int
    key: str | int | None


new_note = partial(tuple.__new__, Note)
"""A note of a tuple of its fields, in a quarter less time than by its name: one is made of every answer."""


class Told(NamedTuple):
    """A prediction that was made elsewhere. `confidence` is NaN where none was told."""

    site: Site
    version: Version
    prediction_id: str
    prediction: float | str
    confidence: float


@dataclass(slots=True)
class Block:
    """Notes of one stretch of time.

    `failed` have no outputs; `dropped` is how many rows there was no room for, by site; `filling`: half of the room is
    taken, and somebody was told.
    """

    notes: list[Note] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    failed: list[Note] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    dropped: dict[Site, int] = field(default_factory=dict)
    filling: bool = False


class Intake:
    """Takes notes. Any thread may call anything here."""

    def __init__(self, *, rows: int = BLOCK_ROWS, bytes_: int = BLOCK_BYTES) -> None:
        """Keep at most so many rows and bytes at once; what comes beyond is dropped, whatever it says, and counted."""
        self._rows = rows
        self._bytes = bytes_
        self._lock = threading.Lock()  # guards _block and what is in it
        self._block = Block()
        self._soon_rows, self._soon_bytes = rows // 2, bytes_ // 2
        self._filling: Callable[[], None] = _nobody

    def when_filling(self, act: Callable[[], None]) -> None:
        """Call `act`, which must not wait nor call here, by whichever thread fills half of a block."""
        self._filling = act

    def note(self, note: Note, size: int) -> None:
        """Keep an answer until it is worked off, or drop it: nothing is copied, parsed or looked at.

        Args:
            note: the answer.
            size: about how many bytes it keeps in memory.
        """
        rows = note.rows
        with self._lock:
            block = self._block
            block.rows += rows
            block.bytes += size + _NOTE_BYTES
            if block.rows <= self._soon_rows and block.bytes <= self._soon_bytes:
                block.notes.append(note)
                return
            if self._fits(block):
                block.notes.append(note)
            else:
                # The block stays full, so that a small note is not kept where a large one was not.
                block.dropped[note.site] = block.dropped.get(note.site, 0) + rows

    def failed(self, note: Note, size: int) -> None:
        """Keep what a model failed on, so that another may be asked; beyond the bounds it is passed over, and nothing missed."""
        with self._lock:
            block = self._block
            if block.rows + note.rows <= self._rows and block.bytes + size + _NOTE_BYTES <= self._bytes:
                block.rows += note.rows
                block.bytes += size + _NOTE_BYTES
                block.failed.append(note)

    def tell(self, told: list[Told]) -> None:
        """Take predictions that were made elsewhere."""
        if not told:
            return
        with self._lock:
            block = self._block
            block.rows += len(told)
            block.bytes += _NOTE_BYTES * len(told)
            if self._fits(block):
                block.told.extend(told)
            else:
                site = told[0].site
                block.dropped[site] = block.dropped.get(site, 0) + len(told)

    def take(self) -> Block:
        """What was noted since the last time."""
        fresh = Block()
        with self._lock:
            block, self._block = self._block, fresh
        return block

    def _fits(self, block: Block) -> bool:
        """With the lock held: what is counted in already."""
        if not block.filling and (block.rows > self._soon_rows or block.bytes > self._soon_bytes):
            block.filling = True
            self._filling()
        return block.rows <= self._rows and block.bytes <= self._bytes


def _nobody() -> None:
    """Nobody empties it sooner."""

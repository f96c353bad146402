"""Work in pieces: notes taken apart to be read, and what was read of them joined up again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import NOTES_AT_ONCE
from model_sidecar.monitor.readings import Readings, Watched, WatchedKey

_Stretch = tuple[WatchedKey, str, str, int, tuple[bool, ...]]
"""What is joined up: rows that have the same columns, and whose prediction is of the same kind.

Of a version that only answers elsewhere one may tell numbers and another labels."""


def pieces_of(notes: list[Note]) -> Iterator[list[Note]]:
    """Pieces of one model's notes each, in their order; `notes` is empty then.

    Nobody else has them any more, so that a piece is freed as soon as it is read, while it is in the processor's cache.
    """
    groups = [notes]
    if len({id(note.model) for note in notes}) > 1:
        by_model: defaultdict[int, list[Note]] = defaultdict(list)
        for note in notes:
            by_model[id(note.model)].append(note)
        notes.clear()
        groups = list(by_model.values())
    for each in groups:
        each.reverse()
        while each:
            piece = each[: -NOTES_AT_ONCE - 1 : -1]
            del each[-NOTES_AT_ONCE:]
            yield piece
            del piece


class Pieces:
    """Readings, until they are joined up: a call into numpy costs as much for a few rows as for some thousand.

    Attributes:
        rows: how many there are.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._by_stretch: dict[_Stretch, tuple[Watched, list[Readings]]] = {}

    def add(self, watched: Watched, readings: Readings) -> None:
        """Keep them until `taken`."""
        there = tuple(each is None for each in (readings.prediction, readings.score, readings.confidence))
        stretch = watched.key, watched.roles.task, readings.process, readings.features.shape[1], there
        self.rows += len(readings.ids)
        self._by_stretch.setdefault(stretch, (watched, []))[1].append(readings)

    def taken(self) -> Iterator[tuple[Watched, Readings]]:
        """All that there are, joined up; none is there any more."""
        by_stretch, self._by_stretch, self.rows = self._by_stretch, {}, 0
        for watched, pieces in by_stretch.values():
            yield watched, joined_up(pieces)


def joined_up(pieces: Sequence[Readings]) -> Readings:
    """Readings of one version and one process, one behind the other."""
    if len(pieces) == 1:
        return pieces[0]
    return Readings(
        ids=np.concatenate([each.ids for each in pieces]),
        rows=np.concatenate([each.rows for each in pieces]),
        process=pieces[0].process,
        features=np.concatenate([each.features for each in pieces]),
        prediction=_all_or_none([each.prediction for each in pieces]),
        score=_all_or_none([each.score for each in pieces]),
        confidence=_all_or_none([each.confidence for each in pieces]),
        nonfinite=np.concatenate([each.nonfinite for each in pieces]),
        keys=np.concatenate([each.keys for each in pieces]),
    )


def _all_or_none(columns: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if len(there) == len(columns) else None

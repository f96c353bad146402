"""Twenty-five cells, the current hour's and those of the day before it, and one for all before: by the time of prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.quality.label_tallies import ClassTally, ValueTally

HOURS = 25
_HOUR_S = 3600


@dataclass(slots=True)
class Cell:
    """What is kept of the predictions of one span of time.

    Attributes:
        predictions: how many there were.
        tally: of those with a label.
        confidences: how many fell into each bin of the baseline's calibration; None where that is not known.
    """

    tally: ClassTally | ValueTally
    predictions: int = 0
    confidences: NDArray[np.int64] | None = None

    def add_confidences(self, counts: NDArray[np.int64]) -> None:
        """Count these too."""
        self.confidences = counts if self.confidences is None else self.confidences + counts

    def merge(self, other: Cell) -> None:
        """Add the other's."""
        self.predictions += other.predictions
        self.tally.merge(other.tally)  # type: ignore[arg-type]  # one version's cells are all of one kind
        if other.confidences is not None:
            self.add_confidences(other.confidences)


class Hours:
    """One version's cells; made when their hour's first prediction is. Not locked: its owner's lock guards it."""

    def __init__(self, empty: Callable[[], ClassTally | ValueTally], began: datetime) -> None:
        """Begin.

        Args:
            empty: makes an empty tally; all that it makes can be merged.
            began: since when there is anything.
        """
        self._empty = empty
        self._began = hour_of(began)
        self._cells: dict[int, Cell] = {}
        self._newest = 0
        self._older = Cell(empty())

    @property
    def labels(self) -> int:
        """All of them, since the beginning."""
        return self._older.tally.labels + sum(each.tally.labels for each in self._cells.values())

    @property
    def predictions(self) -> int:
        """All of them, since the beginning."""
        return self._older.predictions + sum(each.predictions for each in self._cells.values())

    def cell(self, hour: int) -> Cell:
        """The one that a prediction of this hour counts in: its own, or that of all older ones."""
        self._began = min(self._began, hour)
        if hour > self._newest:
            self._newest = hour
            for old in [each for each in self._cells if each <= hour - HOURS]:
                self._older.merge(self._cells.pop(old))
        elif hour <= self._newest - HOURS:
            return self._older
        cell = self._cells.get(hour)
        if cell is None:
            cell = self._cells[hour] = Cell(self._empty())
        return cell

    def since(self, now: datetime, window_s: float) -> tuple[int, Cell]:
        """The first hour of the window that ends now, and all of it in one cell, a new one."""
        merged = Cell(self._empty())
        is_all = window_s > (HOURS - 1) * _HOUR_S
        first = self._began if is_all else int(now.timestamp() - window_s) // _HOUR_S
        if is_all:
            merged.merge(self._older)
        for hour, cell in self._cells.items():
            if hour >= first:
                merged.merge(cell)
        return first, merged


def hour_of(moment: datetime) -> int:
    """Hours since the epoch."""
    return int(moment.timestamp()) // _HOUR_S


def moment_of(hour: int) -> datetime:
    """When that hour began."""
    return datetime.fromtimestamp(hour * _HOUR_S, UTC)

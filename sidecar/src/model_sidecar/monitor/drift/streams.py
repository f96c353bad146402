"""What of a version's readings is counted: streams, each with fixed bins, each bin one whole number.

Counts are plain integers over bins that the baseline fixed, so those of N sidecars add up to those of one, in any order and
to the bit. Everything else about drift is made of counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.hashing import answer_bins
from model_sidecar.monitor.readings import Readings, Watched
from model_sidecar.release.baseline import (
    ANSWER_BINS,
    MAX_FEATURES,
    Baseline,
    StreamBaseline,
    StreamKind,
    class_name,
)

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

OUTPUT = "output"
"""What the streams about all of an answer are called."""
_CHUNK = 512
"""Rows at a time, so that what is compared with the cuts stays in the processor's cache."""
_WIDER = 0.1
"""By how much of its length the baseline's low..high is widened on either side before a value is out of range."""


class Stream(msgspec.Struct, frozen=True, gc=False):
    """One stream: names and numbers, at which the garbage collector need not look while nobody is answered.

    Attributes:
        name, kind: as they are shown.
        labels: what its bins are called, in their order; those of a value are up to each cut, then beyond the last.
        first: where in the vector of all counts its bins begin.
        reference: the baseline's counts of these bins; all 0 without one, and of CONSTANT the fullest bin's in each.
        rows: over how many rows the baseline counted them.
    """

    name: str
    kind: StreamKind
    labels: tuple[str, ...]
    first: int
    reference: tuple[int, ...]
    rows: int

    @property
    def end(self) -> int:
        """One past its last bin."""
        return self.first + len(self.labels)


class Streams:
    """What is counted of one version; frozen once it is made.

    Attributes:
        streams: in the order of their bins.
        bins: how many there are in all.
        missing: features of the baseline that the version's input does not have.
    """

    def __init__(self, watched: Watched) -> None:
        """Lay out the streams that the version's baseline knows, or the few that need none."""
        baseline = watched.baseline or Baseline(0)
        self._laid: list[Stream] = []
        self.bins = 0
        places = {name: index for index, name in enumerate(watched.features)}
        of_features = [each for each in baseline.streams if each.kind is StreamKind.FEATURE]
        self.missing = tuple(each.name for each in of_features if each.name not in places)
        features = [each for each in of_features if each.name in places]
        self._values = (
            *features,
            *(each for each in baseline.streams if each.kind is not StreamKind.FEATURE),
        )
        self._columns = np.array([places[each.name] for each in features], dtype=np.int64)
        self._value_firsts = self._lay(_value_stream(each) for each in self._values)
        self._finite_firsts = self._lay(_hole_stream(each) for each in features)
        self._bounded = np.array(
            [at for at, each in enumerate(self._values) if each.low is not None], dtype=np.int64
        )
        self._range_firsts = self._lay(_range_stream(self._values[at]) for at in self._bounded)
        limits = [_limits(self._values[at]) for at in self._bounded]
        self._lows, self._highs = np.array(limits, dtype=np.float64).reshape(-1, 2).T
        # (cuts, streams): each row is compared with all values at once; who has fewer cuts has none that is exceeded.
        most = max((len(each.cuts) for each in self._values), default=0)
        self._cuts = np.full((most, len(self._values)), np.inf)
        for at, each in enumerate(self._values):
            self._cuts[: len(each.cuts), at] = each.cuts
        self._classes: dict[str, int] = {}
        if baseline.classes is not None:
            names, counts = baseline.classes.names, (*baseline.classes.counts, baseline.classes.other)
            self._class_first = self._lay_one(
                StreamKind.CLASS, (*names, "other classes"), counts, sum(counts)
            )
            self._classes = {name: index for index, name in enumerate(names)}
        holes = (baseline.rows - baseline.nonfinite, baseline.nonfinite)
        self._nonfinite_first = self._lay_one(
            StreamKind.NONFINITE, ("finite", "not finite"), holes, baseline.rows
        )
        # A class alone is the same again and again; how often it should be, only a baseline knows. And where no input is
        # seen, equal answers may be those to equal questions.
        self._constant_first: int | None = None
        fine = watched.baseline or watched.roles.confidence or watched.roles.task == "regression"
        if fine and watched.features:
            labels = tuple(f"answers {number}" for number in range(1, ANSWER_BINS + 1))
            commonest = (baseline.commonest,) * ANSWER_BINS
            self._constant_first = self._lay_one(StreamKind.CONSTANT, labels, commonest, baseline.rows)
        self.streams = tuple(self._laid)
        del self._laid

    def count(self, readings: Readings, counted: Mask, fresh: Mask) -> Counts:
        """How many rows fell into each bin, (bins,).

        Args:
            readings: rows of this version.
            counted: (n,) which of them count at all.
            fresh: (n,) which of them asked something that was not asked before; only those tell of constant answers.
        """
        counts = np.zeros(self.bins, dtype=np.int64)
        chosen = np.flatnonzero(counted)
        for start in range(0, len(chosen), _CHUNK):
            rows = chosen[start : start + _CHUNK]
            found = [
                *self._of_values(readings, rows),
                *self._of_classes(readings, rows),
                readings.nonfinite[rows] + self._nonfinite_first,
                *self._of_answers(readings, rows[fresh[rows]]),
            ]
            counts += np.bincount(np.concatenate(found), minlength=self.bins)
        return counts

    def _of_values(self, readings: Readings, rows: NDArray[np.intp]) -> list[NDArray[np.int64]]:
        if not self._values:
            return []
        values, there = self._table(readings, rows)
        features = len(self._columns)
        bins = np.tile(self._value_firsts, (len(rows), 1))
        with np.errstate(invalid="ignore"):  # NaN is above no cut and not out of range; it counts as itself
            for cuts in self._cuts:
                bins += values > cuts
            bounded = values[:, self._bounded]
            outside = (bounded < self._lows) | (bounded > self._highs)
        finite = np.isfinite(values)
        holes = ~finite[:, :features] + self._finite_firsts
        ranges = (outside + self._range_firsts)[finite[:, self._bounded]]
        return [bins[finite], holes[there[:, :features]], ranges]

    def _table(self, readings: Readings, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], Mask]:
        """The columns of the value streams, and which of them these readings have at all."""
        features = len(self._columns)
        values = np.full((len(rows), len(self._values)), np.nan)
        there = np.zeros(values.shape, dtype=np.bool_)
        if features and readings.features.shape[1] > self._columns.max():
            values[:, :features] = readings.features[np.ix_(rows, self._columns)]
            there[:, :features] = True
        for at, each in enumerate(self._values[features:], start=features):
            column = readings.score if each.kind is StreamKind.SCORE else readings.confidence
            if column is not None:
                values[:, at] = column[rows]
                there[:, at] = True
        return values, there

    def _of_classes(self, readings: Readings, rows: NDArray[np.intp]) -> list[NDArray[np.int64]]:
        if not self._classes or readings.prediction is None:
            return []
        other = len(self._classes)
        said = readings.prediction[rows].tolist()
        names = {each: self._classes.get(class_name(each), other) for each in set(said)}
        return [np.array([names[each] for each in said], dtype=np.int64) + self._class_first]

    def _of_answers(self, readings: Readings, rows: NDArray[np.intp]) -> list[NDArray[np.int64]]:
        bins = answer_bins(readings, rows)
        return [] if bins is None or self._constant_first is None else [bins + self._constant_first]

    def _lay(self, streams: Iterable[_Laid]) -> NDArray[np.int64]:
        """Lay these behind what is laid already; where the bins of each begin."""
        before = len(self._laid)
        for name, kind, labels, reference, rows in streams:
            self._laid.append(Stream(name, kind, labels, self.bins, reference, rows))
            self.bins += len(labels)
        return np.array([each.first for each in self._laid[before:]], dtype=np.int64)

    def _lay_one(
        self, kind: StreamKind, labels: tuple[str, ...], reference: tuple[int, ...], rows: int
    ) -> int:
        return int(self._lay([(OUTPUT, kind, labels, reference, rows)])[0])


_Laid = tuple[str, StreamKind, tuple[str, ...], tuple[int, ...], int]
"""A stream before it has its place."""


def _value_stream(column: StreamBaseline) -> _Laid:
    upto = (0, *column.at_or_below, column.finite)
    labels = (*(f"<= {cut:g}" for cut in column.cuts), f"> {column.cuts[-1]:g}" if column.cuts else "any")
    reference = tuple(right - left for left, right in pairwise(upto))
    return column.name, column.kind, labels, reference, column.finite


def _hole_stream(column: StreamBaseline) -> _Laid:
    holes = column.nan + column.infinite
    labels = ("finite", "not finite")
    return column.name, StreamKind.NONFINITE, labels, (column.finite, holes), column.finite + holes


def _range_stream(column: StreamBaseline) -> _Laid:
    low, high = _limits(column)
    labels = (f"{low:g} to {high:g}", "outside")
    return column.name, StreamKind.RANGE, labels, (column.finite, 0), column.finite


def _limits(column: StreamBaseline) -> tuple[float, float]:
    assert column.low is not None
    assert column.high is not None
    # Of a column that has one value only, a thousandth of that counts as the same.
    more = _WIDER * (column.high - column.low) or abs(column.high) / 1000
    return column.low - more, column.high + more


def spaced(columns: int) -> NDArray[np.int64]:
    """Which columns of so many are watched: all, or MAX_FEATURES evenly spaced ones."""
    return np.unique(np.linspace(0, max(columns - 1, 0), min(columns, MAX_FEATURES)).astype(np.int64))

"""Which shares are watched, how far each may be from the baseline's, and how much its evidence counts.

A share of a value stream is that of rows at or below a cut; of the others, that of one bin. How far it may be is the band
that was asked for and a margin for what the baseline itself does not know, being a sample: each true share is within its
margin but once in a thousand.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.detectors.evidence import BandDetector
from model_sidecar.monitor.drift.streams import Counts, Stream, Streams
from model_sidecar.release.baseline import ENOUGH_ROWS, StreamKind

_DOUBT = 1e-3
_RARE = 0.001
"""How far shares may be that are next to nothing in good times: not finite, out of range."""
_SAME = 0.98
"""Without a baseline answers are constant when a larger share than this of different inputs is answered the same."""

_REACHES = (
    (0.05, 0.12, 0.25, 0.45, 0.8),
    (0.003, 0.01, 0.05, 0.2, 0.8),
    (0.2, 0.5, 0.8, 0.95, 0.999),
)
"""Alternatives: how far into the rest of the scale a share may have gone (`evidence.BandDetector`). Of values and classes; of
what is next to nothing in good times; of what is all the same."""

_ATTENTION = {
    StreamKind.FEATURE: 2.0,
    StreamKind.SCORE: 2.0,
    StreamKind.CONFIDENCE: 1.0,
    StreamKind.CLASS: 1.0,
    StreamKind.NONFINITE: 1.0,
    StreamKind.RANGE: 0.5,
    StreamKind.CONSTANT: 1.0,
}
"""How much of the false alarms that are allowed each kind may cause, together with all others of its kind. So a score is
not lost among sixty features; a factor of two is 0.7 of the twenty-odd units that an alarm takes."""


@dataclass(frozen=True, slots=True)
class Bands:
    """The cells of a version's streams, as columns.

    Attributes:
        stream: (cells,) which stream each is of.
        first, end: (cells,) the bins whose rows are in the event.
        of_first, of_end: (cells,) the bins of its stream.
        share: (cells,) the baseline's.
        low, high: (cells,) the band.
        of_reaches: (cells,) which kind of alternatives each has.
    """

    stream: NDArray[np.int16]
    first: NDArray[np.int16]
    end: NDArray[np.int16]
    of_first: NDArray[np.int16]
    of_end: NDArray[np.int16]
    share: NDArray[np.float32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    of_reaches: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)

    def firsts(self, streams: int) -> NDArray[np.intp]:
        """(streams,) where the cells of each of so many streams begin: they stand in the streams' order."""
        return np.searchsorted(self.stream, np.arange(streams))

    def events(self, counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(cells,) how many rows are in each cell's event, and (cells,) of how many."""
        upto = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=upto[1:])
        k, n = upto[self.end] - upto[self.first], upto[self.of_end] - upto[self.of_first]
        return k.astype(np.float64), n.astype(np.float64)


def watching(streams: Streams, *, band: float) -> tuple[Bands, BandDetector]:
    """The cells of these streams, and what gathers their evidence.

    Args:
        streams: a version's.
        band: by how much a share may differ from the baseline's (--drift-band).
    """
    rows = [cell for at, each in enumerate(streams.streams) for cell in _cells(at, each, band)]
    kinds = [streams.streams[row[0]].kind for row in rows]
    # Kinds share alarms by attention, streams of a kind alike, cells of a stream alike.
    cells_of = Counter(row[0] for row in rows)
    streams_of = Counter(streams.streams[at].kind for at in cells_of)
    weights = [
        _ATTENTION[kind] / streams_of[kind] / cells_of[row[0]] for kind, row in zip(kinds, rows, strict=True)
    ]
    at, first, end, of_first, of_end = (
        np.array([row[column] for row in rows], dtype=np.int16) for column in range(5)
    )
    share, low, high = (np.array([row[column] for row in rows], dtype=np.float64) for column in range(5, 8))
    bands = Bands(
        stream=at,
        first=first,
        end=end,
        of_first=of_first,
        of_end=of_end,
        share=share.astype(np.float32),
        low=low,
        high=high,
        of_reaches=np.array([_of_reaches(kind) for kind in kinds], dtype=np.uint8),
    )
    return bands, BandDetector(low, high, np.array(_REACHES), bands.of_reaches, np.array(weights))


def margin(rows: int) -> float:
    """How far a share of so many rows may be from the truth, but once in a thousand (Dvoretzky-Kiefer-Wolfowitz)."""
    return math.sqrt(math.log(2 / _DOUBT) / (2 * rows)) if rows else 1.0


def widened(rows: int) -> float:
    """By how much more than with ENOUGH_ROWS the band of a baseline with so many rows is widened; 0 from there on."""
    return max(margin(rows) - margin(ENOUGH_ROWS), 0.0)


def is_blind(rows: int, *, band: float) -> bool:
    """Whether the band of a baseline with so many rows is half of the scale or more: then hardly any drift leaves it."""
    return band + margin(rows) >= 0.5


_Cell = tuple[int, int, int, int, int, float, float, float]


def _cells(at: int, stream: Stream, band: float) -> list[_Cell]:
    rows, first, end = stream.rows, stream.first, stream.end
    near = band + margin(rows)
    upto = np.cumsum((0, *stream.reference))
    bins = range(first, end)
    match stream.kind:
        case StreamKind.FEATURE | StreamKind.SCORE | StreamKind.CONFIDENCE:
            shares = (upto[1:-1] / max(rows, 1)).tolist()
            return [
                (at, first, first + number, first, end, share, share - near, share + near)
                for number, share in enumerate(shares, start=1)
            ]
        case StreamKind.CLASS:
            shares = [count / max(rows, 1) for count in stream.reference]
            return [
                (at, each, each + 1, first, end, share, share - near, share + near)
                for each, share in zip(bins, shares, strict=True)
            ]
        case StreamKind.NONFINITE:
            share = stream.reference[1] / max(rows, 1)
            high = (_above(share, rows) if rows else 0.0) + _RARE
            return [(at, end - 1, end, first, end, share, 0.0, high)]
        case StreamKind.RANGE:
            # Of values like the baseline's, the share beyond its extremes is Beta(2, n - 1): below 9.2 / n but once in
            # a thousand.
            return [(at, end - 1, end, first, end, 0.0, 0.0, _RARE + 9.2 / max(rows, 1))]
        case StreamKind.CONSTANT:
            share = stream.reference[0] / max(rows, 1)
            high = share + near if rows else _SAME
            return [(at, each, each + 1, first, end, share, 0.0, high) for each in bins]


def _of_reaches(kind: StreamKind) -> int:
    match kind:
        case StreamKind.NONFINITE | StreamKind.RANGE:
            return 1
        case StreamKind.CONSTANT:
            return 2
        case _:
            return 0


def _above(share: float, rows: int) -> float:
    """The largest true share of which so small a one is seen once in a thousand at least (Chernoff's bound)."""
    allowed = math.log(1 / _DOUBT) / rows
    low, high = share, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(share, middle) < allowed else (low, middle)
    return high


def _divergence(share: float, other: float) -> float:
    if other >= 1.0:
        return math.inf if share < 1.0 else 0.0
    inside = share * math.log(share / other) if share else 0.0
    return inside + ((1 - share) * math.log((1 - share) / (1 - other)) if share < 1 else 0.0)

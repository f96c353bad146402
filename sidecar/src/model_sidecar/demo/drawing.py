"""What answered when, as a picture in text: time goes to the right, a row per version, the higher the more answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from model_sidecar.demo.paper import WIDTH, Ink, Paper
from model_sidecar.demo.timeline import Move, Refusal, accuracy
from model_sidecar.demo.traffic import Answer

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_PLAIN_HEIGHTS = " .:-=+*%#"
_INDENT = 4
_POOR = 0.75


@dataclass(frozen=True, slots=True)
class _Axis:
    """Columns of equal time, from one monotonic moment to another."""

    begin: float
    end: float
    columns: int

    def column(self, moment: float) -> int:
        """In which column this moment is; that may lie outside."""
        return int((moment - self.begin) / max(self.end - self.begin, 1e-9) * self.columns)

    def columns_of(self, answers: Sequence[Answer]) -> NDArray[np.int64]:
        """In which column each of these answers is."""
        return np.array(
            [min(self.column(each.answered_at), self.columns - 1) for each in answers], dtype=np.int64
        )

    def written(self, words: Iterable[tuple[float, str]]) -> str:
        """Words, each beginning where its moment is; what does not fit is cut."""
        line = [" "] * self.columns
        for moment, word in words:
            at = self.column(moment)
            if 0 <= at < self.columns:
                shown = word[: self.columns - at]
                line[at : at + len(shown)] = shown
        return "".join(line).rstrip()


def draw(
    paper: Paper,
    answers: Sequence[Answer],
    moves: Sequence[Move],
    labels: NDArray[np.int64],
    *,
    refusal: Refusal | None = None,
) -> None:
    """The picture of these answers, of which there is at least one; below, the share that was right.

    Args:
        paper: where to.
        answers: in the order in which they came.
        moves: marked above, each where it was acknowledged.
        labels: what the digits of the stream really are, shape (rows,).
        refusal: marked above as well.
    """
    versions = list(dict.fromkeys(each.version for each in answers))
    gutter = _INDENT + max(len(each) for each in versions) + 2
    axis = _Axis(answers[0].answered_at, answers[-1].answered_at, WIDTH - gutter)
    columns = axis.columns_of(answers)
    named = np.array([versions.index(each.version) for each in answers])
    counts = np.array(
        [np.bincount(columns[named == at], minlength=axis.columns) for at in range(len(versions))]
    )
    right = np.array([each.label == labels[each.row] for each in answers])
    total = np.bincount(columns, minlength=axis.columns)
    share = np.bincount(columns, weights=right, minlength=axis.columns) / np.maximum(total, 1)
    marks = [(each.acknowledged_at, f"|{each.action.lower()}") for each in moves]
    if refusal is not None:
        marks.append((refusal.at, "|refused"))

    begin, end = f"{paper.since(axis.begin):.1f} s", f"{paper.since(axis.end):.1f} s"
    paper.line(" " * gutter + begin + end.rjust(axis.columns - len(begin)))
    paper.line(" " * gutter + axis.written(marks))
    for at, version in enumerate(versions):
        bars = _bars(counts[at] / max(counts.max(), 1), paper)
        paper.line(f"{' ' * _INDENT}{version:<{gutter - _INDENT}}{bars}")
    paper.line(f"{' ' * _INDENT}{'right':<{gutter - _INDENT}}{_inked(_bars(share, paper), share, paper)}")
    paper.line(" " * gutter + axis.written(_reigns(moves, answers, labels)))


def _bars(shares: NDArray[np.float64], paper: Paper) -> str:
    heights = _HEIGHTS if paper.blocks else _PLAIN_HEIGHTS
    # Rounded up: whatever is there at all shows.
    return "".join(heights[int(np.ceil(share * (len(heights) - 1)))] for share in shares)


def _inked(bars: str, shares: NDArray[np.float64], paper: Paper) -> str:
    runs = groupby(zip(bars, shares, strict=True), key=lambda pair: pair[1] < _POOR)
    return "".join(
        paper.ink("".join(bar for bar, _ in run), Ink.BAD if is_poor else Ink.GOOD) for is_poor, run in runs
    )


def _reigns(
    moves: Sequence[Move], answers: Sequence[Answer], labels: NDArray[np.int64]
) -> Iterable[tuple[float, str]]:
    """The share of right answers from each move until the next, and where it begins in the picture."""
    for at, move in enumerate(moves):
        until = moves[at + 1].acknowledged_at if at + 1 < len(moves) else float("inf")
        reign = [
            each
            for each in answers
            if each.version == move.version and move.called_at <= each.answered_at < until
        ]
        if reign:
            yield max(move.acknowledged_at, answers[0].answered_at), f"{100 * accuracy(reign, labels):.0f} %"

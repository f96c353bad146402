"""Scores of two classes by what was true: 2 x 200 bins and four sums, which add up over hours and over sidecars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SCORE_BINS = 200
_LEAST = 1e-15
"""A probability of exactly 0 for what came true would make the log loss infinite for ever; scikit-learn clips there too."""


@dataclass(slots=True)
class Scores:
    """Scores, from 0 to 1, of labelled rows.

    Attributes:
        counts: (2, 200) int32: a row for each of two classes that was true, the score in bins of half a percent.
        losses: (2, 2): for each true class, the sums of -ln(score) and of -ln(1 - score). Which of the two is the log
            loss depends on whose probability the score is, and that may only be known later.
        squares: (2, 2): the sums of their squares.
    """

    counts: NDArray[np.int32] = field(default_factory=lambda: np.zeros((2, SCORE_BINS), np.int32))
    losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, truth: int, score: float, sign: int = 1) -> None:
        """Take a row in, or with -1 take it back. `truth` is 0 or 1: which of the two classes was true."""
        self.counts[truth, min(int(score * SCORE_BINS), SCORE_BINS - 1)] += sign
        for side, probability in enumerate((score, 1.0 - score)):
            loss = -math.log(min(max(probability, _LEAST), 1.0))
            self.losses[truth, side] += sign * loss
            self.squares[truth, side] += sign * loss * loss

    def merge(self, other: Scores) -> None:
        """Add the other's rows to these."""
        self.counts += other.counts
        self.losses += other.losses
        self.squares += other.squares

    def by_outcome(self, positive: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The bins of rows whose truth was the other class, and of those whose truth was `positive`."""
        wide = self.counts.astype(np.int64)
        return wide[1 - positive], wide[positive]

    def loss(self, positive: int) -> tuple[int, float, float]:
        """How many rows, the sum of their log losses, and of those squared; the score is `positive`'s probability."""
        other = 1 - positive
        return (
            int(self.counts.sum()),
            float(self.losses[positive, 0] + self.losses[other, 1]),
            float(self.squares[positive, 0] + self.squares[other, 1]),
        )


def area_under_curve(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> float | None:
    """The share of pairs that the score orders rightly, ties counting half: exact up to ties within a bin's width.

    None where one of the two never came true.
    """
    pairs = int(negatives.sum()) * int(positives.sum())
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)

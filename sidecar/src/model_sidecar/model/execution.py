"""How a version's predictions are run: by what one costs, and by what several of them cost together."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

INLINE_S = 200e-6
"""A model that takes less than this runs on the event loop: handing it to a thread and back would cost more."""


class Execution(StrEnum):
    """Where predictions of a version run."""

    INLINE = "inline"
    """On the event loop, one after the other."""
    LANES = "lanes"
    """In threads, one prediction for each run."""
    BATCHED = "batched"
    """In threads; what waits for one is run at once."""


@dataclass(frozen=True, slots=True)
class Batching:
    """What runs of several rows cost, for a version whose rows are answered the same in each other's company.

    Attributes:
        costs: pairs of rows and what a run with so many takes, in runs of one row; from one row (1.0) up to as many as pay.
    """

    costs: tuple[tuple[int, float], ...]

    @property
    def max_rows(self) -> int:
        """The most rows that a run should have."""
        return self.costs[-1][0]

    def cost(self, rows: int) -> float:
        """What a run with so many rows takes, in runs of one row; between what was measured, in proportion."""
        at = bisect_left(self.costs, (rows, 0.0))
        if at == 0:
            return self.costs[0][1]
        if at == len(self.costs):
            most, cost = self.costs[-1]
            return cost * rows / most
        (fewer, less), (more, most_cost) = self.costs[at - 1], self.costs[at]
        return less + (most_cost - less) * (rows - fewer) / (more - fewer)

    def within(self, max_rows: int) -> Batching | None:
        """The same with at most so many rows in a run; None where that leaves nothing to be run together."""
        if max_rows < 2:
            return None
        if max_rows >= self.max_rows:
            return self
        fewer = tuple(each for each in self.costs if each[0] < max_rows)
        return Batching((*fewer, (max_rows, self.cost(max_rows))))


class Measured(Protocol):
    """What is known of a version once it was rehearsed."""

    @property
    def cost_s(self) -> float: ...
    @property
    def batching(self) -> Batching | None: ...


def execution_of(model: Measured) -> Execution:
    """How this version's usual predictions are run. A larger one, or one that is dear by its values, runs in a lane by itself."""
    if model.cost_s <= INLINE_S:
        return Execution.INLINE
    return Execution.LANES if model.batching is None else Execution.BATCHED

"""What a benchmark finds: plain values, of which every figure is a ratio of two things that were measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be: at least, or at most, so much."""

    bound: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether this value fulfils it."""
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: what of what, as the page says it: "tiny model, 8 callers, of the bare echo".
        rounds: the ratio of each round, in their order; the figure is their median, its spread the least and the greatest.
        goal: None for what is only told.
        unit: behind the number: "times" sign of a ratio, "ms" where the goal is a time.
        note: the absolute values behind it, or what limits it; short.
    """

    name: str
    rounds: tuple[float, ...]
    goal: Goal | None = None
    unit: str = "×"
    note: str = ""

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the median fulfils the goal; None where there is none."""
        return None if self.goal is None else self.goal.met(self.median)


@dataclass(frozen=True, slots=True)
class Table:
    """Absolute values beside the figures: they are this machine's, and only rows of one table can be compared.

    Attributes:
        title: what it shows, and by what.
        header: the columns' names; the first is what the row is of.
        rows: as text, as long as the header.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: its points from left to right."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture. Both axes are logarithmic where they say so.

    Attributes:
        name: of its file, without the ending.
        title, across, up: what it shows, and what its axes count.
    """

    name: str
    title: str
    across: str
    up: str
    lines: tuple[Line, ...]
    log_across: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """All that one subject found.

    Attributes:
        title: what the subject asks, in a sentence.
        notes: sentences under its figures: how it was measured, what limits it.
    """

    title: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()


def ratios(of: Sequence[float], by: Sequence[float]) -> tuple[float, ...]:
    """Round by round, the first's value over the second's."""
    return tuple(one / other for one, other in zip(of, by, strict=True))


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """A median with the least and the greatest, as text."""
    middle, least, greatest = (
        form.format(each) for each in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least}–{greatest})"

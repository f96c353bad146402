"""What a benchmark found, beside what was wanted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured.
        goal: in words; "" where there is none, as of what stands beside for comparison.
        figure: in words.
        met: whether the figure is within the goal; None without one.
    """

    what: str
    goal: str
    figure: str
    met: bool | None


def at_most(what: str, found: Sequence[float], goal: float, unit: str) -> Row:
    """The median of what was found, of which at most so much is wanted."""
    median = statistics.median(found)
    return Row(what, f"≤ {goal:,.0f} {unit}", f"{median:,.0f} (at most {max(found):,.0f})", median <= goal)


def beside(what: str, figure: str) -> Row:
    """Something to compare with."""
    return Row(what, "", figure, None)


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    words = {True: "yes", False: "**no**", None: ""}
    lines = ["| measured | goal | found | met |", "|---|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {each.what} | {each.goal} | {each.figure} | {words[each.met]} |" for each in rows)]
    )

"""Text for people: tables, and strings from elsewhere made harmless."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey instead of show.

    Reasons, actors and messages come from other people: an escape sequence could hide or forge lines, and a character
    that turns the writing direction could make a version read as another.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns, two spaces apart; an empty cell shows as `-`."""
    cells = [[printable(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def moment(when: datetime | None) -> str:
    """A point in time as people compare them: UTC, to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if when else ""

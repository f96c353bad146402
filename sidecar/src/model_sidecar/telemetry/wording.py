"""Numbers and lengths of time as a person reads them."""

from __future__ import annotations

from datetime import datetime


def number(value: float | None) -> str:
    """Six digits that count; nothing for None."""
    return "" if value is None else f"{value:.6g}"


def milliseconds(seconds: float | None) -> str:
    """Three digits that count; nothing for None."""
    return "" if seconds is None else f"{seconds * 1000:.3g} ms"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago the moment was."""
    return span((now - moment).total_seconds())


def span(seconds: float) -> str:
    """A length of time as people say it: its largest unit, and the next one."""
    left = max(0, int(seconds))
    if left < 60:
        return f"{left} s"
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if left >= size:
            return f"{left // size} {unit} {left % size // part} {smaller}"
    return f"{left} s"

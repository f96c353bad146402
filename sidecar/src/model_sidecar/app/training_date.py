"""When a model was trained, as `publish` takes it: a day, or a moment that means the same everywhere."""

from __future__ import annotations

import re
from datetime import datetime

from model_sidecar.errors import ConfigurationError

_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))?",
    re.ASCII,
)


def parse_training_date(text: str) -> str:
    """The same text, where it is a day of ISO 8601 or a date-time of RFC 3339 that the calendar has.

    Raises:
        ConfigurationError: it is neither.
    """
    expected = (
        "expected YYYY-MM-DD, or a date-time of RFC 3339 with Z or an offset, such as 2024-01-15T21:30:00Z"
    )
    if not _DATE.fullmatch(text):
        raise ConfigurationError(f"{text[:200]!r} is no training date: {expected}")
    try:
        datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ConfigurationError(f"{text[:200]!r} is no training date ({error}): {expected}") from None
    return text

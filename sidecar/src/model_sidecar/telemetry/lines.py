"""A log record as one line: JSON for machines, words for a person at a terminal. No line can pretend to be two."""

from __future__ import annotations

import json
import logging
import math
import re
from datetime import UTC, datetime

# Besides ASCII's controls: C1's, line separators, marks that turn the direction of text, halves of surrogate pairs.
_UNSEEN = "\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff"
_UNSEEN_IN_JSON = re.compile(f"[{_UNSEEN}]")
_UNSEEN_IN_TEXT = re.compile(f"[\x00-\x1f{_UNSEEN}]")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SITE = ("model", "environment")
_LEVEL_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_PLAIN = "\x1b[0m"


def visible(words: str) -> str:
    """The words with every character that is not seen, or that turns the text, escaped."""
    return _UNSEEN_IN_TEXT.sub(_escaped, words)


def extras(record: logging.LogRecord) -> dict[str, object]:
    """What was given to the log call as `extra`, without what is None."""
    return {key: value for key, value in vars(record).items() if key not in _OWN and value is not None}


class JsonLines(logging.Formatter):
    """One JSON object per record.

    Keys: `timestamp` (RFC 3339, UTC, microseconds), `level`, `event` (a stable word, where the record has one),
    `message`, `logger`, whatever the record has besides, and `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts = extras(record)
        document: dict[str, object] = {"timestamp": _timestamp(record), "level": record.levelname.lower()}
        if "event" in facts:
            document["event"] = facts.pop("event")
        document |= {"message": record.getMessage(), "logger": record.name}
        document |= {key: value for key, value in facts.items() if key not in document}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        text = json.dumps(
            {key: _value(each) for key, each in document.items()}, ensure_ascii=False, allow_nan=False
        )
        return _UNSEEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class TextLines(logging.Formatter):
    """Time, level, site and words; then what is known besides. A traceback follows on lines of its own."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts = extras(record)
        facts.pop("event", None)
        site = "/".join(str(facts.pop(key)) for key in _SITE if key in facts)
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        words = [f"{moment}Z", f"{record.levelname:<7}", *([site] if site else []), record.getMessage()]
        message = words[-1]
        # What the sentence already says is not said again.
        words += [f"{key}={value}" for key, value in facts.items() if str(value) not in message]
        line = visible(" ".join(words))
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "\n" + "\n".join(visible(each) for each in trace.split("\n"))
        colour = _LEVEL_COLOURS.get(record.levelname, "") if self._colour else ""
        return f"{colour}{line}{_PLAIN}" if colour else line


def _timestamp(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )


def _value(value: object) -> object:
    match value:
        case bool() | int() | str() | None:
            # A StrEnum, too, is its word.
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case _:
            return str(value)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

"""JSON as a signature may safely cover it: what is read is what everybody else reads.

Duplicate keys, NaN and infinities, numbers beyond a double, lone surrogates, deep nesting and anything after the
document are refused: parsers differ over them, so two readers of the same bytes could act on different facts.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 32
"""Nesting that no manifest needs; deeper input is an attack on somebody's recursion."""

# The closing quote is optional, so that a string that never ends is one match. Otherwise the search would begin anew at
# each quote in it, and a manifest of 1 MiB would take the better part of an hour.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


class NotStrictJsonError(ValueError):
    """The bytes are not JSON of the strict kind; the message says where."""


class DuplicateKeyError(NotStrictJsonError):
    """An object names a key twice."""


class NotFiniteError(NotStrictJsonError):
    """A number is NaN, infinite, or too large for a double."""


def loads(content: bytes) -> Any:
    """The document.

    Raises:
        DuplicateKeyError, NotFiniteError: as they say.
        NotStrictJsonError: anything else that is not strict JSON in UTF-8.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrictJsonError(f"not UTF-8: byte {error.start} is 0x{content[error.start]:02x}") from None
    _refuse_depth(text)
    try:
        document = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise NotStrictJsonError(
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    # Bytes that are UTF-8 hold none; only an escape can make one.
    if "\\u" in text:
        _refuse_surrogates(document)
    return document


def dumps(document: object) -> bytes:
    """One line of canonical JSON in UTF-8: sorted keys, no spaces, a newline at its end."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _refuse_depth(text: str) -> None:
    # Before parsing, for the parser itself recurses. Strings are skipped as wholes; an unfinished one to the end, and
    # the parser says the rest.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise NotStrictJsonError(f"nested deeper than {MAX_DEPTH} levels")
            case "]" | "}":
                depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise DuplicateKeyError(f"key {key[:80]!r} stands twice in one object")
        made[key] = value
    return made


def _constant(text: str) -> float:
    raise NotFiniteError(f"{text} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotFiniteError(f"{text[:40]} does not fit a double")
    return value


def _integer(text: str) -> int:
    # The longest 64-bit integer has 20 characters; int() takes quadratic time over the rest.
    if len(text) <= 20 and -(1 << 63) <= (value := int(text)) < 1 << 64:
        return value
    raise NotFiniteError(f"integer {text[:40]} has more than 64 bits")


def _refuse_surrogates(value: object) -> None:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise NotStrictJsonError(f"{value[:40]!r} holds half of a surrogate pair") from None
        case dict():
            for key, item in value.items():
                _refuse_surrogates(key)
                _refuse_surrogates(item)
        case list():
            for item in value:
                _refuse_surrogates(item)

"""The JSON that `-o json` prints. Programs rely on it: names may be added, and none is renamed or removed.

Every document is an object: `{"record": …, "took_ms": …, "replayed": …, "dry_run": …}` from deploy and rollback,
`{"statuses": […]}`, `{"records": […]}` and `{"versions": […]}` from status, history and versions, `{"quality": […]}` and
`{"drift": […]}` from these two, and a prediction's fields from predict. `status --watch` prints one status a line (NDJSON). The fields are those of the records in
`model_sidecar_client.records`, `.monitoring_records` and `.answers`.

Times are RFC 3339 in UTC with microseconds. Numbers that JSON does not have are the strings "NaN", "Infinity" and
"-Infinity". Bytes are a string where they are UTF-8, else `{"base64": "…"}`. What is not there is null.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def document(value: Any) -> Any:
    """The value as JSON has it."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return str(value)
        case float():
            return value if math.isfinite(value) else _not_finite(value)
        case bytes():
            return _text_or_base64(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case Mapping():
            return {str(key): document(each) for key, each in value.items()}
        case list() | tuple():
            return [document(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {field.name: document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    # What is left is a numpy array or scalar.
    return document(value.tolist())


def one_line(value: Any) -> str:
    """The value's JSON on one line. Pure ASCII, so that nothing in it can act on a terminal."""
    return json.dumps(document(value), allow_nan=False).replace("\x7f", "\\u007f")


def readable(value: Any) -> str:
    """The value's JSON on one line for a person: letters stay letters, so `text.printable` has to see it still."""
    return json.dumps(document(value), allow_nan=False, ensure_ascii=False)


def indented(value: Any) -> str:
    """The value's JSON for a file or a person."""
    return json.dumps(document(value), allow_nan=False, indent=2).replace("\x7f", "\\u007f")


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _text_or_base64(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}

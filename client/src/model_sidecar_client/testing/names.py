"""The names that the real sidecar takes. A test that passes with one that it would refuse tests nothing."""

from __future__ import annotations

import datetime
import re

# The contract's grammar, as `model_sidecar.release.names` has it; the client does not depend on the sidecar.
_MODEL = re.compile(r"(?!environments\Z)[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_VERSION = re.compile(
    r"(?P<year>[0-9]{4})\.(?P<month>[0-9]{2})\.(?P<day>[0-9]{2})(?:\.[1-9][0-9]{0,5})?\.[a-z][a-z0-9-]{0,31}",
    re.ASCII,
)


def checked_model(name: str) -> str:
    """The name, or ValueError."""
    if not _MODEL.fullmatch(name):
        raise _off("model", name, "a-z, 0-9, '.', '_', '-', at most 63, beginning with a letter or digit")
    return name


def checked_environment(name: str) -> str:
    """The name, or ValueError."""
    if not _ENVIRONMENT.fullmatch(name):
        raise _off("environment", name, "a-z, 0-9, '-', at most 32, beginning with a letter")
    return name


def checked_version(name: str) -> str:
    """The name, or ValueError."""
    match = _VERSION.fullmatch(name)
    if not match:
        raise _off("version", name, "YYYY.MM.DD.stage or YYYY.MM.DD.N.stage, such as 2024.01.15.prod")
    try:
        datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise _off("version", name, f"a date that the calendar has ({error})") from None
    return name


def _off(kind: str, name: str, expected: str) -> ValueError:
    return ValueError(f"{kind} name {name!r} is not valid: expected {expected}")

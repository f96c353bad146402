r"""The names of models, versions and environments, and their grammar.

A name becomes a path component, a metric label and part of a log line, so only an allow-list passes: ASCII, the whole
string, never a prefix of it. (`$` would let a newline through, and `\d` other scripts' digits.)
"""

from __future__ import annotations

import datetime
import re
from typing import NewType

from model_sidecar.errors import InvalidNameError

ModelName = NewType("ModelName", str)
Environment = NewType("Environment", str)
Version = NewType("Version", str)

_MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_VERSION = re.compile(
    r"(?P<year>[0-9]{4})\.(?P<month>[0-9]{2})\.(?P<day>[0-9]{2})"
    r"(?:\.(?P<build>[1-9][0-9]{0,5}))?\.(?P<stage>[a-z][a-z0-9-]{0,31})",
    re.ASCII,
)
# A model called so could not be told from the folder that holds the pointers.
_RESERVED = frozenset({"environments"})


def parse_model(text: str) -> ModelName:
    """The model's name, or InvalidNameError."""
    if not _MODEL.fullmatch(text) or text in _RESERVED:
        raise _off("model", text, "a-z, 0-9, '.', '_', '-', at most 63, beginning with a letter or digit")
    return ModelName(text)


def parse_environment(text: str) -> Environment:
    """The environment's name, or InvalidNameError."""
    if not _ENVIRONMENT.fullmatch(text):
        raise _off("environment", text, "a-z, 0-9, '-', at most 32, beginning with a letter")
    return Environment(text)


def parse_version(text: str) -> Version:
    """The version's name, or InvalidNameError: a real calendar date, perhaps a build number, and a stage."""
    match = _VERSION.fullmatch(text)
    if not match:
        raise _off("version", text, "YYYY.MM.DD.stage or YYYY.MM.DD.N.stage, such as 2024.01.15.prod")
    try:
        datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise _off("version", text, f"a date that the calendar has ({error})") from None
    return Version(text)


def version_order(version: Version) -> tuple[str, int, str]:
    """A key that sorts versions by date, then build number, then stage. For display: no decision hangs on it."""
    match = _VERSION.fullmatch(version)
    assert match, "a Version is only made by parse_version"
    return f"{match['year']}{match['month']}{match['day']}", int(match["build"] or 0), match["stage"]


def _off(kind: str, text: str, expected: str) -> InvalidNameError:
    return InvalidNameError(f"{kind} name {text[:200]!r} is not valid: expected {expected}", kind=kind)

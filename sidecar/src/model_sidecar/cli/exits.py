"""What `model-sidecar` exits with, and how an error is told: one line, what failed, why, what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from model_sidecar.errors import (
    ConfigurationError,
    ConflictError,
    InvalidNameError,
    SidecarError,
    UnavailableError,
    VerificationError,
)


class Exit(IntEnum):
    """The exit codes of the contract, section 6."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    TIMED_OUT = 3
    NOT_VERIFIED = 4
    CONFLICT = 5
    NOT_REACHABLE = 7
    INTERRUPTED = 130


_CODES: tuple[tuple[type[SidecarError], Exit], ...] = (
    (VerificationError, Exit.NOT_VERIFIED),
    (ConflictError, Exit.CONFLICT),
    (ConfigurationError, Exit.USAGE),
    (InvalidNameError, Exit.USAGE),
    (UnavailableError, Exit.NOT_REACHABLE),
)


def exit_code(error: SidecarError) -> Exit:
    """The exit code that an error of ours means."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.REFUSED)


@contextmanager
def told() -> Iterator[None]:
    """Turn an error of ours into its line on stderr and its exit code."""
    try:
        yield
    except SidecarError as error:
        print(f"error: {error} [{error.reason}]", file=sys.stderr)  # noqa: T201 - the command line speaks
        sys.exit(exit_code(error))

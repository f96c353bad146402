"""What the operating system says about the store, as errors of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_sidecar.errors import StoreError, StoreFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def store_error(error: OSError, path: Path, *, doing: str = "access") -> StoreError:
    """The error to raise for `error`, met at `path` while doing that: StoreFullError, or StoreError STORE_UNAVAILABLE."""
    failed = f"cannot {doing} {path}: {error.strerror or error}"
    if error.errno in _FULL:
        return StoreFullError(f"{failed}. Nothing was changed: make room and ask again", path=path)
    return StoreError(f"{failed}. Check that the store is mounted, and its permissions", path=path)


@contextmanager
def store_faults(path: Path, *, doing: str = "access") -> Iterator[None]:
    """Raise what goes wrong at `path` as a StoreError."""
    try:
        yield
    except OSError as error:
        raise store_error(error, path, doing=doing) from error

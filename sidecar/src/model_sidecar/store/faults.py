"""What the operating system says about the store, as errors of ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_sidecar.errors import StoreError, StoreFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def store_error(error: OSError, path: Path) -> StoreError:
    """The error to raise for `error`, met at `path`: StoreFullError, or StoreError STORE_UNAVAILABLE."""
    said = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreFullError(
            f"no room for {path}: {said}. Nothing was changed; make room and try again", path=path
        )
    return StoreError(f"cannot access {path}: {said}. Check the mount and its permissions", path=path)


@contextmanager
def store_faults(path: Path) -> Iterator[None]:
    """Raise what goes wrong at `path` as a StoreError."""
    try:
        yield
    except OSError as error:
        raise store_error(error, path) from error

"""The last words of a process that crashes in native code, kept for the one that starts after it."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_WORDS = 256 << 10


@contextmanager
def last_words_kept(path: Path | None) -> Iterator[str]:
    """While this lasts, a crash by SIGSEGV, SIGABRT, SIGBUS, SIGILL or SIGFPE leaves every thread's stack in this file.

    Gives what the process before has left there; empty where it ended otherwise. Python's `faulthandler` writes, with
    nothing but what is safe in a signal handler. It has one destination per process, so two of these do not go together.
    """
    if path is None:
        yield ""
        return
    before = ""
    with suppress(OSError):
        before = path.read_bytes()[:_WORDS].decode(errors="replace")
    if before:
        log.error("the process before this one crashed: %s", before)
    was_on = faulthandler.is_enabled()
    try:
        file = path.open("wb", buffering=0)
    except OSError as error:
        log.warning("a crash of this process would leave no trace: %s: %s", path, error.strerror)
        yield before
        return
    with file:
        faulthandler.enable(file)
        try:
            yield before
        finally:
            faulthandler.disable()
            if was_on:
                faulthandler.enable()

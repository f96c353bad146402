"""The last words of a process that crashes in native code, kept for the one that starts after it."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_WORDS = 256 << 10
_SHOWN = 2 << 10


@contextmanager
def last_words_kept(path: Path | None) -> Iterator[str]:
    """While this lasts, a crash by SIGSEGV, SIGABRT, SIGBUS, SIGILL or SIGFPE leaves every thread's stack in this file.

    Gives what the process before has left there; empty where it ended otherwise. Of that the log gets what it was and
    the stack of the thread that crashed; all of it stays beside, in `crash-before.txt`. Python's `faulthandler` writes, with
    nothing but what is safe in a signal handler. It has one destination per process, so two of these do not go together.
    """
    if path is None:
        yield ""
        return
    before = ""
    with suppress(OSError):
        before = path.read_bytes()[:_WORDS].decode(errors="replace")
    if before:
        log.error("the process before this one crashed: %s%s", _gist(before), _put_aside(path))
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


def _gist(crash: str) -> str:
    """What happened, and where the thread stood that it happened to; the others only wait, and there are dozens."""
    what, *stacks = crash.split("\n\n")
    dying = [each for each in stacks if each.startswith("Current thread ")]
    gist = "\n".join([what.partition("\n")[0], *dying]).strip()
    return gist if len(gist) <= _SHOWN else f"{gist[:_SHOWN]} …"


def _put_aside(path: Path) -> str:
    """Keep the file from being overwritten; says where it is, or nothing."""
    kept = path.with_name(f"{path.stem}-before{path.suffix}")
    try:
        path.replace(kept)
    except OSError:
        return ""
    return f" (the stacks of all threads are in {kept})"

"""strace on a process that is running: what it asks of the kernel, and system calls that kill it or fail.

What strace 6.1 does, as tried: `when=N` counts the calls *of one name* from the moment of attaching; a signal or an error
comes at the entry of the call, which is then not carried out (a `retval` neither: it is a lie, not a short write).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*?)(?:\) += (.*)|(?: <unfinished \.\.\.>)?)", re.ASCII | re.DOTALL)
_ATTACHED_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One system call as strace shows it; `result` is "?" where the process ended in it."""

    name: str
    arguments: str
    result: str

    @property
    def injected(self) -> bool:
        """Whether strace answered in the kernel's place."""
        return self.result.endswith("(INJECTED)")


def problem() -> str:
    """Why strace cannot be used here, in one sentence; "" where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed: `scripts/need.sh strace` installs Debian's, as root"
    with tempfile.TemporaryDirectory() as scratch:
        idle = subprocess.Popen(["sleep", "60"])  # noqa: S607 - wherever it is on PATH
        try:
            with Strace(idle.pid, output=Path(scratch, "trace")):
                return ""
        except NotAttachedError as error:
            return f"strace may not attach to a process here: {error}"
        finally:
            idle.kill()
            idle.wait()


class NotAttachedError(Exception):
    """strace could not attach; the message is its own."""


class Strace:
    """strace attached to a process, until it is left: then the process goes on alone, if it still lives."""

    def __init__(self, pid: int, *options: str, output: Path) -> None:
        """Attach; NotAttachedError where that is not possible.

        Args:
            pid: the process, or a single thread of one; `-f` among the options takes all threads.
            options: more of strace's, such as `-e inject=…`.
            output: where the trace goes.
        """
        self.output = output
        self._process = subprocess.Popen(
            ["strace", "-y", "-s", "0", *options, "-o", str(output), "-p", str(pid)],  # noqa: S607
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self._end()
            raise NotAttachedError(said.strip())

    def detach(self) -> list[Call]:
        """Wait for the process's end if it is ending, or let it go; what it asked for until then."""
        self._end()
        return calls(self.output.read_text(errors="replace"))

    def ended(self) -> list[Call]:
        """Wait until the process has ended; what it asked for."""
        self._process.communicate(timeout=_ATTACHED_S)
        return calls(self.output.read_text(errors="replace"))

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        with suppress(ValueError):
            self._process.communicate(timeout=_ATTACHED_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()


def calls(trace: str) -> list[Call]:
    """The calls in a trace of one thread; its other lines (signals, the end) are left out."""
    found = (_LINE.fullmatch(line.rstrip()) for line in trace.splitlines())
    return [Call(match[1], match[2], match[3] or "?") for match in found if match]


NO_LINKS = ("-e", "inject=link,linkat:error=EPERM")
"""Options: a file system that has no hard links."""


def killing_at(name: str, number: int) -> tuple[str, ...]:
    """Options: SIGKILL at the entry of the n-th call of this name."""
    return ("-e", f"inject={name}:signal=SIGKILL:when={number}")


def failing_at(name: str, number: int, error: str) -> tuple[str, ...]:
    """Options: the n-th call of this name fails."""
    return ("-e", f"inject={name}:error={error}:when={number}")


def failing_from(
    before: Sequence[str], names: Callable[[str], bool], all_names: Sequence[str], error: str
) -> tuple[str, ...]:
    """Options: from the calls that come after those named `before`, every call whose name counts fails."""
    options: list[str] = []
    for name in sorted(set(filter(names, all_names))):
        options += ("-e", f"inject={name}:error={error}:when={before.count(name) + 1}+")
    return tuple(options)

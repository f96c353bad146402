"""The child processes in which versions are tried, as the kernel lists them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

WAIT_S = 60.0


def children_of(parent: int) -> list[int]:
    """The process ids of a process's children, zombies included."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def limits_of(process: int) -> dict[str, str]:
    """A process's soft limits by their names in /proc."""
    lines = Path(f"/proc/{process}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[0] for line in lines}


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def trial_of(parent: int | None = None) -> int:
    """The process id of the trial that this process (None: our own) holds, once it begins with the model.

    That is when it has set the last of its limits, after its imports.
    """
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        for pid in children_of(parent or os.getpid()):
            with suppress(OSError):  # it has just ended
                if limits_of(pid)["Max data size"] != "unlimited":
                    return pid
        time.sleep(0.005)
    raise AssertionError("no trial began")

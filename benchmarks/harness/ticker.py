"""A thread that only looks at the clock, and the longest time for which the others kept the interpreter from it."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Self

TICK_S = 0.0002
_SETTLED_S = 25 * TICK_S
_PATIENCE_S = 5.0
_DIGITS = 64
_LOOKS = 2  # the place of how often the clock was looked at


class Longest:
    """The longest stall so far: numbers that the ticker makes larger and whoever measures sets to zero, in one process or two."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._longest = memoryview(shared).cast("d")

    @classmethod
    def anew(cls) -> Self:
        """One of this process alone."""
        return cls(mmap.mmap(-1, mmap.PAGESIZE))

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """One that every process sees which opens the same file; it is made if it is not there."""
        with path.open("a+b") as file:
            file.truncate(mmap.PAGESIZE)
            return cls(mmap.mmap(file.fileno(), mmap.PAGESIZE))

    def told(self, stall_s: float, *, worked_s: float) -> None:
        """The ticker's: there was a stall of so long, in which the process worked for so long."""
        for place, seconds in enumerate((stall_s, min(stall_s, worked_s))):
            if seconds > self._longest[place]:  # noqa: PLR1730 - another store might undo whoever sets it to zero just now
                self._longest[place] = seconds
        self._longest[_LOOKS] += 1

    def reset(self) -> None:
        """Forget what was; a stall that has begun already belongs to that."""
        time.sleep(_SETTLED_S)
        self._longest[0] = self._longest[1] = self._longest[_LOOKS] = 0.0

    def ms(self) -> float:
        """The longest since then, in milliseconds.

        Raises:
            RuntimeError: nobody looked at the clock.
        """
        time.sleep(_SETTLED_S)
        ends = time.monotonic() + _PATIENCE_S
        while not self._longest[_LOOKS]:
            if time.monotonic() > ends:
                raise RuntimeError("the thread that looks at the clock is not there")
            time.sleep(TICK_S)
        return float(self._longest[0]) * 1e3

    def worked_ms(self) -> float:
        """The longest of which the process worked all the time.

        The others' wait for a core is no more their fault than the ticker's; but whoever kept the interpreter and waited for a
        disk is not seen so.
        """
        self.ms()
        return self._longest[1] * 1e3


class Ticker(threading.Thread):
    """Looks at the clock every fifth of a millisecond. What it waited for a core is not the others' fault, and not counted."""

    def __init__(self, longest: Longest) -> None:
        super().__init__(name="ticker", daemon=True)
        self._longest = longest

    def run(self) -> None:
        # Called so, pread keeps the interpreter: else each look would be two waits for it, taken for one.
        pread = ctypes.PyDLL(None).pread
        pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
        # proc_pid_schedstat: nanoseconds on a core, and nanoseconds that it was ready to run and had none.
        file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        text = ctypes.create_string_buffer(_DIGITS)

        def waited_s() -> float:
            pread(file, text, _DIGITS, 0)
            return int(text.value.split()[1]) / 1e9

        while True:
            waited, worked, before = waited_s(), time.process_time(), time.perf_counter()
            time.sleep(TICK_S)
            late = time.perf_counter() - before - TICK_S
            worked = time.process_time() - worked
            self._longest.told(late - (waited_s() - waited), worked_s=worked)

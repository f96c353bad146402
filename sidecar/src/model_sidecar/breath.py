"""Letting others have the interpreter, amid work that nobody waits for as they wait for an answer."""

from __future__ import annotations

import time

_BREATH_S = 0.00005


def breathe() -> None:
    """Sleep for a moment, which is what makes a thread that waits for the interpreter get it.

    To take turns by itself is not enough where numpy is at work: it lets the interpreter go for each larger array and takes
    it back before anybody has woken up, and whoever waits asks for it only after a switch interval in which nobody let it
    go (CPython 3.11's `take_gil`). So eight models' reports in a row kept it for 2 ms.
    """
    time.sleep(_BREATH_S)

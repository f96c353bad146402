"""How the demo writes: acts, moments with their time, aligned tables. Colour only where a person looks."""

from __future__ import annotations

import os
import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TextIO

WIDTH = 100
_INDENT = "    "
_CLOCK = 9


class Ink(StrEnum):
    """What a piece of text is, to the eye."""

    TITLE = "1"
    GOOD = "32"
    BAD = "1;31"
    QUIET = "2"


class Paper:
    """Writes to one stream, flushed line by line. One thread's.

    Attributes:
        blocks: whether the stream can show block characters; plain ASCII stands in for them where it cannot.
    """

    def __init__(self, out: TextIO, *, colour: bool, blocks: bool) -> None:
        self._out = out
        self._colour = colour
        self.blocks = blocks
        self.began = time.monotonic()
        self._act = 0

    @classmethod
    def on(cls, out: TextIO, environment: Mapping[str, str] = os.environ) -> Paper:
        """Paper that suits this stream: colour on a terminal without NO_COLOR, blocks where UTF-8 is spoken."""
        terminal = out.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        return cls(out, colour=terminal, blocks=(out.encoding or "").lower().replace("-", "") == "utf8")

    def ink(self, text: str, kind: Ink | None) -> str:
        """The text in its colour, or as it is."""
        return f"\x1b[{kind}m{text}\x1b[0m" if kind and self._colour and text else text

    def line(self, text: str = "") -> None:
        """One line as it is, or as near to it as ASCII comes where the stream speaks no UTF-8."""
        if not self.blocks:
            text = text.replace("…", "...").encode("ascii", "replace").decode()
        print(text.rstrip(), file=self._out, flush=True)

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._act += 1
        self.line()
        self.line(self.ink(f"{self._act}.  {title}", Ink.TITLE))

    def section(self, title: str) -> None:
        """Begin a part of what is told at the end."""
        self.line()
        self.line(self.ink(title, Ink.TITLE))

    def text(self, text: str, kind: Ink | None = None) -> None:
        """A paragraph, wrapped."""
        for each in textwrap.wrap(text, WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False):
            self.line(_INDENT + self.ink(each, kind))

    def command(self, command: str, remark: str = "") -> None:
        """A command to type, broken before an option where it is long."""
        lines = [""]
        for word in re.sub(r" (?=--?[a-z])", "\n", command).split("\n"):
            if lines[-1] and len(lines[-1]) + len(word) > WIDTH - 2 * len(_INDENT) - 3:
                lines[-1] += " \\"
                lines.append(_INDENT)
            lines[-1] += f" {word}" if lines[-1].strip() else word
        if remark and len(_INDENT) + len(lines[-1]) + len(remark) + 5 > WIDTH:
            lines.insert(0, self.ink(f"# {remark}", Ink.QUIET))
        elif remark:
            lines[-1] += self.ink(f"   # {remark}", Ink.QUIET)
        for each in lines:
            self.line(_INDENT + each)

    def moment(self, text: str, kind: Ink | None = None, *, at: float | None = None) -> None:
        """Something that happened, with the seconds since the beginning; `at` is monotonic, now by default."""
        clock = f"{self.since(time.monotonic() if at is None else at):7.2f} s"
        lines = textwrap.wrap(text, WIDTH - _CLOCK - 2, break_long_words=False, break_on_hyphens=False)
        for index, each in enumerate(lines):
            gutter = self.ink(clock, Ink.QUIET) if index == 0 else " " * _CLOCK
            self.line(f"{gutter}  {self.ink(each, kind)}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Aligned columns; `right` are those aligned to the right."""
        widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

        def laid(row: Sequence[str]) -> str:
            cells = [
                cell.rjust(width) if at in right else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            return _INDENT + "  ".join(cells).rstrip()

        self.line(self.ink(laid(head), Ink.QUIET))
        for row in rows:
            self.line(laid(row))

    def since(self, moment: float) -> float:
        """Seconds from the beginning to this monotonic moment."""
        return moment - self.began


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.1f} %"


def milliseconds(seconds: float) -> str:
    """A duration as people read it."""
    ms = 1000 * seconds
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"

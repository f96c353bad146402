"""Lines in a picture: an SVG file that can be read on a light page and on a dark one, since it brings its own colours for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

from harness.figures import Plot

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 34, 44
# Told apart by everybody, also without red or green: Okabe and Ito's, darker on white and lighter on a dark grey.
_ON_LIGHT = ("#0072B2", "#C04E00", "#007A5A", "#A8508A", "#5B5B5B")
_ON_DARK = ("#56B4E9", "#F08A3C", "#2FC89F", "#E5A3C9", "#C9C9C9")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:13px}"
    ".grid{stroke:#ddd}.axis{stroke:#888}polyline{fill:none;stroke-width:2}.page{fill:#fff}"
    + "".join(f".c{n}{{fill:{colour}}}.s{n}{{stroke:{colour}}}" for n, colour in enumerate(_ON_LIGHT))
    + "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#3a3a3a}.axis{stroke:#999}.page{fill:#161616}"
    + "".join(f".c{n}{{fill:{colour}}}.s{n}{{stroke:{colour}}}" for n, colour in enumerate(_ON_DARK))
    + "}"
)


def svg(plot: Plot) -> str:
    """The picture. The upward axis starts at zero: what is flat has to look flat, and nothing else."""
    points = [point for line in plot.lines for point in line.points]
    lows, tops = [x for x, _ in points], [y for _, y in points]
    across = _scale(min(lows), max(lows), _LEFT, _WIDTH - _RIGHT, log=plot.log_across)
    top = _round_up(max(tops))
    up = _scale(0, top, _HEIGHT - _BOTTOM, _TOP, log=False)
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(plot.title)}"><style>{_STYLE}</style>'
        ),
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
        _text(_LEFT, 18, f"{plot.title}, {plot.up}", css="title"),
        _text(_WIDTH - _RIGHT, _HEIGHT - 8, plot.across, anchor="end"),
        *(_tick_up(each, up(each)) for each in (0, top / 4, top / 2, 3 * top / 4, top)),
        *(_tick_across(each, across(each)) for each in sorted(set(lows))),
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/>',
    ]
    for number, line in enumerate(plot.lines):
        drawn += _line(line.name, [(across(x), up(y)) for x, y in line.points], number)
    ends = _apart([up(line.points[-1][1]) + 4 for line in plot.lines])
    drawn += [
        _text(_WIDTH - _RIGHT + 10, y, line.name, css=f"c{number}")
        for number, (line, y) in enumerate(zip(plot.lines, ends, strict=True))
    ]
    return "\n".join([*drawn, "</svg>\n"])


def _scale(low: float, high: float, begin: float, end: float, *, log: bool) -> Callable[[float], float]:
    view: Callable[[float], float] = math.log if log else float
    span = (view(high) - view(low)) or 1.0
    return lambda value: begin + (view(value) - view(low)) / span * (end - begin)


def _round_up(value: float) -> float:
    """A number with one digit that says something, at least this."""
    size = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= value)


def _apart(places: Iterable[float], least: float = 14) -> list[float]:
    """The places, moved down so far that no two labels are one over the other."""
    ordered = sorted(enumerate(places), key=lambda each: each[1])
    moved: dict[int, float] = {}
    before = -math.inf
    for number, place in ordered:
        moved[number] = before = max(place, before + least)
    return [moved[number] for number in range(len(moved))]


def _line(name: str, points: list[tuple[float, float]], number: int) -> list[str]:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    return [f'<polyline class="s{number}" points="{way}"><title>{escape(name)}</title></polyline>', *dots]


def _tick_up(value: float, y: float) -> str:
    grid = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return grid + _text(_LEFT - 8, y + 4, f"{value:,.4g}", anchor="end")


def _tick_across(value: float, x: float) -> str:
    return _text(x, _HEIGHT - _BOTTOM + 16, f"{value:,.6g}", anchor="middle")


def _text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "") -> str:
    named = f' class="{css}"' if css else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'

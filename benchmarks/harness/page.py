"""`docs/benchmarks.md` and its plots, written from what was measured and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.figures import Figure, Table
from harness.plots import svg
from harness.results import Machine, Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
PLOTS = "benchmarks"

_INTRODUCTION = """# Benchmarks

Written by `make benchmarks`; edits are lost. **Figures of speed are ratios** of two things that were run side by side and
in turns in one run, so that they mean something on other machines too: the median of the rounds, with the least and the greatest.
Where the goal itself is a time or a size (ms, MB, MiB), it is that of the machine named below. What stands in a subject's tables
without a goal is there to be compared within its table. Callers are processes of their own on the same cores: `h2load` where a
server's capacity is meant, a Python client where a caller's wait is. The goals were set before anything was measured against them,
by what the parts alone and other servers had shown; one that is missed stays, with what was tried and what limits it. An *echo* is a
gRPC server that answers the same bytes and does nothing else; *raw* is onnxruntime called in a process by itself.
"""


def write(results: Sequence[Result], limits: Mapping[str, str], page: Path = PAGE) -> None:
    """Write the page and the plots that it shows, with what limits a subject's figures; plots of an earlier page that this one does not show are removed."""
    folder = page.parent / PLOTS
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"{plot.name}.svg": svg(plot) for result in results for plot in result.measured.plots}
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    for name, content in drawn.items():
        (folder / name).write_text(content)
    page.write_text(render(results, limits))


def render(results: Sequence[Result], limits: Mapping[str, str]) -> str:
    """The page's text."""
    parts = [_INTRODUCTION, _machines(results), _goals(results)]
    parts += [_subject(result, limits.get(result.subject, "")) for result in results]
    return "\n".join(parts)


def _goals(results: Sequence[Result]) -> str:
    header = "| figure | goal | median | spread | | measured by |\n|---|---|---|---|---|---|\n"
    rows = [
        f"| {figure.name} | {_goal(figure)} | **{_number(figure.median, figure.unit)}** | {_spread(figure)} | "
        f"{'met' if figure.met else '**missed**'} | [{result.subject}](#{result.subject})"
        f"{', a quick check' if result.fast else ''} |\n"
        for result in results
        for figure in result.measured.figures
        if figure.goal is not None
    ]
    return "## Goals\n\n" + header + "".join(rows)


def _subject(result: Result, limits: str) -> str:
    measured = result.measured
    fast = " **A quick check: these figures say little.**" if result.fast else ""
    parts = [
        (
            f"## {result.subject}\n\n{measured.title}\n\n`{result.command}`, {result.when:%Y-%m-%d %H:%M} UTC, "
            f"{result.took_s:.0f} s.{fast}\n"
        )
    ]
    if measured.figures:
        parts.append(_figures(measured.figures))
    parts += [_table(table) for table in measured.tables]
    parts += [f"![{plot.title}]({PLOTS}/{plot.name}.svg)\n" for plot in measured.plots]
    if measured.notes:
        parts.append("".join(f"- {note}\n" for note in measured.notes))
    if limits:
        parts.append(f"**What limits it, and what was tried.** {limits}\n")
    return "\n".join(parts)


def _figures(figures: Sequence[Figure]) -> str:
    header = "| figure | median | spread | rounds | goal | beside it |\n|---|---|---|---|---|---|\n"
    rows = [
        f"| {figure.name} | {_number(figure.median, figure.unit)} | {_spread(figure)} | {len(figure.rounds)} | "
        f"{_verdict(figure)} | {figure.note} |\n"
        for figure in figures
    ]
    return header + "".join(rows)


def _table(table: Table) -> str:
    rule = "|".join(["---", *("---:" for _ in table.header[1:])])
    lines = [f"{table.title}\n", f"| {' | '.join(table.header)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _machines(results: Sequence[Result]) -> str:
    """Where it was measured; where there were several, each with its subjects."""
    subjects: dict[str, list[str]] = {}
    for result in results:
        subjects.setdefault(_machine(result.machine), []).append(result.subject)
    if len(subjects) == 1:
        return f"Measured on {next(iter(subjects))}.\n"
    return "".join(f"- {', '.join(names)}: on {machine}\n" for machine, names in subjects.items())


def _machine(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        f"{machine.cores} cores ({machine.processor}), {machine.memory_gib} GiB, Linux {machine.kernel}, "
        f"Python {machine.python}, {packages}"
    )


def _verdict(figure: Figure) -> str:
    return "" if figure.goal is None else f"{_goal(figure)}: {'met' if figure.met else '**missed**'}"


def _goal(figure: Figure) -> str:
    assert figure.goal is not None, "asked of those that have one"
    return f"{'≤' if figure.goal.at_most else '≥'} {_number(figure.goal.bound, figure.unit)}"


def _spread(figure: Figure) -> str:
    return f"{_number(min(figure.rounds))}–{_number(max(figure.rounds))}"


def _number(value: float, unit: str = "") -> str:
    form = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{form} {unit}".strip()

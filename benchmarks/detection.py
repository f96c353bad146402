"""How soon does drift show, how often is there a false alarm, and what do others say of the same rows?

Every goal for detection stands in the table that this prints, with what was found and whether that is good enough; it fails
where one is not. The table in docs/monitoring.md is this one (--write).

    make detection                     everything: some minutes
    make detection ARGS=--fast         fewer runs of each, without downloads: a minute
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from detecting import car_loan, delays, labels, null, peers, windows
from detecting.rows import Row, beside, table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "monitoring.md"
BEGIN, END = "<!-- detection: begin -->", "<!-- detection: end -->"


def measured(*, fast: bool, river_python: Path | None) -> list[Row]:
    """All rows."""
    weeks, minutes = 100, 50 if fast else 100
    rows = [
        null.false_alarms(weeks, wobble=0.0, minutes=4 * minutes),
        null.false_alarms(weeks, wobble=0.1, minutes=minutes // (5 if fast else 1)),
        null.run_lengths(5 if fast else 40),
        *_dependent(3 if fast else 20),
        *delays.delays(5 if fast else 25),
        delays.merging((2, 5) if fast else (2, 3, 8, 64)),
        *labels.delays(9 if fast else 41),
        labels.false_alarms(30_000 if fast else 300_000),
        *labels.slow_loss(3 if fast else 15),
        *windows.rows(),
    ]
    if not fast:
        rows += [*car_loan.rows(), *peers.rows(river_python, 15)]
    return rows


def _dependent(runs: int) -> list[Row]:
    thinned = null.dependent_rows(runs, thinned=True)
    raw = null.dependent_rows(runs, thinned=False)
    return [
        Row(
            "the same for AR(1) rows, 0.7, mid-band, thinned 1 in 10",
            "≥ 1.0",
            f"≥ {thinned:.1f}",
            thinned >= 1.0,
        ),
        beside("… and not thinned", f"{raw:.2f}"),
    ]


def main() -> None:
    """Measure, print, perhaps write, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fast", action="store_true", help="fewer runs of each, without downloads")
    parser.add_argument("--river-python", type=Path, help="a Python that has river, to be asked beside")
    parser.add_argument("--write", action="store_true", help="put the table into docs/monitoring.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    rows = measured(fast=arguments.fast, river_python=arguments.river_python)
    made = table(rows)
    print(made)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    if arguments.write:
        before, rest = PAGE.read_text().split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
    missed = [each.what for each in rows if each.met is False]
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()

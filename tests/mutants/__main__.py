"""`python -m mutants`: shows for each known bug, or for those that are named, that a test catches it."""

from __future__ import annotations

import argparse
import sys
import time

from mutants.catalogue import MUTANTS
from mutants.runner import BrokenTestsError, Verdict, verdicts


def main() -> int:
    """Print a line for each mutant; 0 if all were killed, 1 if one was not."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, or all whose names begin so")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (1)")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    options = parser.parse_args()
    chosen = [each for each in MUTANTS if not options.names or each.name.startswith(tuple(options.names))]
    if not chosen:
        parser.error(f"no mutant is called {', '.join(options.names)}")
    if options.list:
        for each in chosen:
            print(f"{each.name}\n    {each.file}: {each.why}")
        return 0
    began = time.monotonic()
    print(f"{len(chosen)} mutants; first their tests without any of them", flush=True)
    survived = []
    try:
        for verdict in verdicts(chosen, jobs=options.jobs):
            print(_line(verdict), flush=True)
            if not verdict.killed:
                survived.append(verdict)
    except BrokenTestsError as error:
        print(error, file=sys.stderr)
        return 1
    for verdict in survived:
        print(f"\n--- {verdict.mutant.name}: {verdict.mutant.why}\n{verdict.run.said}", file=sys.stderr)
    took_s = time.monotonic() - began
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutants were killed, in {took_s:.0f} s")
    return 1 if survived else 0


def _line(verdict: Verdict) -> str:
    became = f"killed by {verdict.run.failed[0]}" if verdict.killed else verdict.problem.upper()
    return f"{verdict.mutant.name:<44} {verdict.run.took_s:5.1f} s  {became}"


if __name__ == "__main__":
    sys.exit(main())

"""All benchmarks by one command, and the page that tells of them.

    make benchmarks [ARGS='--only serving,growth --fast']

Every subject is measured by `measure(fast)` of the module of its name beside this file, which can also be run alone; what it
found is kept in benchmarks/results/, and docs/benchmarks.md is written from all that is kept.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
import traceback
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import page
from harness.results import Result, keep, kept, measure_now
from limits import LIMITS

PEERS = ("mlserver", "kserve", "triton")
SUBJECTS = (
    "serving",
    "batching",
    "clients",
    "streaming",
    "shared_memory",
    "planes",
    "workers",
    "peers",
    "rollback",
    "swap",
    "looking",
    "footprint",
    "growth",
)
"""In the order of the page."""


def measure(subject: str, *, fast: bool, peers: tuple[str, ...]) -> Result:
    """Measure one subject; those that look at peers, beside these."""
    found = importlib.import_module(subject).measure
    if "peers" in inspect.signature(found).parameters:
        found = partial(found, peers=peers)
    return measure_now(subject, found, fast=fast)


def main() -> None:
    """Measure those that are chosen, and write the page; fails if one could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(SUBJECTS), help=f"some of {', '.join(SUBJECTS)}")
    parser.add_argument(
        "--fast", action="store_true", help="a check that all of it works; the figures say little"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page of what is kept")
    parser.add_argument("--peers", default=",".join(PEERS), help="the servers to compare with; none: ''")
    chosen = parser.parse_args()
    peers = tuple(each for each in chosen.peers.split(",") if each)
    subjects = chosen.only.split(",")
    for named, known_names in ((subjects, SUBJECTS), (peers, PEERS)):
        if unknown := set(named) - set(known_names):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(known_names)}")
    failed = []
    for subject in () if chosen.page else subjects:
        print(f"== {subject}", flush=True)
        begun = time.monotonic()
        try:
            keep(measure(subject, fast=chosen.fast, peers=peers))
        except Exception:  # noqa: BLE001 - the others can be measured all the same
            traceback.print_exc()
            failed.append(subject)
        print(f"   {time.monotonic() - begun:.0f} s", flush=True)
    known = {result.subject: result for result in kept()}
    if unmeasured := [subject for subject in SUBJECTS if subject not in known]:
        # A page without them would look as if there were nothing to know.
        print(f"docs/benchmarks.md stays as it is: {', '.join(unmeasured)} were never measured here")
    else:
        page.write([known[subject] for subject in SUBJECTS], LIMITS)
    sys.exit(f"not measured: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

"""Break a writer's operations at each of their system calls, one run for each: killed there, or that call fails.

    make crash                  (ARGS='deploy publish --errors EIO ENOSPC --every 3 --serve-every 50')

For each operation a first run under strace tells its calls; a run counts as `struck` when the fault came at that very call,
after the very same ones. Afterwards the store is examined (`support.crashing`), and after some of the kills a whole sidecar
is started on it. Ends with 1 where a promise was broken, or a point was not struck.
"""

from __future__ import annotations

import argparse
import logging
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import strace
from support.crashing import ERRORS, KILL, Fault, Outcome, Performer, Stage, count, touches_storage
from support.crashing_served import serve_what_is_left
from support.operations import OPERATIONS

WORKERS = 2
_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


class Workers:
    """A few performers, each of which does one thing at a time."""

    def __init__(self, leaving: ExitStack) -> None:
        self._idle: queue.SimpleQueue[Performer] = queue.SimpleQueue()
        for _ in range(WORKERS):
            self._idle.put(leaving.enter_context(Performer()))
        self._pool = leaving.enter_context(ThreadPoolExecutor(WORKERS))

    def each(self, items: Sequence[_Item], do: Callable[[_Item, Performer], _Done]) -> list[_Done]:
        """Do this with each, in order."""

        def one(item: _Item) -> _Done:
            performer = self._idle.get()
            try:
                return do(item, performer)
            finally:
                self._idle.put(performer)

        return [*self._pool.map(one, items)]


def faults(errors: Sequence[str]) -> list[Fault]:
    """All that are tried. Python repeats a call that was interrupted, for ever if need be: so that comes once only."""
    return [
        Fault(error, lasting=lasting)
        for error in errors
        for lasting in (False, True)
        if not (error == "EINTR" and lasting)
    ]


def break_all(stage: Stage, workers: Workers, fault: Fault, *, every: int, serve_every: int) -> bool:
    """One row of the table, and whether every promise was kept."""
    began = time.monotonic()
    points = (stage.kill_points() if fault is KILL else stage.storage_points())[::every]
    served = {point.index for point in points[::serve_every]} if fault is KILL and serve_every else set()
    outcomes = workers.each(
        points, lambda point, performer: stage.break_at(point, fault, performer, keep=point.index in served)
    )
    broken = [outcome for outcome in outcomes if outcome.problems]
    unserved = []
    for outcome in outcomes:
        if outcome.kept is not None:
            try:
                serve_what_is_left(stage, outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what there is to tell
                unserved.append((outcome, error))
    figures = count(outcomes)
    _row(stage.operation, str(fault), figures, len(served), time.monotonic() - began)
    for outcome in broken:
        print(f"  BROKEN {outcome.point}: {outcome.problems}")
    for outcome in outcomes:
        if not outcome.struck:
            print(f"  not struck: {outcome.point}")
    for outcome, what in unserved:
        print(f"  NOT SERVED after {outcome.point}: {what!r}")
    # A call for memory may come a little sooner or later where onnxruntime's threads are about; one to the storage may not.
    missed = [
        each for each in outcomes if not each.struck and each.point and touches_storage(each.point.name)
    ]
    return not broken and not unserved and not missed


def cut_all(stage: Stage, workers: Workers, *, every: int) -> bool:
    """The same with short writes: of a file that may grow to n bytes, for each n up to where nothing is cut any more."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for first in range(1, 1 << 14, 64 * every):
        limits = range(first, first + 64 * every, every)
        batch = workers.each(limits, stage.break_by_size)
        outcomes += batch
        if not any(outcome.struck for outcome in batch):
            break
    cut = [outcome for outcome in outcomes if outcome.struck]
    figures = count(cut)
    _row(stage.operation, "short write", figures, 0, time.monotonic() - began)
    for outcome in outcomes:
        if outcome.problems:
            print(f"  BROKEN {outcome.said}: {outcome.problems}")
    return not any(outcome.problems for outcome in outcomes)


COLUMNS = ("points", "struck", "in doubt", "leftovers", "lost", "doubled", "invalid", "other")


def _row(operation: str, fault: str, figures: dict[str, int], served: int, took_s: float) -> None:
    cells = " ".join(f"{figures[column]:{max(len(column), 6)}}" for column in COLUMNS)
    print(f"{operation:10} {fault:18} {cells} {served:6} {took_s:6.0f}", flush=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "operations", nargs="*", choices=[*OPERATIONS, []], metavar="operation", help=", ".join(OPERATIONS)
    )
    parser.add_argument("--errors", nargs="*", default=ERRORS, choices=ERRORS)
    parser.add_argument("--every", type=int, default=1, help="only every n-th point (%(default)s)")
    parser.add_argument(
        "--serve-every", type=int, default=8, help="serve after every n-th kill; 0: never (%(default)s)"
    )
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    if why := strace.problem():
        print(f"crash: {why}")
        return 1
    good = True
    header = " ".join(f"{column:>{max(len(column), 6)}}" for column in COLUMNS)
    print(f"{'operation':10} {'fault':18} {header} {'served':>6} {'s':>6}")
    with tempfile.TemporaryDirectory(prefix="crash-") as scratch, ExitStack() as leaving:
        workers = Workers(leaving)
        for operation in arguments.operations or OPERATIONS:
            stage = Stage(operation, Path(scratch))
            workers.each([stage], lambda each, performer: each.rehearse(performer))
            if operation in {"deploy", "first", "adopt"}:
                unlinked = Stage(operation, Path(scratch), links=False)
                workers.each([unlinked], lambda each, performer: each.rehearse(performer))
                print(f"{operation}, where there are no hard links:")
                good &= break_all(
                    unlinked, workers, KILL, every=arguments.every, serve_every=arguments.serve_every
                )
            for fault in (KILL, *faults(arguments.errors)):
                good &= break_all(
                    stage, workers, fault, every=arguments.every, serve_every=arguments.serve_every
                )
            if operation not in ("publish", "put-back"):
                good &= cut_all(stage, workers, every=7 * arguments.every)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

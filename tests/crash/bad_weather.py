"""A sidecar at work, with callers, orders and hand edits, while calls to its store fail or it is out of descriptors.

    make weather                  (ARGS='--seconds 5 --only EMFILE')

strace is attached to the running process for each kind of weather, and taken away again. Ends with 1 where a prediction
failed or was wrong, an order was answered falsely, the sidecar ended, or it did not come to what was wanted last.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import strace
from support.crashing import ERRORS
from support.sidecars import RunningSidecar, serving
from support.traffic import Traffic
from support.weather import Endured, endure, failing_calls, failing_paths, few_descriptors
from support.yard import Yard

VERSIONS = ("2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod")
ONE_BY_ONE = ("link", "rename", "fsync", "unlink", "mkdir", "fchmod", "getdents64", "statfs", "access")
DESCRIPTORS = range(13)
CALLERS = 2

Weather = Callable[[RunningSidecar], AbstractContextManager[None]]


def kinds() -> Iterator[tuple[str, Weather]]:
    """All kinds, by name."""
    for error in ERRORS:
        yield f"{error} everywhere", partial(failing_calls, error=error)
        # Python repeats an interrupted open, read or write: for as long as this weather would last.
        if error != "EINTR":
            yield f"{error} at the store's paths", partial(failing_paths, error=error)
    for name in ONE_BY_ONE:
        for error in ("EIO", "ENOSPC", "EPERM"):
            yield f"{error} of {name}", partial(failing_calls, error=error, names=name)
    for left in DESCRIPTORS:
        yield f"{left} descriptors left", partial(few_descriptors, left=left)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each lasts (%(default)s)")
    parser.add_argument("--only", default="", help="only those with this in their name")
    arguments = parser.parse_args()
    if why := strace.problem():
        print(f"weather: {why}")
        return 1
    good, answers = True, 0
    print(f"{'':28} {'answers':>8} {'log lines':>9} {'back after s':>12}  orders; what Status said")
    with tempfile.TemporaryDirectory(prefix="weather-") as scratch:
        yard = Yard(Path(scratch))
        for version in VERSIONS:
            yard.publish(version)
        with (
            serving(yard, VERSIONS[0], "--state-dir", str(yard.root / "state")) as sidecar,
            Traffic(sidecar, callers=CALLERS) as traffic,
        ):
            for name, weather in kinds():
                if arguments.only in name:
                    endured = endure(sidecar, traffic, weather(sidecar), VERSIONS, for_s=arguments.seconds)
                    _row(name, endured)
                    good = good and not endured.problems
                    answers += endured.answers
    print(
        f"{answers} predictions answered, {len(traffic.failures)} failed, {len(traffic.mistagged)} mis-tagged"
    )
    return 0 if good else 1


def _row(name: str, endured: Endured) -> None:
    said = ", ".join(f"{count} {reason}" for reason, count in endured.reasons.most_common())
    status = ", ".join(reason or "well" for reason in endured.status)
    print(
        f"{name:28} {endured.answers:8} {endured.log_lines:9} {endured.converged_s:12.1f}  {said}; {status}",
        flush=True,
    )
    for problem in endured.problems:
        print(f"  BROKEN {problem}")


if __name__ == "__main__":
    sys.exit(main())

"""How soon does the version before answer again: after a Rollback, after an edit of the pointer, and against a fresh load?

    python benchmarks/rollback.py [--fast]

One caller asks all the time, from another process. Counted is from the operator's call, or the pointer's rename into place,
until the caller has the first answer of the other version: the record in the ledger, with its fsyncs, lies in between, and on
average half of the caller's pause of a millisecond. Beside it stands what the disk takes for one new file and its name.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness.asker import Asker
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.results import measured_alone
from harness.rounds import in_turns
from support import models
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import Operator

VERSIONS = ("2024.01.10.prod", "2024.01.15.prod", "2024.01.22.prod")
MEMORY = Path("/dev/shm")  # noqa: S108 - a disk that waits for nothing; what is made there is in a directory of its own
MEGABYTES = 50
P50_MS, P99_MS, EDITED_MS, TIMES = 5.0, 25.0, 10.0, 20.0

Taken = list[float]
_WAITS = (
    "Before the first answer a record waits for the disk six times: its file, its name, and the names above it; "
    "once more where another process wrote the one before. "
    "The pointer's two come after, and before the call's own answer."
)


class Site:
    """A sidecar on a store in one place, with two versions resident, a caller and an operator."""

    def __init__(self, sidecar: RunningSidecar, asker: Asker, operator: Operator) -> None:
        self._yard, self._asker, self._operator = sidecar.yard, asker, operator
        self._live, self._other = VERSIONS[1], VERSIONS[0]

    def rolled_back(self, times: int) -> tuple[Taken, Taken]:
        """Milliseconds from each call to the first answer by the other version, and to the call's own answer."""
        return self._moved(times, self._roll_back)

    def edited(self, times: int) -> Taken:
        """Milliseconds from each edit of the pointer to the first answer by the other version."""
        return self._moved(times, self._yard.replace_pointer)[0]

    def _roll_back(self, version: str) -> None:
        self._operator.rollback(MODEL, environment=PROD, version=version, reason="measured")

    def _moved(self, times: int, move: Callable[[str], None]) -> tuple[Taken, Taken]:
        answered, done = [], []
        for _ in range(times):
            begun = time.monotonic()
            move(self._other)
            done.append((time.monotonic() - begun) * 1e3)
            answered.append((self._asker.first(self._other, since=begun).came - begun) * 1e3)
            self._live, self._other = self._other, self._live
            # So that what follows a flip, such as the pointer's rewriting after an edit, is over before the next.
            time.sleep(0.03)
        return answered, done


def bare_fsync(folder: Path, times: int) -> Taken:
    """Milliseconds for the least that any durable record takes: one new file written and synced, and its directory."""
    taken = []
    for number in range(times):
        path = folder / f"bare-{number}"
        begun = time.monotonic()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(file, bytes(700))
        os.fsync(file)
        os.close(file)
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        taken.append((time.monotonic() - begun) * 1e3)
        path.unlink()
    return taken


def p99(taken: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(taken)[int(len(taken) * 0.99)]


def measure_place(parent: Path | None, *, rounds: int, times: int) -> dict[str, list[Taken]]:
    """Rollbacks, edits and bare fsyncs in turns, round by round, on the disk of a folder."""
    with tempfile.TemporaryDirectory(dir=parent) as root:
        yard = Yard(Path(root))
        for version in VERSIONS[:2]:
            yard.publish(version)
        with serving(yard, VERSIONS[0]) as sidecar, sidecar.operator() as operator:
            operator.deploy(MODEL, VERSIONS[1], environment=PROD, reason="to be rolled back")
            with Asker(sidecar.data, model=MODEL, takes="raw", width=2) as asker:
                asker.first(VERSIONS[1], since=0)
                site = Site(sidecar, asker, operator)
                calls: list[Taken] = []

                def rolled_back() -> Taken:
                    answered, done = site.rolled_back(times)
                    calls.append(done)
                    return answered

                found = in_turns(
                    {
                        "rollback": rolled_back,
                        "edit": lambda: site.edited(times),
                        "fsync": lambda: bare_fsync(Path(root), times),
                    },
                    rounds=rounds,
                )
                return {**found, "call": calls}


def measure_large(*, rounds: int) -> tuple[Taken, Taken]:
    """Milliseconds to the first answer of a rollback, and of a deploy that has to load, of models of 50 MB; in turns."""
    rolled, loaded = [], []
    content = models.large(MEGABYTES, "few", takes="raw")
    width = models.side_of_large(MEGABYTES)
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        for number, version in enumerate(VERSIONS):
            # A field of onnx.proto's ModelProto behind the rest, doc_string, so that no two are the same.
            yard.publish(version, model=content + b"\x32\x01" + b"%d" % number, golden=False)
        with serving(yard, VERSIONS[0]) as sidecar, sidecar.operator() as operator:

            def deploy(version: str) -> None:
                operator.deploy(MODEL, version, environment=PROD, timeout_s=60)

            # Each has passed its trial, as a sidecar has it at first contact: what is compared is a load and nothing else.
            for version in (VERSIONS[2], VERSIONS[1]):
                deploy(version)
            live, standby, away = VERSIONS[1], VERSIONS[2], VERSIONS[0]
            with Asker(sidecar.data, model=MODEL, takes="raw", width=width) as asker:
                asker.first(live, since=0)

                def taken_ms(version: str, move: Callable[[str], object]) -> float:
                    time.sleep(0.3)  # what the flip before has released is given back meanwhile
                    begun = time.monotonic()
                    move(version)
                    return (asker.first(version, since=begun).came - begun) * 1e3

                for _ in range(rounds):
                    rolled.append(
                        taken_ms(standby, lambda to: operator.rollback(MODEL, environment=PROD, version=to))
                    )
                    loaded.append(taken_ms(away, deploy))
                    live, away = away, live
    return rolled, loaded


def measure(*, fast: bool = False) -> Measured:
    """Rollbacks and edits on this disk and in memory, beside a bare fsync; and a rollback of 50 MB beside its load."""
    rounds, times, loads = (2, 10, 3) if fast else (5, 50, 10)
    places = {
        "this disk": measure_place(None, rounds=rounds, times=times),
        "tmpfs": measure_place(MEMORY if MEMORY.is_dir() else None, rounds=rounds, times=times),
    }
    rolled, loaded = measure_large(rounds=loads)
    disk = places["this disk"]
    medians = {name: [statistics.median(each) for each in found] for name, found in disk.items()}
    rows = [
        (f"{what}, {place}", *_row([each for taken in found[name] for each in taken]))
        for place, found in places.items()
        for name, what in (
            ("rollback", "call to the first answer"),
            ("call", "call to its own answer, pointer rewritten"),
            ("edit", "edited pointer to the first answer"),
            ("fsync", "a bare new file and its name, synced"),
        )
    ]
    return Measured(
        title="How soon the version before answers again.",
        figures=(
            Figure(
                "rollback to the first answer, p50",
                tuple(medians["rollback"]),
                Goal(P50_MS, at_most=True),
                "ms",
            ),
            Figure(
                "rollback to the first answer, p99",
                (p99([each for taken in disk["rollback"] for each in taken]),),
                Goal(P99_MS, at_most=True),
                "ms",
                note=f"of {rounds * times} rollbacks",
            ),
            Figure(
                "edited pointer to the first answer, p50",
                tuple(medians["edit"]),
                Goal(EDITED_MS, at_most=True),
                "ms",
            ),
            Figure(
                "rollback of the disk's bare fsync of a file and its name",
                ratios(medians["rollback"], medians["fsync"]),
            ),
            Figure(
                f"a load of {MEGABYTES} MB by this sidecar, of a rollback to the first answer",
                ratios(loaded, rolled),
                Goal(TIMES),
                note=f"{spread(loaded)} ms beside {spread(rolled, '{:.1f}')} ms",
            ),
        ),
        tables=(Table(f"{rounds * times} of each, ms", ("", "p50", "p99", "least", "most"), tuple(rows)),),
        notes=(_WAITS,),
    )


def _row(taken: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{each:.1f}" for each in (statistics.median(taken), p99(taken), min(taken), max(taken)))


if __name__ == "__main__":
    measured_alone("rollback", measure)

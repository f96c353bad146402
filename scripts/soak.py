"""Ten thousand flips beside a million predictions on one sidecar, every answer checked (`make soak`).

Callers in a process of their own ask without a pause and check each answer: its number must be that of the version that
it is tagged with, and none may be older than an order that was acknowledged before it was asked. Meanwhile the versions
flip: deploys, rollbacks and hand edits in turn. At regular steps the sidecar's memory, threads, descriptors and the size
of its --state-dir are noted. Prints a table and a verdict; nothing is resumed from an earlier run.

    make soak ARGS='--flips 500 --predictions 50000'
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.footprint import Footprint
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import AsyncClient, Operator

VERSIONS = ("2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod")
CHECKPOINTS = 20
SETTLED = 0.25
"""Of the run, after which memory counts: pools and caches have filled by then."""
SLOPE_KB_PER_FLIP = 4.0
"""What is more is a leak. Each flip adds a record of about one KiB, which the ledger keeps in memory; a session takes a hundred times as much."""
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What the callers saw. `mixed`: wrong numbers for the tag; `stale`: older than acknowledged."""

    answered: int = 0
    failed: int = 0
    mixed: int = 0
    stale: int = 0
    backwards: int = 0
    slowest_ms: float = 0.0
    failure: str = ""


def call(target: str, constants: dict[str, float], acknowledged: Any, told: Connection, callers: int) -> None:
    """The callers' process: ask until told to stop; then say what was seen. `acknowledged` is a shared generation."""
    told.send(asyncio.run(_call(target, constants, acknowledged, told, callers)))


async def _call(
    target: str, constants: dict[str, float], acknowledged: Any, told: Connection, callers: int
) -> Tally:
    counts = dict.fromkeys(("answered", "failed", "mixed", "stale", "backwards"), 0)
    slowest_s, failure, stopping = 0.0, "", asyncio.Event()

    async def ask(number: int) -> None:
        nonlocal slowest_s, failure
        newest, x = 0, float(number)
        async with AsyncClient(target) as client:
            while not stopping.is_set():
                before, began = acknowledged.value, time.monotonic()
                try:
                    answer = await client.predict(MODEL, {"raw": [[x, 0.0]]}, timeout_s=WAIT_S)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
                    counts["failed"] += 1
                    failure = failure or repr(error)
                    continue
                slowest_s = max(slowest_s, time.monotonic() - began)
                generation = answer.generation or 0
                counts["answered"] += 1
                counts["mixed"] += float(answer.outputs["y"][0][0]) != x + 1001 * constants[answer.version]
                counts["stale"] += generation < before
                counts["backwards"] += generation < newest
                newest, x = max(newest, generation), (x + callers) % 1000

    async def listen() -> None:
        while not told.poll():
            await asyncio.sleep(0.2)
            told.send(counts["answered"])
        stopping.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        for number in range(callers):
            tasks.create_task(ask(number))
    return Tally(**counts, slowest_ms=slowest_s * 1e3, failure=failure)


class Callers:
    """The callers' process, seen from here."""

    def __init__(self, sidecar: RunningSidecar, yard: Yard, *, callers: int) -> None:
        spawning = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        self.acknowledged = spawning.Value("q", 0, lock=False)
        self._told, other = spawning.Pipe()
        constants = {str(version): constant for version, constant in yard.constants.items()}
        self._process = spawning.Process(
            target=call, args=(sidecar.data, constants, self.acknowledged, other, callers)
        )
        self._answered = 0
        self._process.start()

    def answered(self) -> int:
        """How many predictions were answered by now."""
        while self._told.poll():
            self._answered = self._told.recv()
        return self._answered

    def wait_answered(self, count: int) -> None:
        """Wait until so many were."""
        while self.answered() < count:
            assert self._process.is_alive(), "the callers have died"
            self._told.poll(1.0)

    def stop(self) -> Tally:
        """End them; what they saw."""
        self._told.send("stop")
        while not isinstance(said := self._told.recv(), Tally):
            pass
        self._process.join()
        return said


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of the run."""

    flips: int
    predictions: int
    seconds: float
    footprint: Footprint
    state_bytes: int


class Soak:
    """One run."""

    def __init__(self, *, flips: int, predictions: int, callers: int) -> None:
        self._flips = flips
        self._predictions = predictions
        self._callers = callers
        self._checkpoints: list[Checkpoint] = []
        self._took_ms: list[float] = []

    def run(self, root: Path) -> tuple[Tally, Sequence[Checkpoint], Sequence[float]]:
        """Flip and predict; what the callers saw, the checkpoints, and how long each acknowledged flip took, in ms."""
        yard = Yard(root)
        yard.store.mkdir()
        for version in VERSIONS:
            yard.publish(version)
        state = root / "state"
        with RunningSidecar(yard, "--state-dir", str(state)) as sidecar, sidecar.operator() as operator:
            sidecar.wait_answering()
            operator.deploy(MODEL, VERSIONS[0], environment=PROD)
            callers = Callers(sidecar, yard, callers=self._callers)
            began = time.monotonic()
            print(
                f"{'flips':>7}{'predictions':>13}{'s':>7}{'MiB':>8}{'threads':>9}{'fds':>6}{'state KiB':>11}",
                flush=True,
            )
            for flip in range(1, self._flips + 1):
                self._flip(flip, yard, operator, callers)
                callers.wait_answered(self._predictions * flip // self._flips)
                if flip % max(1, self._flips // CHECKPOINTS) == 0:
                    self._note(flip, callers.answered(), time.monotonic() - began, sidecar, state)
            return callers.stop(), self._checkpoints, self._took_ms

    def _flip(self, flip: int, yard: Yard, operator: Operator, callers: Callers) -> None:
        began = time.monotonic()
        target = VERSIONS[flip % len(VERSIONS)]
        match flip % 10:
            case 3 | 6:
                done = operator.rollback(
                    MODEL, environment=PROD, version=_standby(operator), timeout_s=WAIT_S
                )
                generation = done.generation
            case 9:
                generation = _adopted(flip, yard, operator)
            case _:
                done = operator.deploy(MODEL, target, environment=PROD, timeout_s=WAIT_S)
                generation = done.generation
        callers.acknowledged.value = generation
        self._took_ms.append((time.monotonic() - began) * 1e3)

    def _note(
        self, flip: int, predictions: int, seconds: float, sidecar: RunningSidecar, state: Path
    ) -> None:
        assert sidecar.process is not None
        size = sum(each.stat().st_size for each in state.rglob("*") if each.is_file())
        found = Checkpoint(flip, predictions, seconds, Footprint.of(sidecar.process.pid), size)
        self._checkpoints.append(found)
        mark = found.footprint
        print(
            f"{flip:>7,}{predictions:>13,}{seconds:>7.0f}{mark.memory / (1 << 20):>8.1f}{mark.threads:>9}"
            f"{mark.descriptors:>6}{size / 1024:>11.0f}",
            flush=True,
        )


def _standby(operator: Operator) -> str:
    (status,) = operator.status(MODEL, environment=PROD)
    return next(each.version for each in status.resident if each.role == "standby")


def _adopted(flip: int, yard: Yard, operator: Operator) -> int:
    """Edit the pointer by hand, to what is not live, and wait until that is recorded and answers."""
    (status,) = operator.status(MODEL, environment=PROD)
    assert status.observed is not None
    live, before = status.observed.version, status.observed.generation
    version = next(each for each in (*VERSIONS[flip % 3 :], *VERSIONS) if each != live)
    yard.replace_pointer(version)
    for now in operator.watch(MODEL, environment=PROD, timeout_s=WAIT_S):
        if now.observed is not None and now.observed.generation > before:
            return now.observed.generation
    raise AssertionError("the edit was never adopted")


def slope_kb_per_flip(checkpoints: Sequence[Checkpoint]) -> float:
    """How memory grows, by least squares over the settled part of the run."""
    points = [(each.flips, each.footprint.memory / 1024) for each in checkpoints]
    points = points[int(len(points) * SETTLED) :]
    flips, kilobytes = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - flips) ** 2 for x, _ in points)
    return sum((x - flips) * (y - kilobytes) for x, y in points) / spread if spread else 0.0


def verdict(tally: Tally, checkpoints: Sequence[Checkpoint]) -> list[str]:
    """What is wrong; empty where nothing is."""
    settled = [each.footprint for each in checkpoints[int(len(checkpoints) * SETTLED) :]]
    early, late = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    threads = [max(each.threads for each in half) for half in (early, late)]
    descriptors = [max(each.descriptors for each in half) for half in (early, late)]
    slope = slope_kb_per_flip(checkpoints)
    return [
        *(
            f"{getattr(tally, kind)} {kind}"
            for kind in ("failed", "mixed", "stale", "backwards")
            if getattr(tally, kind)
        ),
        *([f"memory grows by {slope:.2f} KiB a flip"] if slope > SLOPE_KB_PER_FLIP else []),
        *([f"threads: {threads}"] if threads[1] > threads[0] + 2 else []),
        *([f"descriptors: {descriptors}"] if descriptors[1] > descriptors[0] + 8 else []),
    ]


def main() -> None:
    """Soak, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--callers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        soak = Soak(flips=options.flips, predictions=options.predictions, callers=options.callers)
        tally, checkpoints, took_ms = soak.run(Path(root))
    took_ms = sorted(took_ms)
    print(
        f"{tally.answered:,} predictions beside {len(took_ms):,} flips: {tally.failed} failed, {tally.mixed} mixed, "
        f"{tally.stale} stale, {tally.backwards} backwards; slowest {tally.slowest_ms:.0f} ms\n"
        f"a flip takes {took_ms[len(took_ms) // 2]:.1f} ms (median), {took_ms[-1 - len(took_ms) // 100]:.0f} ms (p99); "
        f"memory grows by {slope_kb_per_flip(checkpoints):.3f} KiB a flip"
    )
    if tally.failure:
        print(f"first failure: {tally.failure}")
    wrong = verdict(tally, checkpoints)
    print(
        "FAILED: " + "; ".join(wrong)
        if wrong
        else "nothing failed, nothing was mixed or stale, nothing grows"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""What do callers notice while half a gigabyte is loaded, swapped in and released beside them, and what does it leave behind?

    python benchmarks/swap.py [--fast]

Models of 512 MB: two large weights, 2,000 small ones with an operator after each, and two large ones as
`publish --external-weights` lays them out, mapped and not prepacked. Twice over:

- step by step, in a process where a thread only looks at the clock (`harness.ticking`): its longest stall in each step, less
  what it waited for a core, beside its longest stall while another process does the same;
- from outside, by one caller of a small model whose sidecar serves the large one too: what the caller waits while the
  sidecar swaps that, beside what it waits while another process does the same work.

Two cores that are shared by all stall everybody; only what comes on top of the other process's is the swap's own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import time

import pytest
from harness.asker import Asker
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.results import measured_alone
from harness.ticking import STEPS, Ticking
from support import models
from support.memory_groups import memory_group
from support.sidecars import RunningSidecar
from support.versions import write_version
from support.yard import MODEL, PROD, Yard

from model_sidecar.model.moving_out import moved_out
from model_sidecar.release.names import ModelName, Version

_AFTER_S = 0.4
"""By then the version that left is released, too: a sidecar does that 50 ms after everybody was told."""
Layout = Literal["few", "many", "apart"]

BIG = ModelName("big")
SMALL = "2024.01.10.prod"
TWO = (Version("2024.02.01.prod"), Version("2024.02.02.prod"))
MIB = 1 << 20
SAID: Mapping[Layout, str] = {
    "few": "2 weights",
    "many": "2,000 weights",
    "apart": "2 weights published apart",
}
LOADING = ("verify", "load", "settle", "rehearse")

STALL = Goal(10.0, at_most=True)
WHOLE = Goal(20.0, at_most=True)
P99 = Goal(1.25, at_most=True)
LEFT = Goal(30.0, at_most=True)


@dataclass
class Found:
    """What one layout's rounds found: stalls in milliseconds, by the thread that looks at the clock and by a caller."""

    steps: list[Mapping[str, Mapping[str, float]]] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    gaps_here: list[float] = field(default_factory=list)
    gaps_elsewhere: list[float] = field(default_factory=list)
    p99_here: list[float] = field(default_factory=list)
    p99_elsewhere: list[float] = field(default_factory=list)
    swap_s: list[float] = field(default_factory=list)

    def stalls(self, *steps: str) -> list[float]:
        """The longest stall of each round in any of these steps."""
        return [max(each[step]["stall_ms"] for step in steps) for each in self.steps]

    def of(self, step: str, what: str) -> list[float]:
        """One step's seconds ("s") or its thread's processor time ("cpu_s"), round by round, in milliseconds."""
        return [each[step][what] * 1e3 for each in self.steps]


@dataclass(frozen=True, slots=True)
class Left:
    """Resident memory of a process, in MiB: before, after so many swaps, and the most of the process and of its group."""

    before: float
    after: float
    peak: float
    group: float | None


def put_big(store: Path, layout: Layout, *, megabytes: float) -> None:
    """Two versions of the large model, which differ in a field behind the rest (doc_string of onnx.proto's ModelProto)."""
    width = models.side_of_large(megabytes, 2000 if layout == "many" else 2)
    content = models.large(megabytes, "many" if layout == "many" else "few")
    weights, runtime = {}, {}
    if layout == "apart":
        moved = moved_out(content, location="weights.bin")
        weights = {"weights.bin": b"".join(moved.data(content))}
        content, runtime = moved.model, {"prepack": False}
    pair = {"datatype": "FP32", "shape": [-1, width]}
    signature = {"inputs": [{"name": "x", **pair}], "outputs": [{"name": "y", **pair}]}
    for version in TWO:
        mark = version.encode()
        files = {"model.onnx": content + b"\x32" + bytes([len(mark)]) + mark, **weights}
        write_version(store, model=BIG, version=version, files=files, signature=signature, runtime=runtime)


@contextmanager
def yard_with_big(layout: Layout, *, megabytes: float) -> Iterator[Yard]:
    """A store with a small model and two versions of a large one."""
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.publish(SMALL)
        put_big(yard.store, layout, megabytes=megabytes)
        yield yard


def measure_layout(layout: Layout, *, megabytes: float, rounds: int) -> Found:
    """All rounds of one layout; each does everything once, and every other one in the opposite order."""
    found = Found()
    with yard_with_big(layout, megabytes=megabytes) as yard:
        with Ticking(yard.store, BIG) as ticking, Ticking(yard.store, BIG) as elsewhere:
            for number in range(rounds):
                version = TWO[number % 2]
                acts = [
                    lambda version=version: found.steps.append(ticking.swap(version)),
                    lambda version=version: found.beside.append(
                        ticking.longest_stall_ms(lambda: elsewhere.swap(version))
                    ),
                ]
                for act in acts if number % 2 == 0 else reversed(acts):
                    act()
        with RunningSidecar(yard, "--model", BIG, "--standby", "none", "--allow-external-data") as sidecar:
            sidecar.wait_answering()
            ask_beside_swaps(sidecar, found, rounds=rounds)
    return found


def ask_beside_swaps(sidecar: RunningSidecar, found: Found, *, rounds: int) -> None:
    """Swaps of the large model in the sidecar, and the same work in another process, in turns, beside one caller."""
    released = 0
    with (
        sidecar.operator() as operator,
        Ticking(sidecar.yard.store, BIG) as elsewhere,
    ):
        operator.deploy(MODEL, SMALL, environment=PROD)

        def swap_to(version: str) -> None:
            nonlocal released
            operator.deploy(BIG, version, environment=PROD, timeout_s=300)
            released += 1
            sidecar.wait_logged("is released", times=released)

        # First contact is tried in a child process: afterwards a swap is a swap and nothing else.
        released -= 1
        swap_to(TWO[1])
        swap_to(TWO[0])
        with Asker(sidecar.data, model=MODEL, takes="raw", width=2) as asker:
            asker.first(SMALL, since=0)

            def beside(act: object, gaps: list[float], p99s: list[float]) -> float:
                begun = time.monotonic()
                act()  # type: ignore[operator]
                ended = time.monotonic() + _AFTER_S
                waits = sorted((each.came - each.asked) * 1e3 for each in asker.between(begun, ended))
                gaps.append(asker.longest_gap_ms(begun, ended))
                p99s.append(waits[int(len(waits) * 0.99)])
                return ended - begun

            for number in range(rounds):
                version = TWO[(number + 1) % 2]

                def here(version: str = version) -> None:
                    swapped = beside(lambda: swap_to(version), found.gaps_here, found.p99_here)
                    found.swap_s.append(swapped)

                def there(version: str = version) -> None:
                    beside(lambda: elsewhere.swap(version), found.gaps_elsewhere, found.p99_elsewhere)

                for act in (here, there) if number % 2 == 0 else (there, here):
                    act()


def swap_often(layout: Layout, *, megabytes: float, swaps: int) -> Left:
    """What is left of so many swaps; the first two, which load what every later one needs, are not counted."""
    with yard_with_big(layout, megabytes=megabytes) as yard, Ticking(yard.store, BIG) as ticking:
        for version in TWO:
            ticking.swap(version)
        before = _memory(ticking.pid, "VmRSS")
        try:
            with memory_group() as group:
                group.take(ticking.pid)
                _swap(ticking, swaps)
                left = Left(
                    before,
                    _memory(ticking.pid, "VmRSS"),
                    _memory(ticking.pid, "VmHWM"),
                    _group_peak(group.path),
                )
                ticking.__exit__(None, None, None)
                return left
        except pytest.skip.Exception:  # no group can be made here
            _swap(ticking, swaps)
            return Left(before, _memory(ticking.pid, "VmRSS"), _memory(ticking.pid, "VmHWM"), None)


def _swap(ticking: Ticking, swaps: int) -> None:
    for number in range(swaps):
        ticking.swap(TWO[number % 2])


def _memory(pid: int, line: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(each.split()[1]) / 1024 for each in text if each.startswith(line + ":"))


def _group_peak(group: Path) -> float | None:
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        if (group / name).exists():
            return int((group / name).read_text()) / MIB
    return None


def measure(*, fast: bool = False) -> Measured:
    """Both layouts: stalls by step, what a caller waits, and what many swaps leave behind."""
    megabytes, rounds, swaps, less = (64, 1, 4, 16) if fast else (512, 3, 100, 64)
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    work: dict[Layout, list[float]] = {}
    for layout, said in SAID.items():
        found = measure_layout(layout, megabytes=megabytes, rounds=rounds)
        work[layout] = [
            sum(each) for each in zip(*(found.of(step, "cpu_s") for step in LOADING), strict=True)
        ]
        left = swap_often(layout, megabytes=less, swaps=swaps)
        model = f"{megabytes} MB of {said}"
        figures += _figures(model, found)
        figures.append(
            Figure(
                f"{less} MB of {said}, memory after {swaps} swaps less before",
                (left.after - left.before,),
                LEFT,
                "MiB",
                note=f"{left.before:.0f} MiB before, at most {left.peak:.0f} in between"
                + (f", {left.group:.0f} with its files in its control group" if left.group else ""),
            )
        )
        rows += [
            (
                f"{model}: {step}",
                spread(found.of(step, "s")),
                spread(found.of(step, "cpu_s")),
                spread(found.stalls(step), "{:.1f}"),
            )
            for step in STEPS
        ]
    figures.append(
        Figure(
            f"{megabytes} MB of 2 weights, processor time of verifying and loading, over the same published apart",
            ratios(work["few"], work["apart"]),
            note=f"{spread(work['few'])} ms beside {spread(work['apart'])} ms",
        )
    )
    header = ("step", "took, ms", "processor time, ms", "longest stall, ms")
    return Measured(
        title=f"What a swap of {megabytes} MB costs those who are being answered meanwhile.",
        figures=tuple(figures),
        tables=(Table("A swap step by step, by a thread that only looks at the clock", header, tuple(rows)),),
    )


def _figures(model: str, found: Found) -> Sequence[Figure]:
    beside = f"{spread(found.beside, '{:.1f}')} ms while another process does the same"
    return (
        Figure(f"{model}, longest stall while loading", tuple(found.stalls(*LOADING)), STALL, "ms", beside),
        Figure(f"{model}, longest stall of the whole swap", tuple(found.stalls(*STEPS)), WHOLE, "ms", beside),
        Figure(
            f"{model}, a caller's p99 while swapped, of the same in another process",
            ratios(found.p99_here, found.p99_elsewhere),
            P99,
            note=f"{spread(found.p99_here, '{:.1f}')} ms beside {spread(found.p99_elsewhere, '{:.1f}')} ms",
        ),
        Figure(
            f"{model}, a caller's longest wait for an answer while swapped",
            tuple(found.gaps_here),
            unit="ms",
            note=f"{spread(found.gaps_elsewhere, '{:.1f}')} ms while another process does the same; a swap took "
            f"{spread(found.swap_s, '{:.1f}')} s",
        ),
    )


if __name__ == "__main__":
    measured_alone("swap", measure)

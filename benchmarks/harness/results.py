"""What was measured, kept as JSON in an ignored folder: one subject can be measured again, and the page written of all."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from harness.figures import Measured

FOLDER = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("grpcio", "protobuf", "onnxruntime", "numpy")


class Machine(msgspec.Struct, frozen=True):
    """Where a subject was measured; never which machine it was."""

    cores: int
    memory_gib: int
    processor: str
    kernel: str
    python: str
    packages: dict[str, str]

    @classmethod
    def this(cls) -> Machine:
        """The one that this runs on."""
        info = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (line.partition(":")[2].strip() for line in info if line.startswith("model name")), ""
        )
        memory = int(Path("/proc/meminfo").read_text().split()[1])
        return cls(
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(memory / (1 << 20)),
            processor=processor or platform.machine(),
            kernel=platform.release().partition("-")[0],
            python=platform.python_version(),
            packages={name: importlib.metadata.version(name) for name in PACKAGES},
        )


class Result(msgspec.Struct, frozen=True):
    """One subject as it was measured.

    Attributes:
        command: what measures it again.
        fast: whether it was a quick check, whose figures say little.
        took_s: how long that was.
    """

    subject: str
    command: str
    fast: bool
    when: datetime
    took_s: float
    machine: Machine
    measured: Measured


def keep(result: Result, folder: Path = FOLDER) -> None:
    """Keep it in place of what was known of this subject."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.subject}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))


def kept(folder: Path = FOLDER) -> list[Result]:
    """All that is kept, in the order in which the page tells it."""
    return [msgspec.json.decode(each.read_bytes(), type=Result) for each in sorted(folder.glob("*.json"))]


def measure_now(subject: str, measure: Callable[..., Measured], *, fast: bool) -> Result:
    """Measure a subject, print its figures, and say what was measured where."""
    when, begun = datetime.now(UTC).replace(second=0, microsecond=0), time.monotonic()
    measured = measure(fast=fast)
    for figure in measured.figures:
        goal = (
            ""
            if figure.goal is None
            else f"  goal {figure.goal.bound:g}: {'met' if figure.met else 'MISSED'}"
        )
        least, greatest = min(figure.rounds), max(figure.rounds)
        print(
            f"   {figure.median:8.3f} ({least:.3f}–{greatest:.3f}) {figure.unit} {figure.name}{goal}  {figure.note}",
            flush=True,
        )
    return Result(
        subject=subject,
        command=f"make benchmarks ARGS='--only {subject}'",
        fast=fast,
        when=when,
        took_s=time.monotonic() - begun,
        machine=Machine.this(),
        measured=measured,
    )


def measured_alone(subject: str, measure: Callable[..., Measured]) -> None:
    """A subject's own command: measure it, print it, and keep it for the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a check that it works; the figures say little")
    keep(measure_now(subject, measure, fast=parser.parse_args().fast))

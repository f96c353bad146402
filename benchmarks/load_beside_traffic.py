"""How long do callers of a live model wait while a candidate of several hundred megabytes is loaded beside it?

One `serve` process has two models: a tiny one that four callers ask without a pause, and a large one that is deployed,
replaced and released meanwhile, all in the same interpreter. Printed is the longest time in which no caller got any
answer: while nothing else happens, while another process loads the same bytes (what two cores shared by all cost), and
while the sidecar itself verifies, loads, warms, swaps and releases.

    python benchmarks/load_beside_traffic.py --megabytes 512          (run the three phases `--rounds` times; medians are shown)
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import models
from support.sidecars import RunningSidecar
from support.traffic import Traffic
from support.yard import MODEL, PROD, Yard

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.release.names import ModelName, Version, parse_version

BIG = ModelName("big")
SMALL_VERSION = "2024.01.10.prod"
BIG_VERSIONS = tuple(parse_version(f"2024.02.{day:02}.prod") for day in (1, 2, 3))
STEADY_S = 5.0
ELSEWHERE = (
    "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
)


def publish_big(yard: Yard, version: Version, *, megabytes: int, layout: str) -> None:
    """A version of the large model; its day of the month is in its bytes, so that no two are the same file."""
    with tempfile.TemporaryDirectory(dir=yard.root) as build:
        content = models.large(megabytes, layout)  # type: ignore[arg-type]
        Path(build, "model.onnx").write_bytes(content)
        facts = PublishFacts(data_snapshot_id="none", framework="benchmark", training_date="2024-02-01")
        publish(Path(build), yard.versions, model=BIG, version=version, facts=facts)


def longest_gap_ms(sidecar: RunningSidecar, act: Callable[[], None]) -> tuple[float, float, int]:
    """Act beside traffic: the longest gap between two answers, the seconds it took, and how many were answered."""
    with Traffic(sidecar) as traffic:
        began = time.monotonic()
        act()
        taken_s = time.monotonic() - began
    assert not traffic.failures, traffic.failures[0]
    assert not traffic.mistagged
    return traffic.longest_gap_s() * 1e3, taken_s, len(traffic.answers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--layout", choices=["few", "many"], default="few", help="two large weights, or 2,000 small ones"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.store.mkdir()
        yard.publish(SMALL_VERSION)
        for version in BIG_VERSIONS:
            publish_big(yard, version, megabytes=options.megabytes, layout=options.layout)
        with RunningSidecar(yard, "--model", BIG, "--standby", "none") as sidecar:
            sidecar.wait_answering()
            with sidecar.operator() as operator:
                operator.deploy(MODEL, SMALL_VERSION, environment=PROD)
                measure(yard, sidecar, options)


def measure(yard: Yard, sidecar: RunningSidecar, options: argparse.Namespace) -> None:
    """The three phases, alternating, `--rounds` times."""
    found: dict[str, list[tuple[float, float, int]]] = {
        "nothing else": [],
        "another process": [],
        "the sidecar": [],
    }
    with sidecar.operator() as operator:

        def load_here() -> None:
            for version in BIG_VERSIONS:
                operator.deploy(BIG, version, environment=PROD, timeout_s=300)

        def load_elsewhere() -> None:
            for version in BIG_VERSIONS:
                path = yard.store / BIG / version / "model.onnx"
                subprocess.run([sys.executable, "-c", ELSEWHERE, str(path)], check=True)

        for _ in range(options.rounds):
            found["nothing else"].append(longest_gap_ms(sidecar, lambda: time.sleep(STEADY_S)))
            found["another process"].append(longest_gap_ms(sidecar, load_elsewhere))
            found["the sidecar"].append(longest_gap_ms(sidecar, load_here))
    print(
        f"{len(BIG_VERSIONS)} models of {options.megabytes} MB ({options.layout} weights), {options.rounds} rounds, 4 callers"
    )
    print(f"{'loaded by':<18}{'longest gap, ms: median':>26}{'worst':>8}{'s a load':>10}{'answers/s':>11}")
    for who, rounds in found.items():
        gaps = [gap for gap, _, _ in rounds]
        loads = (
            "-"
            if who == "nothing else"
            else f"{statistics.median(s for _, s, _ in rounds) / len(BIG_VERSIONS):.2f}"
        )
        rate = statistics.median(answers / seconds for _, seconds, answers in rounds)
        print(f"{who:<18}{statistics.median(gaps):>26.1f}{max(gaps):>8.1f}{loads:>10}{rate:>11.0f}")


if __name__ == "__main__":
    main()

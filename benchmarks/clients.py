"""The client's half of a call: ours, a bare stub and tritonclient, one caller each, on the same sidecar.

    python benchmarks/clients.py [--fast]

All of them run in `.venv-triton`, over the same grpcio and protobuf, each in a process of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import models, servers
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.load import Load, by_caller
from harness.results import measured_alone
from harness.rounds import in_turns
from support.yard import MODEL

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / os.environ.get("VENV_TRITON", ".venv-triton") / "bin" / "python"
CALLER = Path(__file__).parent / "harness" / "client_caller.py"
KINDS = ("stub", "ours", "triton", "aio-stub", "ours-aio")
OVER_STUB, OVER_OURS = Goal(1.1, at_most=True), Goal(1.3)


def measure(*, fast: bool = False) -> Measured:
    """One caller's median, client by client."""
    seconds, rounds = (0.6, 2) if fast else (2.0, 9)
    subject = models.tiny()
    with tempfile.TemporaryDirectory() as root, servers.sidecar(subject, Path(root)) as server:
        request = subject.request(MODEL)
        ways = {kind: partial(called, kind, server.target, request, seconds) for kind in KINDS}
        found = in_turns(ways, rounds=rounds)
    p50 = {kind: [each.p50_ms for each in loads] for kind, loads in found.items()}
    return Measured(
        title="The client's half of a call, from Python.",
        figures=(
            Figure("Client, one caller, p50 over a bare stub's", ratios(p50["ours"], p50["stub"]), OVER_STUB),
            Figure(
                "AsyncClient, one caller, p50 over a bare stub's",
                ratios(p50["ours-aio"], p50["aio-stub"]),
                OVER_STUB,
            ),
            Figure(
                "tritonclient, one caller, p50 over Client's", ratios(p50["triton"], p50["ours"]), OVER_OURS
            ),
        ),
        tables=(
            Table(
                "What one caller waits, p50 in milliseconds, median of the rounds (least–greatest).",
                ("client", "p50"),
                tuple((kind, spread(values, "{:.3f}")) for kind, values in p50.items()),
            ),
        ),
        notes=(
            "The stub sends a message that was made once, and hands over the parsed answer; others take and give arrays.",
        ),
    )


def called(kind: str, target: str, request: bytes, seconds: float) -> Load:
    """One load by this client; LoadFailedError with what it said where it failed."""
    return by_caller(
        [str(PYTHON), str(CALLER), kind, target, "--seconds", str(seconds)], request, seconds=seconds
    )


if __name__ == "__main__":
    measured_alone("clients", measure)

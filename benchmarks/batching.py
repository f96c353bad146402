"""What running requests together gains: a weight-bound model, batched against each by itself.

    python benchmarks/batching.py [--fast]

Two sidecars serve the same version, one with `--max-batch-rows 1`, and h2load asks them in turns. What a convolution, which
gains nothing by batches, keeps of the cores is in `serving.py`.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import models, servers
from harness.figures import Figure, Goal, Measured, ratios, spread
from harness.load import Load, h2load, need_h2load
from harness.results import measured_alone
from harness.rounds import in_turns
from harness.servers import Server
from support.yard import MODEL

CALLERS = (1, 8, 64)
GOALS = {64: Goal(4.0)}


def measure(*, fast: bool = False) -> Measured:
    """Answers a second of both, with one call in flight and with many."""
    need_h2load()
    seconds, rounds = (0.6, 2) if fast else (2.0, 7)
    subject = models.weight_bound()
    figures = []
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as other,
        servers.sidecar(subject, Path(one)) as batched,
        servers.sidecar(subject, Path(other), "--max-batch-rows", "1") as alone,
    ):
        ask = partial(asked, request=subject.request(MODEL), seconds=seconds)
        for callers in CALLERS:
            ways = {"batched": partial(ask, batched, callers), "alone": partial(ask, alone, callers)}
            found = in_turns(ways, rounds=rounds)
            together, apart = ([each.rate for each in found[name]] for name in ("batched", "alone"))
            figures.append(
                Figure(
                    f"{subject.name}, {callers} in flight, batched over each by itself",
                    ratios(together, apart),
                    GOALS.get(callers),
                    note=f"{spread(together)} a second beside {spread(apart)}",
                )
            )
    return Measured(title="What running requests together gains.", figures=tuple(figures))


def asked(server: Server, callers: int, *, request: bytes, seconds: float) -> Load:
    """So many calls in flight at this server, for so long."""
    return h2load(server.target, request, callers=callers, seconds=seconds, answer_bytes=len(server.answer))


if __name__ == "__main__":
    measured_alone("batching", measure)

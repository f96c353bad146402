"""What predictions cost: measured in rehearsal at first, then learned from what really happened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeVar

from model_sidecar.release.digests import Digest
from model_sidecar.release.names import ModelName
from model_sidecar.rpc.plan import Plan
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", bound=Hashable)

# An estimate holds near the request that was measured. A cost that grows with the square of the rows is at sixteen times
# the rows still some milliseconds; at a thousand times it would be seconds.
_MEASURED_TIMES = 16
_MEASURED_BYTES = (
    64  # the least that counts as measured: below it, what a call costs at all outweighs its rows
)
# What one run may cost whoever waits behind it on the loop before the version is taken off the loop, and for how long it
# is then, longer each time: not for one such run, which may have been the machine's fault, but for two among so many.
_ONLY_ONCE_S = 2e-3
_PARDONED_RUNS = 200
_FIRST_AWAY_S = 1.0
_LONGER = 8.0
_VERSIONS = 64
_KINDS = 1024
# How much of an estimate the latest run makes: one stray run in a thousand is forgotten after some dozen.
_NEW = 0.125
_UNKNOWN_S = 0.01


class _Away(NamedTuple):
    for_s: float
    until: float


class Costs:
    """Estimates by version and by the size of the request. Any thread may ask and tell.

    What a lane is held for is learned by powers of two of the request's size, so that no law of growth is assumed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._off_loop: dict[Digest, _Away] = {}
        self._suspects: dict[Digest, int] = {}  # how many quick runs each still needs
        self._held: dict[
            tuple[Digest | ModelName, int], float
        ] = {}  # a version's, and a model's whichever it is
        self._together: dict[tuple[object, int], float] = {}
        self._apart: set[Digest] = set()
        self._usual_s = _UNKNOWN_S

    def on_loop_s(self, model: Model, plan: Plan, size: int) -> float:
        """Seconds that a request of `size` bytes would take on the loop; infinite where that is not known well enough."""
        away = self._off_loop.get(model.manifest.digest)
        if away is not None and self._clock() < away.until:
            return float("inf")
        measured = model.warm_bytes or plan.row_bytes
        if size > _MEASURED_TIMES * max(measured, _MEASURED_BYTES) + plan.overhead_bytes:
            return float("inf")
        return _in_proportion(model, plan, size)

    def in_lane_s(self, model: Model, plan: Plan, size: int) -> float:
        """Seconds that such a request is expected to hold a lane."""
        held = self._held.get((model.manifest.digest, size.bit_length()))
        if held is not None:
            return held
        # Of a version that was never asked so much, the model's others say more than its own rehearsal with little: a flip
        # is no reason to expect that everything takes longer from now on.
        before = self._held.get((model.model, size.bit_length()))
        expected = _in_proportion(model, plan, size)
        return expected if before is None else min(before, expected)

    def together_s(self, kin: object, rows: int) -> float | None:
        """Seconds that runs of about so many rows of this kin have held a lane; None where there were none yet."""
        return self._together.get((kin, rows.bit_length()))

    @property
    def usual_s(self) -> float:
        """Seconds that any request has lately held a lane."""
        return self._usual_s

    def worked_on_loop(self, model: Model, worked_s: float) -> None:
        """Learn what a run on the loop took of the thread's own time, so that a busy machine does not count against it.

        What a run costs may depend on the values that it is given (a loop whose turns are an input), and no estimate
        knows those: a version that took much longer than was expected of it twice in 200 runs is kept off the loop, for a second at first
        and eight times as long each time that it does so again.
        """
        if worked_s <= _ONLY_ONCE_S:
            if self._suspects:
                self._pardon(model.manifest.digest)
            return
        if model.manifest.digest not in self._suspects:
            if len(self._suspects) >= _VERSIONS:
                self._suspects = {}
            self._suspects[model.manifest.digest] = _PARDONED_RUNS
            return
        before = self._off_loop.get(model.manifest.digest)
        if before is None and len(self._off_loop) >= _VERSIONS:
            self._off_loop = {}
        for_s = _FIRST_AWAY_S if before is None else before.for_s * _LONGER
        self._off_loop[model.manifest.digest] = _Away(for_s, self._clock() + for_s)
        log.info(
            "version %s worked %.1f ms for one prediction where its rehearsal took %.2f ms: its predictions run in lanes "
            "for %g s",
            model.version,
            worked_s * 1000,
            model.cost_s * 1000,
            for_s,
            extra={"version": model.version},
        )

    def _pardon(self, digest: Digest) -> None:
        left = self._suspects.get(digest)
        if left is not None:
            if left > 1:
                self._suspects[digest] = left - 1
            else:
                del self._suspects[digest]

    def held_lane(self, model: ModelName, digest: Digest, size: int, held_s: float) -> None:
        """Learn for how long a request held its lane, by the clock: it is what those behind it had to wait."""
        self._usual_s += _NEW * (held_s - self._usual_s)
        _learn(self._held, (digest, size.bit_length()), held_s)
        _learn(self._held, (model, size.bit_length()), held_s)

    def held_together(self, kin: object, rows: int, held_s: float) -> None:
        """Learn for how long a run of so many rows of this kin held its lane."""
        _learn(self._together, (kin, rows.bit_length()), held_s)

    def keep_apart(self, model: Model, why: str) -> None:
        """Run each prediction of this version by itself from now on: together it gave what cannot be told apart."""
        if len(self._apart) >= _VERSIONS:
            self._apart = set()
        self._apart.add(model.manifest.digest)
        log.warning(
            "version %s is not batched any more: %s", model.version, why, extra={"version": model.version}
        )

    def may_be_together(self, model: Model) -> bool:
        """Whether this version's predictions may be run at once."""
        return model.batching is not None and model.manifest.digest not in self._apart


def _learn(known: dict[_Kind, float], kind: _Kind, held_s: float) -> None:
    before = known.get(kind)
    if before is None and len(known) >= _KINDS:
        known.clear()
    # Two lanes may write at once: one of two observations is lost, which no estimate minds.
    known[kind] = held_s if before is None else before + _NEW * (held_s - before)


def _in_proportion(model: Model, plan: Plan, size: int) -> float:
    """The cost that rehearsal measured, more for a request that is larger than that one."""
    measured = model.warm_bytes or plan.row_bytes
    return model.cost_s * max(1.0, size / (measured + plan.overhead_bytes))

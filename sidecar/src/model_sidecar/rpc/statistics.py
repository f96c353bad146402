"""How often and how long each version answered, for ModelStatistics. Belongs to the data plane's loop: no locks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from model_sidecar.release.names import ModelName, Version
from model_sidecar_client.wire.inference import (
    InferBatchStatistics,
    InferStatistics,
    ModelStatistics,
    StatisticDuration,
)

_REMEMBERED = 16
# Callers may send any number of rows; beyond so many sizes a new one is not told.
_SIZES = 256


@dataclass(slots=True)
class Duration:
    """How often, and how long altogether."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds

    def message(self) -> StatisticDuration:
        """As the protocol has it."""
        return StatisticDuration(count=self.count, ns=round(self.seconds * 1e9))


@dataclass(slots=True)
class Timings:
    """The parts of one prediction in seconds; None for a part that was not reached."""

    queue_s: float | None = None
    input_s: float | None = None
    infer_s: float | None = None
    output_s: float | None = None


@dataclass(slots=True)
class _Tally:
    last_ms: int = 0
    rows: int = 0
    runs: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def ran(self, rows: int, seconds: float) -> None:
        """Count a run of so many rows."""
        self.runs += 1
        known = self.batches.get(rows)
        if known is not None:
            known.add(seconds)
        elif len(self.batches) < _SIZES:
            self.batches[rows] = Duration(1, seconds)


class Statistics:
    """Tallies by model and version; the versions used last are remembered, resident or not."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[tuple[ModelName, Version], _Tally] = OrderedDict()

    def note(
        self,
        model: ModelName,
        version: Version,
        timings: Timings,
        *,
        ok: bool,
        total_s: float,
        rows: int,
        batch_rows: int | None = None,
    ) -> None:
        """Count a prediction that this version was leased for.

        Args:
            model: whose version.
            version: which.
            timings: its parts; those of the run are the whole run's.
            ok: whether it was answered.
            total_s: from its arrival to its end.
            rows: its own.
            batch_rows: those of a run that it shared, with one prediction of that run, and 0 with the others; None: it shared none.
        """
        key = model, version
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
            if len(self._tallies) > _REMEMBERED:
                self._tallies.popitem(last=False)
        (tally.success if ok else tally.fail).add(total_s)
        if timings.queue_s is not None:
            tally.queue.add(timings.queue_s)
        if timings.input_s is not None:
            tally.input.add(timings.input_s)
        if timings.infer_s is not None:
            tally.infer.add(timings.infer_s)
            tally.rows += rows
            if batch_rows != 0:
                tally.ran(rows if batch_rows is None else batch_rows, timings.infer_s)
            tally.last_ms = time.time_ns() // 1_000_000
        if timings.output_s is not None:
            tally.output.add(timings.output_s)

    def messages(self, model: ModelName, versions: Iterable[Version]) -> list[ModelStatistics]:
        """One entry for each of these versions, in that order; zeros for one that has not answered yet."""
        return [
            _message(model, version, self._tallies.get((model, version), _Tally())) for version in versions
        ]


def _message(model: ModelName, version: Version, tally: _Tally) -> ModelStatistics:
    return ModelStatistics(
        name=model,
        version=version,
        last_inference=tally.last_ms,
        inference_count=tally.rows,
        execution_count=tally.runs,
        inference_stats=InferStatistics(
            success=tally.success.message(),
            fail=tally.fail.message(),
            queue=tally.queue.message(),
            compute_input=tally.input.message(),
            compute_infer=tally.infer.message(),
            compute_output=tally.output.message(),
        ),
        batch_stats=[
            InferBatchStatistics(batch_size=rows, compute_infer=took.message())
            for rows, took in sorted(tally.batches.items())
        ],
    )

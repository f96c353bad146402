"""Predictions that are run at once: one lease, one run, and for each the answer that it would have had alone.

Which may be, the trial of their version found out (model.batching); which are, the lane decides that they wait for. Their
rows stand below each other in one run. Where anything about them does not fit, each is run by itself, and told of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import DeadlineOverError
from model_sidecar.model.brake import pulled_by_all
from model_sidecar.model.execution import Batching
from model_sidecar.rpc.predicting import FAILED_S, Call, Predictor
from model_sidecar.rpc.tensors_in import MOST_DIMENSIONS, Taken
from model_sidecar.rpc.waiting import ALONE, Job
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import PREVIOUS, Lease, Model
from model_sidecar_client.wire.inference import ModelInferRequest


@dataclass(slots=True, eq=False, kw_only=True)
class _Asked(Job):
    """A request that may be run together with others, as it waits for a lane."""

    served: ServedSite
    request: ModelInferRequest
    call: Call


@dataclass(frozen=True, slots=True)
class _Part:
    """One request's place in a run: which of the jobs it is, and where its rows begin."""

    number: int
    job: _Asked
    taken: Taken
    at: int


class _Kin:
    """Requests for the same version whose tensors have the same shapes but for their rows (see `lanes.Kin`)."""

    __slots__ = ("_batches", "_batching", "_hash", "_key", "_one_s")

    def __init__(self, key: tuple[object, ...], batches: Batches, batching: Batching, one_s: float) -> None:
        self._key = key
        self._hash = hash(key)
        self._batches = batches
        self._batching = batching
        self._one_s = one_s

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kin) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    @property
    def max_rows(self) -> int:
        return self._batching.max_rows

    def cost_s(self, rows: int) -> float:
        learned = self._batches.costs.together_s(self, rows)
        return self._one_s * self._batching.cost(rows) if learned is None else learned

    def together(self, jobs: Sequence[Job]) -> list[Any]:
        asked = [job for job in jobs if isinstance(job, _Asked)]
        assert len(asked) == len(jobs), "nothing else is given a kin"
        return self._batches.run(self, asked)


class Batches:
    """Runs predictions together. `job` belongs to the loop, `run` to whatever lane."""

    def __init__(self, predictor: Predictor) -> None:
        """Take and answer requests as this predictor does."""
        self._predictor = predictor
        self.costs = predictor.costs

    def job(self, served: ServedSite, request: ModelInferRequest, call: Call, *, cost_s: float) -> Job:
        """This request as a job that costs so many seconds by itself; it has kin where it may be run with others."""
        model = _resident(served, request.model_version)
        if model is not None and model.batching is not None and self.costs.may_be_together(model):
            rows, shapes = _shapes(request)
            if 0 < rows < model.batching.max_rows:
                # Whatever is resident when it is run: only those are run together that would be answered by the same.
                key = (served.site, request.model_version, model.manifest.digest, shapes)
                kin = _Kin(key, self, model.batching, cost_s / model.batching.cost(rows))
                return _Asked(
                    cost_s,
                    call.size,
                    call.ends,
                    call.brake,
                    kin,
                    rows,
                    served=served,
                    request=request,
                    call=call,
                )
        return Job(cost_s, call.size, call.ends, call.brake)

    def run(self, kin: _Kin, jobs: Sequence[_Asked]) -> list[Any]:
        """For each its answer, or its own error; ALONE for those that have to be run by themselves.

        Raises:
            NotFoundError, UnavailableError, RefusedError: as `Stage.lease` does.
        """
        begun = time.perf_counter()
        outcomes: list[Any] = [ALONE] * len(jobs)
        with jobs[0].served.stage.lease(jobs[0].request.model_version) as lease:
            model = lease.model
            # What is live by now may be another version than the one that they were put together for.
            if model.batching is None or not self.costs.may_be_together(model):
                return outcomes
            parts, rows = self._parts(model, jobs, outcomes)
            if len(parts) < 2 or rows > model.batching.max_rows:
                return outcomes
            ran = time.perf_counter()
            arrays = self._run(model, parts, outcomes)
            if arrays is None:
                return outcomes
            ran_s = time.perf_counter() - ran
            for name, array in arrays.items():
                if array.shape[:1] != (rows,):
                    self.costs.keep_apart(
                        model, f"for {rows} rows, output {name!r} has shape {list(array.shape)}"
                    )
                    return outcomes
            self._respond(lease, model.batching, parts, arrays, outcomes, rows=rows, ran_s=ran_s)
        self.costs.held_together(kin, rows, time.perf_counter() - begun)
        return outcomes

    def _parts(self, model: Model, jobs: Sequence[_Asked], outcomes: list[Any]) -> tuple[list[_Part], int]:
        """Those that can be run, and their rows; what is wrong with the others is their outcome."""
        parts, rows = [], 0
        for number, job in enumerate(jobs):
            try:
                taken = self._predictor.taken(model, job.request, job.call)
            except Exception as error:  # noqa: BLE001 - the others are run all the same
                outcomes[number] = error
                continue
            parts.append(_Part(number, job, taken, rows))
            rows += taken.rows
        return parts, rows

    def _run(
        self, model: Model, parts: Sequence[_Part], outcomes: list[Any]
    ) -> dict[str, NDArray[Any]] | None:
        """All outputs for all rows; None where each is to be run by itself, or nobody waits any more."""
        predictor, plan = self._predictor, self._predictor.plan(model)
        inputs = {name: np.concatenate([part.taken.arrays[name] for part in parts]) for name in plan.inputs}
        wanted: dict[str, None] | None = {}
        for part in parts:
            own = predictor.wanted(part.taken, plan)
            wanted = None if own is None or wanted is None else wanted | dict.fromkeys(own)
        begun = time.monotonic()
        until = min(begun + predictor.max_run_s, max(part.job.end for part in parts))
        try:
            return predictor.run(
                model,
                inputs,
                None if wanted is None else tuple(wanted),
                brake=pulled_by_all([part.job.brake for part in parts]),
                until=until,
            )
        except DeadlineOverError:
            # Who still waits is run by himself: it may have been another's rows that took so long.
            now = time.monotonic()
            for part in parts:
                if part.job.brake.pulled or now >= part.job.end:
                    outcomes[part.number] = _over()
                    if now - begun >= FAILED_S:
                        predictor.note_failed(part.job.served, model, part.taken, part.job.call)
            return None

    def _respond(
        self,
        lease: Lease,
        batching: Batching,
        parts: Sequence[_Part],
        arrays: dict[str, NDArray[Any]],
        outcomes: list[Any],
        *,
        rows: int,
        ran_s: float,
    ) -> None:
        counted = False
        for part in parts:
            job, call, taken = part.job, part.job.call, part.taken
            if job.brake.pulled or time.monotonic() >= job.end:
                outcomes[part.number] = _over()
                continue
            call.timings.infer_s = ran_s
            call.batch_rows, counted = 0 if counted else rows, True
            call.slowed = batching.cost(rows) / batching.cost(taken.rows)
            own = {name: array[part.at : part.at + taken.rows] for name, array in arrays.items()}
            if self._predictor.notes_answers:
                # Else a note that is kept would keep the answers of all the others.
                own = {name: array.copy() for name, array in own.items()}
            try:
                outcomes[part.number] = self._predictor.respond(
                    job.served, job.request, call, lease=lease, taken=taken, arrays=own
                )
            except Exception as error:  # noqa: BLE001 - the others are answered all the same
                outcomes[part.number] = error


def _resident(served: ServedSite, version: str) -> Model | None:
    residents = served.stage.residents()
    if not version:
        return residents.live
    if version == PREVIOUS:
        return residents.standby
    both = (residents.live, residents.standby)
    return next((each for each in both if each is not None and each.version == version), None)


def _shapes(request: ModelInferRequest) -> tuple[int, tuple[object, ...]]:
    """How many rows all inputs have, and what else they are, as they claim; 0 rows where they do not agree."""
    rows, shapes = -1, []
    for tensor in request.inputs[:]:
        shape = tensor.shape[:MOST_DIMENSIONS]
        if not shape or rows not in (-1, shape[0]):
            return 0, ()
        rows = shape[0]
        shapes.append((tensor.name, tensor.datatype, *shape[1:]))
    return rows, tuple(shapes)


def _over() -> DeadlineOverError:
    return DeadlineOverError("the deadline was over before the model had answered")

"""One prediction, on whatever thread: lease, convert, run, respond with the leased model's version."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from model_sidecar.errors import DeadlineOverError, InferenceFailedError, SidecarError
from model_sidecar.model.brake import Brake
from model_sidecar.monitor.intake import Note, new_note
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.release.roles import roles_of
from model_sidecar.rpc.convert import answer
from model_sidecar.rpc.costs import Costs
from model_sidecar.rpc.notes import Notes, monitor_key
from model_sidecar.rpc.pieces import Pieces
from model_sidecar.rpc.plan import Plan, plan_of
from model_sidecar.rpc.statistics import Timings
from model_sidecar.rpc.tensors_in import Shared, Taken, take
from model_sidecar.rpc.timekeeper import Timekeeper
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Lease, Model
from model_sidecar_client.wire.inference import ModelInferRequest

log = logging.getLogger(__name__)

_PLANS = 64
# What the elements of a typed list may take in memory, for one byte on the wire.
_TYPED_GROWS = 8
# A run on the loop is expected to take a fraction of a millisecond. One that takes this long is stopped and run in a lane
# instead: what it costs may be in its values, which no estimate knows.
_ON_LOOP_S = 0.02
# A run that was stopped sooner is its caller's affair, and not counted against the version (telemetry.meters).
FAILED_S = 1.0


@dataclass(slots=True)
class Call:
    """What is known of one prediction; filled in on its way.

    Attributes:
        size: of the request, in bytes; with what it has left in shared memory, once that is known.
        arrived: when, by `time.perf_counter`.
        ends: when its caller stops waiting, by `time.monotonic`; None for never.
        brake: ends its run.
        batch_rows: how many rows its run had, where those of others were among them, on one of these calls; 0 on the others.
            None: it was run by itself.
        slowed: how many times as long as by itself its run is taken to have been, for those others.
        cost_s: how long it is expected to hold a lane, once that is known.
        dear: whether it has taken longer than anything of its size should: it is run by itself.
        digest: whose manifest's it is that answered.
    """

    size: int
    arrived: float
    ends: float | None
    served: ServedSite | None = None
    version: Version | None = None
    rows: int = 0
    brake: Brake = field(default_factory=Brake)
    cost_s: float | None = None
    dear: bool = False
    digest: Digest | None = None
    batch_rows: int | None = None
    slowed: float = 1.0
    timings: Timings = field(default_factory=Timings)


class Predictor:
    """Answers requests; any thread may call it."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        max_run_s: float,
        notes: Notes | None = None,
        ids: PredictionIds | None = None,
        shared: Shared | None = None,
    ) -> None:
        """Answer with at most `max_message_bytes`, let no run take longer than `max_run_s`, and note each answer.

        `ids` names them: whoever else makes predictions that are watched takes from the same. `shared` finds tensors in
        shared memory.
        """
        self._max_message_bytes = max_message_bytes
        self.max_run_s = max_run_s
        self._notes = notes
        self._shared = shared
        self._complained = False
        self._ids = ids or PredictionIds()
        self._plans: dict[Digest, Plan] = {}
        self._pieces = Pieces()
        self._timekeeper = Timekeeper()
        self.costs = Costs()

    def close(self) -> None:
        """Run nothing more."""
        self._timekeeper.stop()

    def predict(
        self, served: ServedSite, request: ModelInferRequest, call: Call, *, within_s: float = float("inf")
    ) -> bytes | None:
        """The serialized answer; None where the model is expected to take longer than `within_s`, or was stopped as it did.

        Where there is such a bound, the run is measured: a version that took much longer than was expected of it is
        expected to do so from then on.

        Raises:
            NotFoundError: the version that is asked for is not resident.
            UnavailableError, RefusedError: as `Stage.lease` does.
            InvalidInputError: its tensors do not fit the model, or its answer not where it is to be put.
            DeadlineOverError: its caller no longer waits: the model was not run, or stopped; or it ran for too long.
            InferenceFailedError: the model failed.
        """
        with served.stage.lease(request.model_version) as lease:
            model = lease.model
            plan = self.plan(model)
            bounded = within_s != float("inf")
            if bounded and self.costs.on_loop_s(model, plan, call.size) > within_s:
                call.cost_s = self.costs.in_lane_s(model, plan, call.size)
                return None
            taken = self.taken(model, request, call)
            begun = time.perf_counter()
            try:
                arrays = self._run(model, taken, self.wanted(taken, plan), call, on_loop=bounded)
            except (InferenceFailedError, DeadlineOverError) as error:
                took_s = time.perf_counter() - begun
                if isinstance(error, InferenceFailedError) or took_s >= FAILED_S:
                    self.note_failed(served, model, taken, call)
                raise
            if arrays is None:
                call.cost_s, call.dear = max(_ON_LOOP_S, self.costs.in_lane_s(model, plan, call.size)), True
                return None
            call.timings.infer_s = time.perf_counter() - begun
            return self.respond(served, request, call, lease=lease, taken=taken, arrays=arrays)

    # The steps, for predictions that are run by themselves or together (rpc.batches).

    def taken(self, model: Model, request: ModelInferRequest, call: Call) -> Taken:
        """The request's arrays, for this model; raises as `predict` does where they do not fit or nobody waits."""
        began = time.perf_counter()
        call.version = model.version
        call.digest = model.manifest.digest
        call.timings.queue_s = began - call.arrived
        taken = take(request, self.plan(model), self._shared)
        call.rows = taken.rows
        if call.ends is not None and time.monotonic() >= call.ends:
            raise DeadlineOverError("the deadline was over before the model was run; no work was done")
        call.timings.input_s = time.perf_counter() - began
        return taken

    def wanted(self, taken: Taken, plan: Plan) -> tuple[str, ...] | None:
        """The outputs to have of the model: those asked for, and what the prediction is noted from; None for all."""
        asked = taken.outputs
        if asked is None or self._notes is None:
            return asked
        return (*asked, *(name for name in plan.watched if name not in asked))

    def run(
        self,
        model: Model,
        arrays: Mapping[str, NDArray[Any]],
        wanted: tuple[str, ...] | None,
        *,
        brake: Brake,
        until: float,
    ) -> dict[str, NDArray[Any]]:
        """The outputs; the brake is pulled where that takes until `until` (`time.monotonic`).

        Raises:
            DeadlineOverError: the brake was pulled.
            InvalidInputError, InferenceFailedError: as `LoadedModel.run` does, whatever the model raised.
        """
        run = self._timekeeper.begin(brake, until)
        try:
            return model.run(arrays, wanted, brake=brake)
        except SidecarError:
            raise
        except Exception as error:
            raise InferenceFailedError(f"version {model.version} failed: {error}") from error
        finally:
            self._timekeeper.end(run)

    def respond(
        self,
        served: ServedSite,
        request: ModelInferRequest,
        call: Call,
        *,
        lease: Lease,
        taken: Taken,
        arrays: dict[str, NDArray[Any]],
    ) -> bytes:
        """The serialized answer, noted; raises as `convert.answer` does. `arrays` are kept with the note."""
        ran, model = time.perf_counter(), lease.model
        plan, prediction_id = self.plan(model), self._ids.next()
        content = answer(
            arrays,
            plan=plan,
            taken=taken,
            model=model.model,
            version=model.version,
            generation=lease.generation,
            id=request.id,
            prediction_id=prediction_id,
            max_bytes=self._max_message_bytes,
            pieces=self._pieces,
        )
        if self._notes is not None and taken.rows:
            size = (call.size + len(content)) * (_TYPED_GROWS if taken.typed else 1) * plan.grows
            if taken.windows:
                size += sum(arrays[name].nbytes for name in taken.windows) * plan.grows
            try:
                key = monitor_key(request)
                self._notes.note(
                    new_note((served.site, model, prediction_id, taken.arrays, arrays, taken.rows, key)), size
                )
            except Exception as error:  # noqa: BLE001 - whatever becomes of the note, the request is answered
                self._complain(error)
        call.timings.output_s = time.perf_counter() - ran
        return content

    def note_failed(self, served: ServedSite, model: Model, taken: Taken, call: Call) -> None:
        """Let another version be asked the same: the input may be to blame."""
        if self._notes is None or not taken.rows:
            return
        size = call.size * self.plan(model).grows * (_TYPED_GROWS if taken.typed else 1)
        try:
            note = Note(served.site, model, self._ids.next(), taken.arrays, {}, taken.rows, None)
            self._notes.failed(note, size)
        except Exception as error:  # noqa: BLE001 - as above: the caller is told of the failure itself
            self._complain(error)

    def cost_in_lane_s(self, model: Model, call: Call) -> float:
        """Seconds that this call is expected to hold a lane, if this model answers it."""
        return self.costs.in_lane_s(model, self.plan(model), call.size)

    @property
    def notes_answers(self) -> bool:
        """Whether arrays that are answered with are kept for a while."""
        return self._notes is not None

    def plan(self, model: Model) -> Plan:
        """The plan of a model's signature, made once per version."""
        digest = model.manifest.digest
        plan = self._plans.get(digest)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans = {}
            plan = self._plans[digest] = plan_of(
                model.signature, roles_of(model.manifest.outputs, model.signature)
            )
        return plan

    def _complain(self, error: Exception) -> None:
        # Once: what fails here fails on every request.
        if not self._complained:
            self._complained = True
            log.error("an answer could not be noted; requests go on, but are not watched", exc_info=error)

    def _run(
        self, model: Model, taken: Taken, wanted: tuple[str, ...] | None, call: Call, *, on_loop: bool
    ) -> dict[str, NDArray[Any]] | None:
        """The outputs; None where a run on the loop was stopped, with the brake made new for another."""
        brake, begun = call.brake, time.monotonic()
        until = begun + (_ON_LOOP_S if on_loop else self.max_run_s)
        if call.ends is not None:
            until = min(until, call.ends)
        worked = time.thread_time() if on_loop else 0.0
        try:
            return self.run(model, taken.arrays, wanted, brake=brake, until=until)
        except DeadlineOverError as error:
            now = time.monotonic()
            if call.ends is not None and now >= call.ends:
                raise DeadlineOverError(
                    "the deadline was over before the model had answered: it was stopped"
                ) from error
            if on_loop:
                call.brake = Brake()
                return None
            raise DeadlineOverError(
                f"the model was stopped after {now - begun:.3g} s: no run may take longer than {self.max_run_s:g} s "
                "(--max-run)"
            ) from error
        finally:
            if on_loop:
                self.costs.worked_on_loop(model, time.thread_time() - worked)

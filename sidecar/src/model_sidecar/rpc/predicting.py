"""One prediction, on whatever thread: lease, convert, run, respond with the leased model's version."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from model_sidecar.errors import DeadlineOverError, InferenceFailedError, SidecarError
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.rpc.convert import answer
from model_sidecar.rpc.plan import Plan, plan_of
from model_sidecar.rpc.prediction_ids import PredictionIds
from model_sidecar.rpc.statistics import Timings
from model_sidecar.rpc.tensors_in import take
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Model
from model_sidecar_client.wire.inference import ModelInferRequest

log = logging.getLogger(__name__)

_PLANS = 64
# An estimate holds near the request that was measured. A cost that grows with the square of the rows is at sixteen times
# the rows still some milliseconds; at a thousand times it would be seconds.
_MEASURED_TIMES = 16
_MEASURED_BYTES = (
    64  # the least that counts as measured: below it, what a call costs at all outweighs its rows
)
# What one run may cost whoever waits behind it on the loop before the version is taken off the loop.
_ONLY_ONCE_S = 2e-3


@dataclass(slots=True)
class Call:
    """What is known of one prediction; filled in on its way.

    Attributes:
        size: of the request, in bytes.
        arrived: when, by `time.perf_counter`.
        ends: when its caller stops waiting, by `time.monotonic`; None for never.
    """

    size: int
    arrived: float
    ends: float | None
    served: ServedSite | None = None
    version: Version | None = None
    rows: int = 0
    timings: Timings = field(default_factory=Timings)


class Predictor:
    """Answers requests; any thread may call it."""

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._ids = PredictionIds()
        self._plans: dict[Digest, Plan] = {}
        self._off_loop: set[Digest] = set()

    def predict(
        self, served: ServedSite, request: ModelInferRequest, call: Call, *, within_s: float = float("inf")
    ) -> bytes | None:
        """The serialized answer; None, with nothing done, where the model is expected to take longer than `within_s`.

        Where there is such a bound, the run is measured: a version that took much longer than was expected of it is
        expected to do so from then on.

        Raises:
            NotFoundError: the version that is asked for is not resident.
            UnavailableError, RefusedError: as `Stage.lease` does.
            InvalidInputError: its tensors do not fit the model.
            DeadlineOverError: its caller no longer waits; the model was not run.
            InferenceFailedError: the model failed.
        """
        with served.stage.lease(request.model_version) as lease:
            model = lease.model
            plan = self.plan(model)
            bounded = within_s != float("inf")
            if bounded and (
                model.manifest.digest in self._off_loop or _expected_s(model, plan, call.size) > within_s
            ):
                return None
            clock = time.perf_counter
            call.version = model.version
            timings = call.timings
            began = clock()
            timings.queue_s = began - call.arrived
            taken = take(request, plan)
            call.rows = taken.rows
            if call.ends is not None and time.monotonic() >= call.ends:
                raise DeadlineOverError("the deadline was over before the model was run; no work was done")
            converted = clock()
            timings.input_s = converted - began
            worked = time.thread_time() if bounded else 0.0
            try:
                arrays = model.run(taken.arrays, taken.outputs)
            except SidecarError:
                raise
            except Exception as error:
                raise InferenceFailedError(f"version {model.version} failed: {error}") from error
            finally:
                if bounded:
                    self._learn(model, time.thread_time() - worked)
            ran = clock()
            timings.infer_s = ran - converted
            content = answer(
                arrays,
                plan=plan,
                taken=taken,
                model=model.model,
                version=model.version,
                generation=lease.generation,
                id=request.id,
                prediction_id=self._ids.next(),
                max_bytes=self._max_message_bytes,
            )
            timings.output_s = clock() - ran
            return content

    def plan(self, model: Model) -> Plan:
        """The plan of a model's signature, made once per version."""
        digest = model.manifest.digest
        plan = self._plans.get(digest)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans = {}
            plan = self._plans[digest] = plan_of(model.signature)
        return plan

    def _learn(self, model: Model, worked_s: float) -> None:
        # The thread's own time, so that a busy machine does not count against a model. What a run costs may depend on
        # the values that it is given (a loop whose turns are an input), and no estimate knows those.
        if worked_s <= _ONLY_ONCE_S:
            return
        if len(self._off_loop) >= _PLANS:
            self._off_loop = set()
        self._off_loop.add(model.manifest.digest)
        log.info(
            "version %s worked %.1f ms for one prediction where its rehearsal took %.2f ms: its predictions run in lanes "
            "from now on",
            model.version,
            worked_s * 1000,
            model.cost_s * 1000,
            extra={"version": model.version},
        )


def _expected_s(model: Model, plan: Plan, size: int) -> float:
    """How long this model takes for a request of `size` bytes: its measured cost, more for more than was measured.

    Infinite where the request is so much larger that the measurement says nothing about it.
    """
    measured = model.warm_bytes or plan.row_bytes
    if size > _MEASURED_TIMES * max(measured, _MEASURED_BYTES) + plan.overhead_bytes:
        return float("inf")
    return model.cost_s * max(1.0, size / (measured + plan.overhead_bytes))

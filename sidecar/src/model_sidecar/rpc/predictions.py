"""Predictions: admission, the choice between loop and lane, and the notes taken of every prediction.

Takes and gives bytes, so that large messages are parsed and written in a lane instead of on the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from model_sidecar.errors import NotFoundError, OverloadedError, Reason, UnavailableError
from model_sidecar.model.execution import INLINE_S
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.rpc.batches import Batches
from model_sidecar.rpc.convert import parse_request
from model_sidecar.rpc.lanes import Lanes
from model_sidecar.rpc.meters import GuardedMeters, Meters
from model_sidecar.rpc.notes import Notes
from model_sidecar.rpc.pace import Pace
from model_sidecar.rpc.predicting import Call, Predictor
from model_sidecar.rpc.shared_tensors import SharedTensors
from model_sidecar.rpc.sites import Sites
from model_sidecar.rpc.statistics import Statistics
from model_sidecar.rpc.status import code_of
from model_sidecar.rpc.waiting import Job
from model_sidecar_client.wire.inference import ModelInferRequest

# A message below this is parsed on the loop: at worst (strings, typed lists) in about a millisecond.
_PARSED_INLINE_BYTES = 64 << 10
_RETRY_AFTER_S = 0.1
# What requests that wait for a lane may keep in memory: many of the usual size, a few of the largest.
_WAITING_BYTES = 256 << 20
_WAITING_MESSAGES = 4


class Predictions:
    """Answers ModelInfer. Belongs to the loop that serves it."""

    def __init__(
        self,
        sites: Sites,
        *,
        lanes: int,
        max_inflight: int,
        max_queue_wait_s: float,
        max_run_s: float,
        max_message_bytes: int,
        meters: Meters,
        notes: Notes | None = None,
        ids: PredictionIds | None = None,
        shared: SharedTensors | None = None,
    ) -> None:
        self._sites = sites
        self._shared = shared
        self._only = sites.all[0] if len(sites.all) == 1 else None
        self._lanes = Lanes(
            lanes,
            max_wait_s=max_queue_wait_s,
            max_waiting_bytes=max(_WAITING_BYTES, _WAITING_MESSAGES * max_message_bytes),
        )
        self._max_inflight = max_inflight
        self._max_wait_s = max_queue_wait_s
        self._meters = GuardedMeters(meters)
        self._predictor = Predictor(
            max_message_bytes=max_message_bytes, max_run_s=max_run_s, notes=notes, ids=ids, shared=shared
        )
        self._batches = Batches(self._predictor)
        self._inflight = 0
        self._pace = Pace()
        self.statistics = Statistics()
        self.draining = False
        self._said = asyncio.Event()  # refusals of whoever comes while draining may be sent
        self._said.set()
        self._last_arrival = 0.0
        self._on_idle: Callable[[], object] = lambda: None

    @property
    def idle(self) -> bool:
        """Whether no prediction is in flight."""
        return self._inflight == 0

    @property
    def quiet_s(self) -> float:
        """Seconds since a prediction was asked for."""
        return time.perf_counter() - self._last_arrival

    def drain(self, on_idle: Callable[[], object]) -> None:
        """Refuse new predictions from now on, and call `on_idle` once none is in flight."""
        self.draining = True
        self._on_idle = on_idle
        if self.idle:
            on_idle()

    def hold_refusals(self) -> None:
        """Let whoever comes from now on wait for his refusal."""
        self._said.clear()

    def send_refusals(self) -> None:
        """Refuse everybody who waits for it."""
        self._said.set()

    @property
    def busy(self) -> bool:
        """Whether so much is being worked on that one more might soon have to be refused."""
        return (
            2 * self._inflight >= self._max_inflight or 2 * self._lanes.expected_wait_s() > self._max_wait_s
        )

    async def refuse_if_draining(self) -> None:
        """Return at once, or, while draining, refuse when that may be said.

        Raises:
            UnavailableError: DRAINING.
        """
        if self.draining:
            self._last_arrival = time.perf_counter()
            await self._said.wait()
            raise UnavailableError(
                "this sidecar is going down and takes no new requests", reason=Reason.DRAINING
            )

    def close(self) -> None:
        """Run nothing more; after the server has stopped."""
        self._lanes.close()
        self._predictor.close()

    async def infer(self, content: bytes, context: Any) -> bytes:
        """ModelInfer: a serialized ModelInferRequest to a serialized ModelInferResponse."""
        left = context.time_remaining()
        return await self.answer(content, None if left is None else time.monotonic() + left)

    async def answer(self, content: bytes, ends: float | None) -> bytes:
        """One prediction, whatever it came by, for a caller who waits until `ends` (`time.monotonic`; None: for ever)."""
        call = Call(size=len(content), arrived=time.perf_counter(), ends=ends)
        self._last_arrival = call.arrived
        code = grpc.StatusCode.OK
        try:
            return await self._answered(content, call)
        except asyncio.CancelledError:
            over = call.ends is not None and time.monotonic() >= call.ends
            code = grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED
            raise
        except OverloadedError as error:
            code = code_of(error)
            self._pace.refused()
            raise
        except Exception as error:
            code = code_of(error)
            raise
        finally:
            self._note(call, code)

    async def _answered(self, content: bytes, call: Call) -> bytes:
        if call.size > _PARSED_INLINE_BYTES:
            # Not read yet, but where there is only one model, it can only be for that one.
            call.served = self._only
            return await self._admitted(None, content, call)
        request = self._parsed(content, call)
        call.served = self._sites.served(request.model_name)
        return await self._admitted(request, content, call)

    async def _admitted(self, request: ModelInferRequest | None, content: bytes, call: Call) -> bytes:
        if self.draining:
            await self.refuse_if_draining()
        if self._inflight >= self._max_inflight:
            raise OverloadedError(
                f"{self._inflight} predictions are being worked on, and no more are taken at once (--max-inflight)",
                retry_after_s=_RETRY_AFTER_S,
            )
        try:
            # What lies in shared memory may be large where the message is small.
            if request is not None and call.served is not None and call.size <= _PARSED_INLINE_BYTES:
                # Not counted as in flight: until it is over, nobody else is here to see it.
                answer = self._predictor.predict(call.served, request, call, within_s=INLINE_S)
                if answer is not None:
                    return answer
            return await self._in_lane(request, content, call)
        except NotFoundError as error:
            if call.served is None or error.reason is not Reason.VERSION_NOT_FOUND:
                raise
            raise await self._sites.absent(call.served, error.facts.get("version", "")) from error

    async def _in_lane(self, request: ModelInferRequest | None, content: bytes, call: Call) -> bytes:
        self._inflight += 1
        served = call.served
        if served is not None:
            self._meters.inflight(served.site, 1)
        try:
            work = partial(self._predict, request, content, call)
            return await self._lanes.run(work, self._job(request, call))
        finally:
            self._inflight -= 1
            if self.draining and self.idle:
                self._on_idle()
            if served is not None:
                self._meters.inflight(served.site, -1)

    def _job(self, request: ModelInferRequest | None, call: Call) -> Job:
        # What is large in shared memory is run by itself, as what is large in the message: putting together is copying.
        small = call.size <= _PARSED_INLINE_BYTES
        if request is not None and call.served is not None and small and not call.dear:
            return self._batches.job(call.served, request, call, cost_s=self._cost_s(call))
        return Job(self._cost_s(call), call.size, call.ends, call.brake)

    def _parsed(self, content: bytes, call: Call) -> ModelInferRequest:
        request = parse_request(content)
        if self._shared is not None:
            call.size += self._shared.request_bytes(request)
        return request

    def _cost_s(self, call: Call) -> float:
        if call.cost_s is not None:
            return call.cost_s
        # Not parsed yet, so that it may be for the standby; an estimate takes it for the live version's.
        live = call.served.stage.residents().live if call.served is not None else None
        return self._predictor.costs.usual_s if live is None else self._predictor.cost_in_lane_s(live, call)

    def _predict(self, request: ModelInferRequest | None, content: bytes, call: Call) -> bytes:
        # In a lane. The lease is taken here, so that a request that waited is answered by what is live by now.
        begun = time.perf_counter()
        try:
            if request is None:
                request, call.served = self._parsed(content, call), None
                call.served = self._sites.served(request.model_name)
            assert call.served is not None, "found before or just now"
            answer = self._predictor.predict(call.served, request, call)
            assert answer is not None, "only a bound on the cost makes it None"
            return answer
        finally:
            if call.timings.input_s is not None:
                assert call.digest is not None, "the model that was run"
                assert call.served is not None, "whose it is"
                held_s = time.perf_counter() - begun
                self._predictor.costs.held_lane(call.served.site.model, call.digest, call.size, held_s)

    def _note(self, call: Call, code: grpc.StatusCode) -> None:
        if call.served is None:
            return
        total_s = time.perf_counter() - call.arrived
        site = call.served.site
        self._meters.predicted(
            site,
            call.version,
            code=code.name,
            total_s=total_s,
            inference_s=call.timings.infer_s,
            queue_s=call.timings.queue_s,
            rows=call.rows if call.batch_rows is None else call.batch_rows,
            slowed=call.slowed,
        )
        if call.version is not None:
            ok = code is grpc.StatusCode.OK
            self.statistics.note(
                site.model,
                call.version,
                call.timings,
                ok=ok,
                total_s=total_s,
                rows=call.rows,
                batch_rows=call.batch_rows,
            )

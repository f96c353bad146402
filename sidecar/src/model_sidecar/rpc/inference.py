"""`inference.GRPCInferenceService`: the Open Inference Protocol, version 2, on a `grpc.aio` server.

Repository control is not there: gRPC answers UNIMPLEMENTED for what this class does not have. Shared memory is there where
it is enabled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

from model_sidecar.errors import NotFoundError
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.release.tensors import TensorSpec
from model_sidecar.rpc.meters import Meters
from model_sidecar.rpc.notes import Notes
from model_sidecar.rpc.predictions import Predictions
from model_sidecar.rpc.shared_memory import EXTENSION, SharedMemoryService
from model_sidecar.rpc.sites import Sites, resident_versions
from model_sidecar.rpc.streams import Streams
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import PREVIOUS
from model_sidecar_client.wire import services
from model_sidecar_client.wire.inference import (
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)

NAME = "model-sidecar"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("parameters", "statistics")


class InferenceService:
    """Answers predictions and questions about models. Belongs to the loop that serves it, `drain` and `close` too."""

    def __init__(
        self,
        sites: Iterable[ServedSite],
        *,
        lanes: int,
        max_inflight: int,
        max_queue_wait_s: float,
        max_run_s: float,
        max_message_bytes: int,
        meters: Meters,
        software: str,
        notes: Notes | None = None,
        ids: PredictionIds | None = None,
        shared_memory: bool = False,
    ) -> None:
        """Serve these sites.

        Args:
            sites: the models, one site for each.
            lanes: how many predictions may run at once in threads.
            max_inflight: how many predictions are taken on at once; more are refused.
            max_queue_wait_s: how long a prediction may be expected to wait for a thread; with more it is refused.
            max_run_s: how long a run may take.
            max_message_bytes: the longest answer.
            meters: what is told of every prediction.
            software: this sidecar's version, for ServerMetadata.
            notes: where answers are noted; None: nowhere.
            ids: names answers; None: its own.
            shared_memory: whether tensors may lie in regions of system shared memory.
        """
        self._shared = SharedMemoryService(max_request_bytes=max_message_bytes) if shared_memory else None
        self._sites = Sites(sites)
        self._software = software
        self._predictions = Predictions(
            self._sites,
            lanes=lanes,
            max_inflight=max_inflight,
            max_queue_wait_s=max_queue_wait_s,
            max_run_s=max_run_s,
            max_message_bytes=max_message_bytes,
            meters=meters,
            notes=notes,
            ids=ids,
            shared=self._shared.tensors if self._shared is not None else None,
        )
        self._streams = Streams(self._predictions, max_message_bytes=max_message_bytes)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a server has to be given."""
        # Without (de)serializers: bytes.
        infer: Any = grpc.unary_unary_rpc_method_handler(self._predictions.infer)
        stream: Any = grpc.stream_stream_rpc_method_handler(self._streams.infer)
        predictions = {"ModelInfer": infer, "ModelStreamInfer": stream}
        return [
            grpc.method_handlers_generic_handler(services.INFERENCE, predictions),
            services.handler(services.INFERENCE, self),
            *([services.handler(services.INFERENCE, self._shared)] if self._shared is not None else ()),
        ]

    @property
    def idle(self) -> bool:
        """Whether no prediction is in flight."""
        return self._predictions.idle

    def drain(self, on_idle: Callable[[], object]) -> None:
        """Refuse new predictions from now on, and call `on_idle` once none is in flight."""
        self._predictions.drain(on_idle)

    def hold_refusals(self) -> None:
        """While draining, let whoever comes from now on wait for his refusal."""
        self._predictions.hold_refusals()

    def end_streams(self) -> None:
        """While draining, end all streams, when what was read of them is answered."""
        self._streams.end()

    def send_refusals(self) -> None:
        """Refuse everybody who waits for it."""
        self._predictions.send_refusals()

    @property
    def quiet_s(self) -> float:
        """Seconds since a prediction was asked for."""
        return self._predictions.quiet_s

    def close(self) -> None:
        """End the threads; after the server has stopped."""
        self._predictions.close()
        self._sites.close()
        if self._shared is not None:
            self._shared.close()

    async def ServerLive(self, request: ServerLiveRequest, context: Any) -> ServerLiveResponse:
        """True: it answers."""
        return ServerLiveResponse(live=True)

    async def ServerReady(self, request: ServerReadyRequest, context: Any) -> ServerReadyResponse:
        """Whether every model of this sidecar has a live version."""
        ready = all(served.stage.residents().live is not None for served in self._sites.all)
        return ServerReadyResponse(ready=ready and not self._predictions.draining)

    async def ModelReady(self, request: ModelReadyRequest, context: Any) -> ModelReadyResponse:
        """Whether this model, or this version of it, can answer now; false for one that nobody knows."""
        served = self._sites.find(request.name)
        if served is None or self._predictions.draining:
            return ModelReadyResponse(ready=False)
        residents = served.stage.residents()
        if request.version == PREVIOUS:
            return ModelReadyResponse(ready=residents.standby is not None)
        ready = (
            request.version in resident_versions(served) if request.version else residents.live is not None
        )
        return ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: ServerMetadataRequest, context: Any) -> ServerMetadataResponse:
        """What this is, and which extensions of the protocol it has."""
        extensions = EXTENSIONS if self._shared is None else (*EXTENSIONS, EXTENSION)
        return ServerMetadataResponse(name=NAME, version=self._software, extensions=extensions)

    async def ModelMetadata(self, request: ModelMetadataRequest, context: Any) -> ModelMetadataResponse:
        """What the live version, or the one that is asked for, takes and gives."""
        served = self._sites.served(request.name)
        try:
            with served.stage.lease(request.version) as lease:
                signature = lease.model.signature
        except NotFoundError as error:
            raise await self._sites.absent(served, request.version) from error
        return ModelMetadataResponse(
            name=served.site.model,
            versions=resident_versions(served),
            platform=PLATFORM,
            inputs=[_metadata(spec) for spec in signature.inputs],
            outputs=[_metadata(spec) for spec in signature.outputs],
        )

    async def ModelStatistics(self, request: ModelStatisticsRequest, context: Any) -> ModelStatisticsResponse:
        """How often and how long each resident version answered in this process."""
        asked = [self._sites.served(request.name)] if request.name else list(self._sites.all)
        response = ModelStatisticsResponse()
        for served in asked:
            versions = resident_versions(served)
            if request.version and request.version not in versions:
                raise await self._sites.absent(served, request.version)
            chosen = [version for version in versions if request.version in ("", version)]
            response.model_stats.extend(self._predictions.statistics.messages(served.site.model, chosen))
        return response

    async def RepositoryIndex(self, request: RepositoryIndexRequest, context: Any) -> RepositoryIndexResponse:
        """The versions of every model: READY where resident, else UNAVAILABLE; `ready` asks for the former only."""
        response = RepositoryIndexResponse()
        for served in self._sites.all:
            model, resident = served.site.model, resident_versions(served)
            for version in resident:
                response.models.add(name=model, version=version, state="READY")
            if request.ready:
                continue
            for version in await self._sites.published(served):
                if version not in resident:
                    response.models.add(
                        name=model,
                        version=version,
                        state="UNAVAILABLE",
                        reason="not loaded: neither live nor standby",
                    )
        return response


def _metadata(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)

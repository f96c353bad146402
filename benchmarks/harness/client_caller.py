"""One caller in a closed loop, by a client as its users have it: arrays in, arrays out; a process of its own.

    python client_caller.py KIND TARGET --seconds 2 < request

KIND is `stub` (a bare stub of this wire, its message made once), `ours` (`Client.predict`), `aio-stub` and `ours-aio` (the
same of asyncio) or `triton` (`tritonclient.grpc`, its objects made for each call as its examples do). Prints what
caller.py does. For an environment that has tritonclient, so that all of them run over the same grpcio and protobuf.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np

from model_sidecar_client import AsyncClient, Client
from model_sidecar_client.wire.inference import ModelInferRequest, ModelInferResponse

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_WIRE: dict[str, Any] = {
    "request_serializer": ModelInferRequest.SerializeToString,
    "response_deserializer": ModelInferResponse.FromString,
}

Call = Callable[[], object]


def blocking(kind: str, target: str, request: ModelInferRequest, open_: ExitStack) -> Call:
    """One call of this kind."""
    model, (name, rows) = request.model_name, _input(request)
    if kind == "stub":
        infer: Any = open_.enter_context(grpc.insecure_channel(target)).unary_unary(METHOD, **_WIRE)
        return lambda: infer(request, timeout=60)
    if kind == "ours":
        client = open_.enter_context(Client(target))
        return lambda: client.predict(model, {name: rows})
    import tritonclient.grpc as triton

    theirs = triton.InferenceServerClient(target)
    open_.callback(theirs.close)

    def call() -> object:
        given = triton.InferInput(name, list(rows.shape), "FP32")
        given.set_data_from_numpy(rows)
        return theirs.infer(model, [given], client_timeout=60).as_numpy("y")

    return call


def measured(call: Call, seconds: float) -> list[float]:
    """The seconds of each call, of those that began after a warm-up of a fifth of the time."""
    took: list[float] = []
    clock = time.perf_counter
    counts = clock() + seconds / 5
    ends = counts + seconds
    while (begun := clock()) < ends:
        call()
        if begun >= counts:
            took.append(clock() - begun)
    return took


async def measured_aio(kind: str, target: str, request: ModelInferRequest, seconds: float) -> list[float]:
    """The same of asyncio."""
    model, (name, rows) = request.model_name, _input(request)
    took: list[float] = []
    clock = time.perf_counter
    async with grpc.aio.insecure_channel(target) as channel, AsyncClient(target) as client:
        infer: Any = channel.unary_unary(METHOD, **_WIRE)

        def by_stub() -> Awaitable[object]:
            called: Awaitable[object] = infer(request, timeout=60)
            return called

        def by_ours() -> Awaitable[object]:
            return client.predict(model, {name: rows})

        call = by_stub if kind == "aio-stub" else by_ours
        counts = clock() + seconds / 5
        ends = counts + seconds
        while (begun := clock()) < ends:
            await call()
            if begun >= counts:
                took.append(clock() - begun)
    return took


def _input(request: ModelInferRequest) -> tuple[str, Any]:
    (given,) = request.inputs
    return given.name, np.frombuffer(request.raw_input_contents[0], "<f4").reshape(tuple(given.shape))


def main() -> None:
    """Call and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, required=True)
    chosen = parser.parse_args()
    request = ModelInferRequest.FromString(sys.stdin.buffer.read())
    gc.disable()
    if "aio" in chosen.kind:
        took = asyncio.run(measured_aio(chosen.kind, chosen.target, request, chosen.seconds))
    else:
        with ExitStack() as open_:
            took = measured(blocking(chosen.kind, chosen.target, request, open_), chosen.seconds)
    print(json.dumps(took))


if __name__ == "__main__":
    main()

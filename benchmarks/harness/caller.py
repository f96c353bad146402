"""Callers in a closed loop, in a process of their own: a bare stub, bytes in and bytes out.

    python caller.py TARGET --callers 8 --seconds 2 --method /inference.GRPCInferenceService/ModelInfer < request

Prints the seconds of each call, a JSON list. Any call that fails
ends it. Without an import of ours, so that it costs what any client of gRPC costs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from typing import Any

from grpc import aio

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


async def load(target: str, method: str, request: bytes, *, callers: int, seconds: float) -> list[float]:
    """The seconds that each call took, of those that began after a warm-up of a fifth of the time."""
    took: list[float] = []
    clock = time.perf_counter
    async with aio.insecure_channel(target, options=_OPTIONS) as channel:
        infer: Any = channel.unary_unary(method)
        await infer(request, wait_for_ready=True, timeout=30)
        counts = clock() + seconds / 5
        ends = counts + seconds

        async def ask() -> None:
            while (begun := clock()) < ends:
                await infer(request, timeout=60)
                if begun >= counts:
                    took.append(clock() - begun)

        await asyncio.gather(*(ask() for _ in range(callers)))
    return took


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--method", required=True)
    chosen = parser.parse_args()
    request = sys.stdin.buffer.read()
    gc.disable()
    took = asyncio.run(
        load(chosen.target, chosen.method, request, callers=chosen.callers, seconds=chosen.seconds)
    )
    print(json.dumps(took))


if __name__ == "__main__":
    main()

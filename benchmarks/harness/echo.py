"""The bare echo: `grpc.aio` with the data plane's own options, bytes in, and bytes out as long as the model's answer.

    python echo.py unix:/…/echo.sock --answer-bytes 120 [--pid-file …]

It parses nothing, runs nothing, counts nothing: what no server of this stack can be faster than.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import grpc
from grpc import aio

SERVICE = "inference.GRPCInferenceService"
# The data plane's own (rpc.servers): what is compared is the work, not the settings.
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
]


async def serve(target: str, answer: bytes) -> None:
    """Until the process is killed."""

    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    server = aio.server(options=OPTIONS)
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(target)
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--answer-bytes", type=int, required=True)
    chosen = parser.parse_args()
    sys.setswitchinterval(0.0001)  # as the sidecar
    asyncio.run(serve(chosen.target, bytes(chosen.answer_bytes)))


if __name__ == "__main__":
    main()

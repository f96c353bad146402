"""Callers who are slow, silent, rude or broken, on real sockets: the others are answered, and nothing grows without bound."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import http2
from support.descriptors import open_descriptors
from support.ports import free_port
from support.sidecars import RunningSidecar, serving
from support.terminations import counting
from support.yard import MODEL, PROD, Yard

from model_sidecar_client.wire.inference import ModelInferRequest

A, B = "2024.01.10.prod", "2024.01.12.prod"
MIB = 1 << 20
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
# What the allocator may keep of memory that was given back, and a generous rest: what grows without bound grows by more.
SLACK = 96 * MIB


@pytest.fixture
def sidecar(yard: Yard) -> Iterator[RunningSidecar]:
    for version in (A, B):
        yard.publish(version)
    port = free_port()
    with serving(yard, A, "--data", f"127.0.0.1:{port}", "--max-message", "1MiB") as running:
        running.tcp = f"127.0.0.1:{port}"
        with running.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD)
        yield running


def memory(sidecar: RunningSidecar) -> int:
    """Resident bytes of the process."""
    assert sidecar.process is not None
    return int(Path(f"/proc/{sidecar.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(sidecar: RunningSidecar) -> int:
    assert sidecar.process is not None
    return open_descriptors(sidecar.process.pid)


def assert_answers(sidecar: RunningSidecar) -> None:
    """A new caller is answered, and an operator rolls back and deploys again."""
    assert sidecar.predict()[1] == B
    with sidecar.operator() as operator:
        assert operator.rollback(MODEL, environment=PROD).version == A
        assert operator.deploy(MODEL, B, environment=PROD).version == B


def doors(sidecar: RunningSidecar) -> list[str]:
    return [sidecar.data, sidecar.tcp, sidecar.control]


def test_a_thousand_who_connect_and_say_nothing(sidecar: RunningSidecar) -> None:
    """Silent connections, and such that only say hello, on every door: others are answered meanwhile."""
    before = memory(sidecar)
    with ExitStack() as stack:
        for number in range(999):
            each = stack.enter_context(http2.connect(doors(sidecar)[number % 3]))
            if number % 2:
                with suppress(OSError):  # the control plane's door keeps so many, and cuts the rest
                    each.sendall(http2.PREFACE + http2.settings())
        assert_answers(sidecar)
        assert memory(sidecar) - before < SLACK
    assert_answers(sidecar)


def test_connections_leave_descriptors_to_the_operators(yard: Yard) -> None:
    """With far more connections than the process may have descriptors, a rollback comes through, and whoever was there is answered."""
    for version in (A, B):
        yard.publish(version)
    with serving(yard, A, descriptors=1024) as sidecar, sidecar.client() as early:
        raw = {"raw": [[0.0, 0.0]]}
        early.predict(MODEL, raw)
        with ExitStack() as stack:
            for _ in range(1500):
                stack.enter_context(http2.connect(sidecar.data))
            with sidecar.operator() as operator:
                operator.deploy(MODEL, B, environment=PROD)
                assert operator.rollback(MODEL, environment=PROD).version == A
            assert early.predict(MODEL, raw).version == A
            assert descriptors(sidecar) < 1024
        with sidecar.client() as late:
            late.wait_ready(MODEL, timeout_s=60)
            assert late.predict(MODEL, raw).version == A


GARBAGE = {
    "noise": bytes(range(256)) * 400,
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: sidecar\r\n\r\n",
    "half a preface": http2.PREFACE[:10],
    "a preface, then noise": http2.PREFACE + bytes(range(256)) * 200,
    "a frame of sixteen megabytes": http2.PREFACE
    + http2.settings()
    + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "headers that never end": http2.PREFACE
    + http2.settings()
    + http2.frame(http2.HEADERS, 0, 1, http2.request_fields()) * 2,
    "a message that lies about its length": http2.PREFACE
    + http2.settings()
    + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_fields())
    + http2.frame(http2.DATA, http2.END_STREAM, 1, struct.pack(">BI", 0, 1 << 31)),
    "a message that is no message": http2.PREFACE
    + http2.settings()
    + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_fields())
    + http2.frame(http2.DATA, http2.END_STREAM, 1, http2.message(b"\xff" * 1000)),
}


def test_what_is_no_grpc_harms_nobody(sidecar: RunningSidecar) -> None:
    """Noise of every kind on every door, closed, half-closed or reset in the middle: others are answered."""
    before = descriptors(sidecar)
    for content in GARBAGE.values():
        for door in doors(sidecar):
            for end in ("close", "half-close", "reset"):
                with http2.connect(door) as each, suppress(OSError):
                    each.sendall(content)
                    if end == "half-close":
                        each.shutdown(socket.SHUT_WR)
                        each.settimeout(0.1)
                        each.recv(1 << 16)
                    elif end == "reset":
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_answers(sidecar)
    assert descriptors(sidecar) <= before + 32


def flood(sidecar: RunningSidecar, content: bytes, *, total: int) -> None:
    """Send this again and again until so many bytes are sent, or the server will not take more."""
    with http2.connect(sidecar.data, timeout_s=2) as each, suppress(OSError):
        each.sendall(http2.PREFACE + http2.settings())
        for _ in range(total // len(content)):
            each.sendall(content)


@pytest.mark.parametrize("kind", ["pings", "settings", "requests that are reset"])
def test_a_flood_of_small_frames(sidecar: RunningSidecar, kind: str) -> None:
    """Pings, settings, requests that are reset at once: the flood is cut or held up, memory stays, others are answered."""
    before = memory(sidecar)
    if kind == "requests that are reset":
        wire = http2.Connection()
        request = http2.Request(http2.request_fields(), counting(1))
        for _ in range(20_000):
            wire.cancel(wire.ask(request))
        with http2.connect(sidecar.data, timeout_s=5) as each, suppress(OSError):
            each.sendall(wire.out)
    else:
        small = http2.frame(http2.PING, 0, 0, b"12345678") if kind == "pings" else http2.settings()
        flood(sidecar, small * 100, total=4 * MIB)
    assert memory(sidecar) - before < SLACK
    with sidecar.client() as client:
        client.wait_ready(MODEL, timeout_s=60)
    assert_answers(sidecar)


def test_messages_over_the_limit_are_refused_one_by_one(sidecar: RunningSidecar) -> None:
    """A caller who goes on sending more than is taken is told so each time, and costs no more than one message."""
    before = memory(sidecar)
    with sidecar.client() as client:
        for _ in range(5):
            with pytest.raises(Exception, match=r"(?i)larger than max|exceeds|limit"):
                client.predict(MODEL, {"raw": np.zeros((1 << 18, 2), dtype=np.float32)})
    assert memory(sidecar) - before < SLACK
    assert_answers(sidecar)


@pytest.mark.parametrize("part", ["inputs", "outputs", "raw_input_contents"])
def test_a_flood_of_parts_in_a_message(sidecar: RunningSidecar, part: str) -> None:
    """Half a million inputs, outputs or contents of nothing in one message are refused; it is not made objects of first."""
    number = ModelInferRequest.DESCRIPTOR.fields_by_name[part].number
    content = ModelInferRequest(model_name=MODEL).SerializeToString() + bytes((number << 3 | 2, 0)) * 500_000
    before = memory(sidecar)
    with grpc.insecure_channel(sidecar.data) as channel:
        infer: Any = channel.unary_unary(INFER)
        for _ in range(4):
            with pytest.raises(grpc.RpcError, match=r"8192 parts \(inputs, outputs, ") as caught:
                infer(content, timeout=60)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert memory(sidecar) - before < SLACK / 2
    assert_answers(sidecar)


def test_streams_of_one_connection_that_nobody_reads(sidecar: RunningSidecar) -> None:
    """Each is taken some messages and then waits, however much the others bring."""
    large = ModelInferRequest(model_name=MODEL, raw_input_contents=[b"\0" * (MIB - 1024)])
    large.inputs.add(name="raw", datatype="FP32", shape=[(MIB - 1024) // 8, 2])
    content = large.SerializeToString()
    streams = 24
    before = memory(sidecar)
    with grpc.insecure_channel(sidecar.data) as channel:
        stream: Any = channel.stream_stream(STREAM)
        calls = [stream(itertools.repeat(content), timeout=60) for _ in range(streams)]
        most, quiet = before, 0
        while quiet < 10:  # until it has taken nothing more for a second
            time.sleep(0.1)
            held = memory(sidecar)
            most, quiet = max(most, held), quiet + 1 if held <= most else 0
        assert most - before < SLACK + streams * 8 * MIB
        assert_answers(sidecar)
        for each in calls:
            each.cancel()


def test_slow_writers_and_readers(sidecar: RunningSidecar) -> None:
    """Callers who send a byte now and then, or never read their answers, keep their own memory waiting, nobody else."""
    before = memory(sidecar)
    body = http2.message(counting(1))
    start = http2.PREFACE + http2.settings()
    start += http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_fields())
    start += struct.pack(">I", 1000)[1:] + struct.pack(">BBI", http2.DATA, 0, 1) + body
    with ExitStack() as stack:
        writers = [stack.enter_context(http2.connect(sidecar.data)) for _ in range(100)]
        for at in range(0, len(start), 40):
            for each in writers:
                each.sendall(start[at : at + 40])
        readers = [stack.enter_context(http2.connect(sidecar.data, timeout_s=1)) for _ in range(8)]
        for each in readers:
            # No window for answers: the server may compute them, and may not send one.
            wire = http2.Connection()
            wire.out[:] = http2.PREFACE + http2.settings(initial_window=0)
            request = http2.Request(http2.request_fields(), counting(1))
            for _ in range(200):
                wire.ask(request)
            with suppress(OSError):
                each.sendall(wire.out)
        assert_answers(sidecar)
        assert memory(sidecar) - before < SLACK

"""The proxy between operators and control sockets: it does what its troubles say, or the proof would prove nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.chaos import ChaosProxy, Requests, Trouble

from model_sidecar_client import AsyncOperator
from model_sidecar_client import errors as told
from model_sidecar_client.testing import StandInSidecar

MODEL, A, B = "adder", "2024.01.10.prod", "2024.01.12.prod"


def frame(kind: int, flags: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + (1).to_bytes(4) + content


def test_a_request_counts_once_however_its_bytes_are_cut() -> None:
    """Whatever the pieces, the end of a request is seen at its last byte's header and not before."""
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, b"settings") + frame(1, 4, b"headers")
    sent += (
        frame(0, 0, b"half a request") + frame(0, 1, b"the other half") + frame(1, 4) + frame(0, 1, b"again")
    )
    for size in (1, 3, 10, 1000):
        requests = Requests()
        assert sum(requests.completed(sent[at : at + size]) for at in range(0, len(sent), size)) == 2


@pytest.mark.parametrize(
    ("trouble", "answered", "arrived"),
    [
        (Trouble.NONE, True, True),
        (Trouble.DELAY, True, True),
        (Trouble.STALL, True, True),
        (Trouble.TRICKLE, True, True),
        (Trouble.LOSE_REQUEST, False, False),
        (Trouble.LOSE_REPLY, False, True),
    ],
)
def test_each_trouble_is_what_it_says(trouble: Trouble, answered: bool, arrived: bool) -> None:
    """Whether an order is carried out, and whether its giver learns of it, is as the trouble's name says."""
    with TemporaryDirectory() as directory, StandInSidecar() as sidecar:
        sidecar.publish(MODEL, A)

        told_so = asyncio.run(deploy_through(Path(directory), sidecar.target, trouble))

        assert told_so == answered
        assert bool(sidecar.received("Deploy")) == arrived


async def deploy_through(directory: Path, target: str, trouble: Trouble) -> bool:
    """Deploy over a proxy that deals out this trouble; whether an answer came."""
    to = Path(target.removeprefix("unix:"))
    proxy = ChaosProxy(directory / "chaos.sock", to, chance=random.Random(1), odds={trouble: 1})
    await proxy.start()
    try:
        options = [("grpc.enable_retries", 0)]
        async with AsyncOperator(proxy.target, options=options) as operator:
            done = await operator.deploy(MODEL, A, environment="prod", timeout_s=20)
            return done.version == A
    except told.NotReachableError:
        return False
    finally:
        await proxy.stop()

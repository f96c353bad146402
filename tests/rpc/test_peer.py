"""Who is calling: the kernel's word for it, through the door in front of the control server."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.rpc_control import WAIT_S, Control, order
from support.rpc_plane import RPC_S

from model_sidecar.rpc.peer import Peer, outgoing_name, peer_of
from model_sidecar_client.wire import services
from model_sidecar_client.wire.deployment import DeployRequest, GetStatusRequest, ListVersionsRequest

VERSION = "2024.01.10.prod"
ME = pwd.getpwuid(os.getuid()).pw_name


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with Control(tmp_path).running() as running:
        running.shelf.put(VERSION)
        yield running


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (
            f"unix:/run/x/{outgoing_name(uid=os.getuid(), pid=7, number=5)}",
            Peer(f"{ME} (uid {os.getuid()})", "unix-peer"),
        ),
        (
            f"unix:/proc/self/fd/9/{outgoing_name(uid=4294967294, pid=7, number=5)}",
            Peer("uid 4294967294", "unix-peer"),
        ),
        ("ipv4:127.0.0.1:5000", Peer("127.0.0.1", "tcp-loopback")),
        ("ipv6:[::1]:5000", Peer("::1", "tcp-loopback")),
        ("ipv6:%5B::1%5D:5000", Peer("::1", "tcp-loopback")),
        ("unix:", Peer("unknown", "unknown")),
        ("unix:/run/x/u0-p1-n1/elsewhere", Peer("unknown", "unknown")),
        ("", Peer("unknown", "unknown")),
    ],
)
def test_a_peer_is_read_from_the_transports_address(address: str, peer: Peer) -> None:
    """Fronted connections carry a user, TCP ones an address, and anything else says nothing."""
    assert peer_of(address) == peer


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_users_process_is_recorded_as_that_user(control: Control) -> None:
    """The actor is the user of the process that connects, not of the sidecar."""
    control.folder.chmod(0o755)
    control.socket.chmod(0o666)
    script = (
        "import os, sys, grpc; from model_sidecar_client.wire import services, deployment as d\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
        "    deploy = services.multicallables(channel, services.DEPLOYMENT).Deploy\n"
        "    request = d.DeployRequest(model='adder', version=sys.argv[2], reason='x', on_behalf_of='root')\n"
        "    print(deploy(request, timeout=20).record.actor.id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(control.bound[0]), VERSION],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == f"{pwd.getpwuid(65534).pw_name} (uid 65534)", done.stderr


def test_the_door_carries_large_messages_both_ways(control: Control) -> None:
    """Megabytes go through unharmed while other connections are answered."""
    with control.channel() as channel, control.calling() as call:
        echo: Any = channel.unary_unary("/model_sidecar.v1.DeploymentService/ListVersions")
        padding = DeployRequest(reason="x" * (3 << 20)).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            echo(padding, timeout=RPC_S)  # parsed: its model is missing
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for number in range(1, 400):
            (control.store / "adder" / f"2024.02.01.{number}.{'s' * 30}").mkdir(parents=True)
        answer = call.ListVersions(ListVersionsRequest(model="adder"), timeout=RPC_S)
        assert len(answer.versions) == 399


def test_many_callers_at_once_are_all_answered_and_leave_nothing(control: Control) -> None:
    """Fifty connections are told apart and answered; afterwards no descriptor and no file is left of them."""
    before = descriptors()

    def ask() -> None:
        with control.calling() as call:
            call.GetStatus(GetStatusRequest(), timeout=RPC_S)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert control.meters.ended.count(("/model_sidecar.v1.DeploymentService/GetStatus", "OK")) == 50
    ends = time.monotonic() + WAIT_S
    while descriptors() > before + 4 and time.monotonic() < ends:
        time.sleep(0.02)
    assert descriptors() <= before + 4
    (own,) = (control.folder / ".control.sock.inner").iterdir()
    assert own.is_socket()


def test_garbage_and_silence_at_the_door_harm_nobody(control: Control) -> None:
    """Connections that send nothing, nonsense, or half close at once do not keep others from being answered."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for each in silent:
        each.connect(str(control.socket))
    silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    silent[1].sendall(os.urandom(100_000))
    silent[2].shutdown(socket.SHUT_WR)
    silent[3].close()
    with control.calling() as call:
        assert call.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses
    for each in silent:
        each.close()


def test_more_connections_than_the_door_takes_are_closed_and_the_rest_answered(control: Control) -> None:
    """Over 128 open connections the next is closed at once; when one goes, the next is let in."""
    taken = []
    for _ in range(128):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(WAIT_S)
        made.connect(str(control.socket))
        assert made.recv(1), "the server's HTTP/2 preface"
        taken.append(made)
    with socket.socket(socket.AF_UNIX) as over:
        over.settimeout(WAIT_S)
        over.connect(str(control.socket))
        assert over.recv(1) == b""
    for each in taken:
        each.close()
    with control.channel() as channel:
        status = services.multicallables(channel, services.DEPLOYMENT).GetStatus
        assert status(GetStatusRequest(), timeout=RPC_S, wait_for_ready=True).statuses


def test_the_claim_never_becomes_the_actor(control: Control) -> None:
    """Whatever a request says of itself, the actor is the caller's user."""
    with control.calling() as call:
        request = DeployRequest(**order(version=VERSION, on_behalf_of="somebody else"))
        actor = call.Deploy(request, timeout=RPC_S).record.actor
    assert (actor.id, actor.on_behalf_of) == (f"{ME} (uid {os.getuid()})", "somebody else")


def test_stopping_with_open_connections_is_quiet_and_quick(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers that stay connected neither hold a stop up nor leave errors in the log."""
    with Control(tmp_path).running() as control:
        connected = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for each in connected:
            each.settimeout(WAIT_S)
            each.connect(str(control.socket))
            assert each.recv(1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    for each in connected:
        while each.recv(1 << 16):
            pass
        each.close()
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]

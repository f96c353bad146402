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
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.descriptors import open_descriptors
from support.rpc_control import WAIT_S, Control, order
from support.rpc_plane import RPC_S

from model_sidecar.errors import NotFoundError
from model_sidecar.rpc.peer import Peer, outgoing_name, peer_of
from model_sidecar_client.wire import services
from model_sidecar_client.wire.deployment import (
    DeployRequest,
    GetStatusRequest,
    ListVersionsRequest,
    VerifyVersionRequest,
)

VERSION = "2024.01.10.prod"
ME = pwd.getpwuid(os.getuid()).pw_name


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
    before = open_descriptors()

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
    while open_descriptors() > before + 4 and time.monotonic() < ends:
        time.sleep(0.02)
    assert open_descriptors() <= before + 4
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


def connected(control: Control) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(control.socket))  # waits for its turn, which a socket with a timeout does not
    made.settimeout(WAIT_S)
    return made


def is_closed(made: socket.socket, *, within_s: float) -> bool:
    made.settimeout(within_s)
    with suppress(TimeoutError):
        while made.recv(1 << 16):
            pass
        return True
    return False


def test_idle_connections_shut_nobody_out(control: Control) -> None:
    """Two hundred callers that only connect do not keep an operator from being answered at once."""
    idle = [connected(control) for _ in range(200)]
    begun = time.monotonic()
    with control.calling() as call:
        assert call.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses
        assert call.Deploy(DeployRequest(**order(version=VERSION)), timeout=RPC_S).record.generation == 1
    assert time.monotonic() - begun < 3
    for each in idle:
        each.close()


def test_over_the_limit_the_oldest_that_never_spoke_makes_room(control: Control) -> None:
    """The 129th connection is let in, and the first is closed for it."""
    taken = []
    for _ in range(129):
        taken.append(connected(control))
        assert taken[-1].recv(1), "the server's HTTP/2 preface"
    assert is_closed(taken[0], within_s=WAIT_S)
    assert not is_closed(taken[1], within_s=0.2)
    for each in taken:
        each.close()


def test_a_call_that_waits_is_not_cut_for_anothers_idle_connections(control: Control) -> None:
    """Where one process holds most connections, one of its own makes room, though an operator's is as quiet."""
    gate = control.shelf.hold(VERSION)
    script = (
        "import socket, sys, time\n"
        "made = []\n"
        "for _ in range(150):\n"
        "    made.append(socket.socket(socket.AF_UNIX)); made[-1].connect(sys.argv[1])\n"
        "    made[-1].sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))\n"
        "    made[-1].recv(1)\n"
        "print('connected', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with control.calling() as call:
        waiting = call.Deploy.future(DeployRequest(**order(version=VERSION)), timeout=RPC_S)
        assert control.shelf.begun[VERSION].wait(WAIT_S)
        with subprocess.Popen(
            [sys.executable, "-c", script, str(control.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"connected\n"
            with control.calling() as another:
                assert another.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses
            gate.set()
            assert waiting.result(timeout=WAIT_S).record.version == VERSION
            other.communicate()


def test_whoever_connects_and_says_nothing_is_let_go(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a first byte is closed after a while; one that has spoken stays."""
    monkeypatch.setattr("model_sidecar.rpc.front._FIRST_BYTE_S", 0.2)
    with control.channel() as channel, connected(control) as silent:
        status = services.multicallables(channel, services.DEPLOYMENT).GetStatus
        assert status(GetStatusRequest(), timeout=RPC_S).statuses
        assert is_closed(silent, within_s=WAIT_S)
        assert status(GetStatusRequest(), timeout=RPC_S).statuses


def test_callers_that_hang_up_leave_nothing_in_the_log(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    """However a connection ends, operators are told nothing of it: every call ends with one."""
    caplog.set_level("INFO")
    before = open_descriptors()
    for _ in range(10):
        with connected(control) as made:
            made.sendall(os.urandom(1000))
        with control.calling() as call:
            call.GetStatus(GetStatusRequest(), timeout=RPC_S)
    ends = time.monotonic() + WAIT_S
    while open_descriptors() > before + 4 and time.monotonic() < ends:
        time.sleep(0.02)
    assert not [each.getMessage() for each in caplog.records if each.name == "model_sidecar.rpc.front"]


def test_a_call_that_hangs_in_the_store_does_not_hold_up_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that cannot be stopped is left behind: stopping takes a second at most."""
    begun, gate = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        begun.set()
        gate.wait(WAIT_S)
        raise NotFoundError("too late")

    with Control(tmp_path).running() as control, control.calling() as call:
        monkeypatch.setattr(control.served.versions, "verify", hang)
        hanging = call.VerifyVersion.future(
            VerifyVersionRequest(model="adder", version=VERSION), timeout=RPC_S
        )
        assert begun.wait(WAIT_S)
        stopped = time.monotonic()
        control.server.stop()
        assert time.monotonic() - stopped < 2
        gate.set()
        hanging.exception(timeout=WAIT_S)


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

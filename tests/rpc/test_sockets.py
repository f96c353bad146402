"""Where the servers listen: nobody's socket is taken away, nobody is let in who should not be."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.rpc_control import Control
from support.rpc_plane import RPC_S, Plane

from model_sidecar.config import Address
from model_sidecar.errors import ConfigurationError
from model_sidecar.rpc.sockets import placed, placing
from model_sidecar_client.wire.deployment import GetStatusRequest
from model_sidecar_client.wire.inference import ServerLiveRequest

Started = Plane | Control


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rpc-") as made:
        yield Path(made)


@pytest.fixture(params=[Plane, Control], ids=["data", "control"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Address], Started]:
    """A server for this address, not started."""

    def made(address: Address) -> Started:
        started: Started = request.param(tmp_path, addresses=(address,))
        return started

    return made


def answers(server: Started) -> bool:
    with server.calling() as call:
        if isinstance(server, Plane):
            return bool(call.ServerLive(ServerLiveRequest(), timeout=RPC_S).live)
        return len(call.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses) == 1


def test_the_socket_has_the_configured_mode(make: Callable[[Address], Started], folder: Path) -> None:
    """The socket's mode is the one that was set, whatever the umask, and nothing else is left beside it for others."""
    path = folder / "s.sock"
    with make(Address(path=str(path))).running() as server:
        expected = 0o660 if isinstance(server, Plane) else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected
        assert answers(server)
        for other in folder.iterdir():
            assert other == path or stat.S_IMODE(other.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_a_living_sidecars_socket_is_never_taken(make: Callable[[Address], Started], folder: Path) -> None:
    """A second server at the same path fails loudly, and the first answers on."""
    address = Address(path=str(folder / "s.sock"))
    with make(address).running() as first:
        with pytest.raises(ConfigurationError, match=r"another sidecar listens on unix:.*s\.sock"):
            make(address).server.start()
        assert answers(first)


def test_a_dead_sidecars_socket_is_replaced(make: Callable[[Address], Started], folder: Path) -> None:
    """A socket that nobody listens at is no obstacle."""
    path = folder / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with make(Address(path=str(path))).running() as server:
        assert answers(server)


def test_a_file_that_is_no_socket_is_left_alone(make: Callable[[Address], Started], folder: Path) -> None:
    """Something else at the path is an error, and keeps its content."""
    path = folder / "s.sock"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="no socket"):
        make(Address(path=str(path))).server.start()
    assert path.read_text() == "precious"


def test_a_missing_folder_is_made_and_a_missing_parent_is_not(
    make: Callable[[Address], Started], folder: Path
) -> None:
    """Only the last folder is made, for those whom the socket's mode lets in."""
    with make(Address(path=str(folder / "run" / "s.sock"))).running() as server:
        expected = 0o750 if isinstance(server, Plane) else 0o700
        assert stat.S_IMODE((folder / "run").stat().st_mode) == expected & ~_umask()
        assert answers(server)
    with pytest.raises(ConfigurationError, match="cannot listen on unix:"):
        make(Address(path=str(folder / "no" / "where" / "s.sock"))).server.start()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_longest_possible_path_works(make: Callable[[Address], Started], folder: Path) -> None:
    """A path of all 107 bytes that a socket address takes is served, private names being short."""
    path = folder / ("s" * (107 - len(str(folder)) - 1))
    assert len(os.fsencode(path)) == 107
    with make(Address(path=str(path))).running() as server:
        assert answers(server)


def test_a_taken_port_is_an_error_that_names_it(make: Callable[[Address], Started]) -> None:
    """Two servers on one port fail loudly instead of sharing the calls."""
    with make(Address(host="127.0.0.1", port=0)).running() as first:
        (address,) = first.bound
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{address.port}"):
            make(address).server.start()
        assert answers(first)


def test_one_server_listens_at_several_addresses(tmp_path: Path, folder: Path) -> None:
    """A socket, another socket and a port all lead to the same server."""
    addresses = (
        Address(path=str(folder / "a.sock")),
        Address(path=str(folder / "b.sock")),
        Address(host="127.0.0.1", port=0),
    )
    with Control(tmp_path, addresses=addresses).running() as control:
        assert len(control.bound) == 3
        for address in control.bound:
            control.bound = (address,)
            assert answers(control)


def test_an_address_that_fails_leaves_nothing_of_the_others(tmp_path: Path, folder: Path) -> None:
    """When one of two addresses cannot be had, the other's socket is taken away again."""
    (folder / "b.sock").write_text("in the way")
    addresses = (Address(path=str(folder / "a.sock")), Address(path=str(folder / "b.sock")))
    for server in (Plane(tmp_path, addresses=addresses), Control(tmp_path, addresses=addresses)):
        with pytest.raises(ConfigurationError):
            server.server.start()
        assert [each.name for each in folder.iterdir()] == ["b.sock"]


def test_a_killed_sidecar_leaves_nothing_that_its_successor_stumbles_over(
    tmp_path: Path, folder: Path
) -> None:
    """After kill -9 the next control server starts at the same path and reuses what was left."""
    path = folder / "c.sock"
    script = (
        "import sys; from pathlib import Path; from model_sidecar.config import Address\n"
        "from support.rpc_control import Control\n"
        "with Control(Path(sys.argv[1]), addresses=(Address(path=sys.argv[2]),)).running():\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert {each.name for each in folder.iterdir()} == {"c.sock", ".c.sock.inner"}

    with Control(tmp_path, addresses=(Address(path=str(path)),)).running() as control:
        assert answers(control)
    assert list(folder.iterdir()) == []


def test_only_our_own_socket_is_removed(folder: Path) -> None:
    """What took the place of our socket meanwhile stays when we go."""
    path = folder / "s.sock"
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as theirs:
        with placing(path, mode=0o600) as name:
            ours.bind(name)
        place = placed(path)
        path.unlink()
        theirs.bind(str(path))
        place.remove()
        assert path.is_socket()

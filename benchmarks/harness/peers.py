"""Other servers of ONNX models that install from the package index, each serving our model over the same protocol.

MLServer as it is tuned (in its own process, no debug log, no metrics), the KServe SDK, and Triton's C++ front end with its
Python backend, since the wheel has no ONNX backend: a Triton that has one would be faster. All run the model by raw onnxruntime
with one thread a session, as the sidecar does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from support.ports import free_port

from harness.environments import PEERS, environment, packages
from harness.models import Subject
from harness.servers import Server, first_answer, process

MODEL = "adder"
_READY_S = 120.0
_LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that answers.

    Attributes:
        server: it, with its first answer.
        reload: put another file in the model's place and ask for it to be loaded; returns once that is answered.
    """

    server: Server
    reload: Callable[[bytes], None]


def start(name: str, subject: Subject) -> AbstractContextManager[Peer]:
    """A peer by its name, with this model.

    Raises:
        NotInstalledError: its environment cannot be made.
    """
    return _STARTS[name](subject)


@contextmanager
def mlserver(subject: Subject) -> Iterator[Peer]:
    """MLServer with a runtime of ours, which runs on its loop."""
    home = environment("mlserver")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, port = Path(name), free_port()
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": free_port(),
            "grpc_port": port,
            "metrics_endpoint": None,
            "parallel_workers": 0,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        versions = iter(range(1, 1 << 30))

        def lay(content: bytes) -> None:
            version = f"v{next(versions)}"
            (folder / f"{version}.onnx").write_bytes(content)
            model = {
                "name": MODEL,
                "implementation": "mlserver_runtime.Onnx",
                "parameters": {"uri": f"./{version}.onnx", "version": version},
            }
            (folder / "model-settings.json").write_text(json.dumps(model))

        def reload(content: bytes) -> None:
            lay(content)
            _load(target, field=2)

        lay(subject.content)
        target = f"127.0.0.1:{port}"
        command = [str(home / "bin" / "mlserver"), "start", str(folder)]
        with process(command, env=_variables(home, PYTHONPATH=str(PEERS)), cwd=folder) as pid:
            yield _peer(target, pid, subject, reload)


@contextmanager
def kserve(subject: Subject) -> Iterator[Peer]:
    """A server of the KServe SDK. Its gRPC port is open on every address, and cannot be told otherwise."""
    home = environment("kserve")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path, port = Path(name, "current.onnx"), free_port()
        path.write_bytes(subject.content)
        target = f"127.0.0.1:{port}"

        def reload(content: bytes) -> None:
            path.write_bytes(content)
            # Its answer is INTERNAL whatever happened; what answers from then on tells.
            _load(target, field=1, believed=False)

        command = [str(home / "bin" / "python"), str(PEERS / "kserve_server.py"), "--path", str(path)]
        command += ["--model_name", MODEL, "--grpc_port", str(port), "--http_port", str(free_port())]
        # Else it writes a line for each request.
        with process(command, env=_variables(home, KSERVE_LOGLEVEL="WARNING"), cwd=Path(name)) as pid:
            yield _peer(target, pid, subject, reload)


@contextmanager
def triton(subject: Subject, *, instances: int = 1) -> Iterator[Peer]:
    """Triton's front end, and its Python backend in so many processes."""
    home = environment("triton")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, port = Path(name), free_port()
        shipped = packages(home) / "pytriton" / "tritonserver"
        backend = folder / "backends" / "python"
        backend.mkdir(parents=True)
        stub = shipped / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
        for each in (*(shipped / "backends" / "python").iterdir(), stub / "triton_python_backend_stub"):
            (backend / each.name).symlink_to(each)
        model = folder / "models" / MODEL
        model.mkdir(parents=True)
        takes, gives = (json.dumps([-1, *shape]) for shape in (subject.rows.shape[1:], (subject.gives,)))
        (model / "config.pbtxt").write_text(
            f'backend: "python"\nmax_batch_size: 0\n'
            f'input [{{ name: "x" data_type: TYPE_FP32 dims: {takes} }}]\n'
            f'output [{{ name: "y" data_type: TYPE_FP32 dims: {gives} }}]\n'
            f"instance_group [{{ kind: KIND_CPU count: {instances} }}]\n"
        )
        versions = iter(range(1, 1 << 30))

        def lay(content: bytes) -> None:
            version = model / str(next(versions))
            version.mkdir()
            (version / "model.onnx").write_bytes(content)
            shutil.copy(PEERS / "triton_model.py", version / "model.py")

        def reload(content: bytes) -> None:
            lay(content)
            _load(target, field=2)

        lay(subject.content)
        target = f"127.0.0.1:{port}"
        command = [str(shipped / "bin" / "tritonserver"), "--model-repository", str(folder / "models")]
        command += ["--backend-directory", str(folder / "backends"), "--model-control-mode", "explicit"]
        command += ["--load-model", MODEL, "--allow-http", "false", "--allow-metrics", "false"]
        command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(port)]
        # The stub is linked to a libpython, and finds its packages by the python3 that is first on PATH.
        libraries = f"{sysconfig.get_config_var('LIBDIR')}:{packages(home) / 'nvidia_pytriton.libs'}"
        with process(command, env=_variables(home, LD_LIBRARY_PATH=libraries), cwd=folder) as pid:
            yield _peer(target, pid, subject, reload)


@contextmanager
def triton_two(subject: Subject) -> Iterator[Peer]:
    """Triton with an instance for each of two cores."""
    with triton(subject, instances=2) as peer:
        yield peer


_STARTS: dict[str, Callable[[Subject], AbstractContextManager[Peer]]] = {
    "mlserver": mlserver,
    "kserve": kserve,
    "triton": triton,
    "triton, 2 instances": triton_two,
}


def _peer(target: str, pid: int, subject: Subject, reload: Callable[[bytes], None]) -> Peer:
    answer = first_answer(target, subject.request(MODEL), expected=subject, ready_s=_READY_S)
    return Peer(Server(target, pid, answer), reload)


def _load(target: str, *, field: int, believed: bool = True) -> None:
    """RepositoryModelLoad of the model, whose name is in this field of the message."""
    # The wire of one string: its field's tag, its length, itself.
    request = bytes([field << 3 | 2, len(MODEL)]) + MODEL.encode()
    with grpc.insecure_channel(target) as channel:
        load: Any = channel.unary_unary(_LOAD)
        try:
            load(request, timeout=_READY_S)
        except grpc.RpcError:
            if believed:
                raise


def _variables(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "ORT_DISABLE_TELEMETRY": "1", **more}

"""Serve a model from the built image as it is meant to run: uid 65532, a read-only root, three mounts. `make image-test`.

The image's own entry point, command, environment and health check are what is run; only the model's name and the
environment are added. Where docker or podman answers, it runs there. Otherwise buildah mounts the image, and a mount and
a process namespace stand in for a container: the root is remounted read-only and the sidecar is process 1 in it.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

UID = 65532
MODEL, VERSION, ENVIRONMENT = "adds-one", "2024.01.15.prod", "prod"
BIN = Path(sys.executable).parent


def run(*command: str | Path, timeout_s: float = 60) -> str:
    """What the command printed; a failure shows what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"image-test: {command} exited {error.returncode}\n{error.stdout}{error.stderr}"
        ) from None
    return done.stdout


class Container(ABC):
    """A sidecar running from the image."""

    @abstractmethod
    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the sidecar's user."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether the sidecar still runs."""

    @abstractmethod
    def stop(self) -> int:
        """Ask process 1 to end with the image's stop signal; its exit status."""

    @abstractmethod
    def logs(self) -> str:
        """What the sidecar has said."""


class EngineContainer(Container):
    """Run by docker or podman."""

    def __init__(self, engine: str, image: str, mounts: dict[str, Path], environment: dict[str, str]) -> None:
        options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        options += [f"--volume={source}:{target}" for target, source in mounts.items()]
        options += [f"--env={name}={value}" for name, value in environment.items()]
        self._engine = engine
        self._id = run(engine, "run", "--detach", *options, image).strip()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._engine, "exec", self._id, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def alive(self) -> bool:
        return run(self._engine, "inspect", "--format={{.State.Running}}", self._id).strip() == "true"

    def stop(self) -> int:
        run(self._engine, "stop", "-t", "30", self._id)
        return int(run(self._engine, "wait", self._id))

    def logs(self) -> str:
        done = subprocess.run([self._engine, "logs", self._id], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def remove(self) -> None:
        """Remove the container, running or not."""
        run(self._engine, "rm", "--force", self._id)


class MountedContainer(Container):
    """Run without an engine: the image mounted by buildah, in namespaces of its own."""

    # Arguments: the root, "target=source" for each mount, "--", the command. Ends as process 1 of the namespace.
    _ENTER = """
        root=$1; shift
        mount --make-rprivate /
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs -o mode=0755,size=64k dev "$root/dev"
        for device in null zero random urandom; do
            : > "$root/dev/$device"
            mount --bind "/dev/$device" "$root/dev/$device"
        done
        while [ "$1" != -- ]; do mount --bind "${1#*=}" "$root/${1%%=*}"; shift; done
        shift
        exec chroot --userspec=65532:65532 --groups= "$root" "$@"
    """

    def __init__(self, root: Path, config: dict[str, object], mounts: dict[str, Path], log: Path) -> None:
        assert config["User"] == f"{UID}:{UID}", f"the image runs as {config['User']!r}"
        entry, command = config["Entrypoint"], config["Cmd"]
        assert isinstance(entry, list)
        assert isinstance(command, list)
        variables = config["Env"]
        assert isinstance(variables, list)
        self._env = dict(variable.split("=", 1) for variable in variables)
        self._stop_signal = signal.Signals[str(config["StopSignal"])]
        self._log = log
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        binds = [f"{target}={source}" for target, source in mounts.items()]
        with log.open("w") as output:
            self._unshare = subprocess.Popen(
                [*namespaces, "sh", "-euc", self._ENTER, "enter", root, *binds, "--", *entry, *command],
                env=self._env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _process_1(self) -> int:
        pid = self._unshare.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--target={self._process_1()}", "--mount", "--pid", "--root", "--wd=/"]
        return subprocess.run(
            [*inside, f"--setuid={UID}", f"--setgid={UID}", *command],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def alive(self) -> bool:
        return self._unshare.poll() is None

    def stop(self) -> int:
        os.kill(self._process_1(), self._stop_signal)
        return self._unshare.wait(timeout=30)

    def logs(self) -> str:
        return self._log.read_text()

    def remove(self) -> None:
        """End it, running or not; its mounts go with its namespace."""
        self._unshare.kill()
        self._unshare.wait(timeout=30)


def find_engine() -> str | None:
    """Docker or podman, if one of them answers."""
    for engine in ("docker", "podman"):
        if (
            shutil.which(engine)
            and subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0
        ):
            return engine
    return None


@contextlib.contextmanager
def started(
    image: str, mounts: dict[str, Path], environment: dict[str, str], work: Path
) -> Iterator[Container]:
    """A sidecar run from the image, gone afterwards."""
    if engine := find_engine():
        with_engine = EngineContainer(engine, image, mounts, environment)
        try:
            yield with_engine
        finally:
            with_engine.remove()
        return
    config = json.loads(run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    config["Env"] += [f"{name}={value}" for name, value in environment.items()]
    container = run("buildah", "from", "--pull-never", image).strip()
    try:
        root = Path(run("buildah", "mount", container).strip())
        mounted = MountedContainer(root, config, mounts, work / "sidecar.log")
        try:
            yield mounted
        finally:
            mounted.remove()
    finally:
        run("buildah", "rm", container)


def publish_model(work: Path, store: Path) -> None:
    """A version that answers x + 1."""
    build = work / "build"
    build.mkdir()
    row: list[str | int | None] = ["rows", 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        MODEL,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, row)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, row)],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    # The oldest pair that every onnxruntime we accept reads: what is tested is the image, not opset support.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, build / "model.onnx")
    command = ("publish", build, "--store", store, "--model", MODEL, "--version", VERSION)
    run(BIN / "model-sidecar", *command, "--data-snapshot-id", "none")


def wait_for(path: Path, container: Container, timeout_s: float = 60) -> None:
    """Until the socket is there, the sidecar has ended, or the time is over."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if not container.alive() or time.monotonic() > deadline:
            raise SystemExit(f"image-test: no {path.name} after {timeout_s} s\n{container.logs()}")
        time.sleep(0.05)


def main() -> None:
    """Publish, serve, deploy, predict, probe, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default=os.environ.get("IMAGE", "model-sidecar:dev"))
    image: str = parser.parse_args().image
    if os.geteuid() != 0:
        raise SystemExit(f"image-test: needs root, to give the mounted directories to uid {UID}")

    with tempfile.TemporaryDirectory(prefix="image-test-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        mounts = {
            "/models": work / "models",
            "/run/sidecar": work / "run",
            "/var/lib/model-sidecar": work / "state",
        }
        for source in mounts.values():
            source.mkdir()
        publish_model(work, mounts["/models"])
        for source in mounts.values():
            run("chown", "-R", f"{UID}:{UID}", source)

        environment = {"MODEL_SIDECAR_MODEL": MODEL, "MODEL_SIDECAR_ENVIRONMENT": ENVIRONMENT}
        with started(image, mounts, environment, work) as container:
            control, data = mounts["/run/sidecar"] / "control.sock", mounts["/run/sidecar"] / "data.sock"
            wait_for(control, container)
            wait_for(data, container)

            written = container.execute("touch", "/opt/model-sidecar/written")
            assert "Read-only file system" in written.stderr, f"the root can be written to: {written}"

            operate = (BIN / "sidecarctl", "--control", f"unix:{control}")
            about = ("--environment", ENVIRONMENT, "--reason", "image test", "--yes")
            run(*operate, "deploy", MODEL, VERSION, *about)
            (work / "x.json").write_text(json.dumps({"x": [[1.0, 2.0]]}))
            predict = (BIN / "sidecarctl", "--data", f"unix:{data}", "predict", MODEL)
            answer = run(*predict, "--input", work / "x.json", "-o", "json")
            assert VERSION in answer, answer
            assert json.loads(answer)["outputs"]["y"] == [[2.0, 3.0]], answer

            probed = container.execute("model-sidecar", "probe")
            assert probed.returncode == 0, f"the health check's command failed: {probed}\n{container.logs()}"

            status = container.stop()
            assert status == 0, f"exit status {status} after the stop signal\n{container.logs()}"
    print(
        f"image-test: {image} served {MODEL} {VERSION} as uid {UID} on a read-only root, and stopped cleanly"
    )


if __name__ == "__main__":
    main()

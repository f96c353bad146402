"""The whole demo, as a process, as a person starts it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.shell import as_started

from model_sidecar.demo.versions import DIGITS
from model_sidecar.store.versions import VersionStore
from model_sidecar_client import Client

TIMEOUT_S = 100
DEMO = [sys.executable, "-m", "model_sidecar", "demo"]
FIRST, SECOND, WORSE = "2024.01.10.prod", "2024.01.15.prod", "2024.01.22.prod"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory and the output of a demo that ended well."""
    directory = tmp_path_factory.mktemp("played") / "demo"
    done = subprocess.run(
        [*DEMO, "--quick", "--directory", str(directory)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return directory, done.stdout


def test_the_story_is_told_to_its_end(told: tuple[Path, str]) -> None:
    """Versions, flips, the refusal with its reason, the rollback and its time, the ledger, and every promise kept."""
    _, output = told

    assert re.search(rf"{SECOND} is live [0-9.]+ ms after the call", output)
    assert "Refused, DIGEST_MISMATCH: ml-models/digits/2024.01.16.prod/model.onnx" in output
    assert re.search(rf"{SECOND} answers again [0-9.]+ ms after the call", output)
    assert re.search(rf"1 +DEPLOY +{FIRST} .* first release", output)
    assert re.search(rf"4 +ROLLBACK +{SECOND} .* accuracy on the stream fell from 9\d % to [45]\d %", output)
    assert re.search(r"kept +failed requests: 0 of \d", output)
    assert re.search(r"kept +mis-tagged answers: 0;", output)
    assert "BROKEN" not in output
    assert 'model_sidecar_verification_failures_total{reason="DIGEST_MISMATCH"} 1.0' in output
    assert "\x1b" not in output


def test_the_accuracy_falls_and_comes_back(told: tuple[Path, str]) -> None:
    """The labelled stream shows the worse version as what it is, and the old one as good again."""
    _, output = told
    shares = re.findall(r"\d+ answers from (\S+), ([0-9.]+) % of them right", output)

    assert [version for version, _ in shares] == [FIRST, SECOND, SECOND, WORSE, SECOND]
    first, second, still, worse, again = (float(share) for _, share in shares)
    assert worse < 65
    assert first > 80
    assert min(second, still, again) > 90


def test_the_store_stays_behind(told: tuple[Path, str]) -> None:
    """All versions, the damaged one too, and no process that serves them."""
    directory, output = told
    store = VersionStore(directory / "ml-models")

    assert store.versions(DIGITS) == [WORSE, "2024.01.16.prod", SECOND, FIRST]
    assert not is_running(pid_in(output))


def test_the_commands_that_it_prints_work(told: tuple[Path, str], tmp_path: Path) -> None:
    """Typed into a shell, they serve the store again, predict, deploy, roll back and flip by hand."""
    directory, output = told
    lines = output.split("\nGo on playing\n")[1].replace("127.0.0.1:8002", f"127.0.0.1:{free_port()}")
    typed = [line for line in lines.splitlines() if "curl" not in line]
    for name, module in (("model-sidecar", "model_sidecar"), ("sidecarctl", "model_sidecar_client.cli")):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)

    done = subprocess.run(
        # `timeout` ends all that the shell started, too.
        ["/usr/bin/env", "timeout", "90", "bash", "-c", "\n".join(["trap 'kill %1; wait' EXIT", *typed])],
        cwd=directory.parent,
        env=as_started(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    said = done.stdout + done.stderr
    assert re.search(rf"{DIGITS} +prod +READY +{SECOND}", done.stdout), said
    assert re.search(r"output label +\[2\]", done.stdout), said
    assert f"{SECOND} -> {FIRST}" in done.stdout, said
    assert f"{FIRST} -> {SECOND}" in done.stdout, said
    assert re.search(r"6 .* ROLLBACK .* seen enough", done.stdout), said
    assert "DIGEST_MISMATCH" in done.stderr, said
    # What stands on the terminal is what the commands say; the sidecar's own log is in its file.
    assert "NOT_REACHABLE" not in said, said
    assert "listening" not in said, said
    assert (directory / "serve.log").read_text().count("listening") == 2


def test_kept_it_goes_on_serving(tmp_path: Path) -> None:
    """With --keep-serving the sidecar outlives the demo, and the printed command stops it."""
    done = subprocess.run(
        [*DEMO, "--quick", "--keep-serving", "--directory", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    pid = pid_in(done.stdout)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        data = re.search(r"MODEL_SIDECAR_DATA=(\S+)", done.stdout)
        assert data is not None
        with Client(data[1]) as client:
            assert client.predict(DIGITS, {"pixels": [[0.0] * 64]}).version == SECOND
        assert f"kill {pid}" in done.stdout
    finally:
        os.kill(pid, signal.SIGTERM)
        for sockets in set(re.findall(r"unix:(\S+)/data\.sock", done.stdout)):
            shutil.rmtree(sockets, ignore_errors=True)


def test_a_killed_demo_leaves_no_sidecar(tmp_path: Path) -> None:
    """SIGTERM in the middle of the story stops the sidecar too."""
    with subprocess.Popen(
        [*DEMO, "--directory", str(tmp_path / "demo")], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        said = ""
        while "ask for digits" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        assert is_running(pid_in(said))

        demo.terminate()

        assert demo.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert not is_running(pid_in(said))


def test_a_broken_promise_is_said_and_exits_1(tmp_path: Path) -> None:
    """Where a version that should have been refused is taken, the demo says so: here nothing was damaged after all."""
    code = (
        "import sys, model_sidecar.demo.acts as acts; acts.flip_one_byte = lambda path: 0;"
        "from model_sidecar.cli import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--quick", "--directory", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN  the damaged version was accepted" in done.stdout
    assert re.search(r"BROKEN +mis-tagged answers: \d", done.stdout)
    assert "BROKEN  the ledger" in done.stdout
    assert "the damaged version was accepted" in done.stderr
    assert not is_running(pid_in(done.stdout))


def test_another_ones_directory_is_refused(tmp_path: Path) -> None:
    """A directory with files that no demo made is left as it is: exit 2, one line."""
    (tmp_path / "thesis.txt").write_text("all of it")

    done = subprocess.run(
        [*DEMO, "--quick", "--directory", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 2
    assert "no demo made" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def pid_in(output: str) -> int:
    found = re.search(r"as process (\d+)", output)
    assert found is not None, output
    return int(found[1])


def is_running(pid: int) -> bool:
    try:
        return b"model_sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port

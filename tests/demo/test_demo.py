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
from model_sidecar.monitor.quality.judging import TOLERANCE
from model_sidecar.store.versions import VersionStore
from model_sidecar_client import Client

TIMEOUT_S = 100
DEMO = [sys.executable, "-m", "model_sidecar", "demo"]
FIRST, SECOND, WORSE = "2024.01.10.prod", "2024.01.15.prod", "2024.01.22.prod"
UNSCALED, MENDED = "2024.01.29.prod", "2024.01.30.prod"


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
    assert re.search(r"kept +late labels that found their prediction: (\S+) of \1\n", output)
    assert re.search(r"kept +mis-tagged answers: 0;", output)
    assert "BROKEN" not in output
    assert 'model_sidecar_verification_failures_total{reason="DIGEST_MISMATCH"} 1.0' in output
    assert "\x1b" not in output


def test_the_accuracy_falls_and_comes_back(told: tuple[Path, str]) -> None:
    """The labelled stream shows the worse version as what it is, and the old one as good again; pale digits nobody reads."""
    _, output = told
    shares = re.findall(r"\d+ answers from (\S+), ([0-9.]+) % of them right", output)

    by_day, by_night = [FIRST, SECOND, SECOND, WORSE, SECOND], [SECOND, SECOND, MENDED, MENDED]
    assert [version for version, _ in shares] == by_day + by_night
    first, second, still, worse, again, started, saved, mended, pale = (float(share) for _, share in shares)
    assert worse < 65
    assert first > 80
    assert min(second, still, again, started, saved, mended) > 88
    assert pale < 80


def test_the_guard_rolls_back_what_lost_its_scaler(told: tuple[Path, str]) -> None:
    """By itself, once, for the labels on the same requests, and the ledger says so; drift could not know, and says nothing."""
    _, output = told

    assert re.search(rf"6 +ROLLBACK +{SECOND} +guard +accuracy: of the same \d+ labelled", output)
    # How many labels it took, and so which share of them was right, is chance: one of some hundred and fifty.
    said = re.search(
        r"The labels say: accuracy ([0-9.]+)[^:]* published 0\.9545[^:]*: below", as_one_line(output)
    )
    assert said, re.findall(r"The labels say.{0,200}", as_one_line(output))
    assert float(said[1]) < 0.9545 - TOLERANCE
    assert "its metrics promise an accuracy of 95.5%" in as_one_line(output)
    noticed = re.search(
        rf"guard, beside the standby +([0-9,]+) +([0-9.]+) s +rolled back, to {SECOND}", output
    )
    assert noticed is not None
    assert float(noticed[2]) < 6 * 3600
    assert re.search(r"rollbacks_total\{trigger=\"guard\"\} 1\.0", output)
    assert re.search(rf"kept +rollbacks by the guard: 1, from {UNSCALED} to {SECOND}", output)


def test_the_guard_holds_still_where_the_world_changes(told: tuple[Path, str]) -> None:
    """The lamp is noticed, and named, and nothing is rolled back: the version before reads pale digits no better."""
    _, output = told

    assert re.search(r"The drift alarm says: feature pixels\[\d+\] has moved", as_one_line(output))
    assert re.search(r"drift, beside the baseline +[0-9,]+ +[0-9.]+ s +alarm, pixels", output)
    assert re.search(r"guard, beside the standby +- +- +held still", output)
    assert f"kept    the guard held still where going back does not help: {MENDED} is live" in output
    assert "before the lamp faded: 0" in output


def test_the_store_stays_behind(told: tuple[Path, str]) -> None:
    """All versions, the damaged one too, and no process that serves them."""
    directory, output = told
    store = VersionStore(directory / "ml-models")

    assert store.versions(DIGITS) == [MENDED, UNSCALED, WORSE, "2024.01.16.prod", SECOND, FIRST]
    assert not [pid for pid in pids_in(output) if is_running(pid)]


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
    assert re.search(rf"{DIGITS} +prod +READY +{MENDED}", done.stdout), said
    assert re.search(r"output label +\[2\]", done.stdout), said
    assert re.search(r"joined +1", done.stdout), said
    assert re.search(r"accuracy +0\.\d+ .* 0\.9545 +below", done.stdout), said
    assert (directory / "drift.html").read_text().startswith("<!doctype html>"), said
    assert f"{MENDED} -> {FIRST}" in done.stdout, said
    assert f"{FIRST} -> {MENDED}" in done.stdout, said
    assert re.search(r"9 .* ROLLBACK .* seen enough", done.stdout), said
    assert "DIGEST_MISMATCH" in done.stderr, said
    # What stands on the terminal is what the commands say; the sidecar's own log is in its file.
    assert "NOT_REACHABLE" not in said, said
    assert "listening" not in said, said
    assert (directory / "serve.log").read_text().count("listening") == 3


def test_kept_it_goes_on_serving(tmp_path: Path) -> None:
    """With --keep-serving the sidecar outlives the demo, and the printed command stops it."""
    done = subprocess.run(
        [*DEMO, "--quick", "--keep-serving", "--directory", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    pid = pids_in(done.stdout)[-1]
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        data = re.search(r"MODEL_SIDECAR_DATA=(\S+)", done.stdout)
        assert data is not None
        with Client(data[1]) as client:
            assert client.predict(DIGITS, {"pixels": [[0.0] * 64]}).version == MENDED
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
        (pid,) = pids_in(said)
        assert is_running(pid)

        demo.terminate()

        assert demo.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert not is_running(pid)


def test_broken_promises_are_said_and_exit_1(tmp_path: Path) -> None:
    """Where a version that should have been refused is taken, or nobody rolls back at night, the demo says so.

    Here nothing was damaged after all, and the guard is off.
    """
    code = (
        "import sys, model_sidecar.demo.acts as acts, model_sidecar.demo.night as night;"
        "acts.flip_one_byte = lambda path: 0; night.OPTIONS = (); night.PATIENCE_S = 5.0;"
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
    assert "BROKEN  rollbacks by the guard: 0" in done.stdout
    assert "kept    failed requests: 0" in done.stdout
    assert "the damaged version was accepted" in done.stderr
    assert "rollbacks by the guard: 0" in done.stderr
    assert not [pid for pid in pids_in(done.stdout) if is_running(pid)]


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


def pids_in(output: str) -> list[int]:
    """Of the sidecars, the one of the day and then the one of the night."""
    found = [int(pid) for pid in re.findall(r"as process (\d+)", output)]
    assert found, output
    return found


def as_one_line(output: str) -> str:
    return re.sub(r"\s+", " ", output)


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

"""sidecarctl as it is used: a process of its own, its exit code, what it prints where, and what it asks."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import model_sidecar_client
from model_sidecar_client import Operator
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire import deployment as wire

MODEL = "recommendation-v1"
V10, V15, V20 = "2024.01.10.prod", "2024.01.15.prod", "2024.01.20.prod"
COMMAND = (sys.executable, "-W", "error", "-m", "model_sidecar_client.cli")
PATIENCE_S = 30


def environment(**further: str) -> dict[str, str]:
    """The environment without what would leak into the options, and with this package on the path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODEL_SIDECAR_") and name not in {"CI_USER", "GIT_COMMIT"}
    }
    return {**kept, "PYTHONPATH": str(Path(model_sidecar_client.__file__).parents[1]), **further}


class Sidecarctl:
    """Runs the command against one sidecar."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(
        self, *arguments: str, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "--control", self.target, "--data", self.target, *arguments],
            env=environment(**variables),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def in_terminal(self, *arguments: str, answer: str) -> tuple[int, str, str]:
        """Its exit code, stdout and what it wrote to the terminal, after this answer was typed at the question."""
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "--control", self.target, *arguments],
            env=environment(),
            stdin=its,
            stdout=subprocess.PIPE,
            stderr=its,
            text=True,
        )
        os.close(its)
        seen = read_until(ours, "[y/N]")
        os.write(ours, answer.encode())
        stdout, _ = process.communicate(timeout=PATIENCE_S)
        seen += read_until(ours, None)
        os.close(ours)
        return process.returncode, stdout, seen.replace("\r\n", "\n")


def read_until(terminal: int, words: str | None) -> str:
    """What appears on a terminal, up to these words or to its end."""
    seen, over_at = "", time.monotonic() + PATIENCE_S
    while words is None or words not in seen:
        readable, _, _ = select.select([terminal], [], [], max(over_at - time.monotonic(), 0))
        assert readable, f"waited for {words!r}, saw {seen!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how Linux says that nobody has the other end open any more
            break
        if not chunk:
            break
        seen += chunk.decode()
    return seen


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    with StandInSidecar() as running:
        for version, value in ((V10, 1.0), (V15, 2.0), (V20, 3.0)):
            running.publish(MODEL, version, {"y": [[value]]})
        yield running


@pytest.fixture
def sidecarctl(sidecar: StandInSidecar) -> Sidecarctl:
    return Sidecarctl(sidecar.target)


@pytest.fixture
def deployed(sidecar: StandInSidecar) -> StandInSidecar:
    """The sidecar with two deployments in its ledger."""
    with Operator(sidecar.target) as operator:
        for version in (V10, V15):
            operator.deploy(MODEL, version, environment="prod", reason="retrain")
    return sidecar


def test_deploy_then_rollback(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Both say what moved where, under which generation, and how long it took; nothing is asked with --yes."""
    deploy = sidecarctl("deploy", MODEL, V20, "--environment", "prod", "--reason", "Q1 retrain", "--yes")
    rollback = sidecarctl("rollback", MODEL, "--environment", "prod", "--reason", "precision alert", "--yes")

    assert (deploy.returncode, deploy.stderr) == (0, "")
    assert deploy.stdout.startswith(f"deployed {MODEL} prod: {V15} -> {V20}  generation 3  ")
    assert deploy.stdout.endswith(" ms\n")
    assert (rollback.returncode, rollback.stderr) == (0, "")
    assert rollback.stdout.startswith(f"rolled back {MODEL} prod: {V20} -> {V15}  generation 4  ")


def test_the_answer_for_programs(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """The record, how long it took, and whether it had been done before; claims come from the CI's variables."""
    arguments = ("deploy", MODEL, V20, "--environment", "prod", "--yes", "-o", "json", "--request-id", "r1")
    first = sidecarctl(*arguments, CI_USER="ana", GIT_COMMIT="abc123")
    again = sidecarctl(*arguments)

    documents = [json.loads(each.stdout) for each in (first, again)]
    assert [sorted(each) for each in documents] == [["dry_run", "record", "replayed", "took_ms"]] * 2
    assert documents[0]["record"] == documents[1]["record"]
    assert [each["replayed"] for each in documents] == [False, True]
    record = documents[0]["record"]
    assert (record["version"], record["generation"], record["action"]) == (V20, 3, "DEPLOY")
    assert (record["actor"]["on_behalf_of"], record["source_commit"]) == ("ana", "abc123")
    assert record["timestamp"].endswith("Z")


def test_a_dry_run_moves_nothing(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Every check is done, without a question, and the ledger stays as it was."""
    done = sidecarctl("rollback", MODEL, "--environment", "prod", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"would have rolled back {MODEL} prod: {V15} -> {V10}  nothing was moved\n"
    with Operator(deployed.target) as operator:
        assert len(operator.history(MODEL, environment="prod")) == 2


@pytest.mark.parametrize("verb", [("deploy", MODEL, V20), ("rollback", MODEL)], ids=lambda verb: verb[0])
def test_an_action_in_a_pipe_needs_yes(
    sidecarctl: Sidecarctl, sidecar: StandInSidecar, verb: tuple[str, ...]
) -> None:
    """Without a terminal there is nobody to ask: usage error at once, and the sidecar is not even called."""
    # Nothing ever comes on this pipe, and it stays open: whoever reads it waits for good.
    reading, writing = os.pipe()
    done = subprocess.run(
        [*COMMAND, "--control", sidecar.target, *verb, "--environment", "prod"],
        env=environment(),
        stdin=reading,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(reading)
    os.close(writing)

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no terminal to ask on: add --yes" in done.stderr
    assert sidecar.received() == []


@pytest.mark.parametrize(
    ("verb", "target"),
    [
        (("deploy", MODEL, V20), V20),
        (("rollback", MODEL), V10),
        (("rollback", MODEL, "--to", V20), V20),
        (("rollback", MODEL, "--to-generation", "1"), V10),
    ],
    ids=lambda value: " ".join(value[2:] or value[:1]) if isinstance(value, tuple) else "",
)
def test_an_action_in_a_terminal_asks(
    sidecarctl: Sidecarctl, deployed: StandInSidecar, verb: tuple[str, ...], target: str
) -> None:
    """The question shows what would move where; a yes moves it, and it expects the head that was shown."""
    code, its_stdout, terminal = sidecarctl.in_terminal(*verb, "--environment", "prod", answer="y\n")

    assert code == 0
    assert f"{MODEL} prod: {V15} -> {target}? [y/N]" in terminal
    assert f"{V15} -> {target}  generation 3" in its_stdout
    assert "\x1b" not in terminal + its_stdout
    *previews, real = (each.request for each in deployed.received(verb[0].capitalize())[-2:])
    assert isinstance(real, wire.DeployRequest | wire.RollbackRequest)
    assert (real.validate_only, real.expected_generation) == (False, 2)
    assert all(getattr(each, "validate_only", False) for each in previews if verb[1:] == (MODEL,))


def test_no_is_the_default(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Return alone moves nothing."""
    code, its_stdout, terminal = sidecarctl.in_terminal(
        "rollback", MODEL, "--environment", "prod", answer="\n"
    )

    assert (code, its_stdout.strip()) == (1, "")
    assert "nothing was changed" in terminal
    with Operator(deployed.target) as operator:
        assert len(operator.history(MODEL, environment="prod")) == 2


def test_the_first_deployment_asks_too(sidecarctl: Sidecarctl, sidecar: StandInSidecar) -> None:
    """Where nothing is live, the question says so, and a yes expects that nobody comes first."""
    code, _, terminal = sidecarctl.in_terminal("deploy", MODEL, V10, "--environment", "prod", answer="y\n")

    assert code == 0
    assert f"{MODEL} prod: none -> {V10}? [y/N]" in terminal
    (request,) = (each.request for each in sidecar.received("Deploy"))
    assert isinstance(request, wire.DeployRequest)
    assert (request.HasField("expected_generation"), request.expected_generation) == (True, 0)


def test_exit_1_refused(sidecarctl: Sidecarctl, sidecar: StandInSidecar) -> None:
    """What failed, why, and what to do, on one line."""
    nothing = sidecarctl("rollback", MODEL, "--environment", "prod", "--yes")
    unknown = sidecarctl("deploy", MODEL, "2023.01.01.prod", "--environment", "prod", "--yes")

    assert (nothing.returncode, unknown.returncode) == (1, 1)
    assert nothing.stdout + unknown.stdout == ""
    assert nothing.stderr == (
        f"sidecarctl: rollback of {MODEL} in prod refused: NO_PREVIOUS_VERSION: model '{MODEL}' has no earlier good "
        "version to roll back to\n"
    )
    assert "`sidecarctl versions` lists those that there are" in unknown.stderr


def test_exit_2_usage(sidecarctl: Sidecarctl, sidecar: StandInSidecar) -> None:
    """What makes no sense is said before the sidecar is called."""
    done = sidecarctl("deploy", MODEL, V20, "--yes")

    assert (done.returncode, done.stdout) == (2, "")
    assert "Missing option '--environment'" in done.stderr
    assert sidecar.received() == []


def test_exit_2_a_name_off_the_grammar(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """A mistyped name is usage, as for `model-sidecar`; what else makes no sense to the sidecar is refused with 1."""
    mistyped = sidecarctl("deploy", MODEL, "2024.01.99.prod", "--environment", "prod", "--yes")
    first = ("--environment", "prod", "--yes", "--request-id", "r1")
    sidecarctl("deploy", MODEL, V20, *first)
    reused = sidecarctl("rollback", MODEL, *first)

    assert (mistyped.returncode, mistyped.stdout) == (2, "")
    assert mistyped.stderr.startswith(
        f"sidecarctl: deploy of {MODEL} 2024.01.99.prod in prod refused: INVALID_NAME: version name '2024.01.99.prod'"
    )
    assert (reused.returncode, "REQUEST_ID_REUSED" in reused.stderr) == (1, True)


def test_exit_3_the_wait_timed_out(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """The deploy goes on: its request id and the command that shows it are printed."""
    with deployed.hold("Deploy"):
        done = sidecarctl(
            *(
                "deploy",
                MODEL,
                V20,
                "--environment",
                "prod",
                "--yes",
                "--timeout",
                "300ms",
                "--request-id",
                "r1",
            )
        )

    assert (done.returncode, done.stdout) == (3, "")
    look = f"sidecarctl --control {deployed.target} status {MODEL} --environment prod"
    assert f"it goes on in the sidecar, as request r1; look with `{look}`" in done.stderr


def test_exit_4_verification_failed(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """A version that is not fit is refused by the check that it failed."""
    deployed.publish(MODEL, "2024.02.01.prod", problem="DIGEST_MISMATCH")

    done = sidecarctl("deploy", MODEL, "2024.02.01.prod", "--environment", "prod", "--yes")

    assert (done.returncode, done.stdout) == (4, "")
    assert "refused: DIGEST_MISMATCH: " in done.stderr
    assert "what was live answers on" in done.stderr


def test_exit_5_conflict(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Whoever comes second learns who was first."""
    done = sidecarctl("rollback", MODEL, "--environment", "prod", "--yes", "--expected-generation", "1")

    assert (done.returncode, done.stdout) == (5, "")
    assert f"somebody put {V15} into service as generation 2; look with `sidecarctl --control" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("rollback", MODEL, "--environment", "prod", "--yes"), "--control"),
        (("status",), "--control"),
        (("predict", MODEL, "--input", "-"), "--data"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_exit_7_not_reachable(arguments: tuple[str, ...], option: str) -> None:
    """A sidecar that is not there is named, with the option that says where it should be."""
    done = Sidecarctl("unix:/nowhere/sidecar.sock")(*arguments, stdin='{"x": [1]}')

    assert (done.returncode, done.stdout) == (7, "")
    assert "no sidecar answers at unix:/nowhere/sidecar.sock" in done.stderr
    assert f"is {option} right?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_wrong_one_of_two_sockets(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """A call that is not known there leads to the option that names the socket, and to which one it may be."""
    deployed.fail_next("GetStatus", grpc.StatusCode.UNIMPLEMENTED, message="Method not found!")
    deployed.fail_next("ModelMetadata", grpc.StatusCode.UNIMPLEMENTED, message="Method not found!")
    status = sidecarctl("status")
    prediction = sidecarctl("predict", MODEL, "--input", "-", stdin='{"x": [1]}')

    assert (status.returncode, prediction.returncode) == (1, 1)
    assert "(is this the data socket? " in status.stderr
    assert status.stderr.endswith("; is --control right?\n")
    assert "(is this the control socket? " in prediction.stderr
    assert prediction.stderr.endswith("; is --data right?\n")


def test_exit_130_interrupted(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Ctrl-C stops the waiting, and says that the rest may go on, under which id."""
    with deployed.hold("Deploy") as held:
        process = subprocess.Popen(
            [*COMMAND, "--control", deployed.target, "deploy", MODEL, V20, "--environment", "prod", "--yes"],
            env=environment(MODEL_SIDECAR_REQUEST_ID="r1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert held.arrived.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, stdout) == (130, "")
    assert "it may go on in the sidecar, as request r1" in stderr


def test_an_unknown_outcome_says_how_to_learn_it(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """COMMIT_STATE_UNKNOWN is no failure that a new attempt may repeat under a new id."""
    deployed.fail_next(
        "Deploy", grpc.StatusCode.UNKNOWN, reason="COMMIT_STATE_UNKNOWN", message="fsync failed"
    )

    done = sidecarctl("deploy", MODEL, V20, "--environment", "prod", "--yes", "--request-id", "r1")

    assert done.returncode == 1
    assert (
        "not certain: COMMIT_STATE_UNKNOWN: fsync failed; the same command with --request-id r1 tells"
        in done.stderr
    )


def test_status(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """A table for people, a stable document for programs; -o is taken before and after the command."""
    people = sidecarctl("status", MODEL, "--environment", "prod")
    programs = [sidecarctl("-o", "json", "status"), sidecarctl("status", "-o", "json")]

    head, row = people.stdout.splitlines()
    assert head.split() == [
        "MODEL",
        "ENVIRONMENT",
        "STATE",
        "LIVE",
        "GENERATION",
        "DESIRED",
        "STANDBY",
        "EXECUTION",
        "LIVE",
        "SINCE",
    ]
    assert row.split()[:-1] == [MODEL, "prod", "READY", V15, "2", V15, V10, "inline"]
    assert head.index("STANDBY") == row.index(V10)
    (status,) = json.loads(programs[0].stdout)["statuses"]
    assert (status["state"], status["observed"]["version"], status["last_error"]) == ("READY", V15, None)
    assert programs[0].stdout == programs[1].stdout


def test_live_since_a_rollback(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """The column tells when the version began to answer, not when a standby was loaded."""
    # As if the standby had been loaded long ago; a second's difference would take a second.
    with deployed._shelf.changing() as models:
        models[MODEL].loaded_by[V10].timestamp.FromJsonString("2023-11-14T22:13:20Z")
    with Operator(deployed.target) as operator:
        back = operator.rollback(MODEL, environment="prod")
    people = sidecarctl("status", MODEL)
    programs = sidecarctl("status", MODEL, "-o", "json")

    assert back.timestamp
    assert people.stdout.splitlines()[1].split()[-1] == back.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")
    (status,) = json.loads(programs.stdout)["statuses"]
    assert status["live_since"] == back.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert status["loaded_at"] == "2023-11-14T22:13:20.000000Z"


@pytest.mark.parametrize(
    "arguments", [(), (MODEL,), ("--environment", "prod")], ids=lambda value: " ".join(value) or "nothing"
)
def test_watching_the_only_model(
    sidecarctl: Sidecarctl, deployed: StandInSidecar, arguments: tuple[str, ...]
) -> None:
    """Whatever is not named is clear where the sidecar has one model."""
    done = sidecarctl("--timeout", "1s", "status", "--watch", *arguments)

    assert done.returncode == 3
    assert done.stdout.splitlines()[1].startswith(f"{MODEL}  prod ")


def test_watching_one_of_several(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Where it is not clear which is meant, they are listed; so is it where there is none."""
    deployed.publish("ranking-v2", V10)

    several = sidecarctl("status", "--watch")
    none = sidecarctl("status", "--watch", "--environment", "staging")

    assert [(each.returncode, each.stdout) for each in (several, none)] == [(2, "")] * 2
    assert "there are 2 here: name MODEL and --environment" in several.stderr
    assert f"\n  {MODEL} --environment prod\n  ranking-v2 --environment prod\n" in several.stderr
    assert "there are 0 here" in none.stderr
    assert deployed.received("WatchStatus") == []


def test_watching_prints_one_status_a_line(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """With -o json it is NDJSON, at once after each change; Ctrl-C ends it."""
    process = subprocess.Popen(
        [
            *(*COMMAND, "--control", deployed.target, "-o", "json"),
            *("status", MODEL, "--environment", "prod", "--watch"),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    first = json.loads(process.stdout.readline())
    deployed.answer(MODEL, {"y": [[1.0]]}, version=V20)
    second = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)

    assert [each["observed"]["version"] for each in (first, second)] == [V15, V20]
    assert (process.returncode, stderr) == (130, "sidecarctl: interrupted\n")


def test_a_watch_that_the_sidecar_ends(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """The end of the sidecar is not the end of a change: it is said, in one line, with its own code."""
    process = subprocess.Popen(
        [*COMMAND, "--control", deployed.target, "status", MODEL, "--environment", "prod", "--watch"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline().startswith("MODEL ")
    deployed.close()
    _, stderr = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 7
    assert stderr == (
        f"sidecarctl: status failed: DRAINING: the sidecar at {deployed.target} ended the watch: it is shutting down\n"
    )


def test_history(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Newest first; a reason with an escape sequence is shown, not obeyed."""
    with Operator(deployed.target) as operator:
        operator.rollback(MODEL, environment="prod", reason="bad\x1b[2Jnews\nline \u202e")

    people = sidecarctl("history", MODEL, "--environment", "prod")
    newest = sidecarctl("history", MODEL, "--environment", "prod", "-n", "1", "-o", "json")

    rows = people.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["GENERATION", "3", "2", "1"]
    assert "bad\\x1b[2Jnews\\nline \\u202e" in rows[1]
    (record,) = json.loads(newest.stdout)["records"]
    assert (record["generation"], record["reason"]) == (3, "bad\x1b[2Jnews\nline \u202e")
    assert "\x1b" not in newest.stdout + people.stdout


def test_versions(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """What the store holds, and what is live."""
    people = sidecarctl("versions", MODEL, "--environment", "prod")
    programs = sidecarctl("versions", MODEL, "--environment", "prod", "-o", "json")

    assert [row.split()[:2] for row in people.stdout.splitlines()[1:]] == [
        [V20, "available"],
        [V15, "live"],
        [V10, "standby"],
    ]
    assert [each["version"] for each in json.loads(programs.stdout)["versions"]] == [V20, V15, V10]


def test_predicting(sidecarctl: Sidecarctl, deployed: StandInSidecar, tmp_path: Path) -> None:
    """From JSON, from stdin and from .npz; the outputs, the version and the prediction's id are printed."""
    (tmp_path / "x.json").write_text('{"x": [[1.0, 2.0]]}')
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, 2.0]], np.float32))
    from_json = sidecarctl("predict", MODEL, "--input", str(tmp_path / "x.json"))
    from_stdin = sidecarctl("predict", MODEL, "--input", "-", "-o", "json", stdin='{"x": [[1.0, 2.0]]}')
    from_npz = sidecarctl(
        "predict", MODEL, "--npz", str(tmp_path / "x.npz"), "--version", "@previous", "-o", "json"
    )

    assert [each.returncode for each in (from_json, from_stdin, from_npz)] == [0, 0, 0]
    lines = from_json.stdout.splitlines()
    assert lines[:2] == ["output y       [[2.0]]", f"version        {V15}"]
    assert lines[2].startswith("prediction id  ")
    answers = [json.loads(each.stdout) for each in (from_stdin, from_npz)]
    assert [(each["outputs"], each["version"]) for each in answers] == [
        ({"y": [[2.0]]}, V15),
        ({"y": [[1.0]]}, V10),
    ]
    assert all(each["prediction_id"] for each in answers)
    sent = [each.inputs["x"] for each in deployed.received("ModelInfer")]
    assert [each.tolist() for each in sent] == [[[1.0, 2.0]]] * 3


def test_predicted_text_is_text(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """Letters are printed as letters and what a terminal would obey is escaped; for programs all of it is ASCII."""
    deployed.answer(MODEL, {"label": ["hé漢\x1b[2J\x9b\u202e"]}, version=V20)
    arguments = ("predict", MODEL, "--input", "-")
    people = sidecarctl(*arguments, stdin='{"x": [1]}', PYTHONUTF8="1")
    programs = sidecarctl(*arguments, "-o", "json", stdin='{"x": [1]}')

    assert (
        people.stdout.splitlines()[0].removeprefix("output label").strip() == '["hé漢\\u001b[2J\\x9b\\u202e"]'
    )
    assert programs.stdout.isascii()


def test_doubles_from_a_file_fit_an_fp32_input(
    sidecarctl: Sidecarctl, deployed: StandInSidecar, tmp_path: Path
) -> None:
    """--npz converts as the client does: numpy's default float fits, floats for integers do not."""
    deployed.answer(MODEL, {"y": [[1.0]]}, version=V20, inputs={"x": "FP32", "n": "INT32"})
    np.savez(tmp_path / "good.npz", x=np.array([[0.5]]), n=np.array([3]))
    np.savez(tmp_path / "bad.npz", x=np.array([[0.5]]), n=np.array([3.0]))
    good, bad = (
        sidecarctl("predict", MODEL, "--npz", str(tmp_path / each)) for each in ("good.npz", "bad.npz")
    )

    assert good.returncode == 0, good.stderr
    assert {name: values.tolist() for name, values in deployed.received("ModelInfer")[0].inputs.items()} == {
        "x": [[0.5]],
        "n": [3],
    }
    assert (bad.returncode, "input 'n': found FP64 (ndarray), expected INT32 (int)" in bad.stderr) == (
        1,
        True,
    )


def test_ragged_inputs_are_refused_by_name(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """The error that the client finds is the command's."""
    done = sidecarctl("predict", MODEL, "--input", "-", stdin='{"x": [[1], [2, 3]]}')

    assert done.returncode == 1
    assert "input 'x': found lists of 1 and of 2 at depth 1" in done.stderr


def test_help_and_version() -> None:
    """Both come at once and say what they should, without a sidecar."""
    helps = subprocess.run(
        [*COMMAND, "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    version = subprocess.run(
        [*COMMAND, "--version"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    for command in ("deploy", "rollback", "status", "history", "versions", "predict"):
        assert f"\n  {command} " in helps.stdout
    assert "7 not reachable" in " ".join(helps.stdout.split())
    assert version.stdout.startswith("sidecarctl ")


def test_a_reader_that_leaves_is_no_crash(sidecarctl: Sidecarctl, deployed: StandInSidecar) -> None:
    """`sidecarctl history | head -1` ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "--control", deployed.target, "history", MODEL, "--environment", "prod"],
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writing)

    assert "Traceback" not in done.stderr


def test_feedback_on_one_prediction(sidecar: StandInSidecar, sidecarctl: Sidecarctl) -> None:
    """What was true of a prediction is told by its id; the same again is a duplicate and no failure, an unknown id is one."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    predicted = sidecarctl("predict", MODEL, "--input", "-", "-o", "json", stdin='{"x": [1.0]}')
    prediction_id = json.loads(predicted.stdout)["prediction_id"]

    done = sidecarctl("feedback", "--prediction-id", prediction_id, "--truth", "1")
    assert (done.returncode, done.stdout.split()) == (0, ["joined", "1"])
    again = sidecarctl("feedback", "--prediction-id", prediction_id, "--truth", "1", "-o", "json")
    assert (again.returncode, json.loads(again.stdout)["counts"]["duplicate"]) == (0, 1)
    nobody = sidecarctl("feedback", "--prediction-id", "nobody", "--truth", "fraud")
    assert (nobody.returncode, nobody.stdout.split()) == (1, ["unknown", "1"])
    assert nobody.stderr.startswith("sidecarctl: nobody: unknown: ")  # there is but one: it needs no number


def test_feedback_from_a_file(sidecar: StandInSidecar, sidecarctl: Sidecarctl, tmp_path: Path) -> None:
    """JSON lines are told one after another, with their own sources and times; what was not joined is told."""
    sidecar.answer(MODEL, {"y": [1.0]}, version=V10)
    predicted = sidecarctl("predict", MODEL, "--input", "-", "-o", "json", stdin='{"x": [1.0]}')
    prediction_id = json.loads(predicted.stdout)["prediction_id"]
    lines = [
        {"prediction_id": prediction_id, "truth": "fraud"},
        {"prediction_id": prediction_id, "truth": 1, "source": "b", "observed_at": "2024-01-15T09:30:00Z"},
        {"prediction_id": "nobody", "truth": True, "replace": True},
    ]
    file = tmp_path / "outcomes.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)))

    done = sidecarctl("feedback", "--from", str(file), "--source", "a")

    assert (done.returncode, done.stdout.split()) == (0, ["joined", "2", "unknown", "1"])
    assert done.stderr.startswith(
        "sidecarctl: line 5: nobody: unknown: "
    )  # as an editor counts, with empty lines
    (received,) = sidecar.received("RecordFeedbackStream")
    assert received.method == "RecordFeedbackStream"
    piped = sidecarctl("feedback", "--from", "-", "-o", "json", "--source", "a", stdin=file.read_text())
    assert (piped.returncode, json.loads(piped.stdout)["counts"]["duplicate"]) == (0, 2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", '--from stdin, line 2 is no JSON: found \'{\', expected {"prediction_id": …, "truth": …}'),
        ('{"prediction_id": "x"}', '"truth"'),
        ('{"prediction_id": "x", "truth": 1, "label": 2}', "if you like"),
        ('{"prediction_id": "x", "truth": [1]}', "truth: found [1]"),
        ('{"prediction_id": "x", "truth": 1, "observed_at": "yesterday"}', "expected a time"),
    ],
)
def test_a_line_that_is_none_is_a_usage_error(
    sidecar: StandInSidecar, sidecarctl: Sidecarctl, line: str, words: str
) -> None:
    """A file that cannot be read as told says which line is wrong, and how; of the lines before it, nothing is sent."""
    good = json.dumps({"prediction_id": "x", "truth": 1})
    done = sidecarctl("feedback", "--from", "-", stdin=f"{good}\n{line}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "line 2 is no " in done.stderr
    assert "; nothing was sent" in done.stderr
    assert not sidecar.received("RecordFeedbackStream")


def test_a_line_far_down_that_is_none_sends_nothing(
    sidecar: StandInSidecar, sidecarctl: Sidecarctl, tmp_path: Path
) -> None:
    """Not even what would have gone in an earlier call is sent of a file that is wrong at its end."""
    file = tmp_path / "outcomes.jsonl"
    file.write_bytes(b'{"prediction_id": "x", "truth": 1}\n' * 25_001 + b"oops\n")
    done = sidecarctl("feedback", "--from", str(file))
    assert (done.returncode, "line 25002 is no JSON" in done.stderr) == (2, True)
    assert not sidecar.received("RecordFeedbackStream")


def test_the_format_of_a_line_is_told(sidecarctl: Sidecarctl) -> None:
    """--help shows a line as the command takes it."""
    said = sidecarctl("feedback", "--help").stdout
    assert '{"prediction_id": "ID or ID#ROW", "truth": NUMBER or "LABEL",' in said


def test_limits_of_a_shadow_without_one_are_a_mistake(
    sidecarctl: Sidecarctl, deployed: StandInSidecar
) -> None:
    """Whoever names a limit believes that there is a shadow."""
    done = sidecarctl("deploy", MODEL, V20, "--environment", "prod", "--yes", "--shadow-max-slowdown", "3")

    assert done.returncode == 2
    assert "add --shadow" in done.stderr


def test_the_end_of_a_shadow_is_told(sidecarctl: Sidecarctl) -> None:
    """--help does not promise that a shadow waits for its number of predictions where it clearly fails before."""
    said = " ".join(sidecarctl("deploy", "--help").stdout.split())
    assert "A clear failure ends the shadow earlier." in said

"""`model-sidecar` as somebody types it: publish, verify, store-check, settings from everywhere, and interruptions."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from support import killers, models
from support.sidecars import RunningSidecar
from support.versions import write_version
from support.yard import MODEL, PROD, Yard

from model_sidecar.cli.publish import command as publish_command
from model_sidecar.cli.serve import command as serve
from model_sidecar.config import Address, ServeSettings
from model_sidecar.release.names import parse_environment, parse_model, parse_version

A, B = "2024.01.10.prod", "2024.01.12.prod"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_sidecar", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build directory with a model, the facts that only its maker knows, and inputs for golden examples."""
    directory = tmp_path / "build"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(models.add_constant(5.0))
    (directory / "manifest.json").write_text(
        json.dumps({"training_date": "2024-01-09", "framework": "by hand"})
    )
    np.savez(tmp_path / "inputs.npz", x=np.array([[1.0, 2.0]], np.float32))
    return directory


def publish(build: Path, store: Path, *further: str, version: str = A) -> subprocess.CompletedProcess[str]:
    where = ("--store", str(store), "--model", MODEL, "--version", version)
    return run("publish", str(build), *where, *further)


def test_publish_writes_what_verify_and_serve_take(build: Path, tmp_path: Path) -> None:
    """Flags and the build's own manifest become the full manifest; `verify` agrees; the same version twice is refused."""
    inputs = ("--golden-inputs", str(tmp_path / "inputs.npz"))
    facts = ("--data-snapshot-id", "s3-7", "--metric", "accuracy=0.98", "--metric", "auc=0.9")
    done = publish(build, tmp_path / "store", *inputs, *facts, "-o", "json")
    told = json.loads(done.stdout)
    manifest = json.loads((Path(told["path"]) / "manifest.json").read_text())

    assert done.returncode == 0, done.stderr
    assert (told["golden_examples"], told["inputs"]) == (1, ["x FP32[-1, 2]"])
    assert manifest["metrics"] == {"accuracy": 0.98, "auc": 0.9}
    assert (manifest["training_date"], manifest["data_snapshot_id"]) == ("2024-01-09", "s3-7")
    verified = run("verify", told["path"])
    assert verified.returncode == 0
    assert told["manifest_sha256"] in verified.stdout
    again = publish(build, tmp_path / "store", *inputs)
    assert (again.returncode, "VERSION_EXISTS" in again.stderr) == (1, True)


def test_a_damaged_version_exits_with_4(build: Path, tmp_path: Path) -> None:
    """`verify` and `store-check` say which version, which file and why."""
    publish(build, tmp_path / "store")
    publish(build, tmp_path / "store", version=B)
    damaged = tmp_path / "store" / MODEL / B / "model.onnx"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)

    verified = run("verify", str(damaged.parent))
    checked = run("store-check", "--store", str(tmp_path / "store"))

    assert (verified.returncode, checked.returncode) == (4, 4)
    assert "DIGEST_MISMATCH" in verified.stderr
    assert f"FAILED  {MODEL} {B}" in checked.stdout
    assert f"ok      {MODEL} {A}" in checked.stdout
    assert "ok      exclusive link" in checked.stdout


@pytest.mark.parametrize(
    "kill", [killers.crashes_when_loaded, killers.crashes_when_run, killers.grows_when_loaded]
)
def test_a_model_that_kills_does_not_kill_a_command(
    build: Path, tmp_path: Path, kill: Callable[[], bytes]
) -> None:
    """It is published by nobody; one that lies in the store is a finding like any other, and the ones after it are checked."""
    store = tmp_path / "store"
    assert publish(build, store).returncode == 0
    (build / "model.onnx").write_bytes(kill())
    refused = publish(build, store, version=B)
    pair = {"datatype": "FP32", "shape": [-1, 2]}
    signature = {"inputs": [{"name": "x", **pair}], "outputs": [{"name": "y", **pair}]}
    by_hand = write_version(
        store, model=MODEL, version=parse_version(B), files={"model.onnx": kill()}, signature=signature
    )
    verified = run("verify", str(by_hand))
    checked = run("store-check", "--store", str(store))

    reason = "MODEL_OUT_OF_MEMORY" if kill is killers.grows_when_loaded else "MODEL_CRASHED"
    for done in (refused, verified):
        assert (done.returncode, reason in done.stderr) == (4, True), done.stderr
    assert checked.returncode == 4
    assert reason in checked.stdout
    assert f"{MODEL} {A}" in checked.stdout


def test_a_damaged_ledger_exits_with_1(yard: Yard) -> None:
    """`store-check` reads every record of every ledger."""
    for version in (A, B):
        yard.publish(version)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            for version in (A, B):
                operator.deploy(MODEL, version, environment=PROD)
    assert run("store-check", "--store", str(yard.store)).returncode == 0
    record = yard.pointer.parent / "ledger" / f"{1:020}.json"
    record.write_text(record.read_text().replace(A, B))

    checked = run("store-check", "--store", str(yard.store))

    assert checked.returncode == 1
    assert f"FAILED  {MODEL} ledger of prod" in checked.stdout


def test_external_data_is_served_where_it_is_allowed(yard: Yard, tmp_path: Path) -> None:
    """A model with its weights in a file of its own is published and answers when both sides say so."""
    build = tmp_path / "external"
    build.mkdir()
    (build / "model.onnx").write_bytes(models.external_data(build, constant=7.0))
    refused = publish(build, yard.store)
    done = publish(build, yard.store, "--allow-external-data")
    state = tmp_path / "state"
    with RunningSidecar(yard, "--allow-external-data", "--state-dir", str(state)) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator, sidecar.client() as client:
            operator.deploy(MODEL, A, environment=PROD)
            answer = client.predict(MODEL, {"x": [[1.0, 2.0]]})

    assert (refused.returncode, done.returncode) == (4, 0), done.stderr
    assert answer.outputs["y"].tolist() == [[8.0, 9.0]]
    assert list(state.glob("model-sidecar-*")) == []  # where external data was laid out


def test_a_flag_counts_more_than_a_variable_and_that_more_than_the_file(build: Path, tmp_path: Path) -> None:
    """Options come from the command line, the environment and a TOML file, in this order; unknown keys are errors."""
    config = tmp_path / "sidecar.toml"
    config.write_text(
        f'[publish]\nstore = "{tmp_path}/from-file"\nmodel = "{MODEL}"\nversion = "{A}"\nframework = "from-file"\n'
    )
    done = run("publish", str(build), "--config", str(config), "--store", str(tmp_path / "store"), "-o", "json",
               MODEL_SIDECAR_STORE=str(tmp_path / "from-variable"), MODEL_SIDECAR_FRAMEWORK="from-variable")  # fmt: skip
    manifest = json.loads((Path(json.loads(done.stdout)["path"]) / "manifest.json").read_text())

    assert Path(json.loads(done.stdout)["path"]).parent.parent == tmp_path / "store"
    assert manifest["framework"] == "from-variable"
    config.write_text("[publish]\nstroe = 'x'\n")
    unknown = run("publish", str(build), "--config", str(config))
    assert unknown.returncode == 2
    assert "no option stroe" in unknown.stderr


SERVE = {
    "store": "ml-models",
    "model": ["recommendation-v1", "ranking"],
    "environment": "prod",
    "state-dir": "state",
    "data": ["unix:data.sock", "127.0.0.1:8001"],
    "control": "unix:control.sock",
    "http": "127.0.0.1:8002",
    "standby": "none",
    "poll-interval": "250ms",
    "file-events": False,
    "max-message": 1024,
    "shared-memory": True,
    "allow-external-data": True,
    "swap-mode": "unload-first",
    "load-timeout": "90s",
    "load-memory": "2GiB",
    "threads": 3,
    "max-inflight": 7,
    "max-queue-wait": "3s",
    "max-run": "30s",
    "backlog": 9,
    "max-batch-rows": 8,
    "drain-timeout": "2m",
    "socket-mode": "0600",
    "sidecar-id": "one",
    "monitor": False,
    "log-sample": 0.5,
    "feature-sample": 0.1,
    "log-size": "2GiB",
    "drift-band": 0.02,
    "drift-budget": "168h",
    "thin": "5m",
    "stream-counters": True,
    "guard": "dry-run",
    "shadow-sample": 0.1,
    "guard-min-predictions": 500,
    "guard-cooldown": "1h",
    "guard-max-disagreement": 0.2,
    "guard-max-confidence-loss": 0.1,
    "slo-errors": 0.01,
    "slo-latency": "50ms",
    "log-format": "json",
    "log-level": "debug",
}
PUBLISH = {
    "store": "ml-models",
    "model": "recommendation-v1",
    "version": A,
    "golden-inputs": __file__,
    "baseline-data": __file__,
    "allow-external-data": True,
    "external-weights": True,
    "data-snapshot-id": "s3-7",
    "training-date": datetime.date(2024, 1, 9),
    "preprocessing-version": "3.1",
    "framework": "by hand",
    "metric": ["accuracy=0.98", "auc=0.9"],
    "deployed-by": "me",
    "rollback-target": B,
    "output": "json",
}


def keys_of(command: click.Command) -> set[str]:
    return {each.opts[-1].removeprefix("--") for each in command.params if isinstance(each, click.Option)}


def parsed(command: click.Command, *typed: str) -> dict[str, Any]:
    """What the command would be called with."""
    rest = ["build"] if command.name == "publish" else []
    with command.make_context(str(command.name), [*rest, *typed]) as context:
        return context.params


def as_typed(table: dict[str, Any]) -> list[str]:
    """The same settings as flags."""
    words = []
    for key, value in table.items():
        if isinstance(value, bool):
            words.append(f"--{key}" if value else f"--no-{key}")
        else:
            for each in value if isinstance(value, list) else [value]:
                words.extend([f"--{key}", str(each)])
    return words


def as_toml(table: dict[str, Any]) -> str:
    return "".join(
        f"{key} = {str(value) if isinstance(value, datetime.date) else json.dumps(value)}\n"
        for key, value in table.items()
    )


@pytest.mark.parametrize("spelt", ["-", "_"])
@pytest.mark.parametrize(("command", "table"), [(serve, SERVE), (publish_command, PUBLISH)])
def test_every_option_may_stand_in_the_file(
    command: click.Command,
    table: dict[str, Any],
    spelt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each option of `serve` and `publish`, under its long name with '-' or '_', means in TOML what it means as a flag."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    assert keys_of(command) - {"config"} == set(table)
    config = tmp_path / "sidecar.toml"
    text = as_toml({key.replace("-", spelt): value for key, value in table.items()})
    config.write_text(f"[{command.name}]\n{text}")

    assert parsed(command, "--config", str(config)) == parsed(command, *as_typed(table))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('models = "a"', "has no option models"),
        ("poll-interval = 5", "poll-interval: '5' is not a duration"),
        ('poll_interval = "soon"', "poll_interval: 'soon' is not a duration"),
        ('model = ["Upper"]', "model: model name 'Upper' is not valid"),
        ("model = []", "model: Missing option"),
        ("model = [[1]]", "model is [1]: expected text in quotes or a number, or a list of such"),
        ('store = ["a", "b"]', "store is ['a', 'b']: expected text in quotes"),
        ('file-events = "no"', "file-events is 'no': expected true or false"),
        ("threads = true", "threads is True: expected text in quotes or a number"),
        ("threads = -1", "threads: -1 is not in the range"),
        ("socket-mode = 0o660", "socket-mode is 432: expected text in quotes"),
        ('poll-interval = "1s"\npoll_interval = "2s"', "poll_interval twice"),
    ],
)
def test_a_mistake_in_the_file_is_blamed_on_the_file_and_the_key(
    line: str, words: str, tmp_path: Path
) -> None:
    """What an option would refuse is refused with the file, the table and the key, not with a flag nobody typed."""
    config = tmp_path / "sidecar.toml"
    config.write_text(f"[serve]\n{line}\n")

    with pytest.raises(click.UsageError) as refused:
        parsed(serve, "--config", str(config))

    assert refused.value.exit_code == 2
    assert refused.value.message.startswith(f"{config}: [serve] ")
    assert words in refused.value.message


def test_a_table_is_a_table(tmp_path: Path) -> None:
    """A value where a command's table should be is said to be none."""
    (tmp_path / "sidecar.toml").write_text("serve = 3\n")
    with pytest.raises(click.UsageError, match=r"expected a table, \[serve\]"):
        parsed(serve, "--config", str(tmp_path / "sidecar.toml"))


def test_a_variable_separates_its_values_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that may be given again takes several values from its variable."""
    monkeypatch.setenv("MODEL_SIDECAR_MODEL", "recommendation-v1 ranking")
    needed = as_typed({key: SERVE[key] for key in ("store", "environment", "data")})
    assert parsed(serve, *needed)["models"] == ("recommendation-v1", "ranking")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--metric", "accuracy=nan"),
            "'--metric' (env var: 'MODEL_SIDECAR_METRIC'): 'accuracy=nan' is not a metric",
        ),
        (("--metric", "accuracy=-inf"), "Invalid value for '--metric'"),
        (
            ("--metric", "a=1", "--metric", "a=2"),
            "'--metric' (env var: 'MODEL_SIDECAR_METRIC'): a is given twice",
        ),
        (("--training-date", "last week"), "Invalid value for '--training-date'"),
        (("--training-date", "2023-02-29"), "Invalid value for '--training-date'"),
    ],
)
def test_facts_that_nobody_could_use_are_usage_errors(
    flags: tuple[str, ...], words: str, build: Path, tmp_path: Path
) -> None:
    """A metric that is no finite number or is given twice, and a date that is none, exit with 2 and name the flag."""
    refused = publish(build, tmp_path / "store", *flags)
    assert (refused.returncode, words in " ".join(refused.stderr.split())) == (2, True), refused.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--state-dir", "store", "store is the --store"),
        ("--state-dir", "elsewhere/../store/", "store is the --store"),
        ("--state-dir", "store/state", "store/state lies inside the --store"),
        ("--state-dir", ".", "contains the --store"),
        ("--load-memory", "1B", "--load-memory is 1 bytes: expected at least 16MiB"),
    ],
)
def test_settings_that_could_only_do_harm_are_usage_errors(
    flag: str, value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State among the versions, and memory for no version, are refused with 2 before anything is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    refused = run(
        *("serve", "--store", str(tmp_path / "store"), "--model", MODEL, "--environment", PROD),
        *("--data", "unix:data.sock", flag, value),
    )
    assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    assert [*tmp_path.rglob("*")] == [tmp_path / "store"]


def test_a_state_directory_beside_the_store_is_its_own() -> None:
    """A name that only begins as the store's does is not inside of it."""
    ServeSettings(
        store=Path("store"),
        state_dir=Path("store-state"),
        models=(parse_model(MODEL),),
        environment=parse_environment(PROD),
        data=(Address(path="data.sock"),),
    )


def test_store_check_explains_its_marks() -> None:
    """`--help` says what `-` and null stand for."""
    assert "`-`: good to know, and no fault" in " ".join(run("store-check", "--help").stdout.split())


def test_a_build_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """`publish NODIR` exits with 2 and makes no store."""
    refused = publish(tmp_path / "none", tmp_path / "store")
    assert (refused.returncode, "does not exist" in refused.stderr) == (2, True)
    assert not (tmp_path / "store").exists()


def test_publish_says_what_was_checked(build: Path, tmp_path: Path) -> None:
    """Nothing checked is not called agreement; calls made into examples are counted with their rows; one is no plural."""
    unchecked = publish(build, tmp_path / "store").stdout
    assert "golden     none: it will be warmed, but not checked\n" in unchecked
    assert " 1 file, " in unchecked
    made = publish(build, tmp_path / "store", "--golden-inputs", str(tmp_path / "inputs.npz"), version=B)
    assert "golden     1 call with 1 row made into 1 example; " in made.stdout
    assert " 2 files, " in made.stdout
    assert "golden   1 example agrees\n" in run("verify", str(tmp_path / "store" / MODEL / B)).stdout
    (build / "golden.npz").write_bytes((tmp_path / "store" / MODEL / B / "golden.npz").read_bytes())
    assert (
        "golden     1 example agrees\n"
        in publish(build, tmp_path / "store", version="2024.01.13.prod").stdout
    )


def test_store_check_of_a_model_that_is_not_there_fails(build: Path, tmp_path: Path) -> None:
    """A misspelt model is not well: exit 1, naming those that are there."""
    publish(build, tmp_path / "store")
    checked = run("store-check", "--store", str(tmp_path / "store"), "--model", "nope")
    assert checked.returncode == 1
    assert f"has no model nope: it has {MODEL}" in checked.stderr
    assert run("store-check", "--store", str(tmp_path / "store"), "--model", MODEL).returncode == 0


def test_store_check_of_an_empty_store_says_so(tmp_path: Path) -> None:
    """No models are no fault, and are told."""
    checked = run("store-check", "--store", str(tmp_path))
    assert (checked.returncode, "no models" in checked.stdout) == (0, True)


def test_a_probe_of_nobody_says_that_nothing_is_reachable(tmp_path: Path) -> None:
    """Exit 7 and NOT_REACHABLE, which is not the NOTHING_LIVE of a sidecar without a version."""
    probed = run("probe", "liveness", "--control", f"unix:{tmp_path}/none.sock")
    assert probed.returncode == 7
    assert "[NOT_REACHABLE]" in probed.stderr


def test_help_is_there_for_every_command() -> None:
    """`--help` of each command names its options and their variables."""
    told = run("--help").stdout
    for command in ("serve", "publish", "verify", "store-check", "demo", "probe"):
        assert f"  {command}" in told
        assert "MODEL_SIDECAR_" in run(command, "--help").stdout


def test_an_interruption_has_its_own_exit_code(yard: Yard) -> None:
    """Ctrl-C amid a long store-check ends with 130."""
    for day in range(1, 20):
        yard.publish(f"2024.02.{day:02}.prod")
    process = subprocess.Popen(
        [sys.executable, "-m", "model_sidecar", "store-check", "--store", str(yard.store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "interrupted" in words

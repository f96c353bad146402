"""`model-sidecar` as somebody types it: publish, verify, store-check, settings from everywhere, and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import models
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

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
    assert list(state.iterdir()) == []


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

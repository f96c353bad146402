"""A store that tests publish into and whose pointer they move, in every way that people and machines do."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support import models
from support.versions import write_version

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.release.names import Environment, ModelName, Version, parse_version
from model_sidecar.store.versions import VersionStore

MODEL = ModelName("adder")
PROD = Environment("prod")


@dataclass
class Yard:
    """A store with one model, `adder`: raw FP32[-1,2] -> y = raw + constant + 1000 * constant.

    The first constant is the model's own, the thousandfold is its preprocessing's: an answer in which the two do not
    belong together, or to the version that the answer is tagged with, shows.
    """

    root: Path
    constants: dict[Version, float] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.root / "ml-models"

    @property
    def pointer(self) -> Path:
        """The active pointer of `prod`."""
        return self.store / MODEL / "environments" / PROD / "active.json"

    @property
    def versions(self) -> VersionStore:
        """The store as the product sees it."""
        return VersionStore(self.store)

    def version_dir(self, version: str) -> Path:
        """Where a version lies."""
        return self.store / MODEL / version

    def publish(
        self, name: str, *, model: bytes | None = None, golden: bool = True, baseline: Path | None = None
    ) -> Version:
        """Publish a version: with `model`, that alone; otherwise an adder of its own constant and preprocessing.

        `baseline` is an `.npz` file of the rows that its baseline is made of.
        """
        version = parse_version(name)
        build = self.root / "build" / name
        build.mkdir(parents=True)
        constant = float(len(self.constants) + 1)
        if model is None:
            self.constants[version] = constant
            write_build(build, constant, golden=golden)
        else:
            (build / "model.onnx").write_bytes(model)
        self.store.mkdir(exist_ok=True)
        facts = PublishFacts(data_snapshot_id="snapshot-1", framework="test", metrics={"accuracy": 0.9})
        publish(build, self.versions, model=MODEL, version=version, facts=facts, baseline_data=baseline)
        shutil.rmtree(build)
        return version

    def put(self, name: str, model: bytes, *, width: int = 2) -> Version:
        """A version that nobody checked, as somebody copies it into the store: FP32[-1,width] raw → y, no examples."""
        version = parse_version(name)
        pair = {"datatype": "FP32", "shape": [-1, width]}
        signature = {"inputs": [{"name": "raw", **pair}], "outputs": [{"name": "y", **pair}]}
        write_version(
            self.store, model=MODEL, version=version, files={"model.onnx": model}, signature=signature
        )
        return version

    def expected(self, version: str, x: float) -> float:
        """What this version answers to x."""
        return x + 1001 * self.constants[Version(version)]

    def ledger(self) -> Ledger:
        """The ledger as any process would read it."""
        ledger = open_ledger(self.versions.layout, MODEL, PROD)
        ledger.refresh()
        return ledger

    # Ways to move the pointer.

    def edit_pointer(self, version: str) -> None:
        """Write over the file in place, as a simple editor does."""
        self.pointer.parent.mkdir(parents=True, exist_ok=True)
        self.pointer.write_text(json.dumps({"version": version}))

    def replace_pointer(self, version: str) -> None:
        """Write a file beside it and rename it into place, as careful scripts do."""
        self.pointer.parent.mkdir(parents=True, exist_ok=True)
        beside = self.pointer.with_name("active.json.new")
        beside.write_text(json.dumps({"version": version}))
        beside.replace(self.pointer)

    def swap_configmap(self, version: str) -> None:
        """Let the pointer's directory look like a mounted ConfigMap, and swap `..data` as the kubelet does."""
        directory = self.pointer.parent
        directory.mkdir(parents=True, exist_ok=True)
        generation = directory / f"..{version}.{len(list(directory.iterdir()))}"
        generation.mkdir()
        (generation / "active.json").write_text(json.dumps({"version": version}))
        link = directory / "..data_tmp"
        link.symlink_to(generation.name)
        link.replace(directory / "..data")
        if not self.pointer.is_symlink():
            self.pointer.unlink(missing_ok=True)
            self.pointer.symlink_to("..data/active.json")

    def recreate_directory(self, version: str) -> None:
        """Delete the environment's directory with all that is in it, and make it again with a pointer alone."""
        while self.pointer.parent.exists():
            try:
                shutil.rmtree(self.pointer.parent)
            except (
                OSError
            ) as error:  # a sidecar still writes the pointer of the flip before: `rm -r` fails so too
                if error.errno != errno.ENOTEMPTY:
                    raise
        self.replace_pointer(version)


def write_build(directory: Path, constant: float, *, golden: bool = True) -> None:
    """What a version of this constant is published from, in an empty directory."""
    (directory / "model.onnx").write_bytes(models.add_constant(constant))
    (directory / "preprocessing.onnx").write_bytes(models.add_constant_before(1000 * constant))
    if golden:
        write_golden(
            directory / "golden.npz",
            {"input:raw": [[0.0, 1.0]], "output:y": [[1001 * constant, 1001 * constant + 1]]},
        )


def write_golden(path: Path, arrays: dict[str, list[list[float]]]) -> None:
    """Golden examples as a build directory holds them."""
    made: dict[str, Any] = {name: np.asarray(rows, dtype=np.float32) for name, rows in arrays.items()}
    np.savez(path, **made)


def python(*arguments: str, **settings: object) -> subprocess.Popen[bytes]:
    """Start this interpreter as a child process; the data plane forbids forks."""
    return subprocess.Popen([sys.executable, *arguments], **settings)  # type: ignore[call-overload, no-any-return]

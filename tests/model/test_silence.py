"""Loading a model tells nobody: onnxruntime's reports to its vendor are off before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.yard import MODEL, Yard


def test_verifying_a_version_leaves_nothing_in_the_home_directory(yard: Yard, tmp_path: Path) -> None:
    """A process that loads and runs a model writes nothing outside the store, as onnxruntime's telemetry would."""
    version = yard.publish("2024.01.10.prod")
    home = tmp_path / "home"
    home.mkdir()
    # Without CI's own variable, which hides the effect, and without the one that our Makefile sets.
    quiet = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    done = subprocess.run(
        [sys.executable, "-m", "model_sidecar", "verify", str(yard.store / MODEL / version)],
        env={**quiet, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []

"""The versions of the story: what each is trained on, its build directory, and how that becomes a version in a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_sidecar.app.publish import Published, PublishFacts, publish
from model_sidecar.demo.digits import PIXELS, Digits, Snapshot, Trained, train, without_scaler
from model_sidecar.release.manifest import GOLDEN, MANIFEST, MODEL, PREPROCESSING
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.store.versions import VersionStore

DIGITS = ModelName("digits")
PROD = Environment("prod")
INPUT, LABEL, PROBABILITIES = "pixels", "label", "probabilities"
_SCALED = "scaled"
GOLDEN_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of the story.

    Attributes:
        training_date: when its team trained it, ISO 8601.
        preprocessing: the name of its scaler.
        previous: the version it is meant to replace.
        exports_scaler: whether its exporter writes the scaler down; one that does not passes pixels on as they are.
    """

    version: Version
    training_date: str
    snapshot: Snapshot
    preprocessing: str
    previous: Version | None = None
    exports_scaler: bool = True


FIRST = Release(
    version=Version("2024.01.10.prod"),
    training_date="2024-01-09T21:30:00Z",
    snapshot=Snapshot(id="digits-2024-01-09", rows=150),
    preprocessing="scaler-1",
)
SECOND = Release(
    version=Version("2024.01.15.prod"),
    training_date="2024-01-14T21:30:00Z",
    snapshot=Snapshot(id="digits-2024-01-14", rows=1000),
    preprocessing="scaler-2",
    previous=FIRST.version,
)
WORSE = Release(
    version=Version("2024.01.22.prod"),
    training_date="2024-01-21T21:30:00Z",
    snapshot=Snapshot(id="digits-2024-01-21", rows=1200, cropped_too_low=True),
    preprocessing="scaler-3",
    previous=SECOND.version,
)
DAMAGED = Version("2024.01.16.prod")
"""The second version, published once more; one byte of it changes on the disk afterwards."""
UNSCALED = Release(
    version=Version("2024.01.29.prod"),
    training_date="2024-01-28T21:30:00Z",
    snapshot=Snapshot(id="digits-2024-01-28", rows=988),
    preprocessing="scaler-4",
    previous=SECOND.version,
    exports_scaler=False,
)
MENDED = replace(UNSCALED, version=Version("2024.01.30.prod"), exports_scaler=True)
"""The same training, and an exporter that writes the scaler down again."""
DAY, NIGHT = (FIRST, SECOND, WORSE), (UNSCALED, MENDED)


@dataclass(frozen=True, slots=True)
class Built:
    """A release with what came of its training, its build directory, and the rows that its baseline is counted over."""

    release: Release
    trained: Trained
    build: Path
    rows: Path


def build_all(builds: Path, pool: Digits, releases: Sequence[Release] = DAY) -> list[Built]:
    """Train every release and write its build directory."""
    built = []
    for release in releases:
        trained = train(release.snapshot, pool)
        build = builds / release.version
        build.mkdir(parents=True)
        write_build(build, release, trained)
        rows = builds / f"{release.version}.rows.npz"
        _write_rows(rows, trained.validation)
        built.append(Built(release, trained, build, rows))
    return built


def write_build(build: Path, release: Release, trained: Trained) -> None:
    """What `model-sidecar publish` takes: two ONNX files, golden examples, and the facts it cannot know.

    The golden outputs are scikit-learn's own, so publishing also proves that the export computes the same: what the
    exporter makes of the training, that is. One that forgets the scaler forgets it in the golden examples, too.
    """
    if not release.exports_scaler:
        trained = without_scaler(trained)
    (build / PREPROCESSING).write_bytes(_onnx(trained.scaler, INPUT, name="scaler", output=_SCALED))
    (build / MODEL).write_bytes(_onnx(trained.classifier, _SCALED, name=DIGITS))
    pixels = trained.validation.pixels[:GOLDEN_ROWS]
    labels, probabilities = trained.predict(pixels)
    examples: dict[str, Any] = {
        f"input:{INPUT}": pixels,
        f"output:{LABEL}": labels,
        f"output:{PROBABILITIES}": probabilities,
    }
    np.savez(build / GOLDEN, **examples)
    (build / MANIFEST).write_text(json.dumps(_facts(release, trained), indent=2) + "\n")


def publish_as(version: Version, build: Path, store: VersionStore, *, rows: Path | None = None) -> Published:
    """Publish a build directory as this version, with the facts that its own manifest tells.

    Args:
        version: what it will be called.
        build: its build directory.
        store: where to publish.
        rows: what to count a baseline over; None for a version without one.

    Raises:
        VerificationError, RefusedError, StoreError: as `publish` does.
    """
    return publish(build, store, model=DIGITS, version=version, facts=PublishFacts(), baseline_data=rows)


def flip_one_byte(path: Path) -> int:
    """Change one byte in the middle of a file in place, as a bad disk or copy would; which one."""
    at = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x01]))
    return at


def _write_rows(path: Path, digits: Digits) -> None:
    """What `publish --baseline-data` takes: rows that the version was not fitted on, with what they really are."""
    arrays: dict[str, Any] = {INPUT: digits.pixels, "truth": digits.labels}
    np.savez(path, **arrays)


def _onnx(fitted: Any, takes: str, *, name: str, output: str | None = None) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    rows = FloatTensorType([None, PIXELS])
    converted = convert_sklearn(
        fitted,
        name=name,
        initial_types=[(takes, rows)],
        final_types=None if output is None else [(output, rows)],
        # Without this the probabilities are a list of maps, which no protocol of tensors can carry.
        options=None if output is not None else {"zipmap": False},
    )
    content = converted.SerializeToString()
    assert isinstance(content, bytes)
    return content


def _facts(release: Release, trained: Trained) -> dict[str, Any]:
    import sklearn

    # No version: the directory may be published under more than one name.
    return {
        "training_date": release.training_date,
        "data_snapshot_id": release.snapshot.id,
        "preprocessing_version": release.preprocessing,
        "framework": f"scikit-learn {sklearn.__version__}",
        "metrics": {"accuracy": round(trained.accuracy, 4), "validation_rows": len(trained.validation)},
        "deployed_by": "model-sidecar demo",
        "rollback_target": release.previous,
    }

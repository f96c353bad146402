"""Version directories made of any bytes, written by plain file operations: what the store is asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import BASELINE, GOLDEN, MANIFEST, MODEL, PREPROCESSING
from model_sidecar.release.names import ModelName, Version

NAME = ModelName("recommendation-v1")
VERSION = Version("2024.01.15.prod")
FILES: Mapping[str, bytes] = {MODEL: b"stands for a model " * 500, "notes.txt": b"stands for anything else"}
ROLES = {
    "weights.bin": "external-data",
    MODEL: "model",
    PREPROCESSING: "preprocessing",
    GOLDEN: "golden",
    BASELINE: "baseline",
}


def write_version(
    store: Path,
    *,
    model: ModelName = NAME,
    version: Version = VERSION,
    files: Mapping[str, bytes] = FILES,
    **fields: Any,
) -> Path:
    """A complete version with these files, and what else its manifest says; returns its directory."""
    directory = store / model / version
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    manifest = {
        "schema_version": 1,
        "model": model,
        "version": version,
        "model_hash": digest_of(files[MODEL]),
        "files": {name: entry(name, content) for name, content in files.items()},
        "signature": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        },
        **fields,
    }
    write_manifest(directory, manifest)
    return directory


def entry(name: str, content: bytes, role: str | None = None) -> dict[str, Any]:
    """What a manifest lists of a file."""
    return {"digest": digest_of(content), "size": len(content), "role": role or ROLES.get(name, "other")}


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest's fields."""
    fields: dict[str, Any] = json.loads((directory / MANIFEST).read_bytes())
    return fields


def write_manifest(directory: Path, fields: Mapping[str, Any]) -> None:
    """Put another manifest there, by a new file, as tools that write a temporary file do."""
    (directory / MANIFEST).unlink(missing_ok=True)
    (directory / MANIFEST).write_text(json.dumps(fields))

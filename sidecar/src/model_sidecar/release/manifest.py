"""The manifest: what a version is, and the digest and size of every file in it.

Two forms are valid: the nine fields as people have written them by hand (`model_hash` covers `model.onnx`, and no other
file may stand beside it), and the full form, `schema_version: 1`, which `publish` writes. Fields that we do not know
are allowed, so that older sidecars read newer manifests. `manifest.schema.json` beside this says the same to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from model_sidecar.release.digests import Digest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Signature

MANIFEST = "manifest.json"
MODEL = "model.onnx"
PREPROCESSING = "preprocessing.onnx"
GOLDEN = "golden.npz"
BASELINE = "baseline.json"
MANIFEST_SIGNATURE = "manifest.sig"
UNLISTED = frozenset({MANIFEST, MANIFEST_SIGNATURE})
"""Files that no manifest can list: it cannot hold its own digest, nor that of a signature over itself."""

MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 256
"""Each file of a version that is being loaded costs a descriptor, of which a process has 1,024 by default."""


class Role(StrEnum):
    """What a file of a version is for."""

    MODEL = "model"
    EXTERNAL_DATA = "external-data"
    PREPROCESSING = "preprocessing"
    BASELINE = "baseline"
    GOLDEN = "golden"
    DOC = "doc"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One listed file. `size` is None only in the nine-field form, which does not tell it."""

    digest: Digest
    size: int | None
    role: Role


@dataclass(frozen=True, slots=True)
class Golden:
    """Where the golden examples are, and how far an answer may be from them: |a - b| <= atol + rtol * |b|."""

    path: str
    rtol: float = 1e-4
    atol: float = 1e-6


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the input."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class OutputRoles:
    """Which output is the prediction, which the confidence, and what kind of question the model answers."""

    task: Literal["classification", "regression", "none"] = "none"
    prediction: str | None = None
    confidence: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """Where the reference bins are, and over how many rows they were counted."""

    path: str
    rows: Annotated[int, msgspec.Meta(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """How the model runs best, as `publish` has measured it.

    `prepack`: whether onnxruntime lays weights out anew when it loads them, which takes memory and time once, and then is
    faster for some operators; without it, external data is used where it is mapped.
    """

    prepack: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A parsed manifest. `digest`, the sha256 of its bytes, is the version's identity."""

    digest: Digest
    version: Version
    model_hash: Digest
    schema_version: int = 0
    model: ModelName | None = None
    training_date: str | None = None
    data_snapshot_id: str | None = None
    preprocessing_version: str | None = None
    framework: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    deployed_by: str | None = None
    rollback_target: str | None = None
    files: Mapping[str, FileEntry]
    signature: Signature | None = None
    features: tuple[Feature, ...] = ()
    outputs: OutputRoles = OutputRoles()
    golden: Golden | None = None
    baseline: Baseline | None = None
    runtime: Runtime = Runtime()
    provenance: Mapping[str, Any] = field(default_factory=dict)

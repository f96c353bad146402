"""Manifests to begin from, as JSON documents, in both forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from model_sidecar.release.digests import digest_of

MODEL_BYTES = b"stands for a model"
DIGEST = digest_of(MODEL_BYTES)
ABSENT = object()
"""As an override's value: the field is left out."""


def nine_fields(**overrides: Any) -> dict[str, Any]:
    """The nine-field form, as people write it."""
    return _with(
        {
            "version": "2024.01.15.prod",
            "model_hash": DIGEST,
            "training_date": "2024-01-14T22:10:00Z",
            "data_snapshot_id": "snap-2024-01-14",
            "preprocessing_version": "3.2",
            "framework": "scikit-learn 1.5",
            "metrics": {"accuracy": 0.97, "auc": 1},
            "deployed_by": "ci",
            "rollback_target": "2024.01.10.prod",
        },
        overrides,
    )


def full_form(**overrides: Any) -> dict[str, Any]:
    """The full form, as publish writes it."""
    return _with(
        {
            "schema_version": 1,
            "model": "recommendation-v1",
            **nine_fields(),
            "files": {
                "model.onnx": {"digest": DIGEST, "size": len(MODEL_BYTES), "role": "model"},
                "golden.npz": {"digest": DIGEST, "size": len(MODEL_BYTES), "role": "golden"},
                "baseline.json": {"digest": DIGEST, "size": len(MODEL_BYTES), "role": "baseline"},
            },
            "signature": {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            },
            "features": [{"name": "age", "type": "numeric"}],
            "outputs": {"task": "classification", "prediction": "y", "confidence": None},
            "golden": {"path": "golden.npz", "rtol": 1e-3, "atol": 0},
            "baseline": {"path": "baseline.json", "rows": 1000},
            "provenance": {"commit": "abc", "more": {"run": 7}},
        },
        overrides,
    )


def content(document: object) -> bytes:
    """The document's bytes; NaN and the like are written as Python does, for a reader to refuse."""
    return json.dumps(document).encode()


def _with(document: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**document, **overrides}.items() if value is not ABSENT}

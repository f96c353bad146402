"""Files that ship in installed packages: real models that nobody here made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MAGIKA = ("magika", "models/standard_v3_3/model.onnx")
MAGIKA_CONFIG = ("magika", "models/standard_v3_3/config.min.json")
SILERO = ("silero_vad", "data/silero_vad.onnx")


def packaged(package: str, path: str) -> bytes:
    """A file in an installed package, which is not imported for it (silero-vad would want torch)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is not installed, and its {path} is what is wanted")
    return Path(spec.origin).parent.joinpath(path).read_bytes()

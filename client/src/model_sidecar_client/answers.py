"""What the data plane answers: frozen records of predictions and of what models and sidecars say about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_sidecar_client.tensors import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer, and what it takes to trace it.

    Attributes:
        outputs: by name; numpy arrays where numpy is importable, else nested lists.
        version: the exact version that computed this answer.
        prediction_id: names this answer for good.
        generation: of the ledger's record that made the version live; 0 where the sidecar did not say.
        model: its name.
        id: the request id that the caller gave, echoed; "" if none.
    """

    outputs: Mapping[str, Values]
    version: str
    prediction_id: str
    generation: int
    model: str
    id: str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or returns; -1 in the shape stands for a size that varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """What a model says about itself. `versions` are those that can answer now, the live one first."""

    model: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """What answers there: the server's name, its software's version and the protocol's extensions that it knows."""

    name: str
    version: str
    extensions: tuple[str, ...]

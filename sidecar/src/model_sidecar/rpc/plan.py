"""A signature prepared for the request's path: what each tensor is checked against, looked up by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.elements import TYPED_LIST

_ENVELOPE_BYTES = 64
_TENSOR_BYTES = 32
_TEXT_GROWS = 16


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor of a signature.

    Attributes:
        datatype: the wire's name of it, as plain text: comparing that is quicker than an enum.
        typed_list: the field that holds its typed elements; None where it travels raw only.
    """

    name: str
    spec: TensorSpec
    shape: tuple[int, ...]
    datatype: str
    dtype: np.dtype[Any]
    typed_list: str | None
    is_bytes: bool
    is_bool: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One version's signature.

    Attributes:
        rows_of: the input whose first dimension counts rows; None where none does.
        row_bytes: the inputs' size with 1 for every free dimension.
        overhead_bytes: about what a request holds besides its tensors' elements.
        watched: the outputs that the version's prediction and confidence are read from.
        grows: how much larger its tensors may be in memory than on the wire: a short string is an object there.
    """

    inputs: Mapping[str, TensorPlan]
    outputs: Mapping[str, TensorPlan]
    rows_of: str | None
    row_bytes: int
    overhead_bytes: int
    watched: tuple[str, ...]
    grows: int


def plan_of(signature: Signature, roles: OutputRoles | None = None) -> Plan:
    """The plan of a signature, and of what its outputs are. Rows are counted along the first input's first dimension, where its size is open."""
    first = signature.inputs[0] if signature.inputs else None
    return Plan(
        inputs={spec.name: _tensor(spec) for spec in signature.inputs},
        outputs={spec.name: _tensor(spec) for spec in signature.outputs},
        rows_of=first.name if first is not None and first.shape[:1] == (-1,) else None,
        row_bytes=sum(
            math.prod(abs(size) for size in spec.shape) * spec.datatype.numpy.itemsize
            for spec in signature.inputs
        ),
        overhead_bytes=_ENVELOPE_BYTES + _TENSOR_BYTES * len(signature.inputs),
        watched=_watched(roles or OutputRoles()),
        grows=_TEXT_GROWS
        if any(spec.datatype is Datatype.BYTES for spec in (*signature.inputs, *signature.outputs))
        else 1,
    )


def _watched(roles: OutputRoles) -> tuple[str, ...]:
    named = (name for name in (roles.prediction, roles.confidence) if name is not None)
    return tuple(dict.fromkeys(named))


def _tensor(spec: TensorSpec) -> TensorPlan:
    return TensorPlan(
        name=spec.name,
        spec=spec,
        shape=spec.shape,
        datatype=spec.datatype.value,
        dtype=spec.datatype.numpy,
        typed_list=TYPED_LIST.get(spec.datatype),
        is_bytes=spec.datatype is Datatype.BYTES,
        is_bool=spec.datatype is Datatype.BOOL,
    )

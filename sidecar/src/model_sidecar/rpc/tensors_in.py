"""A ModelInferRequest's tensors as arrays, every claim of theirs checked; what does not fit is named and refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import InvalidInputError
from model_sidecar.rpc.elements import strings, strings_from_raw, text
from model_sidecar.rpc.plan import Plan, TensorPlan
from model_sidecar_client.wire.inference import ModelInferRequest

_SHARED_MEMORY = "shared_memory_region"
_LARGEST = (1 << 63) - 1
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request asks.

    Attributes:
        arrays: every input of the signature. Those that came raw are read-only views of the request's bytes.
        outputs: the outputs that were asked for, in that order; None for all.
        typed: whether the inputs came as typed lists, so that the answer goes out the same way.
        rows: along the dimension that counts rows; 1 where none does.
    """

    arrays: dict[str, NDArray[Any]]
    outputs: tuple[str, ...] | None
    typed: bool
    rows: int


def take(request: ModelInferRequest, plan: Plan) -> Taken:
    """The request's arrays.

    Raises:
        InvalidInputError: its tensors are not what the plan wants; the message names the tensor, what was expected
            and what was found.
    """
    # Slices: protobuf's containers are several times slower to iterate than lists.
    tensors: Sequence[ModelInferRequest.InferInputTensor] = request.inputs[:]
    raws: Sequence[bytes] = request.raw_input_contents[:]
    if raws and len(raws) != len(tensors):
        raise InvalidInputError(
            f"{len(raws)} raw_input_contents for {len(tensors)} inputs: expected one for each, in their order"
        )
    arrays: dict[str, NDArray[Any]] = {}
    typed = False
    for index, tensor in enumerate(tensors):
        wanted = _wanted(tensor, plan.inputs, arrays)
        shape = tuple(tensor.shape[:])
        count = _count(wanted, shape)
        contents = tensor.contents if tensor.HasField("contents") else None
        if raws:
            if contents is not None and contents.ListFields():
                raise InvalidInputError(
                    f"input {wanted.name!r}: it has typed contents beside raw_input_contents: expected one form for "
                    "all inputs"
                )
            flat = _from_raw(raws[index], wanted, shape, count)
        else:
            flat = _from_typed(contents, wanted, shape, count)
            typed = typed or (contents is not None and bool(contents.ListFields()))
        arrays[wanted.name] = flat.reshape(shape)
    if len(arrays) != len(plan.inputs):
        missing = ", ".join(str(plan.inputs[name].spec) for name in plan.inputs if name not in arrays)
        raise InvalidInputError(f"missing: input {missing}")
    rows = arrays[plan.rows_of].shape[0] if plan.rows_of is not None else 1
    return Taken(arrays, _outputs(request, plan) if request.outputs else None, typed, rows)


def _wanted(
    tensor: ModelInferRequest.InferInputTensor, inputs: Mapping[str, TensorPlan], before: Collection[str]
) -> TensorPlan:
    name = tensor.name
    wanted = inputs.get(name)
    if wanted is None:
        raise InvalidInputError(
            f"input {name[:200]!r} is unknown: the model takes {', '.join(str(each.spec) for each in inputs.values())}"
        )
    if name in before:
        raise InvalidInputError(f"input {name!r} is there twice")
    if tensor.datatype != wanted.datatype:
        raise InvalidInputError(
            f"input {name!r}: datatype {tensor.datatype[:40]!r}, expected {wanted.datatype}", tensor=name
        )
    if tensor.parameters and _SHARED_MEMORY in tensor.parameters:
        raise _shared_memory(f"input {name!r}")
    return wanted


def _count(wanted: TensorPlan, shape: tuple[int, ...]) -> int:
    """How many elements a tensor of this shape has, if it may have this shape."""
    if len(shape) != len(wanted.shape):
        raise _misfit(wanted, shape)
    count = spread = 1
    for size, want in zip(shape, wanted.shape, strict=True):
        if size < 0 or want not in (size, -1):
            raise _misfit(wanted, shape)
        count *= size
        spread *= size or 1
    # A size of zero hides the others from the count, but not from what is computed with them later.
    if spread * wanted.dtype.itemsize > _LARGEST:
        raise InvalidInputError(
            f"input {wanted.name!r}: shape {_shown(shape)} has more elements than can be counted",
            tensor=wanted.name,
        )
    return count


def _misfit(wanted: TensorPlan, shape: tuple[int, ...]) -> InvalidInputError:
    expected = f"expected {list(wanted.shape)}"
    if min(shape, default=0) < 0:
        expected = f"which has a negative dimension; {expected}"
    if -1 in wanted.shape:
        expected += ", where -1 stands for any size"
    return InvalidInputError(f"input {wanted.name!r}: shape {_shown(shape)}, {expected}", tensor=wanted.name)


def _from_raw(raw: bytes, wanted: TensorPlan, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    if wanted.is_bytes:
        return strings_from_raw(raw, count, where=f"input {wanted.name!r}")
    size = wanted.dtype.itemsize
    if len(raw) != count * size:
        raise InvalidInputError(
            f"input {wanted.name!r}: {len(raw)} bytes, expected {count * size}: shape {_shown(shape)} of "
            f"{wanted.datatype} with {size} bytes each",
            tensor=wanted.name,
        )
    if wanted.is_bool and raw.translate(None, b"\0\1"):
        raise InvalidInputError(
            f"input {wanted.name!r}: a BOOL element is neither 0 nor 1", tensor=wanted.name
        )
    return np.frombuffer(raw, dtype=wanted.dtype)


def _from_typed(contents: Any, wanted: TensorPlan, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    if wanted.typed_list is None:
        if count == 0 and contents is None:
            return np.empty(0, dtype=wanted.dtype)
        raise InvalidInputError(
            f"input {wanted.name!r}: no raw_input_contents, and {wanted.datatype} has no typed form: send it raw",
            tensor=wanted.name,
        )
    filled = [] if contents is None else [field.name for field, _ in contents.ListFields()]
    if filled and filled != [wanted.typed_list]:
        raise InvalidInputError(
            f"input {wanted.name!r}: contents.{', contents.'.join(filled)} filled, expected only "
            f"contents.{wanted.typed_list} for {wanted.datatype}",
            tensor=wanted.name,
        )
    values = () if contents is None else getattr(contents, wanted.typed_list)
    if len(values) != count:
        raise InvalidInputError(
            f"input {wanted.name!r}: {len(values)} elements in contents.{wanted.typed_list}, expected {count} for shape "
            f"{_shown(shape)}",
            tensor=wanted.name,
        )
    if wanted.is_bytes:
        where = f"input {wanted.name!r}"
        return strings(text(element, index, where=where) for index, element in enumerate(values))
    if wanted.typed_list in ("int_contents", "uint_contents") and wanted.dtype.itemsize < 4:
        return _narrowed(np.array(values, dtype=np.int64), wanted)
    return np.array(values, dtype=wanted.dtype)


def _narrowed(values: NDArray[np.int64], wanted: TensorPlan) -> NDArray[Any]:
    limits = np.iinfo(wanted.dtype)
    outside = (values < limits.min) | (values > limits.max)
    if outside.any():
        index = int(outside.argmax())
        raise InvalidInputError(
            f"input {wanted.name!r}: element {index} is {values[index]}, expected {limits.min} to {limits.max} for "
            f"{wanted.datatype}",
            tensor=wanted.name,
        )
    return values.astype(wanted.dtype)


def _outputs(request: ModelInferRequest, plan: Plan) -> tuple[str, ...]:
    names: list[str] = []
    for asked in request.outputs:
        if asked.name not in plan.outputs:
            raise InvalidInputError(
                f"output {asked.name[:200]!r} is unknown: the model gives "
                f"{', '.join(str(each.spec) for each in plan.outputs.values())}"
            )
        if asked.name in names:
            raise InvalidInputError(f"output {asked.name!r} is asked for twice")
        if asked.parameters and _SHARED_MEMORY in asked.parameters:
            raise _shared_memory(f"output {asked.name!r}")
        names.append(asked.name)
    return tuple(names)


def _shared_memory(which: str) -> InvalidInputError:
    return InvalidInputError(
        f"{which}: parameter {_SHARED_MEMORY} is set, and shared memory is not enabled in this sidecar: send the "
        "tensor in the request"
    )


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape)) if len(shape) <= _SHOWN else f"[{', '.join(map(str, shape[:_SHOWN]))}, …]"

"""A ModelInferRequest's tensors as arrays, every claim of theirs checked; what does not fit is named and refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import InvalidInputError, Reason
from model_sidecar.rpc.elements import AT_ONCE, strings, strings_from_raw, text
from model_sidecar.rpc.plan import Plan, TensorPlan
from model_sidecar.rpc.regions import Window
from model_sidecar.rpc.shared_tensors import REGION
from model_sidecar_client.wire.inference import InferParameter, ModelInferRequest

_LARGEST = (1 << 63) - 1
_SHOWN = 16
MOST_DIMENSIONS = 65
"""One more than an array may have (numpy.org, "MAXDIMS")."""


class Shared(Protocol):
    """Finds tensors that are not in the message."""

    def window(self, parameters: Mapping[str, InferParameter], *, where: str) -> Window:
        """Where a tensor with these parameters lies; `where` names it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request asks.

    Attributes:
        arrays: every input of the signature. Those that came raw are read-only views of the request's bytes, those from
            shared memory are read-only copies.
        outputs: the outputs that were asked for, in that order; None for all.
        typed: whether the inputs came as typed lists, so that the answer goes out the same way.
        rows: along the dimension that counts rows; 1 where none does.
        windows: where outputs are to be put that do not go into the message, by name; None for none.
    """

    arrays: dict[str, NDArray[Any]]
    outputs: tuple[str, ...] | None
    typed: bool
    rows: int
    windows: Mapping[str, Window] | None = None


def take(request: ModelInferRequest, plan: Plan, shared: Shared | None = None) -> Taken:
    """The request's arrays.

    Args:
        request: parsed.
        plan: of the model that is to answer it.
        shared: finds those that lie in shared memory; None where that is not enabled.

    Raises:
        InvalidInputError: its tensors are not what the plan wants; the message names the tensor, what was expected
            and what was found.
        NotFoundError: REGION_NOT_FOUND.
    """
    # Slices: protobuf's containers are several times slower to iterate than lists. Of one more than there may be: one of
    # those is unknown or there twice, and nobody looks at the others.
    most = len(plan.inputs) + 1
    tensors: Sequence[ModelInferRequest.InferInputTensor] = request.inputs[:most]
    elsewhere = sum(map(_is_shared, tensors))
    raws, in_message = len(request.raw_input_contents), len(request.inputs) - elsewhere
    if raws and raws != in_message:
        raise InvalidInputError(
            f"{raws} raw_input_contents for {in_message} inputs: expected one for each, in their order"
            + (f" ({elsewhere} in shared memory have none)" if elsewhere else "")
        )
    left: Iterator[bytes] = iter(request.raw_input_contents[:most])
    arrays: dict[str, NDArray[Any]] = {}
    typed = False
    for tensor in tensors:
        wanted = _wanted(tensor, plan.inputs, arrays)
        shape = tuple(tensor.shape[:MOST_DIMENSIONS])
        count = _count(wanted, shape)
        contents = tensor.contents if tensor.HasField("contents") else None
        if elsewhere and _is_shared(tensor):
            flat = _from_region(shared, tensor, wanted, shape, count)
        elif raws:
            if contents is not None and contents.ListFields():
                raise InvalidInputError(
                    f"input {wanted.name!r}: it has typed contents beside raw_input_contents: expected one form for "
                    "all inputs"
                )
            flat = _from_raw(next(left), wanted, shape, count)
        else:
            flat = _from_typed(contents, wanted, shape, count)
            typed = typed or (contents is not None and bool(contents.ListFields()))
        arrays[wanted.name] = flat.reshape(shape)
    if len(arrays) != len(plan.inputs):
        missing = ", ".join(str(plan.inputs[name].spec) for name in plan.inputs if name not in arrays)
        raise InvalidInputError(f"missing: input {missing}")
    rows = arrays[plan.rows_of].shape[0] if plan.rows_of is not None else 1
    if not request.outputs:
        return Taken(arrays, None, typed, rows)
    outputs = _outputs(request, plan)
    windows = {
        asked.name: _window(shared, asked.parameters, f"output {asked.name!r}")
        for asked in request.outputs
        if _is_shared(asked)
    }
    return Taken(arrays, outputs, typed, rows, windows or None)


def _is_shared(
    tensor: ModelInferRequest.InferInputTensor | ModelInferRequest.InferRequestedOutputTensor,
) -> bool:
    parameters = tensor.parameters
    return bool(parameters) and REGION in parameters


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
        raise _misfit_bytes(len(raw), wanted, shape, count)
    if wanted.is_bool and raw.translate(None, b"\0\1"):
        raise _no_bool(wanted)
    return np.frombuffer(raw, dtype=wanted.dtype)


def _misfit_bytes(found: int, wanted: TensorPlan, shape: tuple[int, ...], count: int) -> InvalidInputError:
    size = wanted.dtype.itemsize
    return InvalidInputError(
        f"input {wanted.name!r}: {found} bytes, expected {count * size}: shape {_shown(shape)} of {wanted.datatype} with "
        f"{size} bytes each",
        tensor=wanted.name,
    )


def _no_bool(wanted: TensorPlan) -> InvalidInputError:
    return InvalidInputError(f"input {wanted.name!r}: a BOOL element is neither 0 nor 1", tensor=wanted.name)


def _from_region(
    shared: Shared | None,
    tensor: ModelInferRequest.InferInputTensor,
    wanted: TensorPlan,
    shape: tuple[int, ...],
    count: int,
) -> NDArray[Any]:
    where = f"input {wanted.name!r}"
    window = _window(shared, tensor.parameters, where)
    if tensor.HasField("contents") and tensor.contents.ListFields():
        raise InvalidInputError(
            f"{where}: it has typed contents and lies in shared memory: expected one of them"
        )
    if wanted.is_bytes:
        return strings_from_raw(window.read().tobytes(), count, where=where)
    size = wanted.dtype.itemsize
    # Before it is copied, and so before its size is believed.
    if window.byte_size != count * size:
        raise _misfit_bytes(window.byte_size, wanted, shape, count)
    copy = window.read()
    if wanted.is_bool and (copy > 1).any():
        raise _no_bool(wanted)
    copy.flags.writeable = False
    return copy.view(wanted.dtype)


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
        return _narrowed(_array(values, np.dtype(np.int64)), wanted)
    return _array(values, wanted.dtype)


def _array(values: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(values) <= AT_ONCE:
        return np.array(values, dtype=dtype)
    made = np.empty(len(values), dtype=dtype)
    for start in range(0, len(values), AT_ONCE):
        end = start + AT_ONCE
        made[start:end] = np.array(values[start:end], dtype=dtype)
    return made


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
        names.append(asked.name)
    return tuple(names)


def _window(shared: Shared | None, parameters: Mapping[str, InferParameter], where: str) -> Window:
    if shared is None:
        raise InvalidInputError(
            f"{where}: parameter {REGION} is set, and shared memory is not enabled in this sidecar (--shared-memory): send "
            "the tensor in the message",
            reason=Reason.REGION_INVALID,
        )
    return shared.window(parameters, where=where)


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape)) if len(shape) <= _SHOWN else f"[{', '.join(map(str, shape[:_SHOWN]))}, …]"

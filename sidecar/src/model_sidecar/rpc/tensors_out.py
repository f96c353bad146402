"""A model's arrays as the tensors of a ModelInferResponse, raw or typed, in the shapes they really have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import InferenceFailedError, InvalidInputError
from model_sidecar.rpc.elements import AT_ONCE, encoded_text, strings_to_raw
from model_sidecar.rpc.plan import TensorPlan
from model_sidecar.rpc.regions import Window
from model_sidecar.rpc.shared_tensors import say
from model_sidecar_client.wire.inference import ModelInferResponse


def give(
    response: ModelInferResponse,
    arrays: Mapping[str, NDArray[Any]],
    wanted: Iterable[TensorPlan],
    *,
    typed: bool,
    windows: Mapping[str, Window] | None = None,
) -> None:
    """Put the wanted outputs into the response, in that order; raw for all if one of them has no typed form.

    Those that have a window in shared memory are put there instead. Each keeps an empty place among the raw contents, as
    Triton's answers have it, so that these stay one for each output.

    Raises:
        InferenceFailedError: the model gave another type than its signature says, or not this output.
        InvalidInputError: an output does not fit where it is to be put.
    """
    listed = list(wanted)
    typed = typed and not windows and all(each.typed_list is not None for each in listed)
    for each in listed:
        array = array_of(arrays, each)
        tensor = response.outputs.add(name=each.name, datatype=each.datatype, shape=array.shape)
        if windows and (window := windows.get(each.name)) is not None:
            say(tensor.parameters, window, _put(each, array, window))
            response.raw_output_contents.append(b"")
        elif typed:
            _fill(tensor.contents, array, each)
        else:
            response.raw_output_contents.append(strings_to_raw(array) if each.is_bytes else array.tobytes())


def _put(wanted: TensorPlan, array: NDArray[Any], window: Window) -> int:
    try:
        return window.write(strings_to_raw(array) if wanted.is_bytes else array)
    except InvalidInputError as error:
        raise InvalidInputError(f"output {wanted.name!r}: {error}", reason=error.reason) from error


def array_of(arrays: Mapping[str, NDArray[Any]], wanted: TensorPlan) -> NDArray[Any]:
    """The array of this output; InferenceFailedError where it is not there, or of another type than promised."""
    found = arrays.get(wanted.name)
    if found is None:
        raise InferenceFailedError(f"the model gave no output {wanted.name!r}")
    array = np.asarray(found)
    if array.dtype != wanted.dtype:
        raise InferenceFailedError(
            f"output {wanted.name!r}: the model gave {array.dtype}, expected {wanted.datatype}"
        )
    return array


def _fill(contents: Any, array: NDArray[Any], wanted: TensorPlan) -> None:
    assert wanted.typed_list is not None, "checked for all outputs before"
    flat, there = array.ravel(), getattr(contents, wanted.typed_list)
    for start in range(0, len(flat), AT_ONCE):
        some = flat[start : start + AT_ONCE]
        there.extend([encoded_text(each) for each in some] if wanted.is_bytes else some.tolist())

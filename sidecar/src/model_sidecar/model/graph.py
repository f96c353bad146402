"""One ONNX graph that can be run: an onnxruntime session, and arrays on their way into and out of it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from model_sidecar.errors import InferenceFailedError, InvalidInputError
from model_sidecar.model.anatomy import Anatomy
from model_sidecar.model.session import open_session, shortened
from model_sidecar.model.signature import read_signature
from model_sidecar.release.digests import Digest
from model_sidecar.release.tensors import Arrays, Datatype, Signature

_ONNX_BFLOAT16 = 16
"""TensorProto.BFLOAT16 of onnx.proto; numpy has no such type, so its arrays hold the bit patterns."""
_NAMED = re.compile(r'File "<model (sha256:[0-9a-f]{64})>"', re.ASCII)
_INSIDE = "Non-zero status code returned while running"
"""How onnxruntime begins when an operator failed, rather than its check of the inputs before the first one."""


class _Runs(NamedTuple):
    """How a session is run: over arrays, and over onnxruntime's own values."""

    arrays: Callable[..., Any]
    values: Callable[..., Any]


class Graph:
    """A session with its signature. Any thread may run it; whoever closes it makes sure that nobody runs it then.

    Attributes:
        signature: what it takes and gives.
    """

    def __init__(
        self, path: str, anatomy: Anatomy, *, name: str, identity: Digest, prepack: bool = True
    ) -> None:
        """Open an ONNX file.

        Args:
            path: where it is.
            anatomy: what is known of it.
            name: its name, for the error's words.
            prepack: as in `open_session`.
            identity: the version's, for the last words of a process that it crashes (see `named_in`).

        Raises:
            VerificationError: as `open_session` and `read_signature` do.
        """
        self._session: ort.InferenceSession | None = open_session(path, name=name, prepack=prepack)
        self.signature: Signature = read_signature(self._session, unshaped=anatomy.unshaped, name=name)
        self._runs: _Runs | None = _Runs(
            _under(identity, self._session.run), _under(identity, self._session.run_with_ort_values)
        )
        self._bf16_inputs = frozenset(
            spec.name for spec in self.signature.inputs if spec.datatype is Datatype.BF16
        )
        self._bf16_outputs = frozenset(
            spec.name for spec in self.signature.outputs if spec.datatype is Datatype.BF16
        )

    def run(
        self, feed: Arrays, outputs: Sequence[str], options: ort.RunOptions | None = None
    ) -> dict[str, NDArray[Any]]:
        """The named outputs for a feed that has every input, of the right datatype.

        Raises:
            InvalidInputError: a shape that the graph does not take, or text that is not Unicode.
            InferenceFailedError: the graph failed; `__cause__` is onnxruntime's error.
        """
        runs = self._runs
        if runs is None:
            raise InferenceFailedError("the model was released before it was asked")
        try:
            if not self._bf16_inputs and not self._bf16_outputs:
                feed = feed if isinstance(feed, dict) else dict(feed)
                return _arrays(outputs, runs.arrays(outputs, feed, options))
            if self._bf16_outputs.isdisjoint(outputs):
                return _arrays(outputs, runs.arrays(outputs, self._with_bf16(feed), options))
            values = {name: _value(array, bf16=name in self._bf16_inputs) for name, array in feed.items()}
            answers = runs.values(outputs, values, options)
            return {name: _array(answer) for name, answer in zip(outputs, answers, strict=True)}
        except native.InvalidArgument as error:
            if _INSIDE in str(error):
                raise _failed() from error
            raise InvalidInputError(f"the model does not take this input: {shortened(error)}") from error
        except UnicodeEncodeError as error:
            raise InvalidInputError("a BYTES tensor holds text that is not Unicode") from error
        except Exception as error:
            raise _failed() from error

    def close(self) -> None:
        """Drop the session. Holds the GIL for as long as its destructor takes (see `LoadedModel.close`)."""
        self._session = self._runs = None

    def _with_bf16(self, feed: Arrays) -> Mapping[str, NDArray[Any] | ort.OrtValue]:
        return {
            name: _value(array, bf16=True) if name in self._bf16_inputs else array
            for name, array in feed.items()
        }


def named_in(crash: str) -> frozenset[Digest]:
    """The versions that were being run by the thread that crashed, by what `faulthandler` wrote of it."""
    dying = next((each for each in crash.split("\n\n") if each.startswith("Current thread ")), "")
    return frozenset(Digest(identity) for identity in _NAMED.findall(dying))


def _under(identity: Digest, run: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, with the identity in every stack that it is on: its code claims to stand in a file of that name.

    A native crash leaves nothing behind but the stacks that `faulthandler` writes, and in those stand no arguments.
    """

    def run_model(*arguments: Any) -> Any:
        return run(*arguments)

    run_model.__code__ = run_model.__code__.replace(co_filename=f"<model {identity}>")
    return run_model


def _arrays(names: Sequence[str], values: Sequence[Any]) -> dict[str, NDArray[Any]]:
    return dict(zip(names, values, strict=True))


def _value(array: NDArray[Any], *, bf16: bool) -> ort.OrtValue:
    # It keeps the array alive, but reads it as if it were in C order.
    packed = np.ascontiguousarray(array).reshape(array.shape)
    if bf16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(packed, _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(packed)


def _array(value: ort.OrtValue) -> NDArray[Any]:
    if value.element_type() != _ONNX_BFLOAT16:
        array: NDArray[Any] = value.numpy()
        return array
    shape = tuple(value.shape())
    size = value.tensor_size_in_bytes()
    # Copied, for the memory is the value's own, which ends with this call.
    view = (ctypes.c_char * size).from_address(value.data_ptr())
    return np.frombuffer(view, np.dtype("<u2")).reshape(shape).copy()


def _failed() -> InferenceFailedError:
    return InferenceFailedError("the model failed on this input: the sidecar's log says more")

"""Answers put together from pieces that protobuf wrote once: what two answers of a version share is not written twice.

A serialized message is its fields one behind the other, in any order, so pieces of it may be kept and joined
(protobuf.dev, "Encoding"). The numbers go from the model's arrays into the message in one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from model_sidecar.errors import InvalidRequestError
from model_sidecar.model.wire import as_varint
from model_sidecar.release.names import ModelName, Version
from model_sidecar.rpc.elements import strings_to_raw
from model_sidecar.rpc.plan import TensorPlan
from model_sidecar.rpc.tensors_out import array_of
from model_sidecar_client.wire.inference import ModelInferResponse

_KEPT = 256
_ID_LENGTH = 25

_Head = tuple[ModelName, Version, int | None]
_Described = tuple[str, str, tuple[int, ...], int]


class Pieces:
    """Makes the answers that carry their tensors raw. Any thread may."""

    def __init__(self) -> None:
        template = ModelInferResponse()
        template.parameters["prediction_id"].string_param = "0" * _ID_LENGTH
        # The text is the last of its field, and of this length always.
        self._prediction_id = template.SerializeToString()[:-_ID_LENGTH]
        self._raw = ModelInferResponse(raw_output_contents=[b""]).SerializeToString()[:-1]
        # Two threads may write the same at once; that costs the time, and nothing else.
        self._heads: dict[_Head, bytes] = {}
        self._begins: dict[_Described, bytes] = {}

    def joined(
        self,
        arrays: Mapping[str, NDArray[Any]],
        wanted: Sequence[TensorPlan],
        *,
        head: _Head,
        id: str,
        prediction_id: str,
        max_bytes: int,
    ) -> bytes:
        """A serialized ModelInferResponse with these outputs, in that order.

        Raises:
            InferenceFailedError: as `array_of` does.
            InvalidRequestError: it would be larger than `max_bytes`.
            UnicodeError: text that is not Unicode.
        """
        assert len(prediction_id) == _ID_LENGTH, prediction_id
        pieces: list[bytes | NDArray[Any]] = [
            self._heads.get(head) or self._head(head),
            self._prediction_id,
            prediction_id.encode(),
        ]
        if id:
            pieces.append(ModelInferResponse(id=id).SerializeToString())
        size = sum(map(len, pieces))
        for each in wanted:
            array = array_of(arrays, each)
            if each.is_bytes:
                content: bytes | NDArray[Any] = strings_to_raw(array)
                length = len(content)
            else:
                content, length = array, array.nbytes
            described = each.name, each.datatype, array.shape, length
            begin = self._begins.get(described) or self._begin(described)
            pieces += (begin, content)
            size += len(begin) + length
        if size > max_bytes:
            raise too_large(size, max_bytes)
        try:
            return b"".join(pieces)  # type: ignore[arg-type]  # an array is a buffer
        except TypeError:  # of an array whose elements do not lie together, nothing can be had but a copy
            return b"".join(each if isinstance(each, bytes) else each.tobytes() for each in pieces)

    def _head(self, head: _Head) -> bytes:
        model, version, generation = head
        response = ModelInferResponse(model_name=model, model_version=version)
        if generation is not None:
            response.parameters["generation"].int64_param = generation
        return _keep(self._heads, head, response.SerializeToString())

    def _begin(self, described: _Described) -> bytes:
        """All that comes before a tensor's bytes: what it is, and that so many bytes follow."""
        name, datatype, shape, length = described
        tensor = ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
        told = ModelInferResponse(outputs=[tensor]).SerializeToString()
        return _keep(self._begins, described, told + self._raw + as_varint(length))


def too_large(size: int, max_bytes: int) -> InvalidRequestError:
    """The answer is larger than a message may be."""
    return InvalidRequestError(
        f"the answer has {size} bytes, and a message at most {max_bytes} (--max-message): send fewer rows at once"
    )


def _keep(kept: dict[Any, bytes], key: object, piece: bytes) -> bytes:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = piece
    return piece

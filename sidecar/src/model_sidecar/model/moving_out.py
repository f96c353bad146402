"""An ONNX file without its large weights: they go into a data file, of which onnxruntime maps what it needs.

The file is rewritten as it stands, field by field; nothing is understood of it but where its initializers' bytes are
(`TensorProto.raw_data`). Messages and field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, and what an external tensor says is told in
https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from model_sidecar.model.wire import BYTES, VARINT, Reader, as_varint, tag

LEAST_BYTES = 1 << 20
"""Smaller weights stay: each that is mapped costs the kernel a mapping, and its last page in part."""
ALIGNMENT = 4096
"""Where a page begins, on the machines that map them; 64 KiB on some arm64, which then map a little more."""

_GRAPH, _INITIALIZER = tag(7, BYTES), tag(5, BYTES)
_NAME, _RAW, _EXTERNAL, _LOCATION = tag(8, BYTES), tag(9, BYTES), tag(13, BYTES), tag(14, VARINT)
_OUTSIDE = 1  # TensorProto.DataLocation.EXTERNAL


@dataclass(frozen=True, slots=True)
class MovedOut:
    """A model and its weights, apart.

    Attributes:
        model: the ONNX file, which names `location` for each weight that is not in it.
        weights: where in the original they stand, begin and end, in the order of the data file.
        size: how many bytes the data file has.
        twice: names that two weights of one graph have, which nobody may rely on: which of them counts changes with this.
    """

    model: bytes
    weights: tuple[tuple[int, int], ...]
    size: int
    twice: frozenset[str]

    def data(self, content: mmap.mmap | bytes) -> Iterator[bytes]:
        """The data file, part by part; `content` is the original's."""
        written = 0
        for begin, end in self.weights:
            yield bytes(-written % ALIGNMENT)
            written += -written % ALIGNMENT
            for at in range(begin, end, LEAST_BYTES):
                yield content[at : min(at + LEAST_BYTES, end)]
            written += end - begin


class _Mover:
    def __init__(self, content: mmap.mmap | bytes, location: str) -> None:
        self._content = content
        self._reader = Reader(content)
        self._location = location
        self.weights: list[tuple[int, int]] = []
        self.size = 0
        self.twice: set[str] = set()

    def model(self, begin: int, end: int) -> bytes:
        parts = []
        for found, value, at, behind in self._fields(begin, end):
            if found == _GRAPH:
                parts.append(_written(_GRAPH, self._graph(value, behind)))
            else:
                parts.append(self._content[at:behind])
        return b"".join(parts)

    def _graph(self, begin: int, end: int) -> bytes:
        parts: list[bytes] = []
        names: set[str] = set()
        for found, value, at, behind in self._fields(begin, end):
            if found == _INITIALIZER:
                name = self._name(value, behind)
                (self.twice if name in names else names).add(name)
            moved = self._tensor(value, behind) if found == _INITIALIZER else None
            parts.append(self._content[at:behind] if moved is None else _written(_INITIALIZER, moved))
        return b"".join(parts)

    def _name(self, begin: int, end: int) -> str:
        named = [
            self._content[value:behind]
            for found, value, _, behind in self._fields(begin, end)
            if found == _NAME
        ]
        return named[-1].decode(errors="replace") if named else ""

    def _tensor(self, begin: int, end: int) -> bytes | None:
        """The tensor without its bytes, which are noted; None where it stays as it is."""
        if end - begin < LEAST_BYTES:
            return None
        rest, raw = [], []
        for found, value, at, behind in self._fields(begin, end):
            if found in (_EXTERNAL, _LOCATION):
                return None
            if found == _RAW:
                raw.append((value, behind))
            else:
                rest.append(self._content[at:behind])
        if len(raw) != 1 or raw[0][1] - raw[0][0] < LEAST_BYTES:
            return None
        ((first, last),) = raw
        offset = self.size + -self.size % ALIGNMENT
        self.weights.append((first, last))
        self.size = offset + last - first
        told = {"location": self._location, "offset": str(offset), "length": str(last - first)}
        entries = [
            _written(
                _EXTERNAL, _written(tag(1, BYTES), key.encode()) + _written(tag(2, BYTES), text.encode())
            )
            for key, text in told.items()
        ]
        return b"".join([*rest, *entries, as_varint(_LOCATION), as_varint(_OUTSIDE)])

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Each field's tag, its value as `Reader.field` gives it, where it begins and where it ends."""
        while at < end:
            found, value, behind = self._reader.field(at, end)
            yield found, value, at, behind
            at = behind


def moved_out(content: mmap.mmap | bytes, *, location: str) -> MovedOut:
    """The model in these bytes, which `dissect` has read before, with its large weights in another file.

    Args:
        content: an ONNX file.
        location: what the data file beside it will be called.

    Raises:
        DamagedError: it is no message of the strict kind.
    """
    mover = _Mover(content, location)
    model = mover.model(0, len(content))
    return MovedOut(model, tuple(mover.weights), mover.size, frozenset(mover.twice))


def _written(found: int, content: bytes) -> bytes:
    return as_varint(found) + as_varint(len(content)) + content

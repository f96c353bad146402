"""What an ONNX file is made of, read before onnxruntime sees it: which other files it wants, which operators it uses.

onnxruntime opens the external data files that a model names, so the names must be known before the model is opened.
They can stand wherever a tensor can: initializers, attributes, subgraphs, functions, training information. This walks
the file in place: nothing is built but the answer, the stack is bounded as protobuf's own is. Where protobuf would let
a second value replace a first one, both are looked at: what this misses, onnxruntime could open.

Messages and field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import NamedTuple

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model.wire import BYTES, VARINT, DamagedError, Reader, tag
from model_sidecar.store.sealing import SealedFile

MAX_DEPTH = 100
"""protobuf's own limit on nested messages: what is deeper, onnxruntime could not read either."""
MAX_FIELDS = 20_000_000
"""Fields looked at one by one, in some fifteen seconds. A graph of 4,000 nodes has 50,000."""
MAX_DISTINCT = 10_000
"""Different operators, or different external files: more than any model has."""
MAX_NAME_BYTES = 4096


class Operator(NamedTuple):
    """An operator by the domain that defines it; `""` is ONNX's own."""

    domain: str
    name: str


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What was found in an ONNX file.

    Attributes:
        ir_version: the format's version.
        opset_domains: domains that the model or one of its functions imports; `""` is ONNX's own.
        operators: every operator that any node uses, in whatever subgraph or function.
        external_locations: the names of external data files, as they stand there; `""` where one is missing.
        unshaped: inputs and outputs of the model of which not even the number of dimensions is told.
        heaviest: how many bytes the content of the largest tensor has that stands in the file itself.
    """

    ir_version: int
    opset_domains: frozenset[str]
    operators: frozenset[Operator]
    external_locations: frozenset[str]
    unshaped: frozenset[str]
    heaviest: int = 0

    @property
    def op_domains(self) -> frozenset[str]:
        """The domains of the operators in use."""
        return frozenset(operator.domain for operator in self.operators)


def dissect(sealed: SealedFile) -> Anatomy:
    """What the ONNX file in these sealed bytes is made of.

    Raises:
        VerificationError: MODEL_INVALID; it is not ONNX, or it is damaged. The message says what it looks like instead.
    """
    if not sealed.size:
        return walk(b"", name=sealed.name)  # which refuses it; there is nothing to map
    # Private: kernels before 6.7 give no shared mapping, not even to read, of a memfd sealed against writing.
    with mmap.mmap(sealed.fd, sealed.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as content:
        return walk(content, name=sealed.name)


def walk(content: bytes | mmap.mmap, *, name: str) -> Anatomy:
    """What the ONNX file with this content is made of; `name` is for the error's words.

    Raises:
        VerificationError: MODEL_INVALID, as for `dissect`.
    """
    if not content:
        raise _invalid(name, "it is empty")
    for at, magic, kind in _OTHER_FORMATS:
        if content[at : at + len(magic)] == magic:
            raise _invalid(name, f"it looks like {kind}")
    try:
        return _Walk(content).to_the_end()
    except DamagedError as error:
        raise _invalid(name, str(error)) from error


_PICKLE = "a Python pickle, which is never opened: export the model to ONNX"
_OTHER_FORMATS = (
    (0, b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"),
    (4, b"ORTM", "onnxruntime's own ORT format: publish the ONNX file that it was made from"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it with tf2onnx"),
    (0, b"\x80\x02", _PICKLE),
    (0, b"\x80\x03", _PICKLE),
    (0, b"\x80\x04", _PICKLE),
    (0, b"\x80\x05", _PICKLE),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint, perhaps): export the model to ONNX"),
    (0, b"\x89HDF", "an HDF5 file (a Keras model, perhaps): convert it with tf2onnx"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
)


def _invalid(name: str, why: str) -> VerificationError:
    return VerificationError(f"{name} is not an ONNX model: {why}", reason=Reason.MODEL_INVALID, file=name)


class _Kind(IntEnum):  # an IntEnum, for its hash is not computed in Python
    """A kind of message that the walk goes into; all others it steps over."""

    MODEL = auto()
    MAIN_GRAPH = auto()
    GRAPH = auto()
    NODE = auto()
    ATTRIBUTE = auto()
    TENSOR = auto()
    SPARSE_TENSOR = auto()
    ENTRY = auto()
    FUNCTION = auto()
    TRAINING = auto()
    OPSET = auto()
    VALUE = auto()
    TYPE = auto()
    TENSOR_TYPE = auto()


class _Note(IntEnum):
    """A field whose value is remembered while the walk is inside of its message."""

    IR_VERSION = auto()
    DOMAIN = auto()
    NAME = auto()
    EXTERNAL = auto()
    KEY = auto()
    CONTENT = auto()
    SHAPE = auto()
    WEIGHTS = auto()


_GRAPH = {tag(1, BYTES): _Kind.NODE, tag(5, BYTES): _Kind.TENSOR, tag(15, BYTES): _Kind.SPARSE_TENSOR}
_RULES: Mapping[_Kind, Mapping[int, _Kind | _Note]] = {
    _Kind.MODEL: {
        tag(1, VARINT): _Note.IR_VERSION,
        tag(7, BYTES): _Kind.MAIN_GRAPH,
        tag(8, BYTES): _Kind.OPSET,
        tag(20, BYTES): _Kind.TRAINING,
        tag(25, BYTES): _Kind.FUNCTION,
    },
    _Kind.MAIN_GRAPH: {**_GRAPH, tag(11, BYTES): _Kind.VALUE, tag(12, BYTES): _Kind.VALUE},
    _Kind.GRAPH: {**_GRAPH},
    _Kind.NODE: {tag(4, BYTES): _Note.NAME, tag(5, BYTES): _Kind.ATTRIBUTE, tag(7, BYTES): _Note.DOMAIN},
    _Kind.ATTRIBUTE: {
        tag(5, BYTES): _Kind.TENSOR,
        tag(6, BYTES): _Kind.GRAPH,
        tag(10, BYTES): _Kind.TENSOR,
        tag(11, BYTES): _Kind.GRAPH,
        tag(22, BYTES): _Kind.SPARSE_TENSOR,
        tag(23, BYTES): _Kind.SPARSE_TENSOR,
    },
    _Kind.TENSOR: {
        tag(4, BYTES): _Note.WEIGHTS,
        tag(9, BYTES): _Note.WEIGHTS,
        tag(13, BYTES): _Kind.ENTRY,
        tag(14, VARINT): _Note.EXTERNAL,
    },
    _Kind.SPARSE_TENSOR: {tag(1, BYTES): _Kind.TENSOR, tag(2, BYTES): _Kind.TENSOR},
    _Kind.ENTRY: {tag(1, BYTES): _Note.KEY, tag(2, BYTES): _Note.CONTENT},
    _Kind.FUNCTION: {tag(7, BYTES): _Kind.NODE, tag(9, BYTES): _Kind.OPSET, tag(11, BYTES): _Kind.ATTRIBUTE},
    _Kind.TRAINING: {tag(1, BYTES): _Kind.GRAPH, tag(2, BYTES): _Kind.GRAPH},
    _Kind.OPSET: {tag(1, BYTES): _Note.DOMAIN},
    _Kind.VALUE: {tag(1, BYTES): _Note.NAME, tag(2, BYTES): _Kind.TYPE},
    _Kind.TYPE: {tag(1, BYTES): _Kind.TENSOR_TYPE},
    _Kind.TENSOR_TYPE: {tag(2, BYTES): _Note.SHAPE},
}


@dataclass(slots=True)
class _Frame:
    """A message that the walk is inside of: where it ends, where to go on in it, what it said so far."""

    kind: _Kind
    end: int
    resume: int = 0
    notes: dict[_Note, bytes] = field(default_factory=dict)


class _Walk:
    """One walk over one file. A loop with a stack of its own, so that no nesting exhausts Python's."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        self._reader = Reader(content)
        self._has_graph = False
        self._ir_version = 0
        self._domains: set[bytes] = set()
        self._operators: set[tuple[bytes, bytes]] = set()
        self._locations: set[bytes] = set()
        self._unshaped: set[bytes] = set()
        self._heaviest = 0

    def to_the_end(self) -> Anatomy:
        frame, at, budget = _Frame(_Kind.MODEL, len(self._content)), 0, MAX_FIELDS
        above: list[_Frame] = []
        while True:
            rules, end = _RULES[frame.kind], frame.end
            entered = None
            while at < end:
                budget -= 1
                if not budget:
                    raise DamagedError(f"it has more than {MAX_FIELDS} fields")
                found, value, behind = self._reader.field(at, end)
                rule = rules.get(found)
                at = behind
                if rule is None:
                    if found & 7 != BYTES:
                        at = self._reader.behind_run(found, behind, end)
                elif isinstance(rule, _Kind):
                    entered, at = _Frame(rule, behind), value
                    break
                else:
                    self._note(frame, rule, value, behind)
            if entered is not None:
                if len(above) == MAX_DEPTH:
                    raise DamagedError(f"its messages are nested deeper than {MAX_DEPTH} levels")
                frame.resume = entered.end
                above.append(frame)
                frame = entered
            elif above:
                self._leave(frame, above[-1])
                frame = above.pop()
                at = frame.resume
            else:
                return self._answer()

    def _note(self, frame: _Frame, note: _Note, value: int, behind: int) -> None:
        match note:
            case _Note.IR_VERSION:
                self._ir_version = value
            case _Note.SHAPE:
                frame.notes[note] = b""
            case _Note.WEIGHTS:
                self._heaviest = max(self._heaviest, behind - value)
            case _Note.EXTERNAL:
                if value:
                    frame.notes.setdefault(note, b"")
            case _:
                if behind - value > MAX_NAME_BYTES:
                    raise DamagedError(
                        f"a name in it has {behind - value} bytes: at most {MAX_NAME_BYTES} are read"
                    )
                frame.notes[note] = self._content[value:behind]

    def _leave(self, frame: _Frame, parent: _Frame) -> None:
        notes = frame.notes
        match frame.kind:
            case _Kind.NODE:
                self._operators.add((notes.get(_Note.DOMAIN, b""), notes.get(_Note.NAME, b"")))
                self._bound(self._operators)
            case _Kind.ENTRY if notes.get(_Note.KEY) == b"location":
                parent.notes[_Note.EXTERNAL] = notes.get(_Note.CONTENT, b"")
                self._locations.add(parent.notes[_Note.EXTERNAL])
                self._bound(self._locations)
            case _Kind.TENSOR if _Note.EXTERNAL in notes:
                self._locations.add(notes[_Note.EXTERNAL])
            case _Kind.OPSET:
                self._domains.add(notes.get(_Note.DOMAIN, b""))
                self._bound(self._domains)
            case _Kind.TENSOR_TYPE | _Kind.TYPE if _Note.SHAPE in notes:
                parent.notes[_Note.SHAPE] = b""
            case _Kind.VALUE if _Note.SHAPE not in notes:
                self._unshaped.add(notes.get(_Note.NAME, b""))
                self._bound(self._unshaped)
            case _Kind.MAIN_GRAPH:
                self._has_graph = True
            case _:
                pass

    def _bound(self, found: set[bytes] | set[tuple[bytes, bytes]]) -> None:
        if len(found) > MAX_DISTINCT:
            raise DamagedError(f"it names more than {MAX_DISTINCT} different things of one kind")

    def _answer(self) -> Anatomy:
        if not self._has_graph:
            raise DamagedError("it holds no graph")
        return Anatomy(
            ir_version=self._ir_version,
            opset_domains=frozenset(_domain(each) for each in self._domains),
            operators=frozenset(Operator(_domain(domain), _text(name)) for domain, name in self._operators),
            external_locations=frozenset(_text(each) for each in self._locations),
            unshaped=frozenset(_text(each) for each in self._unshaped),
            heaviest=self._heaviest,
        )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _domain(name: bytes) -> str:
    # ONNX's own domain has two spellings.
    return "" if name == b"ai.onnx" else _text(name)

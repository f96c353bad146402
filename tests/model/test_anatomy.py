"""What the walker finds in ONNX files, real, hostile and damaged."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support import models
from support.memory import resident_bytes
from support.packaged import MAGIKA, SILERO, packaged

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model import anatomy
from model_sidecar.model.anatomy import Anatomy, Operator, dissect, walk
from model_sidecar.release.digests import Digest
from model_sidecar.store.sealing import SealedFile


def external_tensor(location: str) -> onnx.TensorProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True)
    return models.make_external(tensor, location)


def model_with(graph: onnx.GraphProto | None = None, **parts: object) -> onnx.ModelProto:
    if graph is None:
        node = helper.make_node("Identity", ["x"], ["y"])
        graph = helper.make_graph([node], "main", [models.value("x")], [models.value("y")])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 19)], **parts)


def in_initializer(location: str) -> onnx.ModelProto:
    model = model_with()
    model.graph.initializer.append(external_tensor(location))
    return model


def in_sparse_initializer(location: str) -> onnx.ModelProto:
    model = model_with()
    model.graph.sparse_initializer.add().values.CopyFrom(external_tensor(location))
    return model


def in_sparse_indices(location: str) -> onnx.ModelProto:
    model = model_with()
    model.graph.sparse_initializer.add().indices.CopyFrom(external_tensor(location))
    return model


def in_attribute(location: str) -> onnx.ModelProto:
    model = model_with()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external_tensor(location)))
    return model


def in_attribute_list(location: str) -> onnx.ModelProto:
    model = model_with()
    node = helper.make_node("Strange", [], ["c"], values=[external_tensor("a"), external_tensor(location)])
    model.graph.node.append(node)
    return model


def in_sparse_attribute(location: str) -> onnx.ModelProto:
    model = model_with()
    attribute = model.graph.node[0].attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(external_tensor(location))
    return model


def in_subgraph(location: str) -> onnx.ModelProto:
    graph = in_initializer(location).graph
    for _ in range(5):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=model_with().graph)
        graph = helper.make_graph([node], "around", [], [])
    return model_with(graph)


def in_function(location: str) -> onnx.ModelProto:
    inner = in_attribute(location).graph.node
    imports = [helper.make_opsetid("", 19), helper.make_opsetid("my.functions", 1)]
    function = helper.make_function("my.functions", "Mine", ["x"], ["y"], inner, imports)
    return model_with(functions=[function])


def in_function_default(location: str) -> onnx.ModelProto:
    default = helper.make_attribute("value", external_tensor(location))
    imports = [helper.make_opsetid("", 19)]
    function = helper.make_function("my.functions", "Mine", [], [], [], imports, attribute_protos=[default])
    return model_with(functions=[function])


def in_training(location: str) -> onnx.ModelProto:
    model = model_with()
    model.training_info.add().initialization.CopyFrom(in_initializer(location).graph)
    return model


def in_training_algorithm(location: str) -> onnx.ModelProto:
    model = model_with()
    model.training_info.add().algorithm.CopyFrom(in_attribute(location).graph)
    return model


EVERYWHERE = [
    in_initializer,
    in_sparse_initializer,
    in_sparse_indices,
    in_attribute,
    in_attribute_list,
    in_sparse_attribute,
    in_subgraph,
    in_function,
    in_function_default,
    in_training,
    in_training_algorithm,
]


@pytest.mark.parametrize("place", EVERYWHERE, ids=lambda place: place.__name__)
def test_external_data_is_found_wherever_a_tensor_can_stand(place: Callable[[str], onnx.ModelProto]) -> None:
    """A tensor that stands in another file is found in initializers, attributes, subgraphs, functions, training."""
    found = walk(models.content(place("../../etc/passwd")), name="model.onnx")

    assert "../../etc/passwd" in found.external_locations


def test_a_tensor_that_is_external_without_saying_where_is_found() -> None:
    """Where the location itself is missing, the empty one is told, which no manifest can list."""
    model = in_initializer("x")
    del model.graph.initializer[0].external_data[:]

    assert walk(models.content(model), name="model.onnx").external_locations == {""}


def test_a_location_counts_even_where_the_tensor_does_not_claim_to_be_external() -> None:
    """Readers differ over which of the two fields decides, so either is enough."""
    model = in_initializer("beside.bin")
    model.graph.initializer[0].data_location = TensorProto.DEFAULT

    assert walk(models.content(model), name="model.onnx").external_locations == {"beside.bin"}


@pytest.mark.parametrize(
    "content",
    [packaged(*MAGIKA), packaged(*SILERO), models.zipmap_classifier()],
    ids=["magika", "silero", "skl"],
)
def test_a_real_model_is_described_as_the_onnx_package_describes_it(content: bytes) -> None:
    """Operators, domains and inputs without shape are those that onnx itself finds in models made by others."""
    model = onnx.load_model_from_string(content)

    found = walk(content, name="model.onnx")

    nodes = [node for message in submessages(model) if isinstance(node := message, onnx.NodeProto)]
    assert found == Anatomy(
        ir_version=model.ir_version,
        opset_domains=frozenset(each.domain for each in model.opset_import),
        operators=frozenset(Operator(node.domain, node.op_type) for node in nodes),
        external_locations=frozenset(),
        unshaped=frozenset(
            each.name
            for each in [*model.graph.input, *model.graph.output]
            if not each.type.tensor_type.HasField("shape")
        ),
        heaviest=max(
            (
                len(each.raw_data) or 4 * len(each.float_data)
                for each in submessages(model)
                if isinstance(each, onnx.TensorProto)
            ),
            default=0,
        ),
    )
    assert found.op_domains <= found.opset_domains


def test_both_spellings_of_onnx_own_domain_are_one() -> None:
    """`ai.onnx` and the empty domain are the same."""
    model = model_with()
    model.graph.node[0].domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"

    found = walk(models.content(model), name="model.onnx")

    assert found.opset_domains | found.op_domains == {""}


def test_inputs_and_outputs_without_any_shape_are_told() -> None:
    """An input of unknown rank is told apart from a scalar, which onnxruntime shows alike."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "main",
        [models.value("x", shape=None), models.value("scalar", shape=())],
        [models.value("y", shape=None)],
    )

    assert walk(models.content(model_with(graph)), name="model.onnx").unshaped == {"x", "y"}


def zip_archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.pkl", b"weights")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (pickle.dumps({"weights": [1.0]}), "pickle"),
        (pickle.dumps({"weights": [1.0]}, protocol=2), "pickle"),
        (pickle.dumps({"weights": [1.0]}, protocol=0), "not an ONNX model"),
        (zip_archive(), "zip archive"),
        (b"\x20\0\0\0ORTM" + b"\0" * 100, "ORT format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b'{"a": 1}', "not an ONNX model"),
        (b"hello, world", "not an ONNX model"),
        (b"\0" * 1000, "not an ONNX model"),
        (b"\xff" * 1000, "not an ONNX model"),
        (b"\x08\x0a", "no graph"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not an ONNX model"),
        (np.arange(100, dtype=np.float32).tobytes(), "not an ONNX model"),
    ],
)
def test_what_is_no_onnx_file_is_refused_in_words_that_help(content: bytes, words: str) -> None:
    """A file of another kind is refused as MODEL_INVALID, and the message says what it looks like."""
    with pytest.raises(VerificationError, match=words) as refused:
        walk(content, name="model.onnx")

    assert refused.value.reason is Reason.MODEL_INVALID
    assert "\n" not in str(refused.value)


def test_an_empty_file_cannot_be_mapped_and_is_refused_all_the_same() -> None:
    """A sealed file without bytes is refused as MODEL_INVALID."""
    with sealed(b"") as file, pytest.raises(VerificationError, match="is empty"):
        dissect(file)


@pytest.mark.parametrize("kept", [1, 100, 5000, -1000, -1])
def test_a_file_that_ends_early_is_refused(kept: int) -> None:
    """A truncated model is refused, and the message asks whether the file is complete."""
    with pytest.raises(VerificationError, match="complete") as refused:
        walk(packaged(*SILERO)[:kept], name="model.onnx")

    assert refused.value.reason is Reason.MODEL_INVALID


@pytest.mark.parametrize("graphs", [34, 5000])
def test_hostile_nesting_ends_at_once(graphs: int) -> None:
    """Graphs within graphs are refused beyond protobuf's own limit, and exhaust no stack."""
    content = b""
    for _ in range(graphs):
        content = field(1, field(5, field(6, content)))  # a node, its attribute, its graph

    with pytest.raises(VerificationError, match="nested deeper than 100 levels"):
        walk(b"\x08\x0a" + field(7, content), name="model.onnx")


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "past its end"),  # a graph of 2^64 - 1 bytes
        (b"\x3a" + b"\xff" * 11 + b"\x01", "more than 64 bits"),
        (b"\x3b\x3c", "of a kind that ONNX does not use"),  # a group
        (b"\x02\x00", "field number 0 is none"),
        (b"\xfa\xff\xff\xff\xff\xff\x01\x00", "field number .* is none"),  # beyond 32 bits
        (b"\x3a\x05\x0a\x06\x22\x01A\x22\x01A", "3 bytes past its end"),  # a node longer than its graph
        (b"\x22\x02A", "past its end"),  # text longer than the file
        (b"\x08", "middle of a field"),
    ],
)
def test_lies_in_the_wire_format_are_refused(lie: bytes, words: str) -> None:
    """Lengths and field numbers that cannot be are refused, however much of a model stands before them."""
    with pytest.raises(VerificationError, match=words) as refused:
        walk(models.add_constant(1) + lie, name="model.onnx")

    assert refused.value.reason is Reason.MODEL_INVALID


def test_long_lists_of_numbers_are_stepped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million tree nodes in attributes count as a few fields, and what stands behind them is found."""
    model = model_with()
    node = model.graph.node.add(op_type="TreeEnsembleClassifier", domain="ai.onnx.ml")
    node.attribute.add(name="ids", type=onnx.AttributeProto.INTS).ints.extend(range(-250_000, 250_000))
    node.attribute.add(name="values", type=onnx.AttributeProto.FLOATS).floats.extend([0.5] * 500_000)
    node.attribute.add(name="t", type=onnx.AttributeProto.TENSOR).t.CopyFrom(external_tensor("behind.bin"))
    content = models.content(model)

    monkeypatch.setattr(anatomy, "MAX_FIELDS", 1000)

    assert walk(content, name="model.onnx").external_locations == {"behind.bin"}


def test_a_graph_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs no byte more than a field's head is bounded in number."""
    monkeypatch.setattr(anatomy, "MAX_FIELDS", 1000)

    with pytest.raises(VerificationError, match="more than 1000 fields"):
        walk(b"\x08\x0a" + field(7, field(1, b"") * 1000), name="model.onnx")


@pytest.mark.parametrize("kind", [1, 5])
def test_endless_variety_is_refused(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """The answer itself cannot grow without bound: neither in operators nor in external files."""
    monkeypatch.setattr(anatomy, "MAX_DISTINCT", 100)
    named = [
        field(1, field(4, f"Operator{i}".encode()))
        if kind == 1
        else field(5, field(13, field(1, b"location") + field(2, f"file{i}".encode())))
        for i in range(101)
    ]

    with pytest.raises(VerificationError, match="more than 100 different things"):
        walk(b"\x08\x0a" + field(7, b"".join(named)), name="model.onnx")


def test_weights_are_never_read() -> None:
    """A gigabyte of weights is stepped over without a page of it being touched."""
    weights = 1 << 30
    name = field(8, b"w") + b"\x4a" + varint(weights)
    tensor_length = len(name) + weights
    head = b"\x2a" + varint(tensor_length) + name
    graph_length = len(head) + weights
    start = b"\x08\x0a" + b"\x3a" + varint(graph_length) + head
    end = field(8, field(1, b"") + b"\x10\x13")
    descriptor = os.memfd_create("sparse")
    os.ftruncate(descriptor, len(start) + weights)  # a hole: no memory behind it until somebody looks
    os.pwrite(descriptor, start, 0)
    os.pwrite(descriptor, end, len(start) + weights)
    before = resident_bytes()

    with SealedFile("model.onnx", Digest(""), len(start) + weights + len(end), descriptor) as file:
        found = dissect(file)

    assert found.opset_domains == {""}
    assert resident_bytes() - before < 8 << 20


@settings(max_examples=300, deadline=2000)
@given(data=st.data())
def test_a_damaged_model_is_described_or_refused_and_never_anything_else(data: st.DataObject) -> None:
    """Whatever is done to a real model's bytes: an answer or a VerificationError, and no external file is missed."""
    place = data.draw(st.sampled_from(EVERYWHERE))
    content = bytearray(models.content(place("outside.bin")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "set", "delete", "insert", "repeat"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                content[at] = data.draw(st.integers(0, 255))
            case "delete":
                del content[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=20))
            case "repeat":
                content += content[at:]
        if not content:
            return

    try:
        found = walk(bytes(content), name="model.onnx")
    except VerificationError as refused:
        assert refused.reason is Reason.MODEL_INVALID  # noqa: PT017 - being refused is one of two right answers
        return

    assert external_in(bytes(content)) <= found.external_locations


@settings(max_examples=300, deadline=2000)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_described_or_refused(content: bytes) -> None:
    """Arbitrary bytes end in an answer or a VerificationError."""
    try:
        walk(content, name="model.onnx")
    except VerificationError as refused:
        assert refused.reason is Reason.MODEL_INVALID  # noqa: PT017 - as above


def external_in(content: bytes) -> set[str]:
    """The external locations that protobuf's own reader sees; none where it refuses the bytes."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return set()
    return {
        # upb leaves a text that is not UTF-8 as bytes.
        _text(entry.value)
        for tensor in submessages(model)
        if isinstance(tensor, onnx.TensorProto) and tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def submessages(message: Message) -> Iterator[Message]:
    """A message and all within it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for each in [value] if isinstance(value, Message) else value:
            yield from submessages(each)


def varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def sealed(content: bytes) -> SealedFile:
    descriptor = os.memfd_create("content")
    os.write(descriptor, content)
    return SealedFile("model.onnx", Digest(""), len(content), descriptor)

"""Weights moved out of ONNX files, as the onnx package finds them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import models
from support.candidates import Candidates
from support.packaged import MAGIKA, SILERO, packaged

from model_sidecar.model.moving_out import ALIGNMENT, LEAST_BYTES, moved_out
from model_sidecar.release.tensors import Datatype

SIDE = 700
"""Squared, four bytes each: more than LEAST_BYTES, and no multiple of a page."""


def layers() -> onnx.ModelProto:
    """Two products by large weights and a sum with a small one, with fields that moving has to leave alone."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.random((SIDE, SIDE), np.float32) / SIDE, f"w{i}") for i in range(2)
    ]
    weights[0].doc_string = "the first"
    small = numpy_helper.from_array(np.arange(SIDE, dtype=np.float32), "small")
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Add", ["a", "small"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [models.value("x", Datatype.FP32, (-1, SIDE))],
        [models.value("y", Datatype.FP32, (-1, SIDE))],
        [weights[0], small, weights[1]],
    )
    model = helper.make_model(
        graph, ir_version=models.IR_VERSION, opset_imports=[helper.make_opsetid("", models.OPSET)]
    )
    model.metadata_props.add(key="made by", value="a test")
    return model


def test_what_is_moved_out_is_found_again_where_the_model_says(tmp_path: Path) -> None:
    """The onnx package puts both together to the very model that it was, and each weight begins on a page."""
    original = layers()
    content = models.content(original)

    moved = moved_out(content, location="weights.bin")

    assert len(moved.model) < len(content) - 2 * SIDE * SIDE * 4 + 4096
    (tmp_path / "weights.bin").write_bytes(b"".join(moved.data(content)))
    (tmp_path / "model.onnx").write_bytes(moved.model)
    assert (tmp_path / "weights.bin").stat().st_size == moved.size
    apart = onnx.load_model_from_string(moved.model)
    outside = [each for each in apart.graph.initializer if each.data_location == TensorProto.EXTERNAL]
    assert [each.name for each in outside] == ["w0", "w1"]
    offsets = [int(entry.value) for each in outside for entry in each.external_data if entry.key == "offset"]
    assert [offset % ALIGNMENT for offset in offsets] == [0, 0]
    together = onnx.load(tmp_path / "model.onnx")  # with its external data
    for each in together.graph.initializer:
        each.ClearField("data_location")
        each.ClearField("external_data")
    assert together == original


@pytest.mark.parametrize(
    "content",
    [packaged(*MAGIKA), packaged(*SILERO), models.zipmap_classifier(), models.large(64, "many")],
    ids=["magika", "silero", "skl", "many"],
)
def test_a_model_without_large_weights_stays_byte_for_byte(content: bytes) -> None:
    """Whoever made it: nothing is lost of what is not looked at."""
    moved = moved_out(content, location="weights.bin")

    large = [
        each
        for each in onnx.load_model_from_string(content).graph.initializer
        if len(each.raw_data) >= LEAST_BYTES
    ]
    if not large:
        assert (moved.model, moved.weights, moved.size) == (content, (), 0)
    assert len(moved.weights) == len(large)


def test_what_stands_outside_already_stays_there(tmp_path: Path) -> None:
    """A tensor whose bytes are in another file is not touched."""
    content = models.external_data(tmp_path)

    assert moved_out(content, location="more.bin").model == content


def test_without_prepacking_external_weights_are_mapped_and_answer_the_same(candidates: Candidates) -> None:
    """They are this process's memory only as far as the kernel has the file's pages."""
    content = models.content(layers())
    moved = moved_out(content, location="weights.bin")
    rows = {"x": np.random.default_rng(1).random((3, SIDE), np.float32)}
    expected = candidates.load(content).run(rows)["y"]

    loaded = candidates.load(
        moved.model,
        others={"weights.bin": b"".join(moved.data(content))},
        allow_external_data=True,
        runtime={"prepack": False},
    )

    np.testing.assert_allclose(loaded.run(rows)["y"], expected, rtol=1e-5)
    assert mapped_bytes("weights.bin") >= 2 * SIDE * SIDE * 4


def mapped_bytes(name: str) -> int:
    """How much of files of this name is mapped into this process, whatever became of their names since."""
    size = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, *_, path = line.split(maxsplit=5)
        if Path(path.removesuffix(" (deleted)")).name == name:
            begin, end = (int(each, 16) for each in where.split("-"))
            size += end - begin
    return size

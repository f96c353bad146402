"""What sessions take and give, in the protocol's words, and how two in a row fit."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper
from support import models
from support.candidates import Candidates

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model.signature import check_promise, joined
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

X = TensorSpec("x", Datatype.FP32, (-1, 2))
Y = TensorSpec("y", Datatype.FP32, (-1, 2))
MODEL = Signature((X,), (Y,))


@pytest.mark.parametrize("datatype", Datatype)
def test_every_datatype_of_the_protocol_is_told_by_its_name(
    candidates: Candidates, datatype: Datatype
) -> None:
    """A tensor's element type becomes the Open Inference Protocol's word for it."""
    loaded = candidates.load(models.identity(datatype))

    assert loaded.signature == Signature(
        (TensorSpec("x", datatype, (-1, 2)),), (TensorSpec("y", datatype, (-1, 2)),)
    )


@pytest.mark.parametrize(
    ("shape", "told"),
    [((), ()), ((3,), (3,)), (("batch", 4, None), (-1, 4, -1)), ((-1, "features"), (-1, -1))],
)
def test_a_free_dimension_is_minus_one_and_a_scalar_has_none(
    candidates: Candidates, shape: models.Shape, told: tuple[int, ...]
) -> None:
    """Symbolic and unknown dimensions are -1, fixed ones their size, a scalar's shape is empty."""
    loaded = candidates.load(models.identity(shape=shape))

    assert loaded.signature.inputs[0].shape == loaded.signature.outputs[0].shape == told


def test_an_input_with_a_default_in_the_file_need_not_be_given(candidates: Candidates) -> None:
    """An optional input is none that a caller must send, and so none of the signature."""
    loaded = candidates.load(models.default_input())

    assert loaded.signature.inputs == (X,)


def test_a_classifier_with_maps_is_refused_with_the_option_that_helps(candidates: Candidates) -> None:
    """skl2onnx's default output is refused, and the one line names zipmap and how to switch it off."""
    with pytest.raises(VerificationError, match=r"options=\{'zipmap': False\}") as refused:
        candidates.load(models.zipmap_classifier())

    assert refused.value.reason is Reason.OUTPUT_UNSUPPORTED
    assert "'output_probability'" in str(refused.value)
    assert candidates.load(models.zipmap_classifier(zipmap=False)).signature.outputs == (
        TensorSpec("label", Datatype.INT64, (-1,)),
        TensorSpec("probabilities", Datatype.FP32, (-1, 2)),
    )


def optional_input() -> bytes:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    made = helper.make_value_info("x", helper.make_optional_type_proto(tensor))
    node = helper.make_node("OptionalHasElement", ["x"], ["y"])
    return models.build([node], [made], [models.value("y", Datatype.BOOL, ())])


def float8() -> bytes:
    made = helper.make_tensor_value_info("x", TensorProto.FLOAT8E4M3FN, [2])
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    return models.build([node], [made], [models.value("y", shape=(2,))])


def complex_output() -> bytes:
    made = helper.make_tensor_value_info("y", TensorProto.COMPLEX64, [2])
    return models.build(
        [helper.make_node("Identity", ["x"], ["y"])], [helper.make_tensor_value_info("x", 14, [2])], [made]
    )


def text_and_bf16() -> bytes:
    nodes = [
        helper.make_node("Identity", ["s"], ["t"]),
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
    ]
    inputs = [models.value("s", Datatype.BYTES), models.value("x")]
    return models.build(nodes, inputs, [models.value("t", Datatype.BYTES), models.value("y", Datatype.BF16)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (models.sequence_output(), r"output 'y' is seq\(tensor\(float\)\).*ConcatFromSequence"),
        (optional_input(), r"input 'x' is optional\(tensor\(float\)\).*always there"),
        (float8(), r"input 'x' is tensor\(float8e4m3fn\).*cast it"),
        (complex_output(), "tensor type that onnxruntime does not have.*complex64"),
        (
            models.identity(shape=None),
            "input 'x' does not tell its number of dimensions.*export it with a shape",
        ),
        (text_and_bf16(), "cast the output to FP32"),
    ],
)
def test_what_the_protocol_cannot_carry_is_refused_with_advice(
    candidates: Candidates, content: bytes, words: str
) -> None:
    """Sequences, optionals, small floats, complex numbers and shapeless inputs are OUTPUT_UNSUPPORTED."""
    with pytest.raises(VerificationError, match=words) as refused:
        candidates.load(content)

    assert refused.value.reason is Reason.OUTPUT_UNSUPPORTED


def test_an_output_of_unknown_rank_is_told_as_one_free_dimension(candidates: Candidates) -> None:
    """The protocol has no word for any number of dimensions; the answer has the shape that it really has."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    inputs = [models.value("x"), models.value("shape", Datatype.INT64, (-1,))]
    loaded = candidates.load(models.build([node], inputs, [models.value("y", shape=None)]))

    assert loaded.signature.outputs == (TensorSpec("y", Datatype.FP32, (-1,)),)


def test_a_model_that_takes_nothing_is_refused(candidates: Candidates) -> None:
    """A graph of constants answers no question."""
    node = helper.make_node("Constant", [], ["y"], value_float=1.0)

    with pytest.raises(VerificationError, match="0 inputs and 1 outputs") as refused:
        candidates.load(models.build([node], [], [models.value("y", shape=())]))

    assert refused.value.reason is Reason.MODEL_INVALID


def spec(text: str) -> TensorSpec:
    name, datatype, *sizes = text.split()
    return TensorSpec(name, Datatype(datatype), tuple(int(size) for size in sizes))


def signature(inputs: str, outputs: str) -> Signature:
    return Signature(
        tuple(spec(each) for each in inputs.split(", ")), tuple(spec(each) for each in outputs.split(", "))
    )


@pytest.mark.parametrize(
    ("preprocessing", "model", "inputs"),
    [
        ("raw FP32 -1 2 > x FP32 -1 2", "x FP32 -1 2 > y FP32 -1", "raw FP32 -1 2"),
        ("raw BYTES -1 > x FP32 -1 -1", "x FP32 1 2 > y FP32 -1", "raw BYTES -1"),
        ("raw FP32 -1 > x FP32 -1", "x FP32 -1, more INT64 > y FP32 -1", "raw FP32 -1, more INT64"),
        ("n FP32 -1 2 > x FP32 -1", "x FP32 -1, n FP32 8 -1 > y FP32 -1", "n FP32 8 2"),
    ],
)
def test_a_pipeline_takes_what_preprocessing_takes_and_what_it_leaves_to_the_caller(
    preprocessing: str, model: str, inputs: str
) -> None:
    """Inputs of the model that preprocessing does not make come from the request, under their own names."""
    first, second = signature(*preprocessing.split(" > ")), signature(*model.split(" > "))

    assert joined(first, second) == Signature(signature(inputs, inputs).inputs, second.outputs)


@pytest.mark.parametrize(
    ("preprocessing", "model", "words"),
    [
        (
            "raw FP32 > z FP32",
            "x FP32 > y FP32",
            r"makes z FP32\[\], which model.onnx does not take: it takes 'x'",
        ),
        ("raw FP32 > x FP64", "x FP32 > y FP32", r"makes x FP64\[\], but model.onnx takes x FP32\[\]"),
        ("raw FP32 > x FP32 -1 3", "x FP32 -1 2 > y FP32", r"x FP32\[-1, 3\], but .* x FP32\[-1, 2\]"),
        ("raw FP32 > x FP32 -1", "x FP32 -1 2 > y FP32", r"x FP32\[-1\], but .* x FP32\[-1, 2\]"),
        (
            "n FP32 > x FP32",
            "x FP32, n INT64 > y FP32",
            r"takes n FP32\[\], and model.onnx takes n INT64\[\]",
        ),
        ("n FP32 2 > x FP32", "x FP32, n FP32 3 > y FP32", r"takes n FP32\[2\], and .* n FP32\[3\].*Rename"),
    ],
)
def test_preprocessing_that_does_not_fit_its_model_is_refused(
    preprocessing: str, model: str, words: str
) -> None:
    """A tensor of another name, datatype or shape is refused, and both tensors are named."""
    with pytest.raises(VerificationError, match=words) as refused:
        joined(signature(*preprocessing.split(" > ")), signature(*model.split(" > ")))

    assert refused.value.reason is Reason.PREPROCESSING_MISMATCH


def test_preprocessing_of_unknown_rank_is_taken_at_its_word() -> None:
    """Where nobody can tell whether a shape fits, the first call will."""
    first = signature("raw FP32", "x FP32 -1")

    assert joined(first, MODEL, unshaped=frozenset({"x"})).inputs == first.inputs


def test_a_promise_is_kept_in_any_order() -> None:
    """The manifest's signature may list tensors in another order, and no manifest needs to have one."""
    two = Signature((X, TensorSpec("n", Datatype.INT64, ())), (Y,))

    check_promise(Signature(two.inputs[::-1], two.outputs), two)
    check_promise(None, two)


@pytest.mark.parametrize(
    ("promised", "words"),
    [
        ("x FP32 -1 2 > y FP32 -1 3", r"promises output y FP32\[-1, 3\], the model has y FP32\[-1, 2\]"),
        ("x FP64 -1 2 > y FP32 -1 2", r"promises input x FP64\[-1, 2\], the model has x FP32\[-1, 2\]"),
        ("x FP32 1 2 > y FP32 -1 2", r"promises input x FP32\[1, 2\]"),
        ("z FP32 -1 2 > y FP32 -1 2", "promises input z .* the model has none of that name"),
        ("x FP32 -1 2 > y FP32 -1 2, z FP32", "promises output z .* none of that name"),
    ],
)
def test_a_broken_promise_is_refused_with_both_sides(promised: str, words: str) -> None:
    """A signature in the manifest that is not the model's is SIGNATURE_MISMATCH."""
    with pytest.raises(VerificationError, match=words) as refused:
        check_promise(signature(*promised.split(" > ")), MODEL)

    assert refused.value.reason is Reason.SIGNATURE_MISMATCH


def test_a_tensor_that_the_manifest_keeps_silent_about_is_a_broken_promise() -> None:
    """The manifest tells of every input and output."""
    with pytest.raises(VerificationError, match=r"has input n .* does not tell of"):
        check_promise(MODEL, Signature((X, TensorSpec("n", Datatype.INT64, ())), (Y,)))

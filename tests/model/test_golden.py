"""Golden examples in a file: how they are named, what comes back, and what is no such file."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import models
from support.candidates import Candidates

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model import golden
from model_sidecar.model.golden import Example, check_examples, examples_in, read_examples, write_examples
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

ONE: NDArray[Any] = np.ones(1, dtype=np.float32)


def saved(**arrays: Any) -> bytes:
    """What numpy.savez makes of arrays; keys may be any text."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def read(content: bytes) -> tuple[Example, ...]:
    return examples_in(io.BytesIO(content))


def named(content: bytes) -> list[tuple[set[str], set[str]]]:
    return [(set(example.inputs), set(example.outputs)) for example in read(content)]


def entry(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=True)
    return content.getvalue()


def test_calls_are_numbered_behind_the_last_at_sign() -> None:
    """The first call has no number, further ones end in @2, @3; colons, slashes and other @ belong to the name."""
    keys = ("input:a", "output:b", "input:a@2", "output:b@2", "input:a@3", "output:model/x@y:0@3")

    assert named(saved(**dict.fromkeys(keys, ONE))) == [
        ({"a"}, {"b"}),
        ({"a"}, {"b"}),
        ({"a"}, {"model/x@y:0"}),
    ]


def test_a_name_that_ends_like_a_number_is_written_with_one() -> None:
    """`x@2` as a tensor's name is told from the second call of `x` by the number that then always follows."""
    content = write_examples([Example({"x@2": ONE}, {"y@1": ONE}), Example({"x@2": ONE}, {"y@1": ONE})])

    assert sorted(zipfile.ZipFile(io.BytesIO(content)).namelist()) == [
        "input:x@2@1.npy",
        "input:x@2@2.npy",
        "output:y@1@1.npy",
        "output:y@1@2.npy",
    ]
    assert named(content) == [({"x@2"}, {"y@1"})] * 2


@settings(max_examples=200)
@given(
    st.lists(
        st.dictionaries(
            st.text(st.sampled_from("ab@:/.0123npy é\n"), min_size=1, max_size=8).filter(
                lambda name: "\0" not in name
            ),
            st.integers(-5, 5),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_a_tensor_is_called_it_comes_back(calls: list[dict[str, int]]) -> None:
    """Examples that are written and read are the same, whatever the names."""
    examples = [
        Example({name: np.array([value]) for name, value in call.items()}, {"y": ONE}) for call in calls
    ]

    found = read(write_examples(examples))

    assert [{name: array.tolist() for name, array in each.inputs.items()} for each in found] == [
        {name: [value] for name, value in call.items()} for call in calls
    ]


@pytest.mark.parametrize("datatype", Datatype)
@pytest.mark.parametrize("shape", [(), (0, 2), (3,), (2, 2)], ids=str)
def test_every_datatype_comes_back(datatype: Datatype, shape: tuple[int, ...]) -> None:
    """Arrays of every datatype and shape are what they were."""
    array = np.ones(shape, datatype.numpy)
    if datatype is Datatype.BYTES:
        array = np.full(shape, "é\0\U0001f600", dtype=object)

    (found,) = read(write_examples([Example({"x": array}, {"y": array})]))

    for side in (found.inputs["x"], found.outputs["y"]):
        assert (side.dtype, side.shape, side.tolist()) == (datatype.numpy, shape, array.tolist())


def test_the_same_examples_are_the_same_bytes() -> None:
    """Neither the clock nor the order of anything unordered gets into the file."""
    examples = [Example({"x": ONE}, {"y": ONE})]

    assert write_examples(examples) == write_examples(examples)
    assert b"\x00\x00\x21\x00" in write_examples(examples)[:30]  # 1980-01-01, the zip format's first moment


def test_what_numpy_users_have_is_understood() -> None:
    """Text, byte strings, big-endian and Fortran-ordered arrays, and ml_dtypes' bfloat16 become ours."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "input:text": np.array([["a", "bc"]]),
        "input:bytes": np.array([b"a", "é".encode()]),
        "input:big": matrix.astype(">f4"),
        "input:fortran": np.asfortranarray(matrix),
        "input:bf16": np.array([1.0, -2.0], dtype=ml_dtypes.bfloat16),
        "output:y": ONE,
    }

    (found,) = read(saved(**arrays))

    assert found.inputs["text"].tolist() == [["a", "bc"]]
    assert found.inputs["bytes"].tolist() == ["a", "é"]
    assert found.inputs["text"].dtype == found.inputs["bytes"].dtype == np.dtype("O")
    np.testing.assert_array_equal(found.inputs["fortran"], matrix)
    np.testing.assert_array_equal(found.inputs["big"], matrix)
    assert found.inputs["big"].dtype == np.dtype("<f4")
    assert found.inputs["bf16"].tolist() == [0x3F80, 0xC000]


def test_text_that_a_file_cannot_hold_is_not_written() -> None:
    """Numpy drops a NUL at the end of a text, so such an example would not be the one that was meant."""
    with pytest.raises(VerificationError, match="'x' holds text that ends in NUL"):
        write_examples([Example({"x": np.array(["a\0"], dtype=object)}, {"y": ONE})])


def lying_header() -> bytes:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
    return entry("input:x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 8)


def too_many() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(golden.MAX_ENTRIES + 1):
            archive.writestr(f"input:x{number}.npy", b"")
    return packed.getvalue()


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(golden.MAX_BYTES // (64 << 20) + 1):
            archive.writestr(f"input:x{number}.npy", bytes(64 << 20))
    assert packed.tell() < 2 << 20
    return packed.getvalue()


def lying_bomb(compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An entry that claims a few bytes and unpacks to many."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr("input:x.npy", bytes(24 << 20))
    content = bytearray(packed.getvalue())
    for at in (content.find(b"PK\x03\x04") + 22, content.find(b"PK\x01\x02") + 24):
        content[at : at + 4] = struct.pack("<I", 100)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an .npz file"),
        (b"\x80\x04\x95", "not an .npz file"),
        (saved(), "no arrays"),
        (saved(x=ONE), "'x.npy': expected arrays called input:<name>"),
        (saved(**{"input:": ONE}), "'input:.npy': expected"),
        (saved(**{"expected:y": ONE}), "'expected:y.npy': expected"),
        (saved(**{"input:x": ONE}), "no output of call 1: expected output:<name>"),
        (saved(**{"output:y": ONE}), "no input of call 1"),
        (saved(**{"input:x": ONE, "output:y": ONE, "input:x@2": ONE}), "no output of call 2: .*@2"),
        (saved(**{"input:x": ONE, "output:y": ONE, "input:x@3": ONE}), "call 3, but no call 2"),
        (saved(**{"input:x@999999": ONE}), "call 999999, but no call 1"),
        (saved(**{"input:x": ONE, "input:x@1": ONE}), "input 'x' of call 1 twice"),
        (entry("input:x.txt", b""), "'input:x.txt': expected"),
        (entry("input:x.npy", b"not an array"), "not an array that can be read"),
        (entry("input:x.npy", npy(np.array([{}], dtype=object))), "which is no tensor's"),
        (entry("input:x.npy", npy(np.zeros(1, dtype=[("a", "f4")]))), "which is no tensor's"),
        (entry("input:x.npy", npy(np.zeros(1, dtype="c8"))), "complex64, which is no tensor's"),
        (entry("input:x.npy", npy(np.zeros(1, dtype="M8[s]"))), "datetime64.*no tensor's"),
        (entry("input:x.npy", npy(np.array([b"\xff"]))), "not UTF-8"),
        (entry("input:x.npy", npy(ONE)[:-1]), "claims 4 bytes and has 3"),
        (entry("input:x.npy", npy(ONE) + b"\0"), "claims 4 bytes and has 5"),
        (lying_header(), "claims 8000000000000 bytes and has 8"),
        (too_many(), "10001 arrays: at most 10000"),
        (bomb(), "at most 268435456 are read"),
        (saved(**{"input:x": ONE})[:-30], "not an .npz file"),
    ],
)
def test_what_holds_no_examples_is_refused(content: bytes, words: str) -> None:
    """Every flaw of a file of examples is GOLDEN_INVALID, and told."""
    with pytest.raises(VerificationError, match=words) as refused:
        read(content)

    assert refused.value.reason is Reason.GOLDEN_INVALID


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_lies_about_its_size_is_not_unpacked(compression: int) -> None:
    """However much an entry would unpack to, no more memory is taken than it claims."""
    content = lying_bomb(compression)

    tracemalloc.start()
    with pytest.raises(VerificationError):
        read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 << 20


@settings(max_examples=200, deadline=2000)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever is done to the bytes: examples, or a VerificationError."""
    content = bytearray(
        write_examples([Example({"x": ONE, "text": np.array(["a"], dtype=object)}, {"y": ONE})])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    try:
        read(bytes(content))
    except VerificationError as refused:
        assert refused.reason is Reason.GOLDEN_INVALID  # noqa: PT017 - being refused is one of two right answers


def test_a_file_of_inputs_alone_is_read_when_asked_for() -> None:
    """Golden inputs, whose outputs are still to be made, need no outputs."""
    (found,) = examples_in(io.BytesIO(saved(**{"input:x": ONE})), outputs=False)

    assert (list(found.inputs), list(found.outputs)) == (["x"], [])


def test_examples_of_a_verified_version_are_read_from_its_sealed_bytes(candidates: Candidates) -> None:
    """They are read more than once, whoever read before."""
    verified = candidates.verify(models.add_constant(1), examples=[Example({"x": ONE}, {"y": ONE})])

    for _ in range(2):
        assert list(read_examples(verified.files["golden.npz"])[0].outputs) == ["y"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({}, {"y": ONE}, "call 1: no array 'input:x', but none: expected x FP32"),
        ({"x": ONE, "z": ONE}, {"y": ONE}, "no input 'z': expected 'x'"),
        ({"x": ONE}, {"z": ONE}, "no output 'z': expected 'y'"),
        ({"x": ONE.astype("f8")}, {"y": ONE}, r"input 'x' is FP64\[1\]: expected x FP32\[-1\]"),
        ({"x": ONE}, {"y": ONE.astype("i4")}, r"output 'y' is INT32\[1\]: expected y FP32"),
        ({"x": np.ones((1, 1), dtype="f4")}, {"y": ONE}, r"input 'x' is FP32\[1, 1\]"),
    ],
)
def test_examples_of_another_model_are_refused(
    inputs: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]], words: str
) -> None:
    """Another name, datatype or shape than the signature's is GOLDEN_INVALID, naming call and tensor."""
    signature = Signature((TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),))

    with pytest.raises(VerificationError, match=words) as refused:
        check_examples([Example(inputs, outputs)], signature)

    assert refused.value.reason is Reason.GOLDEN_INVALID

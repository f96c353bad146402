"""What a loaded model answers, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import models
from support.candidates import Candidates

from model_sidecar.errors import DeadlineOverError, InferenceFailedError, InvalidInputError
from model_sidecar.release.tensors import Datatype

ROWS = np.array([[1, 2], [3, 4]], dtype=np.float32)


def some(datatype: Datatype, shape: tuple[int, ...]) -> NDArray[Any]:
    """Values of a datatype, its extremes among them."""
    count = int(np.prod(shape, dtype=int))
    if datatype is Datatype.BYTES:
        texts = ["", "é", "a\0b", "\U0001f600", "end\0", " "]
        return np.array((texts * count)[:count], dtype=object).reshape(shape)
    if datatype is Datatype.BOOL:
        return np.resize(np.array([True, False]), shape)
    if datatype.numpy.kind == "f":
        limits = np.finfo(datatype.numpy)
        values = np.array([limits.max, limits.min, 0, -0.5, limits.tiny, np.inf, np.nan], datatype.numpy)
        return np.resize(values, shape)
    bounds = np.iinfo(datatype.numpy)
    return np.resize(np.array([bounds.max, bounds.min, 0, 1], datatype.numpy), shape)


@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0, 2), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("datatype", Datatype)
def test_every_datatype_goes_in_and_comes_out(
    candidates: Candidates, datatype: Datatype, shape: tuple[int, ...]
) -> None:
    """Scalars, vectors, empty tensors and free axes of every datatype come back bit for bit."""
    loaded = candidates.load(models.identity(datatype, [-1] * len(shape)))
    sent = some(datatype, shape)

    found = loaded.run({"x": sent})["y"]

    assert (type(found), found.dtype, found.shape) == (np.ndarray, datatype.numpy, shape)
    if datatype is Datatype.BYTES:
        assert found.tolist() == sent.tolist()
    else:
        assert found.tobytes() == sent.tobytes()


def test_bf16_is_computed_and_stands_beside_other_datatypes(candidates: Candidates) -> None:
    """Bit patterns go in and out of a model that really computes with them, FP32 and INT64 beside them."""
    loaded = candidates.load(models.bf16_cast())
    x = np.array([[1.0, -2.5]], dtype=np.float32)
    bits = (x.view("<u4") >> 16).astype("<u2")
    count = np.array([5, 6, 7])

    found = loaded.run({"x": bits, "n": count})

    assert list(found) == ["y", "full", "m"]
    np.testing.assert_array_equal((found["y"].astype("<u4") << 16).view("<f4"), x + 1)
    np.testing.assert_array_equal(found["full"], x + 1)
    np.testing.assert_array_equal(found["m"], count)
    assert found["y"].flags.owndata
    assert found["y"].flags.writeable
    # Without the BF16 output it is the other way through onnxruntime.
    assert list(loaded.run({"x": bits, "n": count}, ["m", "full"])) == ["m", "full"]


def test_arrays_in_any_memory_order_are_read_as_what_they_are(candidates: Candidates) -> None:
    """Transposed and strided arrays, BF16 among them, are no other numbers."""
    for datatype in (Datatype.FP32, Datatype.BF16, Datatype.BYTES):
        loaded = candidates.load(models.identity(datatype, (-1, -1)))
        sent = np.arange(24).reshape(4, 6).astype(datatype.numpy)
        sent = np.vectorize(str, otypes=[object])(sent) if datatype is Datatype.BYTES else sent
        for view in (sent.T, sent[::2, ::-1], np.asfortranarray(sent)):
            assert loaded.run({"x": view})["y"].tolist() == view.tolist()


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.BF16, Datatype.INT64])
def test_a_request_s_own_bytes_are_read_where_they_are(candidates: Candidates, datatype: Datatype) -> None:
    """Arrays that cannot be written, and begin at any address, are read like others."""
    loaded = candidates.load(models.identity(datatype, (-1, 8)))
    sent = np.arange(800).reshape(100, 8).astype(datatype.numpy)
    for offset in (0, 1, 3):
        view = np.frombuffer(bytes(offset) + sent.tobytes(), datatype.numpy, offset=offset).reshape(100, 8)
        np.testing.assert_array_equal(loaded.run({"x": view})["y"], sent)


def test_an_answer_is_not_the_request_s_memory(candidates: Candidates) -> None:
    """What comes back is the caller's own, though the model only passes its input on."""
    for datatype in (Datatype.FP32, Datatype.BF16):
        loaded = candidates.load(models.identity(datatype))
        sent = np.zeros((1, 2), datatype.numpy)
        found = loaded.run({"x": sent})["y"]
        sent[:] = 1
        assert not found.any()


def test_scalars_go_beside_tensors(candidates: Candidates) -> None:
    """A scalar input and a scalar output have no dimension."""
    loaded = candidates.load(models.scalar_input())

    found = loaded.run({"x": ROWS, "factor": np.array(2, dtype=np.float32)})

    np.testing.assert_array_equal(found["y"], ROWS * 2)
    assert found["total"].shape == ()
    assert found["total"] == 20


def test_an_answer_has_the_shape_that_it_really_has(candidates: Candidates) -> None:
    """An output whose size depends on the values comes as it is."""
    loaded = candidates.load(models.positive_only())

    assert loaded.run({"x": np.array([[1, -1], [2, 3]], dtype=np.float32)})["y"].tolist() == [1, 2, 3]
    assert loaded.run({"x": -ROWS})["y"].shape == (0,)


def test_only_the_outputs_that_are_asked_for_are_given(candidates: Candidates) -> None:
    """A caller names outputs in any order, once or twice; none means all."""
    loaded = candidates.load(models.two_inputs())
    inputs = {"a": ROWS, "b": ROWS}

    assert list(loaded.run(inputs, ["difference"])) == ["difference"]
    assert list(loaded.run(inputs, ["difference", "sum", "difference"])) == ["difference", "sum"]
    assert list(loaded.run(inputs)) == list(loaded.run(inputs, [])) == ["sum", "difference"]
    with pytest.raises(InvalidInputError, match="no output 'product': expected 'sum', 'difference'"):
        loaded.run(inputs, ["product"])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, r"input 'x' is missing: expected x FP32\[-1, 2\]"),
        ({"z": ROWS}, "input 'x' is missing"),
        ({"x": ROWS, "z": ROWS}, "no input 'z': expected 'x'"),
        ({"x": ROWS.astype(np.float64)}, r"'x' is FP64\[2, 2\]: expected x FP32"),
        ({"x": ROWS.astype(">f4")}, r"'x' is >f4\[2, 2\]"),
        ({"x": ROWS[0]}, r"'x' is FP32\[2\]: expected x FP32\[-1, 2\]"),
        (
            {"x": np.zeros((2, 3), dtype=np.float32)},
            "does not take this input: .*index: 1 Got: 3 Expected: 2",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_the_callers_fault(
    candidates: Candidates, inputs: dict[str, NDArray[Any]], words: str
) -> None:
    """A wrong name, datatype, byte order, rank or dimension is an InvalidInputError that says what was expected."""
    loaded = candidates.load(models.add_constant(1))

    with pytest.raises(InvalidInputError, match=words):
        loaded.run(inputs)


def test_a_dimension_that_only_the_model_behind_preprocessing_fixes_is_the_callers_fault(
    candidates: Candidates,
) -> None:
    """What the signature admits and the model does not is an InvalidInputError, not a failure."""
    preprocessing = models.identity(shape=(-1, -1), takes="raw", makes="x")
    loaded = candidates.load(models.add_constant(1), preprocessing=preprocessing)

    loaded.run({"raw": ROWS})
    with pytest.raises(InvalidInputError, match="Got: 3 Expected: 2"):
        loaded.run({"raw": np.zeros((2, 3), dtype=np.float32)})


def test_text_that_is_no_unicode_is_the_callers_fault(candidates: Candidates) -> None:
    """Half of a surrogate pair cannot be sent to a model."""
    loaded = candidates.load(models.string_identity())

    with pytest.raises(InvalidInputError, match="not Unicode"):
        loaded.run({"x": np.array(["\ud800"], dtype=object)})


def test_a_failure_inside_the_model_is_vague_outside_and_full_within(
    candidates: Candidates, capfd: pytest.CaptureFixture[str]
) -> None:
    """An index out of bounds fails in an operator: the message tells nothing, its cause everything, stderr nothing."""
    loaded = candidates.load(models.table(1, 2, 3))

    with pytest.raises(InferenceFailedError) as failed:
        loaded.run({"i": np.array([7])})

    assert "Gather" not in str(failed.value)
    assert "idx=7" in str(failed.value.__cause__)
    assert loaded.run({"i": np.array([1])})["y"].tolist() == [2]
    assert capfd.readouterr() == ("", "")


def test_a_model_that_never_ends_is_given_up(candidates: Candidates) -> None:
    """A call with a time limit comes back, and the model answers the next thread as before."""
    loaded = candidates.load(models.endless())

    begun = time.monotonic()
    with pytest.raises(DeadlineOverError, match="stopped"):
        loaded.run({"x": ROWS}, timeout_s=0.2)

    assert time.monotonic() - begun < 30
    assert not [each for each in threading.enumerate() if each.name.startswith("timeout")]


def test_a_call_within_its_limit_is_answered(candidates: Candidates) -> None:
    """A limit that is not reached changes nothing."""
    loaded = candidates.load(models.add_constant(1), preprocessing=models.scale(2))

    np.testing.assert_array_equal(loaded.run({"raw": ROWS}, timeout_s=60)["y"], ROWS * 2 + 1)


def test_threads_share_a_model(candidates: Candidates) -> None:
    """Many threads at once get the answers to their own inputs."""
    loaded = candidates.load(models.add_constant(1), preprocessing=models.scale(2))

    def ask(number: int) -> bool:
        rows = np.full((number % 7 + 1, 2), number, dtype=np.float32)
        return bool((loaded.run({"raw": rows})["y"] == rows * 2 + 1).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(2000)))


def test_the_gil_is_free_while_a_model_works(candidates: Candidates) -> None:
    """Another thread goes on counting while a slow model computes."""
    loaded = candidates.load(models.slow(rounds=40))
    counted, done = 0, threading.Event()

    def work() -> None:
        loaded.run({"x": ROWS})
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        counted += 1
        time.sleep(0.001)
    thread.join()

    assert counted > 5


def test_a_closed_model_says_so(candidates: Candidates) -> None:
    """Closing twice is harmless, and a call afterwards fails as any failure does."""
    loaded = candidates.load(models.add_constant(1), preprocessing=models.scale(1))
    assert loaded._preprocessing is not None
    sessions = [weakref.ref(graph._session) for graph in (loaded._graph, loaded._preprocessing)]

    loaded.close()
    loaded.close()

    assert [session() for session in sessions] == [None, None]
    with pytest.raises(InferenceFailedError, match="released"):
        loaded.run({"raw": ROWS})


MEASURED = """
import sys
from pathlib import Path
from support import models
from support.candidates import Candidates
import numpy as np
from model_sidecar.model.loader import load
from support.memory import resident_bytes


verified = Candidates(Path(sys.argv[1])).verify(models.large(64, layout="many"))
before = resident_bytes()
loaded = load(verified)
side = loaded.signature.inputs[0].shape[1]
loaded.run({"x": np.zeros((1, side), dtype=np.float32)})
grown = resident_bytes() - before
loaded.close()
print(grown, resident_bytes() - before)
"""


def test_closing_gives_the_memory_of_many_small_weights_back(tmp_path: Path) -> None:
    """A released model of two thousand small weights leaves no memory with the process."""
    # In a process of its own: in one that has released much before, the growth would not show.
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    grown, left = map(int, done.stdout.split())
    assert grown > 60 << 20
    assert left < grown / 4

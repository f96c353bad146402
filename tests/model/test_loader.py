"""From verified bytes to a loaded model, with preprocessing and external data; and what is refused on the way."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import models
from support.candidates import Candidates
from support.descriptors import open_descriptors

from model_sidecar.errors import Reason, StoreError, VerificationError
from model_sidecar.model.loader import load
from model_sidecar.release.tensors import Datatype, TensorSpec

ROWS = np.array([[1, 2], [3, 4]], dtype=np.float32)


def test_what_was_verified_is_what_is_loaded(candidates: Candidates) -> None:
    """A store that is rewritten, or gone, after the verification changes nothing about what answers."""
    verified = candidates.verify(models.add_constant(1))
    for file in candidates.store.rglob("model.onnx"):
        file.write_bytes(models.add_constant(2))
    shutil.rmtree(candidates.store)

    loaded = load(verified)
    verified.close()

    np.testing.assert_array_equal(loaded.run({"x": ROWS})["y"], ROWS + 1)
    assert (loaded.model, loaded.version, loaded.manifest) == (
        verified.model,
        verified.version,
        verified.manifest,
    )
    assert loaded.loaded_at.utcoffset() is not None
    loaded.close()


def test_preprocessing_runs_before_its_model(candidates: Candidates) -> None:
    """The pipeline takes what preprocessing takes, and answers what the model makes of it."""
    loaded = candidates.load(models.add_constant(1), preprocessing=models.scale(10))

    assert loaded.signature.inputs == (TensorSpec("raw", Datatype.FP32, (-1, 2)),)
    np.testing.assert_array_equal(loaded.run({"raw": ROWS})["y"], ROWS * 10 + 1)


def test_an_input_that_preprocessing_does_not_make_comes_from_the_request(candidates: Candidates) -> None:
    """The model's own inputs stand beside those of preprocessing."""
    loaded = candidates.load(models.two_inputs(), preprocessing=models.scale(10, makes="a"))

    assert [spec.name for spec in loaded.signature.inputs] == ["raw", "b"]
    found = loaded.run({"raw": ROWS, "b": ROWS})
    np.testing.assert_array_equal(found["difference"], ROWS * 9)


def test_one_tensor_may_feed_both(candidates: Candidates) -> None:
    """An input of preprocessing that the model takes too is sent once."""
    loaded = candidates.load(models.two_inputs(), preprocessing=models.scale(10, takes="b", makes="a"))

    assert [spec.name for spec in loaded.signature.inputs] == ["b"]
    np.testing.assert_array_equal(loaded.run({"b": ROWS})["difference"], ROWS * 9)


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        (models.scale(2, makes="z"), "makes z FP32"),
        (models.scale(2, width=3), r"makes x FP32\[-1, 3\], but model.onnx takes x FP32\[-1, 2\]"),
        (models.identity(Datatype.FP64, takes="raw", makes="x"), "makes x FP64"),
    ],
)
def test_preprocessing_that_does_not_fit_is_refused(
    candidates: Candidates, preprocessing: bytes, words: str
) -> None:
    """Preprocessing whose output is none of the model's inputs is refused before it can answer."""
    with pytest.raises(VerificationError, match=words) as refused:
        candidates.load(models.add_constant(1), preprocessing=preprocessing)

    assert refused.value.reason is Reason.PREPROCESSING_MISMATCH


def test_a_pickle_called_preprocessing_onnx_is_refused(candidates: Candidates) -> None:
    """Pickles are never opened, whatever they are called."""
    with pytest.raises(VerificationError, match=r"preprocessing\.onnx .* pickle") as refused:
        candidates.load(models.add_constant(1), preprocessing=pickle.dumps({"scale": 2}))

    assert refused.value.reason is Reason.MODEL_INVALID


def test_a_model_that_is_not_what_the_manifest_promises_is_refused(candidates: Candidates) -> None:
    """Another signature than the manifest's is SIGNATURE_MISMATCH; the same one loads."""
    promised = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }

    candidates.load(models.identity(shape=("batch", 2)), signature=promised)
    with pytest.raises(VerificationError, match=r"promises input x FP32\[-1, 2\]") as refused:
        candidates.load(models.identity(shape=("batch", 3)), signature=promised)

    assert refused.value.reason is Reason.SIGNATURE_MISMATCH


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go, and nothing else."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def external(directory: Path, location: str = "weights.bin") -> tuple[bytes, dict[str, bytes]]:
    """A model with external data, and the data's file."""
    content = models.external_data(directory, location=location)
    return content, {file.name: file.read_bytes() for file in directory.glob("*.bin")}


def test_external_data_is_refused_unless_allowed(
    candidates: Candidates, tmp_path: Path, scratch: Path
) -> None:
    """Weights in another file are refused by default, though the file is listed and verified."""
    content, others = external(tmp_path)

    with pytest.raises(VerificationError, match=r"'weights\.bin'.*--allow-external-data") as refused:
        candidates.load(content, others=others)

    assert refused.value.reason is Reason.EXTERNAL_DATA_REFUSED


def test_external_data_that_is_allowed_and_listed_is_loaded(
    candidates: Candidates, tmp_path: Path, scratch: Path
) -> None:
    """The verified bytes are what is loaded, from a private directory that is gone afterwards."""
    content, others = external(tmp_path)
    verified = candidates.verify(content, others=others)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 256)
    shutil.rmtree(candidates.store)

    loaded = load(verified, allow_external_data=True)
    verified.close()

    assert list(scratch.iterdir()) == []
    np.testing.assert_array_equal(loaded.run({"x": ROWS})["y"], ROWS + 7)
    loaded.close()


@pytest.mark.parametrize(
    "location",
    ["other.bin", "../weights.bin", "/etc/hostname", "./weights.bin", "sub/weights.bin", "model.onnx", ""],
)
def test_external_data_outside_the_manifest_is_refused_even_if_allowed(
    candidates: Candidates, tmp_path: Path, scratch: Path, location: str
) -> None:
    """Only a file that the manifest lists, by its plain name, can hold weights."""
    content, _ = external(tmp_path, location="weights.bin")
    model = onnx.load_model_from_string(content)
    next(each for each in model.graph.initializer[0].external_data if each.key == "location").value = location

    with pytest.raises(VerificationError, match="none of the manifest's data files") as refused:
        candidates.load(models.content(model), others={"weights.bin": b"\0" * 256}, allow_external_data=True)

    assert refused.value.reason is Reason.EXTERNAL_DATA_REFUSED


def test_external_data_that_is_too_short_is_refused_by_onnxruntime(
    candidates: Candidates, tmp_path: Path, scratch: Path
) -> None:
    """A listed file that does not hold what the model wants of it is a broken model, and nothing is left behind."""
    content, _ = external(tmp_path)

    with pytest.raises(VerificationError, match="cannot load") as refused:
        candidates.load(content, others={"weights.bin": b"\0" * 8}, allow_external_data=True)

    assert refused.value.reason is Reason.MODEL_INVALID


def test_no_place_for_external_data_is_the_machines_fault(
    candidates: Candidates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a directory for temporary files the model is not called bad: the error says what is missing."""
    content, others = external(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))

    with pytest.raises(StoreError, match="TMPDIR"):
        candidates.load(content, others=others, allow_external_data=True)


def test_a_refused_candidate_leaves_nothing_behind(candidates: Candidates) -> None:
    """After a refusal at the last check no descriptor and no mapping of the candidate is left."""
    verified = candidates.verify(models.add_constant(1), preprocessing=models.scale(1, makes="z"))
    with pytest.raises(VerificationError):
        load(verified)
    before = open_descriptors()

    for _ in range(5):
        with pytest.raises(VerificationError):
            load(verified)

    assert open_descriptors() == before
    verified.close()
    assert "model.onnx" not in Path("/proc/self/maps").read_text(encoding="utf-8")

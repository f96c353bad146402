"""Two real models of others, as they ship: Google's magika (Apache-2.0) and silero-vad (MIT)."""

from __future__ import annotations

import json

import magika
import numpy as np
import onnxruntime as ort
import pytest
from support.candidates import Candidates
from support.packaged import MAGIKA, MAGIKA_CONFIG, SILERO, packaged
from support.real_inputs import CHUNK, FILES, RATE, chunks, features, speech_like

from model_sidecar.model.golden import Example
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec


def test_magika_tells_files_apart_as_its_own_interface_does(candidates: Candidates) -> None:
    """Real files, all in one call and one by one, get the label and score that magika's Python API gives them."""
    config = json.loads(packaged(*MAGIKA_CONFIG))
    labels: list[str] = config["target_labels_space"]
    verified = candidates.verify(packaged(*MAGIKA))
    loaded = load(verified)
    rows = np.array([features(content, config) for content in FILES.values()], dtype=np.int32)

    rehearsed = rehearse(loaded, verified)
    together = loaded.run({"bytes": rows})["target_label"]
    apart = np.concatenate([loaded.run({"bytes": rows[i : i + 1]})["target_label"] for i in range(len(rows))])

    assert loaded.signature == Signature(
        (TensorSpec("bytes", Datatype.INT32, (-1, 2048)),),
        (TensorSpec("target_label", Datatype.FP32, (-1, len(labels))),),
    )
    assert rehearsed.examples == 0
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-6)
    oracle = magika.Magika()
    for kind, content, scores in zip(FILES, FILES.values(), together, strict=True):
        said = oracle.identify_bytes(content).prediction
        assert (kind, labels[scores.argmax()]) == (str(said.dl.label), kind)
        assert scores.max() == pytest.approx(said.score, abs=1e-5)
    loaded.close()


def test_magika_reproduces_its_own_answers_as_golden_examples(candidates: Candidates) -> None:
    """A real model's real answers make golden examples, and another answer is refused."""
    config = json.loads(packaged(*MAGIKA_CONFIG))
    rows = np.array([features(content, config) for content in FILES.values()], dtype=np.int32)
    first = candidates.load(packaged(*MAGIKA))
    examples = [Example({"bytes": row[np.newaxis]}, first.run({"bytes": row[np.newaxis]})) for row in rows]
    verified = candidates.verify(packaged(*MAGIKA), examples=examples)
    loaded = load(verified)

    found = rehearse(loaded, verified)

    assert found.examples == len(FILES)
    assert found.worst <= 1e-5
    loaded.close()


def test_silero_answers_a_stream_whose_state_the_caller_holds(candidates: Candidates) -> None:
    """Many chunks in a row, each with the state that the last one left, answer as in plain onnxruntime."""
    content = packaged(*SILERO)
    loaded = candidates.load(content)
    plain = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    rate = np.array(RATE, dtype=np.int64)
    state = reference = np.zeros((2, 1, 128), dtype=np.float32)
    heard, forgetful = [], []

    for chunk in chunks():
        found = loaded.run({"input": chunk, "state": state, "sr": rate})
        output, reference = plain.run(["output", "stateN"], {"input": chunk, "state": reference, "sr": rate})
        np.testing.assert_allclose(found["output"], output, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["stateN"], reference, rtol=1e-4, atol=1e-5)
        state = found["stateN"]
        heard.append(float(found["output"][0, 0]))
        fresh: Arrays = {"input": chunk, "state": np.zeros_like(state), "sr": rate}
        forgetful.append(float(loaded.run(fresh, ["output"])["output"][0, 0]))

    assert loaded.signature.inputs == (
        TensorSpec("input", Datatype.FP32, (-1, -1)),
        TensorSpec("state", Datatype.FP32, (2, -1, 128)),
        TensorSpec("sr", Datatype.INT64, ()),
    )
    assert len(heard) == len(speech_like()) // CHUNK
    assert max(heard[:10]) < 0.2  # silence
    # The state is worth something: without it the same chunks sound different.
    assert max(abs(a - b) for a, b in zip(heard, forgetful, strict=True)) > 0.05


def test_silero_is_warmed_although_nobody_sent_it_sound(candidates: Candidates) -> None:
    """Three inputs, one of them a scalar, are made up for the warm-up; whether it answers them is its own business."""
    verified = candidates.verify(packaged(*SILERO))
    loaded = load(verified)

    assert rehearse(loaded, verified).examples == 0
    loaded.close()

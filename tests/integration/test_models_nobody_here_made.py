"""Two real models of others, served end to end: published, deployed, asked over the wire."""

from __future__ import annotations

import json
from pathlib import Path

import magika
import numpy as np
import onnxruntime as ort
import pytest
from support.packaged import MAGIKA, MAGIKA_CONFIG, SILERO, packaged
from support.real_inputs import FILES, RATE, chunks, features
from support.sidecars import RunningSidecar
from support.yard import PROD, Yard

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.release.names import ModelName, parse_version

VERSION = parse_version("2024.01.10.prod")


def published(yard: Yard, tmp_path: Path, model: str, content: bytes) -> ModelName:
    """Publish somebody else's model as it ships."""
    build = tmp_path / f"{model}-build"
    build.mkdir()
    (build / "model.onnx").write_bytes(content)
    name = ModelName(model)
    publish(build, yard.versions, model=name, version=VERSION, facts=PublishFacts(framework="its own"))
    return name


def test_magika_tells_real_files_apart(yard: Yard, tmp_path: Path) -> None:
    """Files of six kinds, sent in one request, get the labels that magika's own interface gives them."""
    model = published(yard, tmp_path, "magika", packaged(*MAGIKA))
    config = json.loads(packaged(*MAGIKA_CONFIG))
    rows = np.array([features(content, config) for content in FILES.values()], dtype=np.int32)
    with RunningSidecar(yard, model=model) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator, sidecar.client() as client:
            operator.deploy(model, VERSION, environment=PROD, reason="file types")
            answer = client.predict(model, {"bytes": rows})
            listed = client.predict(model, {"bytes": rows[:1].tolist()})
            metadata = client.model_metadata(model)

    scores = answer.outputs["target_label"]
    oracle = magika.Magika()
    assert answer.version == VERSION
    assert scores.shape == (len(FILES), 214)
    assert [(each.name, each.datatype, tuple(each.shape)) for each in metadata.inputs] == [
        ("bytes", "INT32", (-1, 2048))
    ]
    for (kind, content), row in zip(FILES.items(), scores, strict=True):
        assert config["target_labels_space"][row.argmax()] == kind
        assert row.max() == pytest.approx(oracle.identify_bytes(content).prediction.score, abs=1e-5)
    np.testing.assert_allclose(listed.outputs["target_label"], scores[:1], rtol=1e-4, atol=1e-6)


def test_silero_hears_a_stream_whose_state_the_caller_holds(yard: Yard, tmp_path: Path) -> None:
    """Chunk after chunk with the state that the last answer gave: the same as in plain onnxruntime."""
    content = packaged(*SILERO)
    model = published(yard, tmp_path, "silero-vad", content)
    plain = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    rate = np.array(RATE, dtype=np.int64)
    state = reference = np.zeros((2, 1, 128), dtype=np.float32)
    with RunningSidecar(yard, model=model) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator, sidecar.client() as client:
            operator.deploy(model, VERSION, environment=PROD, reason="speech")
            for chunk in chunks():
                answer = client.predict(model, {"input": chunk, "state": state, "sr": rate})
                state = answer.outputs["stateN"]
                output, reference = plain.run(
                    ["output", "stateN"], {"input": chunk, "state": reference, "sr": rate}
                )
                np.testing.assert_allclose(answer.outputs["output"], output, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(state, reference, rtol=1e-4, atol=1e-5)
                assert answer.version == VERSION

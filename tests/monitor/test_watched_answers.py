"""From `publish --baseline-data` to an alarm: a published model, loaded, its answers noted, read and compared."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from onnx import helper
from support import models
from support.streams import SITE

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.config import MonitorSettings
from model_sidecar.model.loader import load
from model_sidecar.monitor.drift.drift import Drift
from model_sidecar.monitor.intake import Intake, Note
from model_sidecar.monitor.monitor import Monitor
from model_sidecar.monitor.prediction_ids import PredictionIds
from model_sidecar.release.baseline import StreamKind
from model_sidecar.release.names import Version
from model_sidecar.release.tensors import Datatype
from model_sidecar.store.versions import VersionStore

VERSION = Version("2024.01.15.prod")
WIDTH = 6


def classifier() -> bytes:
    """Model: x FP32[-1,6] → label INT64[-1], probabilities FP32[-1,2] of the weighted sum and its opposite."""
    weights = np.random.default_rng(0).normal(size=(WIDTH, 1)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [models.value("label", Datatype.INT64, (-1,)), models.value("probabilities", shape=(-1, 2))]
    weights = np.concatenate([weights, -weights], axis=1)
    return models.build(nodes, [models.value("x", shape=(-1, WIDTH))], outputs, {"weights": weights})


def test_what_is_published_is_what_its_answers_are_compared_with(tmp_path: Path) -> None:
    """Traffic like the published rows is quiet; the same traffic with one column in other units is noticed, and that column named."""
    chance = np.random.default_rng(1)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "model.onnx").write_bytes(classifier())
    np.savez(tmp_path / "rows.npz", x=chance.normal(size=(20_000, WIDTH)).astype(np.float32))
    store = VersionStore(tmp_path / "ml-models")
    store.layout.root.mkdir()
    publish(
        tmp_path / "build",
        store,
        model=SITE.model,
        version=VERSION,
        facts=PublishFacts(),
        baseline_data=tmp_path / "rows.npz",
    )
    with store.verify(SITE.model, VERSION) as verified:
        model = load(verified)
    intake, ids, drift = Intake(), PredictionIds(), Drift(MonitorSettings())
    monitor = Monitor(intake, observers=[drift], baseline_of=lambda _site, model: model.baseline)
    monitor.start()

    def asked(count: int, *, centimetres: bool) -> None:
        for _ in range(count):
            rows = chance.normal(size=(8, WIDTH)).astype(np.float32)
            rows[:, 4] *= 100 if centimetres else 1
            inputs = {"x": rows}
            intake.note(
                Note(SITE, model, ids.next(), inputs, model.run(inputs), len(rows), None), rows.nbytes
            )

    try:
        asked(200, centimetres=False)
        until = time.monotonic() + 20
        while not drift.snapshot(SITE) and time.monotonic() < until:
            time.sleep(0.05)
        (quiet,) = drift.snapshot(SITE)
        asked(50, centimetres=True)
    finally:
        monitor.stop(timeout_s=20)
        model.close()
    assert quiet.alarm_since is None
    assert quiet.notes == ()
    assert {each.kind for each in quiet.streams} == set(StreamKind)
    (seen,) = drift.snapshot(SITE)
    assert seen.rows == 2000
    assert seen.alarm_since is not None
    assert seen.cause == "x[4]"

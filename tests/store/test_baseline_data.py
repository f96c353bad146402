"""`publish --baseline-data`: real models answer real rows, and what they saw and said is what is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import helper
from support import models

from model_sidecar.app.publish import Published, PublishFacts, publish
from model_sidecar.cli.main import main
from model_sidecar.errors import InvalidRequestError, Reason, VerificationError
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.loader import load
from model_sidecar.release.baseline import Baseline, StreamKind
from model_sidecar.release.baseline_reading import parse_baseline, write_baseline
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Datatype
from model_sidecar.store.versions import VersionStore

NAME, VERSION = ModelName("flowers"), Version("2024.01.15.prod")
ROWS = np.random.default_rng(0).normal(size=(2500, 2)).astype(np.float32)
CLASSES = (ROWS @ np.array([1.0, -1.0], np.float32) < 0).astype(np.int64)


def classifier() -> bytes:
    """Model: x FP32[-1,2] → label INT64[-1], probabilities FP32[-1,2]; the second class where x[1] > x[0]."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [models.value("label", Datatype.INT64, (-1,)), models.value("probabilities")]
    return models.build(nodes, [models.value("x")], outputs)


class Bench:
    """A build and a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.build = root / "build"
        self.build.mkdir()
        self.put("model.onnx", classifier())
        self.store = VersionStore(root / "ml-models")
        self.store.layout.root.mkdir()

    def put(self, name: str, content: bytes) -> None:
        (self.build / name).write_bytes(content)

    def publish(
        self, data: Mapping[str, NDArray[Any]] | Path | None = None, *, facts: PublishFacts | None = None
    ) -> Published:
        path = data if isinstance(data, Path) else None
        if path is None and data is not None:
            path = self.root / "rows.npz"
            np.savez(path, **data)  # type: ignore[arg-type]  # numpy's stub takes names for options
        return publish(
            self.build,
            self.store,
            model=NAME,
            version=VERSION,
            facts=facts or PublishFacts(),
            baseline_data=path,
        )

    def refused(self, data: Mapping[str, NDArray[Any]] | Path | None) -> str:
        with pytest.raises(VerificationError) as refused:
            self.publish(data)
        assert refused.value.reason is Reason.BASELINE_INVALID
        assert self.store.versions(NAME) == []
        return str(refused.value)

    def loaded(self) -> LoadedModel:
        with self.store.verify(NAME, VERSION) as verified:
            return load(verified)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_model_answers_the_rows_and_they_are_its_baseline(bench: Bench) -> None:
    """Features, score, confidence, classes and calibration are counted, published, verified and there once loaded."""
    truth = np.where(np.arange(2500) % 10 == 0, 1 - CLASSES, CLASSES)
    published = bench.publish({"x": ROWS, "truth": truth})
    baseline = parse_baseline((published.path / "baseline.json").read_bytes())
    assert baseline == published.baseline
    assert [(each.name, each.kind) for each in baseline.streams] == [
        ("x[0]", StreamKind.FEATURE),
        ("x[1]", StreamKind.FEATURE),
        ("score", StreamKind.SCORE),
        ("confidence", StreamKind.CONFIDENCE),
    ]
    assert baseline.streams[0].low == pytest.approx(float(ROWS[:, 0].min()))
    assert baseline.classes is not None
    assert dict(zip(baseline.classes.names, baseline.classes.counts, strict=True)) == {
        "0": int((CLASSES == 0).sum()),
        "1": int((CLASSES == 1).sum()),
    }
    assert baseline.calibration is not None
    assert (sum(baseline.calibration.rows), sum(baseline.calibration.errors)) == (2500, 250)
    manifest = json.loads((published.path / "manifest.json").read_bytes())
    assert manifest["baseline"] == {"path": "baseline.json", "rows": 2500}
    assert manifest["files"]["baseline.json"]["role"] == "baseline"
    (few,) = [each for each in published.warnings if "baseline" in each]
    assert "2500 rows" in few
    assert "wider by 0.025" in few
    loaded = bench.loaded()
    assert loaded.baseline == baseline
    loaded.close()


def test_so_few_rows_that_no_drift_can_be_noticed_are_told(bench: Bench) -> None:
    """Of fifteen rows shares are known to a half: publish says in a line what that means."""
    (told,) = [each for each in bench.publish({"x": ROWS[:15]}).warnings if "rows" in each]
    assert told.startswith("drift cannot be noticed with 15 rows")
    assert "give at least 20000" in told


def test_columns_that_tell_nothing_are_named(bench: Bench) -> None:
    """A column of NaN, or of one value alone, is told at publish, by its name; a few differing rows are enough not to."""
    bench.put("model.onnx", models.identity(shape=(-1, 6)))
    rows = np.random.default_rng(0).normal(size=(2500, 6)).astype(np.float32)
    rows[:, 1], rows[:, 2:5], rows[7, 4] = np.nan, 0.5, 0.25

    told = " | ".join(bench.publish({"x": rows}).warnings)

    assert "has a finite value in x[1], confidence: " in told
    assert "have one value in x[2] (0.5), x[3] (0.5): " in told
    assert "x[4]" not in told


def test_a_version_that_is_worse_than_its_metrics_say_is_told(bench: Bench) -> None:
    """Its own rows, with their truth, show it before anybody asks it anything: what was measured is not what is published."""
    wrong = np.arange(len(ROWS)) < 300
    facts = PublishFacts(metrics={"accuracy": 0.97})

    published = bench.publish({"x": ROWS, "truth": np.where(wrong, 1 - CLASSES, CLASSES)}, facts=facts)

    (told,) = [each for each in published.warnings if "promise" in each]
    assert told.startswith(
        "of the 2500 rows of the baseline whose truth is given this version has 88.0% right"
    )
    assert "an accuracy of 97.0%" in told


@pytest.mark.parametrize("metrics", [{}, {"accuracy": 1.0}, {"accuracy": 98.0}, {"auc": 1.0}])
def test_a_version_that_is_as_good_as_its_metrics_say_is_not(bench: Bench, metrics: dict[str, float]) -> None:
    """Nor one whose metrics say nothing that can be compared."""
    published = bench.publish({"x": ROWS, "truth": CLASSES}, facts=PublishFacts(metrics=metrics))

    assert not [each for each in published.warnings if "promise" in each]


def test_a_regression_has_a_quantile_of_its_error(bench: Bench) -> None:
    """Nine in ten of its predictions are no farther from the truth than what is published."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["variable"], keepdims=1)]
    variable = models.value("variable", shape=(-1, 1))
    bench.put("model.onnx", models.build(nodes, [models.value("x")], [variable], {"axes": np.array([1])}))
    off = np.linspace(0, 1, 2500, dtype=np.float32)
    baseline = bench.publish({"x": ROWS, "truth": ROWS.sum(axis=1) + off}).baseline
    assert baseline is not None
    assert baseline.error_q90 == pytest.approx(0.9, abs=0.01)
    assert (baseline.classes, baseline.calibration) == (None, None)


def test_a_regression_without_a_truth_that_is_a_number_is_refused(bench: Bench) -> None:
    """All-NaN truth would say nothing of its errors, and is said to be that."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["variable"], keepdims=1)]
    variable = models.value("variable", shape=(-1, 1))
    bench.put("model.onnx", models.build(nodes, [models.value("x")], [variable], {"axes": np.array([1])}))
    assert "NaN or infinite in 2500 of 2500 rows" in bench.refused(
        {"x": ROWS, "truth": np.full(2500, np.nan)}
    )


def test_a_model_of_one_row_at_a_time_is_asked_row_by_row(bench: Bench) -> None:
    """Where a call takes one row, the file's first dimension still counts rows."""
    bench.put("model.onnx", models.identity(shape=(1, 2)))
    baseline = bench.publish({"x": ROWS[:50]}).baseline
    assert baseline is not None
    assert baseline.rows == 50


def test_an_input_that_is_called_truth_is_an_input(bench: Bench) -> None:
    """Then there is no truth to be given, and nothing is calibrated."""
    bench.put("model.onnx", models.identity(takes="truth"))
    baseline = bench.publish({"truth": ROWS}).baseline
    assert baseline is not None
    assert baseline.streams[0].name == "truth[0]"


BAD: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "another name": ({"z": ROWS}, "has no array 'x'"),
    "one too many": ({"x": ROWS, "z": ROWS}, "has an array 'z'"),
    "another width": ({"x": ROWS[:, :1]}, "expected FP32[-1, 2]"),
    "text": ({"x": np.array([["a", "b"]])}, "expected FP32[-1, 2]"),
    "three rows": ({"x": ROWS[:3]}, "has 3 rows, of which nothing follows"),
    "no rows": ({"x": ROWS[:0]}, "has no rows"),
    "truth of other rows": ({"x": ROWS, "truth": CLASSES[:-1]}, "for each of the 2500 rows"),
    "truth that nobody knows": (
        {"x": ROWS, "truth": np.full(2500, np.nan)},
        "NaN or infinite in 2500 of 2500 rows",
    ),
    "truth with one hole": (
        {"x": ROWS, "truth": np.where(np.arange(2500) == 7, np.inf, CLASSES)},
        "in 1 of 2500 rows, the first of them row 7",
    ),
    "truth in other words": (
        {"x": ROWS, "truth": np.where(CLASSES, "cat", "dog")},
        "'cat', 'dog', and the model answers '0', '1'",
    ),
    "truth of dates": ({"x": ROWS, "truth": CLASSES.astype("M8[s]")}, "expected numbers or text"),
}


@pytest.mark.parametrize("called", [CLASSES.astype(str), CLASSES.astype(bool).astype(str), CLASSES + 0.0])
def test_a_class_is_the_same_however_its_truth_is_written(called: NDArray[Any], bench: Bench) -> None:
    """As numbers, as text, as true and false: right is right, as it is of feedback."""
    baseline = bench.publish({"x": ROWS, "truth": called}).baseline
    assert baseline is not None
    assert baseline.calibration is not None
    assert sum(baseline.calibration.errors) == 0


@pytest.mark.parametrize("what", sorted(BAD))
def test_rows_that_the_model_does_not_take_are_named(what: str, bench: Bench) -> None:
    """A wrong name, shape, type, or no rows: refused before anything is published, with what was expected."""
    arrays, words = BAD[what]
    assert words in bench.refused(arrays)


def test_what_is_no_archive_of_arrays_is_refused(bench: Bench) -> None:
    """Neither pickles nor other bytes are read, nor a single array."""
    path = bench.root / "rows.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    assert "cannot be loaded when allow_pickle=False" in bench.refused(path)
    path.write_bytes(b"PK\x03\x04nothing")
    assert "is not an .npz file" in bench.refused(path)
    with path.open("wb") as file:
        np.save(file, ROWS)
    assert "is one array" in bench.refused(path)


def test_a_builds_own_baseline_is_published_if_it_is_one(bench: Bench) -> None:
    """A baseline that the training job left is checked like one that is made here; two are one too many."""
    bench.put("baseline.json", b"{}")
    bench.refused(None)
    bench.put("baseline.json", write_baseline(Baseline(30_000)))
    with pytest.raises(InvalidRequestError, match="one too many"):
        bench.publish({"x": ROWS})
    published = bench.publish()
    assert published.baseline == Baseline(30_000)
    assert not [each for each in published.warnings if "baseline" in each]


def test_a_baseline_that_cannot_be_read_does_not_keep_a_version_from_answering(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It is loaded without, and the log says why: watching less is better than not answering."""
    bench.put("baseline.json", write_baseline(Baseline(30_000)))
    published = bench.publish()
    manifest = json.loads((published.path / "manifest.json").read_bytes())
    manifest["baseline"]["rows"] = 7
    (published.path / "manifest.json").chmod(0o644)
    (published.path / "manifest.json").write_text(json.dumps(manifest))
    loaded = bench.loaded()
    assert loaded.baseline is None
    assert "7 rows, and it is of 30000" in caplog.text
    loaded.close()


def test_the_command_says_what_will_be_compared(bench: Bench, tmp_path: Path) -> None:
    """`model-sidecar publish --baseline-data` tells the rows, and warns where they are few."""
    np.savez(tmp_path / "rows.npz", x=ROWS, truth=CLASSES)
    words = ["publish", str(bench.build), "--store", str(tmp_path / "ml-models"), "--model", NAME]
    words += ["--version", VERSION, "--baseline-data", str(tmp_path / "rows.npz")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert (
        "baseline   2,500 rows, 2 features, score, confidence, 2 classes, and how often it was right"
        in result.output
    )
    assert "warning: the baseline has 2500 rows" in result.output

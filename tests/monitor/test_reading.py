"""Readings: what answers become, by the roles of a version's outputs, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.rpc_models import ComputedModel
from support.rpc_plane import ECHO

from model_sidecar.monitor.intake import Note, Told
from model_sidecar.monitor.pieces import joined_up
from model_sidecar.monitor.prediction_ids import PredictionIds, parse_prediction_id
from model_sidecar.monitor.reading import COLUMNS, read, read_told, sheet_of
from model_sidecar.monitor.readings import Readings
from model_sidecar.release.manifest import Feature, OutputRoles
from model_sidecar.release.names import Version
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

IDS = PredictionIds()


def spec(name: str, datatype: Datatype = Datatype.FP32, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


X = spec("x", Datatype.FP32, -1, 2)
LABEL, SCORES = spec("label", Datatype.INT64, -1), spec("probabilities", Datatype.FP32, -1, 2)


class Reading:
    """A version with these inputs and outputs, whose answers are read."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        roles: OutputRoles | None = None,
        features: Sequence[str] = (),
    ) -> None:
        self.model = ComputedModel(signature=Signature(tuple(inputs), tuple(outputs)))
        fields = {
            "outputs": roles or OutputRoles(),
            "features": tuple(Feature(each, "float") for each in features),
        }
        for name, value in fields.items():
            object.__setattr__(self.model.manifest, name, value)
        self.sheet = sheet_of(ECHO, self.model, None)
        self.notes: list[Note] = []

    def answered(
        self, inputs: dict[str, Any], outputs: dict[str, Any], *, rows: int = 1, key: Any = None
    ) -> Reading:
        """One more answer, given as arrays."""
        self.notes.append(Note(ECHO, self.model, IDS.next(), inputs, outputs, rows, key))
        return self

    def read(self) -> Readings:
        return read(self.sheet, self.notes)


def floats(*values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def listed(column: NDArray[Any] | None) -> list[Any]:
    assert column is not None
    return [round(each, 6) if isinstance(each, float) else each for each in column.tolist()]


def test_a_classifier_of_skl2onnx_is_read() -> None:
    """Label and probabilities become prediction, score and confidence; each row has its id and its place."""
    version = Reading([X], [LABEL, SCORES])
    version.answered({"x": floats([1, 2])}, {"label": np.array([1]), "probabilities": floats([0.25, 0.75])})
    version.answered(
        {"x": floats([3, 4], [5, 6])},
        {"label": np.array([0, 1]), "probabilities": floats([0.875, 0.125], [0.5, 0.5])},
        rows=2,
    )
    read = version.read()

    assert version.sheet.watched.roles == OutputRoles("classification", "label", "probabilities")
    assert version.sheet.watched.features == ("x[0]", "x[1]")
    assert read.features.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (listed(read.prediction), listed(read.score)) == ([1.0, 0.0, 1.0], [0.75, 0.125, 0.5])
    assert listed(read.confidence) == [0.75, 0.875, 0.5]
    first, second = (parse_prediction_id(note.prediction_id) for note in version.notes)
    assert first is not None
    assert second is not None
    assert read.ids.tolist() == [first.id, second.id, second.id]
    assert (read.rows.tolist(), read.process) == ([0, 0, 1], first.process)


@pytest.mark.parametrize("scores", [[0.1, 0.7, 0.2], [-1.0, 2.0, 0.5]], ids=["softmax", "logits"])
def test_a_network_of_one_output_predicts_the_greatest(scores: list[float]) -> None:
    """One float output of several classes is a classification; logits become shares of one."""
    version = Reading([X], [spec("out", Datatype.FP32, -1, 3)])
    read = version.answered({"x": floats([0, 0])}, {"out": floats(scores)}).read()
    expected = np.array(scores) if min(scores) >= 0 else np.exp(scores) / np.exp(scores).sum()

    assert (listed(read.prediction), read.score) == ([1.0], None)
    assert read.confidence == pytest.approx(expected.max(keepdims=True))


def test_a_regression_is_its_own_score() -> None:
    """One number per row is a regression, whether its column stands in brackets or not."""
    for shape in ((-1,), (-1, 1)):
        version = Reading([X], [spec("variable", Datatype.FP32, *shape)])
        read = version.answered(
            {"x": floats([0, 0])}, {"variable": floats(3.5).reshape((1,) * len(shape))}
        ).read()
        assert version.sheet.watched.roles.task == "regression"
        assert (listed(read.prediction), listed(read.score), read.confidence) == ([3.5], [3.5], None)


def test_labels_of_strings_stay_strings() -> None:
    """A classifier may say words."""
    version = Reading([X], [spec("label", Datatype.BYTES, -1), SCORES])
    outputs = {"label": np.array(["fraud"], object), "probabilities": floats([0.25, 0.75])}
    assert listed(version.answered({"x": floats([0, 0])}, outputs).read().prediction) == ["fraud"]


def test_declared_roles_count_before_inferred_ones() -> None:
    """The manifest names any outputs; one that the version does not have is left out."""
    outputs = [spec("a", Datatype.FP32, -1), spec("b", Datatype.INT64, -1)]
    version = Reading([X], outputs, roles=OutputRoles("classification", "b", "gone"))
    read = version.answered({"x": floats([0, 0])}, {"a": floats(0.5), "b": np.array([7])}).read()
    assert version.sheet.watched.roles == OutputRoles("classification", "b", None)
    assert (listed(read.prediction), read.confidence) == ([7.0], None)


def test_outputs_that_say_nothing_are_watched_for_what_is_not_finite() -> None:
    """Without roles there is no prediction; rows with NaN or infinity are marked all the same."""
    version = Reading([X], [spec("a", Datatype.FP32, -1, 2), spec("b", Datatype.FP32, -1, 2)])
    version.answered(
        {"x": np.zeros((3, 2), np.float32)},
        {"a": floats([0, 0], [np.nan, 0], [0, 0]), "b": floats([0, 0], [0, 0], [0, np.inf])},
        rows=3,
    )
    read = version.read()
    assert (read.prediction, read.score, read.confidence) == (None, None, None)
    assert read.nonfinite.tolist() == [False, True, True]


def test_answers_with_other_outputs_than_the_first_are_read() -> None:
    """Callers may ask for different outputs; what is watched is in all of them, and the rest spoils nothing."""
    version = Reading([X], [LABEL, SCORES, spec("more", Datatype.FP32, -1)])
    both = {"label": np.array([1]), "probabilities": floats([0.25, 0.75])}
    version.answered({"x": floats([0, 0])}, {"more": floats(np.nan), **both}).answered(
        {"x": floats([0, 0])}, both
    )
    read = version.read()
    assert (listed(read.prediction), read.nonfinite.tolist()) == ([1.0, 1.0], [True, False])


def test_nan_is_seen_in_what_only_some_callers_ask_for() -> None:
    """Whoever asked first asked for the label only: NaN in what the next one asked for is of the rows it stands in."""
    version = Reading([X], [LABEL, SCORES, spec("more", Datatype.FP32, -1)])
    said = {"label": np.array([1]), "probabilities": floats([0.25, 0.75])}
    more = {"label": np.array([1, 1, 1]), "probabilities": floats(*[[0.25, 0.75]] * 3)}
    version.answered({"x": floats([0, 0])}, said)
    version.answered({"x": np.zeros((3, 2))}, {**more, "more": floats(0, np.nan, 0)}, rows=3)
    version.answered({"x": floats([0, 0])}, {**said, "more": floats(np.inf)})
    assert version.read().nonfinite.tolist() == [False, False, True, False, True]


def test_arrays_whose_bytes_lie_apart_are_read_like_others() -> None:
    """A quick way to put arrays together must not mind, or mix up, how somebody made them."""
    apart = np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::4]
    turned = np.array([[0.25], [0.75]], np.float32).T
    reading = Reading([X], [LABEL, SCORES])
    for _ in range(2):
        reading.answered({"x": apart}, {"label": np.array([1]), "probabilities": turned[:, ::-1]})
    readings = reading.read()
    assert readings.features.tolist() == [[0.0, 4.0]] * 2
    assert readings.score is not None
    assert readings.score.tolist() == [0.25, 0.25]


def test_every_numeric_input_becomes_columns() -> None:
    """Integers, booleans and BF16 are numbers, text is none, and an input without rows is the same for each row."""
    version = Reading(
        [
            spec("a", Datatype.INT64, -1, 1),
            spec("text", Datatype.BYTES, -1),
            spec("flag", Datatype.BOOL, -1),
            spec("half", Datatype.BF16, -1, 2),
            spec("whole", Datatype.FP64, 2),
            spec("sequence", Datatype.FP32, -1, -1),
        ],
        [LABEL],
    )
    version.answered(
        {
            "a": np.array([[1], [2]]),
            "text": np.array(["x", "y"], object),
            "flag": np.array([True, False]),
            "half": np.array([[0x3F80, 0x4000], [0x4040, 0xFFC0]], np.uint16),
            "whole": np.array([7.0, 8.0]),
            "sequence": floats([1, 2, 3], [4, 5, 6]),
        },
        {"label": np.array([0, 1])},
        rows=2,
    )
    assert version.sheet.watched.features == ("a", "flag", "half[0]", "half[1]", "whole[0]", "whole[1]")
    found = version.read().features
    assert found[0].tolist() == [1, 1, 1, 2, 7, 8]
    assert found[1, :3].tolist() == [2, 0, 3]
    assert np.isnan(found[1, 3])
    assert found[1, 4:].tolist() == [7, 8]


def test_features_are_called_as_the_manifest_calls_them() -> None:
    """Names are taken where there are as many as columns, else the inputs' are used; of wide inputs the first are read."""
    assert Reading([X], [LABEL], features=["age", "amount"]).sheet.watched.features == ("age", "amount")
    assert Reading([X], [LABEL], features=["age"]).sheet.watched.features == ("x[0]", "x[1]")
    wide = Reading([spec("pixels", Datatype.UINT8, -1, 28, 28)], [LABEL])
    read = wide.answered({"pixels": np.ones((1, 28, 28), np.uint8)}, {"label": np.array([1])}).read()
    assert read.features.shape == (1, COLUMNS)
    assert wide.sheet.watched.features[-1] == f"pixels[{COLUMNS - 1}]"


def test_a_model_without_rows_is_one_row() -> None:
    """Where the first input has no free dimension, a request is a row, whatever shape its answer has."""
    version = Reading(
        [spec("x", Datatype.FP32, 3)], [spec("y", Datatype.FP32)], roles=OutputRoles("regression", "y")
    )
    for number in (1.0, 2.0):
        version.answered({"x": floats(1, 2, 3)}, {"y": np.float32(number).reshape(())})
    read = version.read()
    assert (read.features.shape, listed(read.prediction)) == ((2, 3), [1.0, 2.0])


def test_keys_say_which_rows_belong_together() -> None:
    """The same key has the same number, another has another, and no key is 0."""
    version = Reading([X], [LABEL])
    for key in ("session-1", "session-2", "session-1", 7, None):
        version.answered({"x": floats([0, 0])}, {"label": np.array([1])}, key=key)
    a, b, c, d, e = version.read().keys.tolist()
    assert a == c
    assert len({a, b, d, e}) == 4
    assert e == 0


def test_nan_is_no_class() -> None:
    """Where a score is NaN there is no greatest one: the prediction is NaN, and the row is marked."""
    version = Reading([X], [spec("out", Datatype.FP32, -1, 3)])
    read = version.answered({"x": floats([0, 0])}, {"out": floats([0.5, np.nan, 0.5])}).read()
    assert np.isnan(read.prediction).tolist() == [True]  # type: ignore[arg-type]
    assert read.nonfinite.tolist() == [True]


def test_pieces_of_a_tick_become_one() -> None:
    """What came in several pieces is shown as one, in order."""
    version = Reading([X], [LABEL, SCORES])
    outputs = {"label": np.array([1]), "probabilities": floats([0.25, 0.75])}
    pieces = []
    for value in range(3):
        version.notes.clear()
        pieces.append(version.answered({"x": floats([value, value])}, outputs).read())
    joined = joined_up(pieces)
    assert joined.features[:, 0].tolist() == [0, 1, 2]
    assert listed(joined.confidence) == [0.75] * 3


def test_predictions_from_elsewhere_have_no_features() -> None:
    """They have what was told: numbers or labels, and a confidence where there was one."""
    told = [
        Told(ECHO, Version("2024.01.10.prod"), IDS.next(), value, confidence)
        for value, confidence in ((1.0, 0.5), (0.0, np.nan))
    ]
    read = read_told(told, of_numbers=True)
    assert (listed(read.prediction), read.features.shape) == ([1.0, 0.0], (2, 0))
    assert read.confidence is not None
    words = read_told([told[1]._replace(prediction="fraud")], of_numbers=False)
    assert (listed(words.prediction), words.confidence) == (["fraud"], None)

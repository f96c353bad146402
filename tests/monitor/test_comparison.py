"""Two versions' answers to the same requests, compared: what differs, who is surer, who is right."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.resident import Adder

from model_sidecar.events import Site
from model_sidecar.monitor.guard.comparison import Compared, Comparison, Ran
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.quality.truths import same
from model_sidecar.monitor.reading import sheet_of
from model_sidecar.monitor.readings import Joined
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec

SITE = Site(ModelName("adder"), Environment("prod"))
CLASSIFIER = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 2)),),
    (TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("probabilities", Datatype.FP32, (-1, 2))),
)
REGRESSOR = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),))
UNKNOWN = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 2)),),
    (TensorSpec("a", Datatype.FP32, (-1, 3)), TensorSpec("b", Datatype.INT64, (-1,))),
)


class Bench:
    """A live version's answers, and what another made of the same."""

    def __init__(self, signature: Signature, **settings: Any) -> None:
        self.model = Adder("2024.01.10.prod", signature=signature)
        self.comparison = Comparison(
            sheet_of(SITE, self.model, None), **{"max_disagreement": 0.3, "arl": 1e4, **settings}
        )
        self.ids = itertools.count(1)

    def note(self, outputs: Arrays) -> Note:
        rows = len(next(iter(outputs.values())))
        inputs = {"x": np.zeros((rows, 2), np.float32)}
        return Note(SITE, self.model, f"{next(self.ids):016x}-00000000", inputs, outputs, rows, None)

    def pair(self, live: Arrays, other: Arrays | None, *, times: int = 1, **how: Any) -> Compared:
        for _ in range(times):
            self.comparison.add(self.note(live), Ran(other, 0.002), **how)
        return self.comparison.compared()


def classes(*labels: int, sure: float = 0.9) -> Arrays:
    shares = np.array([[1 - sure, sure] if label else [sure, 1 - sure] for label in labels], np.float32)
    return {"label": np.array(labels, np.int64), "probabilities": shares}


def values(*numbers: float) -> Arrays:
    return {"y": np.array(numbers, np.float32)[:, None]}


NAN = {"label": np.array([0]), "probabilities": np.full((1, 2), np.nan, np.float32)}


def test_classes_differ_or_do_not() -> None:
    """However sure: only the class counts."""
    bench = Bench(CLASSIFIER)
    bench.pair(classes(1), classes(1, sure=0.6), times=30)
    compared = bench.pair(classes(1), classes(0), times=10)

    assert (compared.compared, compared.disagreed, compared.disagreement) == (40, 10, 0.25)


def test_a_request_counts_once_however_many_rows_it_has() -> None:
    """Rows of one request are hardly independent; a quarter of them differing is a quarter of a difference."""
    compared = Bench(CLASSIFIER).pair(classes(1, 1, 1, 1), classes(1, 1, 1, 0), times=8)

    assert (compared.compared, compared.disagreed) == (8, 2.0)


def test_values_differ_by_the_live_versions_spread() -> None:
    """Numbers from 0 to 100: three apart is the same, ten apart is not; and before there is a spread, nobody judges."""
    bench = Bench(REGRESSOR)
    for value in np.linspace(0, 100, 31).tolist():
        assert bench.pair(values(value), values(value + 3)).compared == 0
    assert bench.pair(values(50), values(53)).disagreed == 0
    compared = bench.pair(values(50), values(60), times=8)

    assert (compared.compared, compared.disagreed) == (40, 8)


def test_a_constant_version_forgives_only_rounding() -> None:
    """With no spread at all, what differs is what a float32 cannot hide."""
    bench = Bench(REGRESSOR)
    bench.pair(values(7.0), values(7.00001), times=40)
    assert bench.comparison.compared().disagreed == 0

    assert bench.pair(values(7.0), values(7.1), times=5).disagreed == 5


def test_without_a_known_prediction_every_output_counts() -> None:
    """One element of one output is enough."""
    bench = Bench(UNKNOWN)
    rows = np.arange(120, dtype=np.float32).reshape(40, 3)
    live: dict[str, NDArray[Any]] = {"a": rows, "b": np.arange(40)}
    other: dict[str, NDArray[Any]] = {"a": rows.copy(), "b": np.arange(40)}
    other["a"][3, 1] += 50
    other["b"][5] += 1

    assert bench.pair(live, other).disagreed == pytest.approx(2 / 40)


@pytest.mark.parametrize(
    ("live", "other", "judged", "expected"),
    [
        pytest.param(
            classes(1),
            None,
            "live",
            (0, 0.0, 1),
            id="only the other fails, and is not the one that is judged",
        ),
        pytest.param(classes(1), None, "other", (1, 1.0, 1), id="only the other fails, and is judged"),
        pytest.param(classes(1), NAN, "other", (1, 1.0, 1), id="only the other is NaN"),
        pytest.param(NAN, classes(1), "live", (1, 0.0, 0), id="only the live one is NaN: no other opinion"),
        pytest.param(NAN, NAN, "other", (1, 0.0, 0), id="both are NaN"),
        pytest.param(NAN, None, "other", (1, 0.0, 0), id="the live one is NaN, and the other fails"),
    ],
)
def test_failures_count_against_whom_they_should(
    live: Arrays, other: Arrays | None, judged: str, expected: tuple[int, float, int]
) -> None:
    """A standby that fails is no evidence against the live version, and a candidate's failure is never overlooked."""
    compared = Bench(CLASSIFIER, failures_differ=judged == "other").pair(live, other)

    assert (compared.compared, compared.disagreed, compared.failed) == expected


def test_the_others_slow_runs_are_counted() -> None:
    """A median hides the quarter of the requests that are large."""
    bench = Bench(CLASSIFIER, slow_s=0.005)
    for turn in range(40):
        ran = Ran(classes(1), 0.02 if turn % 4 == 0 else 0.001)
        bench.comparison.add(bench.note(classes(1)), ran)
    compared = bench.comparison.compared()

    assert (compared.other_slow, compared.other_runs, compared.other_median_s) == (10, 40, 0.001)


def test_who_bears_witness_is_not_counted() -> None:
    """Requests that were chosen for their answer would make the sample one of bad answers."""
    compared = Bench(CLASSIFIER).pair(NAN, NAN, times=5, sampled=False)

    assert (compared.compared, compared.nonfinite, compared.nonfinite_in_both) == (0, 5, 5)


def test_a_run_that_fails_is_no_witness_against_the_input() -> None:
    """Where the live version answers NaN, only NaN is the same."""
    bench = Bench(CLASSIFIER)
    bench.pair(NAN, None, times=3)
    bench.pair(NAN, NAN, times=2)
    compared = bench.pair(NAN, classes(1))

    assert (compared.nonfinite, compared.nonfinite_in_both, compared.nonfinite_failed) == (6, 2, 3)


def test_outputs_that_only_the_live_version_has_are_no_difference() -> None:
    """A version may add some; where the prediction itself is one of these, there is nothing to compare."""
    rows = np.arange(120, dtype=np.float32).reshape(40, 3)
    added = Bench(UNKNOWN).pair({"a": rows, "b": np.arange(40)}, {"a": rows})
    replaced = Bench(CLASSIFIER).pair(classes(1), {"other": np.array([0])}, times=5)

    assert (added.compared, added.disagreed) == (1, 0)
    assert (replaced.compared, replaced.disagreed) == (0, 0)


def test_confidence_is_compared_on_the_same_requests() -> None:
    """Less by more than was allowed, for long enough: that convinces."""
    bench = Bench(CLASSIFIER, max_confidence_loss=0.2)
    assert not bench.pair(classes(1, sure=0.75), classes(1, sure=0.9), times=300).confidence_convinced

    bench = Bench(CLASSIFIER, max_confidence_loss=0.2)
    compared = bench.pair(classes(1, sure=0.55), classes(1, sure=0.95), times=200)
    assert compared.confidence_convinced
    assert compared.confidence == pytest.approx(0.55)
    assert compared.other_confidence == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("live_right", "other_right", "convinced"),
    [
        pytest.param(lambda i: i % 10 < 7, lambda i: i % 10 < 9, True, id="worse"),
        pytest.param(lambda i: i % 10 < 9, lambda i: i % 10 < 7, False, id="better"),
        pytest.param(lambda i: i % 10 < 8, lambda i: i % 10 > 1, False, id="as good, on others"),
    ],
)
def test_accuracy_is_compared_on_the_same_labels(
    live_right: Callable[[int], bool], other_right: Callable[[int], bool], *, convinced: bool
) -> None:
    """Only where one of them is right and the other wrong is anything learned."""
    bench = Bench(CLASSIFIER)
    for turn in range(600):
        live, other = (int(right(turn)) for right in (live_right, other_right))
        note = bench.note(classes(live))
        bench.comparison.add(note, Ran(classes(other), 0.001))
        key = int(note.prediction_id[:16], 16)
        bench.comparison.joined([Joined(key, 0, float(live), None, 0.9, "1")], same=same)
    compared = bench.comparison.compared()

    assert compared.labels == 600
    assert compared.accuracy_convinced == convinced


def test_labels_of_what_was_not_compared_are_passed_over() -> None:
    """And so are repetitions: each prediction counts once."""
    bench = Bench(CLASSIFIER)
    note = bench.note(classes(1))
    bench.comparison.add(note, Ran(classes(1), 0.001))
    told = Joined(int(note.prediction_id[:16], 16), 0, 1.0, None, 0.9, 1.0)
    bench.comparison.joined([told, told, Joined(999, 0, 1.0, None, 0.9, 1.0)], same=same)

    assert bench.comparison.compared().labels == 1


def test_a_label_that_comes_before_the_comparison_counts() -> None:
    """Mirrored requests wait where there are many, and a label that comes within seconds does not wait for them."""
    bench = Bench(CLASSIFIER)
    note = bench.note(classes(1))
    key = int(note.prediction_id[:16], 16)
    bench.comparison.joined([Joined(key, 0, 1.0, None, 0.9, 0.0)], same=same)
    assert bench.comparison.compared().labels == 0

    bench.comparison.add(note, Ran(classes(0), 0.001))

    compared = bench.comparison.compared()
    assert (compared.labels, compared.accuracy, compared.other_accuracy) == (1, 0.0, 1.0)

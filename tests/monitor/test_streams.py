"""Counts: what falls into which bin, and that they add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.streams import CLASSIFIER, Classifier, part, readings, watched

from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.drift.streams import Counts, Streams, spaced
from model_sidecar.monitor.readings import Readings
from model_sidecar.release.baseline import StreamKind
from model_sidecar.release.manifest import OutputRoles

MODEL = Classifier(4)
STREAMS = Streams(MODEL.watched(MODEL.baseline(2000)))


def counted(streams: Streams, rows: Readings) -> Counts:
    everything = np.ones(len(rows.ids), dtype=np.bool_)
    return streams.count(rows, everything, everything)


def of(streams: Streams, rows: Readings, name: str, kind: StreamKind) -> list[int]:
    counts = counted(streams, rows)
    stream = next(each for each in streams.streams if (each.name, each.kind) == (name, kind))
    shown: list[int] = counts[stream.first : stream.end].tolist()
    return shown


def column(values: list[float] | NDArray[Any]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)[:, None]


@settings(deadline=None, derandomize=True, database=None, max_examples=40)
@given(seed=st.integers(0, 2**32), sidecars=st.integers(2, 64), rows=st.integers(0, 1500))
def test_the_counts_of_sidecars_add_up_to_those_of_one(seed: int, sidecars: int, rows: int) -> None:
    """However traffic with faults in it is shared out, and in whatever order counts are added, the sum is the same."""
    chance = np.random.default_rng(seed)
    features = MODEL.rows(chance, rows) * 3
    features[chance.random(features.shape) < 0.05] = np.nan
    features[chance.random(features.shape) < 0.05] = np.inf
    answers = MODEL.answered(features)
    whom = chance.integers(sidecars, size=rows)
    parts = [counted(STREAMS, part(answers, whom == each)) for each in chance.permutation(sidecars)]
    assert np.array_equal(np.sum(parts, axis=0), counted(STREAMS, answers))


def test_the_reference_is_what_its_own_rows_are_counted_as() -> None:
    """The rows that made a baseline fall into its bins as often as it says, with ties and holes."""
    chance = np.random.default_rng(4)
    features = np.stack(
        [
            chance.normal(size=900),
            chance.integers(3, size=900),
            np.where(chance.random(900) < 0.2, np.nan, 1.0),
        ],
        axis=1,
    )
    rows = replace(MODEL.answered(MODEL.rows(chance, 900)), features=features)
    names = ("smooth", "steps", "holes")
    streams = Streams(watched(names, baseline_of(rows, names, task="classification")))
    counts = counted(streams, rows)
    for stream in streams.streams:
        if stream.kind is not StreamKind.CONSTANT:
            assert counts[stream.first : stream.end].tolist() == list(stream.reference), stream


@pytest.mark.parametrize(
    ("values", "cuts"),
    [
        ([0.0, 1.0] * 50, (0.0,)),
        ([1.0] * 95 + [0.0] * 5, (0.0,)),
        ([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0], (0.0,)),
        ([2.0] * 10 + [5.0] * 80 + [7.0] * 10, (2.0, 5.0)),
        ([3.0] * 100, ()),
        ([np.nan] * 100, ()),
    ],
)
def test_values_that_many_rows_share_have_a_cut_on_either_side(
    values: list[float], cuts: tuple[float, ...]
) -> None:
    """Discrete features get as many cuts as tell their values apart, none twice and none that says nothing."""
    (stream,) = baseline_of(readings(column(values)), ("x",), task="none").streams
    assert stream.cuts == cuts


def test_what_is_not_finite_is_counted_for_itself() -> None:
    """NaN and infinity are holes, and in no bin of the value; finite values beyond the baseline's are out of range."""
    streams = Streams(watched(("x",), baseline_of(readings(column(list(range(11)))), ("x",), task="none")))
    rows = readings(column([np.nan, np.inf, -np.inf, 5.0, 11.5, -2.0]))
    assert of(streams, rows, "x", StreamKind.NONFINITE) == [3, 3]
    assert of(streams, rows, "x", StreamKind.RANGE) == [1, 2]
    assert sum(of(streams, rows, "x", StreamKind.FEATURE)) == 3


def test_classes_that_the_baseline_has_not_are_others() -> None:
    """A label that was never predicted before falls to the others; text and numbers are told apart by name only."""
    rows = readings(np.zeros((4, 0)), np.array(["cat", "dog", "cat", "cat"], dtype=object))
    streams = Streams(watched((), baseline_of(rows, (), task="classification")))
    said = replace(rows, prediction=np.array(["dog", "eel", "dog", "cat"], dtype=object))
    assert of(streams, said, "output", StreamKind.CLASS) == [1, 2, 1]


def test_answers_from_elsewhere_have_no_features() -> None:
    """Rows of predictions that were made elsewhere count where they say something: score, confidence, class."""
    elsewhere = replace(
        MODEL.answered(MODEL.rows(np.random.default_rng(1), 50)), features=np.zeros((50, 0)), score=None
    )
    counts = counted(STREAMS, elsewhere)
    told = {each.kind: int(counts[each.first : each.end].sum()) for each in STREAMS.streams}
    assert told[StreamKind.FEATURE] == told[StreamKind.SCORE] == 0
    assert told[StreamKind.CONFIDENCE] == told[StreamKind.CLASS] == 50


def test_the_same_answer_falls_into_one_bin_and_others_into_all() -> None:
    """Constant answers fill one bin of sixteen; answers that differ spread over them."""
    chance = np.random.default_rng(1)
    same = of(STREAMS, MODEL.answered(MODEL.rows(chance, 800), constant=0.2), "output", StreamKind.CONSTANT)
    assert max(same) == 800
    spread = of(STREAMS, MODEL.answered(MODEL.rows(chance, 800)), "output", StreamKind.CONSTANT)
    assert min(spread) > 20


def test_of_wide_inputs_evenly_spaced_columns_are_watched() -> None:
    """At most 64, the first and the last among them."""
    assert spaced(3).tolist() == [0, 1, 2]
    assert spaced(0).tolist() == []
    taken = spaced(784)
    assert (len(taken), taken[0], taken[-1]) == (64, 0, 783)


def test_without_a_baseline_only_what_needs_none_is_counted() -> None:
    """Whether outputs are finite; whether they differ, where there is enough of them to differ and inputs to compare."""
    labels_only = OutputRoles("classification", "label", None)
    kinds = [
        {each.kind for each in Streams(watched(names, None, roles=roles)).streams}
        for names, roles in ((("x",), CLASSIFIER), (("x",), labels_only), ((), CLASSIFIER))
    ]
    assert kinds == [
        {StreamKind.NONFINITE, StreamKind.CONSTANT},
        {StreamKind.NONFINITE},
        {StreamKind.NONFINITE},
    ]

"""Metrics are what their definitions say, and their bounds hold the truth as often as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model_sidecar.monitor.quality.calibration import counted, estimated_accuracy
from model_sidecar.monitor.quality.label_tallies import MOST_CLASSES, Classes, ClassTally, ValueTally
from model_sidecar.monitor.quality.measures import Measure, of_classes, of_values
from model_sidecar.monitor.quality.scores import SCORE_BINS, area_under_curve
from model_sidecar.monitor.readings import Joined
from model_sidecar.release.baseline import Calibration


def row(prediction: float | str, truth: float | str, score: float | None = None) -> Joined:
    return Joined(id=0, row=0, prediction=prediction, score=score, confidence=None, truth=truth)


def scored(truths: NDArray[np.int_], scores: NDArray[np.float64]) -> ClassTally:
    made = ClassTally(Classes())
    for truth, score in zip(truths.tolist(), scores.tolist(), strict=True):
        each = row(float(score > 0.5), float(truth), score)
        made.add(each, each.truth)
    return made


def measured(tally: ClassTally | ValueTally) -> dict[str, Measure]:
    found = of_classes(tally) if isinstance(tally, ClassTally) else of_values(tally)
    return {each.name: each for each in found}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_binary_metrics_are_their_definitions(rng: np.random.Generator) -> None:
    """Accuracy, F1, precision, recall and log loss exactly; AUC to a bin's width; over rows counted one by one."""
    truths = rng.integers(0, 2, 800)
    scores = np.clip(0.25 + 0.5 * truths + rng.normal(0, 0.25, 800), 0, 1)
    found = measured(scored(truths, scores))

    predicted = scores > 0.5
    hit = int((predicted & (truths == 1)).sum())
    assert found["accuracy"].value == pytest.approx((predicted == truths).mean())
    assert found["precision"].value == pytest.approx(hit / predicted.sum())
    assert found["recall"].value == pytest.approx(hit / truths.sum())
    assert found["f1"].value == pytest.approx(2 * hit / (predicted.sum() + truths.sum()))
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    losses = -np.where(truths == 1, np.log(clipped), np.log(np.maximum(1 - scores, 1e-15)))
    assert found["log_loss"].value == pytest.approx(losses.mean())
    pairs = scores[truths == 1][:, None] - scores[truths == 0][None, :]
    exact = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert found["auc"].value == pytest.approx(exact, abs=1 / SCORE_BINS)


def test_the_positive_class_is_found_by_its_scores(rng: np.random.Generator) -> None:
    """Of two classes that are words, the positive one is the one that high scores are given to, whichever came first."""
    truths = rng.integers(0, 2, 300)
    scores = np.clip(0.2 + 0.6 * truths + rng.normal(0, 0.2, 300), 0, 1)
    words = ("no", "yes")
    named, numbered = ClassTally(Classes()), scored(truths, scores)
    named.add(row("yes", "yes", 0.9), "yes")
    named.add(row("yes", "yes", 0.9), "yes", -1)
    for truth, score in zip(truths, scores, strict=True):
        named.add(row(words[int(score > 0.5)], words[truth], float(score)), words[truth])

    for name, measure in measured(numbered).items():
        assert measured(named)[name].value == pytest.approx(measure.value), name


def test_several_classes_are_averaged(rng: np.random.Generator) -> None:
    """Of more than two classes F1 is the mean of the classes', and there is no AUC."""
    truths, guesses = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    tally = ClassTally(Classes())
    for truth, guess in zip(truths, guesses, strict=True):
        tally.add(row(float(guess), str(truth)), str(truth))

    each = [
        2 * ((truths == c) & (guesses == c)).sum() / ((truths == c).sum() + (guesses == c).sum())
        for c in range(4)
    ]
    assert measured(tally)["f1"].value == pytest.approx(np.mean(each))
    assert set(measured(tally)) == {"accuracy", "f1"}


def test_classes_beyond_twenty_count_together_and_still_are_told_apart() -> None:
    """A thousand classes cost no more than twenty-one; accuracy knows them all."""
    tally = ClassTally(Classes())
    for number in range(1000):
        tally.add(row(float(number), float(number)), float(number))
        tally.add(row(float(number), float(number + 1)), float(number + 1))

    assert len(tally.classes.names) == MOST_CLASSES
    assert measured(tally)["accuracy"].value == 0.5


def test_a_regression_has_mae_and_rmse(rng: np.random.Generator) -> None:
    """MAE and RMSE exactly; a NaN is counted as a label and spoils neither."""
    truths = rng.normal(0, 3, 400)
    guesses = truths + rng.normal(0, 0.5, 400)
    tally = ValueTally()
    for truth, guess in zip(truths.tolist(), guesses.tolist(), strict=True):
        tally.add(row(guess, truth), truth)
    tally.add(row(math.nan, 1.0), 1.0)

    found = measured(tally)
    assert tally.labels == 401
    assert found["mae"].value == pytest.approx(np.abs(guesses - truths).mean())
    assert found["rmse"].value == pytest.approx(np.sqrt(((guesses - truths) ** 2).mean()))


def test_what_is_taken_back_was_never_there(rng: np.random.Generator) -> None:
    """A row added and taken back leaves every metric as it was; so adds up what was counted in two places."""
    truths = rng.integers(0, 2, 200)
    scores = rng.random(200)
    whole = scored(truths, scores)
    before = measured(whole)
    wrong = row(1.0, 0.0, 0.99)
    whole.add(wrong, wrong.truth)
    whole.add(wrong, wrong.truth, -1)
    assert {name: each.value for name, each in measured(whole).items()} == pytest.approx(
        {name: each.value for name, each in before.items()}
    )

    classes = Classes()
    parts = [ClassTally(classes), ClassTally(classes)]
    for place, (truth, score) in enumerate(zip(truths.tolist(), scores.tolist(), strict=True)):
        parts[place % 2].add(row(float(score > 0.5), float(truth), score), float(truth))
    parts[0].merge(parts[1])
    assert measured(parts[0])["auc"].value == pytest.approx(before["auc"].value)


@pytest.mark.parametrize("name", ["accuracy", "f1", "auc", "log_loss", "mae", "rmse"])
def test_bounds_hold_the_truth_about_as_often_as_they_promise(name: str, rng: np.random.Generator) -> None:
    """Of 400 samples of 200 rows, the 95 % interval holds the value of a very large sample in at least 90 %."""

    def sample(n: int) -> Measure:
        if name in {"mae", "rmse"}:
            errors = np.abs(rng.normal(0, 1, n))
            return measured(
                ValueTally(n, n, float(errors.sum()), float((errors**2).sum()), float((errors**4).sum()))
            )[name]
        truths = rng.integers(0, 2, n)
        scores = 1 / (1 + np.exp(-(3 * truths - 1.5 + rng.normal(0, 1.3, n))))
        return measured(scored(truths, scores))[name]

    true = sample(40_000).value
    inside = sum((each.lower or 0) <= true <= (each.upper or 0) for each in (sample(200) for _ in range(400)))
    assert inside >= 360


def test_the_area_of_a_perfect_and_of_a_blind_score() -> None:
    """1 where every positive is above every negative, a half where all scores are one, None where there are no pairs."""
    low, high = np.zeros(SCORE_BINS, np.int64), np.zeros(SCORE_BINS, np.int64)
    low[3], high[150] = 10, 7
    assert area_under_curve(low, high) == 1.0
    assert area_under_curve(low, low) == 0.5
    assert area_under_curve(low, np.zeros_like(low)) is None


def test_accuracy_is_guessed_from_confidence(rng: np.random.Generator) -> None:
    """Calibrated confidences that fall lower are seen as lower accuracy, without one label, within half a point."""
    edges = tuple(np.linspace(0.5, 1.0, 21)[1:-1].tolist())
    reference = rng.uniform(0.7, 1.0, 50_000)
    wrong = rng.random(50_000) > reference
    places = np.searchsorted(edges, reference)
    table = Calibration(
        edges,
        tuple(np.bincount(places, minlength=20).tolist()),
        tuple(np.bincount(places[wrong], minlength=20).tolist()),
    )
    for lowest in (0.7, 0.8):
        now = rng.uniform(lowest, 0.95, 20_000)
        guess = estimated_accuracy(table, counted(table, np.append(now, np.nan)))
        assert guess is not None
        assert guess.value == pytest.approx(now.mean(), abs=0.005)
        assert guess.lower is not None
        assert guess.upper is not None
        assert guess.lower < guess.value < guess.upper
    assert estimated_accuracy(table, np.zeros(20, np.int64)) is None


def test_a_confidence_on_an_edge_is_in_the_bin_below_it() -> None:
    """As the baseline counted it: a bin holds what is above its lower edge and at or below its upper one."""
    table = Calibration((0.8,), (10, 10), (5, 0))
    assert counted(table, np.array([0.8, 0.8000001, np.nan, np.inf])).tolist() == [1, 1]

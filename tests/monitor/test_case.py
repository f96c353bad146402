"""What the guard sees of one live version, from its flip on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support.resident import Adder

from model_sidecar.config import GuardSettings
from model_sidecar.events import Site
from model_sidecar.monitor.guard.case import Case, Ended
from model_sidecar.monitor.guard.comparison import Ran
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.reading import read, sheet_of
from model_sidecar.monitor.readings import requests_of
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

SITE = Site(ModelName("adder"), Environment("prod"))
CLASSIFIER = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 2)),),
    (TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("probabilities", Datatype.FP32, (-1, 2))),
)
LABELS_ONLY = Signature(CLASSIFIER.inputs, CLASSIFIER.outputs[:1])
STANDBY = Digest("sha256:standby")
SETTINGS = GuardSettings(min_predictions=20)


class Seen:
    """A case, and the rows that it is shown."""

    def __init__(
        self, signature: Signature = CLASSIFIER, *, before: Ended | None = None, previous: Ended | None = None
    ) -> None:
        self.model = Adder("2024.01.12.prod", signature=signature)
        self.sheet = sheet_of(SITE, self.model, None)
        self.case = Case(self.sheet, SETTINGS, before=before or Ended(), previous=previous)
        self.ids = itertools.count(1)

    def note(self, share: float, label: int = 1) -> Note:
        shares = np.array([[1 - share, share]], np.float32)
        outputs = {"label": np.array([label]), "probabilities": shares}
        named = {spec.name: outputs[spec.name] for spec in self.model.signature.outputs}
        return Note(
            SITE,
            self.model,
            f"{next(self.ids):016x}-00000000",
            {"x": np.zeros((1, 2), np.float32)},
            named,
            1,
            None,
        )

    def answer(self, *shares: float) -> None:
        for share in shares:
            readings = read(self.sheet, [self.note(share)])
            self.case.observe(readings, requests_of(readings))

    def ask_standby(self, live: float, standby: float) -> None:
        self.case.pair(STANDBY, self.note(live), Ran(self.note(standby).outputs, 0.001), sampled=True)

    def facts(self) -> Any:
        return self.case.facts(STANDBY)


def test_answers_that_are_all_the_same_are_counted_from_the_last_difference() -> None:
    """Across ticks, and one other answer begins it anew."""
    seen = Seen()
    seen.answer(0.8, 0.8, 0.3, 0.9, 0.9)
    assert seen.facts().alike == 2
    seen.answer(*[0.9] * 30)

    assert seen.facts().alike == 32
    assert seen.case.wants_witnesses


def test_a_class_that_does_not_come_for_long_is_no_constant_output() -> None:
    """Where there are only classes, how often each comes is a matter of disagreement."""
    seen = Seen(LABELS_ONLY)
    seen.answer(*[0.9] * 50)

    assert seen.facts().alike == 0


@pytest.mark.parametrize(
    ("standby", "in_both"), [((0.1, 0.2, 0.3, 0.4), False), ((0.5, 0.5, 0.5, 0.5), True)]
)
def test_the_standby_bears_witness_whether_the_requests_differ(
    standby: tuple[float, ...], *, in_both: bool
) -> None:
    """A caller who sends the same row again and again makes every version constant."""
    seen = Seen()
    seen.answer(*[0.9] * 30)
    for share in standby:
        seen.ask_standby(0.9, share)

    facts = seen.facts()
    assert (facts.alike_witnesses, facts.alike_in_both) == (4, in_both)


@pytest.mark.parametrize(
    ("step", "in_both"), [pytest.param(1e-5, True, id="noise"), pytest.param(0.07, False, id="values")]
)
def test_a_standby_that_differs_by_less_than_what_is_the_same_tells_no_requests_apart(
    step: float, *, in_both: bool
) -> None:
    """A version that clamps at 0, and one that says -0.0001 there, are of one opinion in a dry spell, however long that is."""
    seen = Seen()
    seen.answer(*np.linspace(0.1, 0.9, 64).tolist())
    seen.answer(*[0.0] * 2000)
    for turn in range(12):
        seen.ask_standby(0.0, 0.05 + step * turn)

    facts = seen.facts()
    assert (facts.alike, facts.alike_witnesses, facts.alike_in_both) == (2000, 12, in_both)


def test_answers_that_only_look_alike_are_none() -> None:
    """Confidence may be 1.0 to the last bit of a float for long, while other numbers of the answer still move."""
    seen = Seen()
    shares = [np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(0))]
    seen.answer(*[1.0] * 30)
    for share in shares:
        seen.ask_standby(float(share), 0.4)

    assert seen.facts().alike == 0


def test_nan_is_counted_by_request() -> None:
    """One in ten, of which the rest is fine."""
    seen = Seen()
    seen.answer(*[float("nan"), *[0.7] * 9] * 20)

    nonfinite = seen.facts().nonfinite
    assert (nonfinite.count, nonfinite.of, nonfinite.convinced) == (20, 200, True)


def test_only_what_happened_since_the_flip_counts() -> None:
    """A version that was live before brings its counters along."""
    seen = Seen(before=Ended(1000, 400, 300))
    seen.case.count(Ended(1050, 400, 300))

    facts = seen.facts()
    assert (facts.predictions, facts.failed.count, facts.slow.count) == (50, 0, 0)


def test_failures_convince_by_their_share() -> None:
    """A tenth is a burn, and one in ten thousand is not."""
    bad, good = Seen(), Seen()
    for second in range(1, 61):
        bad.case.count(Ended(10 * second, second, 0))
        good.case.count(Ended(10_000 * second, second, 0))

    assert bad.facts().failed.convinced
    assert not good.facts().failed.convinced


def test_what_the_version_before_did_is_remembered() -> None:
    """If it failed as often while it was live, going back would not help."""
    facts = Seen(previous=Ended(1000, 100, 500)).facts()

    assert (facts.previous_failed, facts.previous_slow) == (True, True)


def test_another_standby_is_another_comparison() -> None:
    """What was seen beside one version says nothing of another."""
    seen = Seen()
    seen.ask_standby(0.9, 0.1)
    assert seen.facts().compared.compared == 1
    seen.case.pair(Digest("sha256:other"), seen.note(0.9), Ran(seen.note(0.9).outputs, 0.001), sampled=True)

    assert seen.facts().compared.compared == 0
    assert seen.case.facts(Digest("sha256:other")).compared.compared == 1
    assert seen.case.facts(None).compared.compared == 0

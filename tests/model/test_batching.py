"""Which versions may be run with several requests' rows at once, found out by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support import batchable, models
from support.candidates import Candidates

from model_sidecar.model.batching import probe
from model_sidecar.model.execution import INLINE_S, Batching, Execution, execution_of
from model_sidecar.model.golden import Example
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.trial import Limits, Trials

ROWS = 64
DEAR_S = 2 * INLINE_S
FIT: dict[str, Callable[[], bytes]] = {"an MLP": batchable.mlp, "a forest": batchable.forest}


def dear(candidates: Candidates, model: bytes, **arguments: Any) -> LoadedModel:
    """Loaded, and taken to cost enough to be run in a lane."""
    loaded = candidates.load(model, **arguments)
    loaded.cost_s = DEAR_S
    return loaded


@pytest.mark.parametrize("kind", FIT)
def test_a_version_that_gains_and_keeps_its_rows_apart_is_batched(candidates: Candidates, kind: str) -> None:
    """What a run costs is told for growing numbers of rows, each cheaper by the row than the one before."""
    found = probe(dear(candidates, FIT[kind]()), (), max_rows=ROWS).batching

    assert found is not None
    assert 8 <= found.max_rows <= ROWS
    assert found.cost(1) == 1.0
    assert found.cost(8) / 8 <= 0.6
    costs = [cost for _, cost in found.costs]
    assert costs == sorted(costs)


@pytest.mark.parametrize("kind", batchable.MIXING)
def test_a_model_that_mixes_its_rows_is_never_batched(candidates: Candidates, kind: str) -> None:
    """Whatever its signature looks like: rows that differ are run alone and together, and compared to the last bit."""
    batching, why = probe(dear(candidates, batchable.MIXING[kind]()), (), max_rows=ROWS)
    assert batching is None
    assert "of its time" not in why, "refused for what it answers, not for what it costs"
    found = (
        "is answered otherwise than alone",
        "is the same for all",
        "output 'y' has shape",
        "has no first dimension of any size",
    )
    assert any(words in why for words in found), why
    assert ("beside a row of nan" in why) == (kind == "not a number spreads"), why


def test_a_model_that_quantizes_all_rows_by_one_scale_is_never_batched(candidates: Candidates) -> None:
    """That is what the operator says it does, whatever made-up rows show of it; so without trying."""
    batching, why = probe(dear(candidates, batchable.quantized()), (), max_rows=ROWS)
    assert batching is None
    assert why == "DynamicQuantizeLinear scales each row by what the others hold"


def test_rows_that_are_all_clipped_do_not_hide_what_they_are_scaled_by(candidates: Candidates) -> None:
    """Around examples as large as a model lets them be, others are too: some rows are made up small."""
    examples = [Example({"x": np.full((1, 1024), 3, np.float32)}, {})]
    batching, why = probe(dear(candidates, batchable.scaled()), examples, max_rows=ROWS)
    assert batching is None
    assert "is answered otherwise than alone" in why, why


def test_golden_examples_are_what_rows_are_made_of(candidates: Candidates) -> None:
    """A table's indices cannot be made up: with examples that hold some there is something to try it with."""
    examples = [Example({"i": np.arange(64)}, {})]

    assert probe(dear(candidates, batchable.embedded(64)), examples, max_rows=ROWS).batching is not None
    batching, why = probe(dear(candidates, models.table()), (), max_rows=ROWS)
    assert batching is None
    assert "of 0 made-up rows" in why


def test_rows_that_nobody_can_tell_apart_prove_nothing(candidates: Candidates) -> None:
    """A model that answers everything the same is not batched: whether it mixes rows cannot be seen."""
    constant = models.build(
        [helper.make_node("Mul", ["x", "zero"], ["y"])],
        [models.value("x")],
        [models.value("y")],
        {"zero": np.zeros(2, np.float32)},
    )
    batching, why = probe(dear(candidates, constant), (), max_rows=ROWS)
    assert batching is None
    assert "too few to see whether they mix" in why


@pytest.mark.parametrize("model", [models.scalar_input(), models.identity(shape=(4, 2))])
def test_without_rows_there_is_nothing_to_put_together(candidates: Candidates, model: bytes) -> None:
    """A scalar, or a first dimension that is fixed, has no place for another's rows."""
    batching, why = probe(dear(candidates, model), (), max_rows=ROWS)
    assert batching is None
    assert "has no first dimension of any size" in why


@pytest.mark.parametrize(("cost_s", "max_rows"), [(INLINE_S, ROWS), (DEAR_S, 1), (DEAR_S, 0)])
def test_what_is_cheap_or_not_wanted_is_not_tried(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch, cost_s: float, max_rows: int
) -> None:
    """Nothing is run for a version that never waits for a lane, nor where the operator said so."""
    loaded = dear(candidates, batchable.mlp())
    loaded.cost_s = cost_s
    monkeypatch.setattr(loaded, "run", None)
    assert probe(loaded, (), max_rows=max_rows).batching is None


def test_what_a_made_up_row_does_to_the_child_is_not_held_against_the_version(
    candidates: Candidates, caplog: pytest.LogCaptureFixture
) -> None:
    """A version that passed its rehearsal passed, also where the process dies of rows that nobody ever sent."""
    x = np.zeros((1, 1024), np.float32)
    example = Example({"x": x, "n": np.array([[1]])}, {"y": x})
    verified = candidates.verify(batchable.dies_of_zero(), examples=[example])

    with caplog.at_level(logging.INFO, logger="model_sidecar"):
        passed = Trials(max_batch_rows=ROWS).hold(verified, Limits(60.0, None))

    assert (passed.examples, passed.batching, passed.tried_rows) == (1, None, ROWS)
    assert "its process ended (-8) while it was being tried with several rows at once" in caplog.text


def test_a_trial_tells_what_rows_cost_together(candidates: Candidates) -> None:
    """A weight-bound model is found to be one in its trial, and only where that is asked for."""
    verified = candidates.verify(batchable.mlp(width=1024))
    limits = Limits(60.0, None)

    found = Trials(max_batch_rows=ROWS).hold(verified, limits).batching
    assert found is not None
    assert found.max_rows >= 8
    assert Trials().hold(verified, limits).batching is None


def test_a_convolution_gains_nothing(candidates: Candidates, caplog: pytest.LogCaptureFixture) -> None:
    """What is bound by computing is left to its lanes, and the log says why."""
    verified = candidates.verify(batchable.convolution())
    with caplog.at_level(logging.INFO, logger="model_sidecar"):
        assert Trials(max_batch_rows=ROWS).hold(verified, Limits(60.0, None)).batching is None
    assert "is not batched: a row takes " in caplog.text


def test_costs_between_those_measured_are_in_proportion() -> None:
    """Between two numbers of rows on the line between them, beyond the last as if each further row cost the same."""
    batching = Batching(((1, 1.0), (2, 1.5), (8, 3.0)))
    assert [batching.cost(rows) for rows in (1, 2, 5, 8, 16)] == [1.0, 1.5, 2.25, 3.0, 6.0]
    assert batching.within(5) == Batching(((1, 1.0), (2, 1.5), (5, 2.25)))
    assert batching.within(64) is batching
    assert batching.within(1) is None


def test_execution_follows_from_what_was_measured(candidates: Candidates) -> None:
    """Cheap: on the loop, whether it gains or not; dear: in a lane, and batched where it gains."""
    loaded = candidates.load(models.add_constant(1))
    batching = Batching(((1, 1.0), (8, 2.0)))
    for cost_s, gains, execution in (
        (INLINE_S, batching, Execution.INLINE),
        (DEAR_S, None, Execution.LANES),
        (DEAR_S, batching, Execution.BATCHED),
    ):
        loaded.cost_s, loaded.batching = cost_s, gains
        assert execution_of(loaded) is execution

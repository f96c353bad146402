"""What a candidate has to answer before it may answer anybody."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import helper
from support import models
from support.candidates import Candidates

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model.golden import Example
from model_sidecar.model.loaded import ASSUMED_COST_S, LoadedModel
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import Rehearsal, rehearse
from model_sidecar.release.tensors import Datatype

NAN, INF = math.nan, math.inf


def floats(values: Any) -> Any:
    return np.array(values, dtype=np.float32)


def example(x: ArrayLike, y: ArrayLike) -> Example:
    return Example({"x": floats(x)}, {"y": floats(y)})


def rehearsed(candidates: Candidates, model: bytes, **arguments: Any) -> tuple[LoadedModel, Rehearsal]:
    verified = candidates.verify(model, **arguments)
    loaded = load(verified)
    try:
        return loaded, rehearse(loaded, verified, timeout_s=20)
    finally:
        loaded.close()


def refusal(candidates: Candidates, model: bytes, **arguments: Any) -> VerificationError:
    with pytest.raises(VerificationError) as refused:
        rehearsed(candidates, model, **arguments)
    return refused.value


def tolerance(*, rtol: float = 0.0, atol: float = 0.0) -> Mapping[str, Any]:
    return {"golden": {"path": "golden.npz", "rtol": rtol, "atol": atol}}


def test_a_candidate_that_answers_its_examples_is_taken(candidates: Candidates) -> None:
    """All examples are answered, through preprocessing and model; the worst difference and the cost are told."""
    examples = [
        Example({"raw": floats([[0, 1]])}, {"y": floats([[1, 11]])}),
        Example({"raw": floats([[2, 3], [4, 5]])}, {"y": floats([[21, 31], [41, 51.25]])}),
    ]

    loaded, found = rehearsed(
        candidates,
        models.add_constant(1),
        preprocessing=models.scale(10),
        examples=examples,
        **tolerance(atol=0.25),
    )

    assert (found.examples, found.worst) == (2, 0.25)
    assert 0 < found.cost_s < 1
    assert loaded.cost_s == found.cost_s
    assert loaded.warm_bytes == found.input_bytes == examples[0].inputs["raw"].nbytes


@pytest.mark.parametrize(
    ("expected", "rtol", "atol", "taken"),
    [
        ([[101, 201]], 0, 0, True),
        ([[100, 201]], 0, 1, True),
        ([[100, 201]], 0, 0.99, False),
        ([[101, 200]], 0.005, 0, True),
        ([[101, 200]], 0.004, 0, False),
        ([[101, 200]], 0.004, 0.2, True),
        ([[101, 201], [101, 201]], 1, 1000, False),
    ],
)
def test_an_answer_may_differ_by_atol_and_rtol_together(
    candidates: Candidates, expected: ArrayLike, rtol: float, atol: float, taken: bool
) -> None:
    """|a - b| <= atol + rtol * |b|, and no tolerance makes up for another shape."""
    arguments = {"examples": [example([[100, 200]], expected)], **tolerance(rtol=rtol, atol=atol)}

    if taken:
        rehearsed(candidates, models.add_constant(1), **arguments)
    else:
        assert refusal(candidates, models.add_constant(1), **arguments).reason is Reason.GOLDEN_MISMATCH


def test_a_wrong_answer_is_told_with_place_and_size(candidates: Candidates) -> None:
    """The refusal names call, output, index, what was found, what was expected, how many differ and the worst."""
    examples = [example([[0, 0]], [[1, 1]]), example([[0, 0], [0, 0]], [[1, 1], [1, 3]])]

    refused = refusal(candidates, models.add_constant(1), examples=examples)

    assert refused.reason is Reason.GOLDEN_MISMATCH
    assert str(refused) == (
        "golden.npz, call 2: output 'y'[1, 1] is 1: expected 3 within atol 1e-06 and rtol 0.0001 (1 of 4 differ, the "
        "worst by 2)"
    )


@pytest.mark.parametrize(
    ("datatype", "sent", "expected", "words"),
    [
        (
            Datatype.INT64,
            [2**53],
            [2**53 + 1],
            r"'y'\[0\] is .*9007199254740992.*: expected .*9007199254740993",
        ),
        (Datatype.BOOL, [True, False], [True, True], r"'y'\[1\] is .*False.*: expected .*True.*1 of 2"),
        (Datatype.BYTES, ["a", "b"], ["a", "B"], r"'y'\[1\] is 'b': expected 'B'"),
        (Datatype.FP16, [1], [1.5], r"'y'\[0\] is 1: expected 1.5"),
        (Datatype.BF16, [0x3F80], [0x4000], r"'y'\[0\] is 1: expected 2"),
        (Datatype.FP64, [1], [1.1], r"'y'\[0\] is 1: expected 1.1"),
    ],
)
def test_every_datatype_is_compared_as_what_it_is(
    candidates: Candidates, datatype: Datatype, sent: list[Any], expected: list[Any], words: str
) -> None:
    """Integers, booleans and texts must be equal; all floats, BF16 too, are compared as numbers."""
    model = models.identity(datatype, (-1,))
    x = np.array(sent, dtype=datatype.numpy)

    rehearsed(candidates, model, examples=[Example({"x": x}, {"y": x})])
    refused = refusal(
        candidates, model, examples=[Example({"x": x}, {"y": np.array(expected, dtype=datatype.numpy)})]
    )

    assert refused.reason is Reason.GOLDEN_MISMATCH
    assert re.search(words, str(refused)), str(refused)


@pytest.mark.parametrize(
    ("constant", "expected", "reason"),
    [
        (NAN, 1.0, Reason.OUTPUT_NOT_FINITE),
        (INF, 1.0, Reason.OUTPUT_NOT_FINITE),
        (INF, -INF, Reason.OUTPUT_NOT_FINITE),
        (NAN, INF, Reason.OUTPUT_NOT_FINITE),
        (1.0, NAN, Reason.GOLDEN_MISMATCH),
        (1.0, INF, Reason.GOLDEN_MISMATCH),
        (NAN, NAN, None),
        (INF, INF, None),
        (-INF, -INF, None),
    ],
)
def test_nan_and_infinity_are_refused_unless_they_are_expected(
    candidates: Candidates, constant: float, expected: float, reason: Reason | None
) -> None:
    """What is not finite is refused, where the example does not hold the same in the same place."""
    golden = [example([[0, 0]], [[expected, expected]])]

    if reason is None:
        rehearsed(candidates, models.nan_model(constant), examples=golden)
    else:
        assert refusal(candidates, models.nan_model(constant), examples=golden).reason is reason


def test_nan_in_an_output_that_no_example_names_is_refused(candidates: Candidates) -> None:
    """Every output of a golden call must be finite, also those that are not compared."""
    sent = {"a": floats([[INF, 1]]), "b": floats([[INF, 1]])}

    refused = refusal(candidates, models.two_inputs(), examples=[Example(sent, {"sum": floats([[INF, 2]])})])

    assert refused.reason is Reason.OUTPUT_NOT_FINITE
    assert "output 'difference'[0, 0] is nan: expected a finite number" in str(refused)


def test_a_golden_call_that_fails_is_a_mismatch(candidates: Candidates) -> None:
    """The refusal says what onnxruntime said."""
    golden = [Example({"i": np.array([7])}, {"y": floats([1])})]

    refused = refusal(candidates, models.table(1, 2, 3), examples=golden)

    assert refused.reason is Reason.GOLDEN_MISMATCH
    assert "idx=7" in str(refused)


def test_examples_of_another_model_are_refused(candidates: Candidates) -> None:
    """Examples that do not fit the signature are GOLDEN_INVALID before anything is run."""
    refused = refusal(candidates, models.two_inputs(), examples=[example([[1, 2]], [[1, 2]])])

    assert refused.reason is Reason.GOLDEN_INVALID


def test_a_golden_file_that_is_none_is_refused(candidates: Candidates) -> None:
    """A pickle is no golden file."""
    assert refusal(candidates, models.add_constant(1), examples=b"\x80\x04.").reason is Reason.GOLDEN_INVALID


@pytest.mark.parametrize("datatype", Datatype)
def test_without_examples_a_candidate_is_warmed(candidates: Candidates, datatype: Datatype) -> None:
    """A version without golden examples is run with zeros, so that its first caller does not wait, and timed."""
    loaded, found = rehearsed(candidates, models.identity(datatype, (-1, 3)))

    assert (found.examples, found.worst) == (0, 0.0)
    assert loaded.cost_s == found.cost_s != ASSUMED_COST_S


@pytest.mark.parametrize("model", [models.nan_model(), models.scalar_input(), models.positive_only()])
def test_nobody_promised_anything_about_zeros(candidates: Candidates, model: bytes) -> None:
    """What a model answers to made-up inputs refuses nothing."""
    assert rehearsed(candidates, model)[1].examples == 0


def test_a_failed_warm_up_is_no_refusal(candidates: Candidates, caplog: pytest.LogCaptureFixture) -> None:
    """A model that does not take zeros is noted in the log for the curious, and taken to be slow."""
    nothing = models.build(
        [helper.make_node("Gather", ["rows", "i"], ["y"])],
        [models.value("i", Datatype.INT64, (-1,))],
        [models.value("y", shape=(-1,))],
        {"rows": floats([])},
    )

    with caplog.at_level(logging.DEBUG, logger="model_sidecar"):
        loaded, found = rehearsed(candidates, nothing)

    assert loaded.cost_s == found.cost_s == ASSUMED_COST_S
    assert "Gather" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_a_made_up_input_that_would_be_enormous_is_left_out(candidates: Candidates) -> None:
    """Fixed dimensions may be larger than anybody sends: nothing is allocated for a warm-up then."""
    loaded, found = rehearsed(candidates, models.identity(shape=(-1, 1 << 40)))

    assert loaded.cost_s == found.cost_s == ASSUMED_COST_S


def test_a_candidate_that_never_answers_is_refused(candidates: Candidates) -> None:
    """A rehearsal ends, also over a model that does not."""
    verified = candidates.verify(models.endless())
    loaded = load(verified)

    with pytest.raises(VerificationError, match=r"did not answer a rehearsal call within 0\.3 s") as refused:
        rehearse(loaded, verified, timeout_s=0.3)

    assert refused.value.reason is Reason.MODEL_TIMED_OUT
    loaded.close()


@pytest.mark.parametrize(("rounds", "slow"), [(0, False), (30, True)])
def test_the_cost_of_a_slow_model_is_measured_and_not_paid_again(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch, rounds: int, slow: bool
) -> None:
    """A call of many milliseconds is timed as it is made; only a quick one is repeated to be timed better."""
    verified = candidates.verify(models.slow(rounds))
    loaded = load(verified)
    run, calls = loaded.run, []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return run(*arguments, **options)

    loaded.run({"x": floats([[1, 2]])})  # the first call is slow in any model
    monkeypatch.setattr(loaded, "run", counted)
    found = rehearse(loaded, verified)
    loaded.close()

    assert (found.cost_s > 0.05) == slow
    assert (len(calls) == 1) == slow

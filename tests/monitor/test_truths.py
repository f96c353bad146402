"""One class, however it is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from model_sidecar.monitor.quality.quality import same
from model_sidecar.monitor.quality.truths import name_of


@pytest.mark.parametrize(
    "told",
    [
        1,
        1.0,
        True,
        "1",
        "1.0",
        "true",
        "True",
        b"1",
        np.int64(1),
        np.float32(1),
        np.bool_(True),
        np.str_("1"),
    ],
)
def test_what_is_one_class_has_one_name(told: Any) -> None:
    """A prediction is a float64 and its truth came as text, as a number or as a truth value: they are the same."""
    assert name_of(told) == "1"
    assert same(1.0, told)
    assert not same(0.0, told)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [("01", "1"), ("cat", "Cat"), ("", "0"), (" 1", "1"), ("1e3", 1000), (-1, 1), (0.5, 1), ("nan", "nan")],
)
def test_what_only_looks_alike_stays_apart(prediction: Any, truth: Any) -> None:
    """Postcodes, capitals and blanks tell classes apart; and NaN is never right, not even where NaN was told."""
    assert not same(prediction, truth)


def test_a_float32_keeps_its_class() -> None:
    """0.1 from a float32 output is the 0.1 of the label, whole numbers stay exact as far as floats are."""
    assert same(float(np.float32(0.1)), "0.1")
    assert not same(float(2**52), 2**52 + 1)
    assert name_of(-0.0) == "0"
    assert not same(math.nan, math.nan)
    assert name_of(math.inf) == "inf"

"""When a prediction and a truth are the same: they come by different ways, and are written differently."""

from __future__ import annotations

import math
import re

import numpy as np

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,17})?", re.ASCII)
_TRUTH_VALUES = {"true": "1", "false": "0"}
_EXACT = 1 << 53
"""From here on not every whole number is a float64."""


def name_of(value: object) -> str:
    """The one name of a class, however it was told: 1, 1.0, True, "1", "1.0", "true" and numpy's are all "1".

    Text that no number is written like stays what it is, so that "01" and "1" are two classes. Fractions count to six
    digits, which is what a float32 keeps of them. NaN is "nan".
    """
    match value:
        case np.generic():
            return name_of(value.item())
        case bool() | int():
            return str(int(value))
        case float():
            return _number(value)
        case bytes():
            return name_of(value.decode("utf-8", "backslashreplace"))
        case _:
            text = str(value)
            if _NUMBER.fullmatch(text):
                return _number(float(text))
            return _TRUTH_VALUES.get(text.lower(), text)


def same(prediction: object, truth: object) -> bool:
    """Whether they are one class. NaN is never right."""
    name = name_of(prediction)
    return name != "nan" and name == name_of(truth)


def _number(value: float) -> str:
    if math.isfinite(value) and value == int(value) and abs(value) < _EXACT:
        return str(int(value))
    return f"{value:.6g}" if abs(value) < _EXACT else repr(value)

"""Nested lists as tensors: their shape, their elements in row-major order, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

# More axes than any runtime takes; it also ends the walk into a list that contains itself.
_DEEPEST = 32


class RaggedError(ValueError):
    """Lists that do not form a tensor; the message says found and expected."""


def flattened(values: object) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists (or of one scalar: `()`), and their elements in row-major order.

    Arrays and numpy scalars inside lists count as the lists and numbers that they stand for.

    Raises:
        RaggedError: lists of different lengths, or lists beside elements, at one depth.
    """
    shape: list[int] = []
    level: list[Any] = [values]
    while True:
        if any(hasattr(kind, "tolist") for kind in frozenset(map(type, level))):
            level = [value.tolist() if hasattr(value, "tolist") else value for value in level]
        nested = [issubclass(kind, list | tuple) for kind in frozenset(map(type, level))]
        if not any(nested):
            return tuple(shape), level
        if not all(nested):
            raise RaggedError(f"found lists beside elements at depth {len(shape)}, expected one or the other")
        lengths = sorted(frozenset(map(len, level)))
        if len(lengths) > 1:
            raise RaggedError(
                f"found lists of {lengths[0]} and of {lengths[-1]} at depth {len(shape)}, expected equal lengths"
            )
        if len(shape) == _DEEPEST:
            raise RaggedError(f"found lists nested deeper than {_DEEPEST}")
        shape += lengths
        level = list(chain.from_iterable(level))


def nested(shape: Sequence[int], elements: Sequence[Any]) -> Any:
    """Elements in row-major order as nested lists of this shape; a scalar for the shape `()`."""
    if not shape:
        return elements[0]
    if len(shape) == 1:
        return list(elements)
    step = prod(shape[1:])
    return [nested(shape[1:], elements[row * step : (row + 1) * step]) for row in range(shape[0])]

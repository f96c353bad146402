"""Rows as hashes: to know an input again that was asked before, and answers that are all the same. No secrets in it."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.monitor.readings import Readings
from model_sidecar.release.baseline import ANSWER_BINS

_ODD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: products with it differ in their high bits (Knuth, TAOCP 6.4)."""
_SHIFT = np.uint64(64 - (ANSWER_BINS - 1).bit_length())


def inputs_hash(features: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) a hash of each row of (n, k) features; never 0. All rows are one where k is 0."""
    bits = np.ascontiguousarray(features).view(np.uint64)
    places = np.arange(1, features.shape[1] + 1, dtype=np.uint64) * _ODD
    mixed = (_mixed(bits + places) * (places | np.uint64(1))).sum(axis=1, dtype=np.uint64)
    return (_mixed(mixed) | np.uint64(1)).view(np.int64)


def answer_bins(readings: Readings, rows: NDArray[np.intp]) -> NDArray[np.int64] | None:
    """(rows,) the bin of each row's prediction, score and confidence; None where there is none of them."""
    columns = [
        _bits(column[rows])
        for column in (readings.prediction, readings.score, readings.confidence)
        if column is not None
    ]
    if not columns:
        return None
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for column in columns:
        mixed = _mixed(mixed ^ column) * _ODD
    return (mixed >> _SHIFT).astype(np.int64)


def _bits(column: NDArray[Any]) -> NDArray[np.uint64]:
    if column.dtype == object:
        return np.array([zlib.crc32(str(each).encode()) for each in column.tolist()], dtype=np.uint64)
    return np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64, first half: low bits, in which floats hardly differ, come to matter.
    return (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)

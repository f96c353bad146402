"""Rows of one key count once in a while; counts of the last hour leave it again."""

from __future__ import annotations

import numpy as np

from model_sidecar.monitor.drift.last_hour import LastHour
from model_sidecar.monitor.drift.thinning import Thinning


def keys(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_a_key_counts_once_in_a_while() -> None:
    """Of a session's rows the first counts, then none for the period; rows without a key always do."""
    thinning = Thinning(60.0)
    assert thinning.take(keys(7, 7, 0, -8, 0, 7), 0.0).tolist() == [True, False, True, True, True, False]
    taken = [at for at in range(1, 600) if thinning.take(keys(7), float(at))[0]]
    assert taken
    assert all(later - earlier >= 60 for earlier, later in zip([0, *taken], taken, strict=False))


def test_a_key_that_was_quiet_for_long_counts_at_once() -> None:
    """After two periods of silence nothing of a key is left."""
    thinning = Thinning(60.0)
    assert thinning.take(keys(7), 0.0)[0]
    assert thinning.take(keys(7), 1000.0)[0]


def test_keys_beyond_count_take_no_more_memory() -> None:
    """A million keys leave it as large as none; what is dropped for want of room is dropped whatever it is."""
    thinning = Thinning(60.0)
    before = thinning.nbytes
    taken = thinning.take(np.arange(1, 1_000_001), 0.0)
    assert thinning.nbytes == before <= 4096
    assert 10_000 < taken.sum() <= 16_384


def test_the_last_hour_forgets() -> None:
    """Counts are there for the better part of an hour, and then they are not."""
    hour = LastHour(2)
    hour.add(np.array([1, 2]), 10.0)
    hour.add(np.array([10, 20]), 1800.0)
    assert hour.total(3299.0).tolist() == [11, 22]
    assert hour.total(3600.0).tolist() == [10, 20]
    assert hour.total(1e6).tolist() == [0, 0]

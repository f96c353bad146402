"""Which predictions are sampled: by a hash of their ids, so that everybody who has the id knows, and nobody can choose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sampled(ids: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Whether each of these ids is in a sample of this share; who is in one share is in every larger one.

    The hash is splitmix64's finalizer (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    if share >= 1:
        return np.ones(len(ids), np.bool_)
    mixed = ids.astype(np.uint64)  # wraps as it should; so do the products
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) < np.uint64(share * 2**53)

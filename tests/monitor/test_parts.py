"""Parts that are made when somebody looks at them: to whoever looks, a tuple."""

from __future__ import annotations

import pytest

from model_sidecar.monitor.drift.parts import Parts


def test_parts_are_what_a_tuple_of_them_would_be() -> None:
    """By length, place, slice and value; each is made anew."""
    made: list[int] = []

    def make(at: int) -> str:
        made.append(at)
        return "abcd"[at]

    parts = Parts(4, make)
    assert (len(parts), made) == (4, [])
    assert (parts[0], parts[-1], parts[1:3], tuple(parts)) == ("a", "d", ("b", "c"), ("a", "b", "c", "d"))
    assert made == [0, 3, 1, 2, 0, 1, 2, 3]
    with pytest.raises(IndexError):
        parts[4]
    assert parts == Parts(4, "abcd".__getitem__)
    assert hash(parts) == hash(Parts(4, "abcd".__getitem__))
    assert parts != Parts(3, "abcd".__getitem__)
    assert repr(parts) == repr(("a", "b", "c", "d"))

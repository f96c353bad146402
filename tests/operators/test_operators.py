"""Several operators, several sidecars, one store, bad connections."""

from __future__ import annotations

import asyncio

from support.operators import Operators
from support.yard import Yard


def test_operators_who_lose_their_replies_never_do_a_thing_twice(yard: Yard) -> None:
    """Four operators on two sidecars, whose connections are cut and whose processes stop: what they saw can have been."""
    scene = Operators(yard, operators=4, sidecars=2, orders=120, seed=7)

    wrong = asyncio.run(scene.run())

    print(f"\n{scene.figures()}")
    assert wrong == []
    assert scene.account.met["done"]
    assert scene.account.met["replayed"]

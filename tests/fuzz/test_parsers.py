"""Whatever bytes arrive: they are read, or refused in our words. The long version is `make fuzz`."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parsers import PARSERS, TAKEN
from support.seeds import TOKENS, seeds, spoiled

SEEDS = seeds()
as_ci_repeats_it = settings(derandomize=True, database=None, deadline=2000)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_what_is_right_is_taken(name: str) -> None:
    """Each parser takes seeds of its own: the search begins behind the first gate, not before it."""
    assert TAKEN in {PARSERS[name](content) for content in SEEDS[name]}


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(as_ci_repeats_it, max_examples=60)
@given(chance=st.randoms(use_true_random=False))
def test_what_is_spoiled_is_read_or_refused(name: str, chance: random.Random) -> None:
    """Right inputs with bits, lengths and pieces changed raise nothing but what the parser promises."""
    PARSERS[name](spoiled(chance.choice(SEEDS[name]), SEEDS[name], chance))


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(as_ci_repeats_it, max_examples=30)
@given(content=st.lists(st.sampled_from(TOKENS) | st.binary(max_size=8), max_size=12).map(b"".join))
def test_what_was_never_right_is_read_or_refused(name: str, content: bytes) -> None:
    """So do bytes and tokens in any order."""
    PARSERS[name](content)

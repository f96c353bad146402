"""What the state machine has found, each as the few steps that it takes; the machine's invariants are the assertions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.machine import VERSIONS, Store

A, B, C, UNPUBLISHED = VERSIONS


@pytest.fixture
def store() -> Iterator[Store]:
    """A store of which, at the end, everything is put right: then everybody has to agree."""
    store = Store()
    yield store
    store.every_answer_is_of_the_version_that_it_names()
    store.the_ledger_holds_what_was_acknowledged_and_nothing_that_was_refused()
    store.teardown()


def test_an_edit_that_nobody_can_grant_hides_no_head(store: Store) -> None:
    """A sidecar that had not seen the last deploy stayed behind for as long as a misspelt pointer lay above it."""
    store.begin(deployed=[A], everybody=True, links=True)
    store.simply_deploy("one", B)
    store.edit(UNPUBLISHED, careful=True)


def test_an_order_does_not_lose_against_itself(store: Store) -> None:
    """Given to one sidecar, which was busy, and again to another, which did it: the first said that somebody else won."""
    store.begin(deployed=[B], everybody=False, links=True)
    store.edit(C, careful=True)
    store.look("one", quick=False)
    store.deploy("one", A, None, quick=False, validate_only=False)
    store.ask_again("two", which=0, quick=True)
    store.simply_deploy("one", A)


def test_a_repeated_order_is_answered_by_who_serves_it_or_a_later_one(store: Store) -> None:
    """An order overtaken by others was answered by a sidecar that served a version from before it."""
    store.begin(deployed=[A], everybody=True, links=True)
    store.simply_deploy("one", B)
    store.simply_deploy("one", C)
    store.ask_again("two", which=1, quick=False)
    store.ask_again("two", which=1, quick=True)

    assert store.asked[1].record is not None
    assert not store.asked[1].open

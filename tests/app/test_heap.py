"""What is kept from the garbage collector, and when."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.served import SITE, A, B

from model_sidecar.app.heap import Heap
from model_sidecar.events import Published
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import ModelName, Version


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def published(version: Version) -> Published:
    """It answers from now on."""
    return Published(
        SITE,
        version,
        digest_of(version.encode()),
        1,
        previous=None,
        standby=None,
        from_standby=False,
        took_s=0.1,
    )


def is_looked_at(thing: object) -> bool:
    """Whether the collector will look at it again."""
    return any(each is thing for each in gc.get_objects())


def test_what_the_start_has_made_is_not_looked_at_again() -> None:
    """All that is there when the start is over is out of the collector's sight; what comes later is not."""
    early: list[object] = []
    assert is_looked_at(early)
    Heap().settle()
    late: list[object] = []
    assert not is_looked_at(early)
    assert is_looked_at(late)


def test_a_site_settles_with_its_first_version_only() -> None:
    """What a site's first version has made is kept as well; a later one's may become garbage, and is looked at."""
    heap, of_the_first = Heap(), list[object]()
    heap.on_event(published(A))
    assert not is_looked_at(of_the_first)
    of_the_next: list[object] = []
    heap.on_event(published(B))
    assert is_looked_at(of_the_next)
    heap.on_event(replace(published(A), site=replace(SITE, model=ModelName("another"))))
    assert not is_looked_at(of_the_next)

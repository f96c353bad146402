"""The demo's versions, which take a second to make."""

from __future__ import annotations

import pytest
from support.digits import Published

from model_sidecar.demo.digits import load
from model_sidecar.demo.place import prepare
from model_sidecar.demo.versions import build_all, publish_as
from model_sidecar.store.versions import VersionStore


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The demo's three versions, trained and published. For tests that change nothing in it."""
    place = prepare(tmp_path_factory.mktemp("demo"))
    pool, stream = load()
    built = build_all(place.builds, pool)
    store = VersionStore(place.store)
    for each in built:
        publish_as(each.release.version, each.build, store, rows=each.rows)
    return Published(place, store, built, pool, stream)

"""File events as a hint: they come also after a directory was replaced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_sidecar.serving.watch import Watch

WAIT_S = 20.0


@pytest.fixture
def pointer(tmp_path: Path) -> Path:
    pointer = tmp_path / "adder" / "environments" / "prod" / "active.json"
    pointer.parent.mkdir(parents=True)
    return pointer


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def watch(pointer: Path, woken: threading.Event) -> Iterator[Watch]:
    watch = Watch(pointer, wake=woken.set)
    watch.renew()
    yield watch
    watch.stop()


def test_a_write_wakes(watch: Watch, pointer: Path, woken: threading.Event) -> None:
    """A new file, and one that is renamed over it."""
    pointer.write_text("{}")
    assert woken.wait(WAIT_S)
    pointer.with_name("new").write_text("{ }")
    woken.clear()
    pointer.with_name("new").rename(pointer)
    assert woken.wait(WAIT_S)


@pytest.mark.parametrize("how", ["moved away", "deleted"])
def test_a_directory_that_was_made_anew_is_watched_again(
    watch: Watch, pointer: Path, woken: threading.Event, how: str
) -> None:
    """The environment's directory is replaced, by one that may well have the same inode: what is written there wakes."""
    if how == "deleted":
        pointer.parent.rmdir()
    else:
        pointer.parent.rename(pointer.parent.with_name("old"))
    assert woken.wait(WAIT_S), "the directory above is watched too"
    pointer.parent.mkdir()
    watch.renew()
    while woken.is_set():  # until the last event of that has come
        woken.clear()
        woken.wait(0.3)

    pointer.write_text("{}")
    assert woken.wait(WAIT_S)

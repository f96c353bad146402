"""File events as a hint: they come also after a directory was replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from model_sidecar.disk.steps import temporary_beside
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
    quiet(woken)
    pointer.write_text("{}")
    assert woken.wait(WAIT_S)


def masks() -> list[int]:
    """What this process asks the kernel for: the event mask of each of its inotify watches (proc_pid_fdinfo(5))."""
    found: list[int] = []
    for file in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            lines = file.read_text().splitlines()
            found += [
                int(line.split("mask:")[1].split()[0], 16) for line in lines if line.startswith("inotify ")
            ]
    return found


def test_the_kernel_is_not_asked_about_opening_and_reading(watch: Watch) -> None:
    """Each look and each record opens and reads a dozen files: that is nobody's news, and would cost more than it."""
    for _ in range(200):  # watchdog begins on a thread of its own
        if len(masks()) >= 3:
            break
        time.sleep(0.05)
    in_access, in_modify, in_attrib, in_close_nowrite, in_open = 0x1, 0x2, 0x4, 0x10, 0x20  # inotify(7)
    unwanted = in_access | in_modify | in_attrib | in_close_nowrite | in_open
    assert [mask & unwanted for mask in masks()] == [0, 0, 0]


def test_a_file_on_its_way_is_no_news_until_it_has_arrived(
    watch: Watch, pointer: Path, woken: threading.Event
) -> None:
    """What a sidecar writes beside the pointer wakes nobody before it takes the pointer's name."""
    quiet(woken)
    temporary = temporary_beside(pointer)
    temporary.write_text("{}")
    assert not woken.wait(0.3)
    temporary.rename(pointer)
    assert woken.wait(WAIT_S)
    quiet(woken)
    pointer.rename(temporary)
    assert woken.wait(WAIT_S), "the pointer's name has gone"


def test_a_file_that_is_moved_away_is_news_at_once(
    watch: Watch, pointer: Path, tmp_path: Path, woken: threading.Event
) -> None:
    """Watchdog would wait half a second for where it went, and hold back all that comes behind it: the quickest of five."""
    took = []
    for _ in range(5):
        pointer.write_text("{}")
        quiet(woken)
        began = time.monotonic()
        pointer.rename(tmp_path / "elsewhere")
        assert woken.wait(WAIT_S)
        took.append(time.monotonic() - began)
    assert min(took) < 0.5


def quiet(woken: threading.Event) -> None:
    """Until the last event of what was done before has come."""
    woken.wait(0.3)
    while woken.is_set():
        woken.clear()
        woken.wait(0.3)

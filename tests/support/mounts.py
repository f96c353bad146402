"""Real mounts for tests: read-only ones, others over a store, and one whose server stops answering."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


def _run(*command: str | Path) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


@cache
def can_mount() -> bool:
    """Whether this process may mount at all."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with TemporaryDirectory() as place:
        if _run("mount", "-t", "tmpfs", "tmpfs", place):
            return False
        _run("umount", place)
    return True


needs_mounts = pytest.mark.skipif(not can_mount(), reason="may not mount here")
needs_fuse = pytest.mark.skipif(
    not (can_mount() and shutil.which("bindfs")),
    reason="a file system that hangs needs root and bindfs (apt-get install bindfs)",
)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A read-only bind mount of a file or directory over itself; skips where that is not allowed."""
    if not can_mount():
        pytest.skip("may not mount here")
    assert not _run("mount", "--bind", path, path)
    try:
        assert not _run("mount", "-o", "remount,ro,bind", path)
        yield
    finally:
        unmount(path)


@contextmanager
def mounted_over(path: Path) -> Iterator[None]:
    """An empty file system over this directory."""
    assert not _run("mount", "-t", "tmpfs", "tmpfs", path)
    try:
        yield
    finally:
        unmount(path)


class Hanging:
    """A FUSE mount whose server can be stopped: whoever asks the mount for anything then waits."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server = server

    def begin(self) -> None:
        """Answer nothing any more."""
        self._server.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Answer again, those who wait too."""
        self._server.send_signal(signal.SIGCONT)


@contextmanager
def hanging(real: Path, at: Path) -> Iterator[Hanging]:
    """`real`, mounted at `at` by a server that can hang."""
    # Without caches: what is asked for is asked of the server.
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0", real, at]  # noqa: S607
    )
    mount = Hanging(server)
    try:
        _wait_mounted(at)
        yield mount
    finally:
        mount.end()
        unmount(at)
        server.wait(timeout=30)


def unmount(path: Path) -> None:
    """Take the mount away, from under whoever still uses it."""
    assert not _run("umount", "--lazy", path)


def _wait_mounted(at: Path) -> None:
    end = time.monotonic() + 30
    while not os.path.ismount(at):
        assert time.monotonic() < end, f"{at} was never mounted"
        time.sleep(0.01)

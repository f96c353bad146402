"""Control groups that limit a process's memory, made for a test by whoever may make them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryGroup:
    """A group with one process in it and no limit yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._v1 = (path / "memory.usage_in_bytes").exists()

    def take(self, process: int) -> None:
        """Move a process into the group; what it allocates from now on is counted here."""
        (self.path / "cgroup.procs").write_text(str(process))

    def allow(self, more: int) -> None:
        """Limit the group to what it uses now and so many bytes more; page cache is given up first."""
        if self._v1:
            with suppress(OSError):
                (self.path / "memory.force_empty").write_text("0")
        used = int((self.path / ("memory.usage_in_bytes" if self._v1 else "memory.current")).read_text())
        limit = self.path / ("memory.limit_in_bytes" if self._v1 else "memory.max")
        limit.write_text(str(used + more))


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A group of its own; skips the test where none can be made (it takes root and a writable /sys/fs/cgroup)."""
    parent = _V1 if _V1.is_dir() else _V2
    path = parent / f"model-sidecar-{uuid.uuid4().hex[:12]}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not any((path / name).exists() for name in ("memory.usage_in_bytes", "memory.current")):
            pytest.skip(f"control groups below {parent} do not limit memory")
        yield MemoryGroup(path)
    finally:
        end = time.monotonic() + 10
        while time.monotonic() < end:  # its processes are gone, but perhaps not yet for the kernel
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.05)

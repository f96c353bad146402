"""The files and sockets that a process has open, as the kernel lists them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def open_descriptors(process: int | None = None) -> int:
    """How many a process (None: our own) has, one more than it has otherwise while it is us who look."""
    return len(list(_folder(process).iterdir()))


def open_files(process: int | None = None) -> list[str]:
    """What each of a process's descriptors stands for: a path, `socket:[4711]`, `/memfd:model.onnx (deleted)`.

    One that is closed while we look is left out.
    """
    found = []
    for each in _folder(process).iterdir():
        with suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    return found


def _folder(process: int | None) -> Path:
    return Path(f"/proc/{process or 'self'}/fd")

"""How a record gets into its slot: whole, durable, and for one writer only.

By link(2) where the mount has it, else by rename(2) of a directory that holds the record; both fail where the slot is
filled, by either. rename(2) of a file would not do: it replaces what is there. Which of the two a mount keeps its word
for is tried before the first record of a process (docs/adr/0007-records-without-link.md).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.promises import durable_files, durable_names, exclusive_directory, exclusive_link
from model_sidecar.disk.steps import discard, temporary_beside, write_directory, write_file
from model_sidecar.errors import Reason, RefusedError

RECORD = "record.json"
"""The record's file, where the slot is a directory."""

log = logging.getLogger(__name__)


class Filling(Protocol):
    """One way to fill a slot. Raises plain OSError."""

    def lay(self, disk: Disk, temporary: Path, content: bytes) -> float:
        """Make the record durable under its temporary name; returns the present by the file system's clock."""

    def move(self, disk: Disk, temporary: Path, slot: Path) -> None:
        """Let the record appear in its slot, or fail because something is there."""

    def has_landed(self, disk: Disk, temporary: Path) -> bool:
        """Whether a failed move did its work all the same, told by the temporary name where the slot seems empty.

        FileNotFoundError, as any OSError, means that it cannot be told.
        """
        ...


class ByLink:
    """The slot is a file, first known under a hidden name."""

    def lay(self, disk: Disk, temporary: Path, content: bytes) -> float:
        return write_file(disk, temporary, [content])

    def move(self, disk: Disk, temporary: Path, slot: Path) -> None:
        disk.link(temporary, slot)

    def has_landed(self, disk: Disk, temporary: Path) -> bool:
        # open(2) tells to look at the link count; a cache may not show the other name.
        return disk.lstat(temporary).st_nlink > 1


class ByDirectory:
    """The slot is a directory with the record in it, so that it is never empty and no rename can replace it."""

    def lay(self, disk: Disk, temporary: Path, content: bytes) -> float:
        return write_directory(disk, temporary, {RECORD: content})

    def move(self, disk: Disk, temporary: Path, slot: Path) -> None:
        disk.rename(temporary, slot)

    def has_landed(self, disk: Disk, temporary: Path) -> bool:
        disk.lstat(temporary)
        return False


def choose_filling(disk: Disk, directory: Path) -> Filling:
    """The way that works in this directory, tried under a hidden name in it that is gone afterwards.

    Raises:
        RefusedError: STORE_UNSUPPORTED; neither does. The message says what was tried and found.
        OSError: it could not be tried.
    """
    scratch = temporary_beside(directory / "self-test")
    try:
        disk.mkdir(scratch)
        found = durable_files(disk, scratch) or durable_names(disk, scratch)
        if not found:
            linked = exclusive_link(disk, scratch)
            if not linked:
                return ByLink()
            moved = exclusive_directory(disk, scratch)
            if not moved:
                log.warning("%s: %s, so that records are kept as directories", directory, linked)
                return ByDirectory()
            found = f"{linked}, and {moved}"
    finally:
        discard(disk, scratch)
    raise unsupported(directory, found)


def require_exclusive_directory(disk: Disk, directory: Path) -> None:
    """Refuse to move a directory in where that could replace another one.

    Raises:
        RefusedError: STORE_UNSUPPORTED.
        OSError: it could not be tried.
    """
    scratch = temporary_beside(directory)
    try:
        disk.mkdir(scratch)
        found = exclusive_directory(disk, scratch)
    finally:
        discard(disk, scratch)
    if found:
        raise unsupported(directory, found)


def unsupported(directory: Path, found: str) -> RefusedError:
    """The error for a mount on which no record is safe."""
    return RefusedError(
        f"nothing can be recorded in {directory}: {found}. The pointer there is followed, and nothing else; put the "
        "store on a file system that keeps these promises (`model-sidecar store-check` tries them)",
        reason=Reason.STORE_UNSUPPORTED,
    )

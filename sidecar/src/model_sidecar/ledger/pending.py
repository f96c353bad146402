"""The record of a rollback that took effect before it could be recorded, kept on this machine until it is."""

from __future__ import annotations

import logging
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_faults
from model_sidecar.disk.steps import discard, make_directories, read_file, replace_file
from model_sidecar.errors import StoreError
from model_sidecar.ledger.record import MAX_READ_BYTES, Record, decode, encode

log = logging.getLogger(__name__)


class PendingFile:
    """One record in a file of this sidecar's own, through power cuts too. One thread's.

    Args:
        path: the file; its directory is made at the first write.
        disk: the system calls.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or Disk()

    def read(self) -> Record | None:
        """The record that waits; None where there is none, or none that can be read."""
        try:
            found = read_file(self._disk, self._path, limit=MAX_READ_BYTES, follow_symlink=False)
            return decode(found.content or b"")
        except FileNotFoundError:
            return None
        except (OSError, StoreError):
            log.exception("%s cannot be read: was a rollback in it, it will not be recorded", self._path)
            return None

    def save(self, record: Record) -> None:
        """Keep this record, durably.

        Raises:
            StoreError: it is not kept.
        """
        with store_faults(self._path, doing="write"):
            make_directories(self._disk, self._path.parent)
            replace_file(self._disk, self._path, encode(record))

    def clear(self) -> None:
        """It is recorded. Best effort: one that is found again is in the ledger, by its request id."""
        discard(self._disk, self._path)

"""What a sidecar remembers of a ledger through its restarts: a file of its own, with the records as they stand there.

It makes a restart know what the process before knew: that the ledger has gone back behind what was seen, that it has
vanished, what answered last. It is no second truth. What contradicts the ledger is told, and settles nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.steps import make_directories, read_file, release, replace_file, write_all
from model_sidecar.release.digests import digest_of

log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 30
_BEFORE = len(digest_of(b"")) + 1  # a digest and a space


class Memory:
    """One file, on each line a record's bytes behind their digest: what rots here is not held against the ledger.

    Writing is best effort, for what is forgotten is read from the ledger again. One process's; any thread may call.

    Args:
        path: the file; its directory is made at the first write.
        disk: the system calls.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self.path = path
        self._disk = disk or Disk()
        self._lock = threading.Lock()  # guards the file and the three below
        self._ends = [0]  # where the lines end, the first one at index 1
        self._is_whole = True  # there is nothing else in it
        self._complained = False

    @property
    def generation(self) -> int:
        """The newest that is remembered; 0 for none."""
        return len(self._ends) - 1

    def read(self) -> list[bytes]:
        """The records, oldest first, up to the first that is not as it was written. Empty where nothing can be read."""
        with self._lock:
            content = self._content()
            records, begin, self._ends = [], 0, [0]
            while end := content.find(b"\n", begin) + 1:
                record = content[begin + _BEFORE : end]
                if content[begin : begin + _BEFORE] != digest_of(record).encode() + b" ":
                    break
                records.append(record)
                self._ends.append(end)
                begin = end
            self._is_whole = begin == len(content)
            if not self._is_whole:
                log.warning(
                    "%s is damaged behind generation %d: what it lost is read from the ledger again",
                    self.path,
                    self.generation,
                )
            return records

    def forget_from(self, generation: int) -> None:
        """Believe the records from this one on no more."""
        with self._lock:
            del self._ends[generation:]
            self._is_whole = False

    def append(self, generation: int, contents: Sequence[bytes]) -> None:
        """Remember records, the first of which is of this generation; another thread may have been first with some of them."""
        with self._lock:
            begin = self.generation + 1 - generation
            if begin < 0:
                return
            lines = [digest_of(content).encode() + b" " + content for content in contents[begin:]]
            if not lines:
                return
            try:
                self._write(b"".join(lines))
            except OSError as error:
                self._is_whole = False
                if not self._complained:
                    log.warning(
                        "%s cannot be written (%s): after a restart this sidecar will not know what it has seen",
                        self.path,
                        error.strerror,
                    )
                self._complained = True
                return
            for line in lines:
                self._ends.append(self._ends[-1] + len(line))

    def _write(self, content: bytes) -> None:
        # Not synced: a power cut takes the newest lines, and these are in the ledger.
        if not self._is_whole:
            replace_file(self._disk, self.path, self._content()[: self._ends[-1]] + content)
            self._is_whole = True
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            fd = self._disk.open(self.path, flags)
        except FileNotFoundError:
            make_directories(self._disk, self.path.parent)
            fd = self._disk.open(self.path, flags)
        try:
            write_all(self._disk, fd, content)
        finally:
            release(self._disk, fd)

    def _content(self) -> bytes:
        try:
            found = read_file(self._disk, self.path, limit=_MAX_BYTES, follow_symlink=False)
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("what was remembered in %s cannot be read: %s", self.path, error.strerror)
            return b""
        return found.content or b""

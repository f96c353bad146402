"""The face of the ledger: the active pointer's file, as people, scripts and other languages read and write it.

It is derived. Nothing is lost when it is: the head says what should answer, and whoever finds the face missing or
lagging writes it again. Here it is only read and written; what a reading means is `reconcile`'s business.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_error, store_faults
from model_sidecar.disk.steps import (
    FileRead,
    discard,
    is_directory,
    read_file,
    sweep,
    sync_directory,
    temporary_beside,
    write_file,
)
from model_sidecar.errors import Reason, VerificationError
from model_sidecar.ledger.record import Record, actor_document, format_timestamp
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer

# What somebody has put there in place of a file we can read. Other errors are the storage's.
_NOT_READABLE_AS_IT_STANDS = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENOTDIR})


class Standing(Enum):
    """Whose the pointer's file is, as far as the file system tells."""

    OURS = auto()
    """This process may replace it."""
    LINKED = auto()
    """Somebody else puts it there: a symbolic link, as in a mounted ConfigMap, or a read-only mount of its own in a
    directory that can be written (a ConfigMap's `subPath`)."""
    READ_ONLY = auto()
    """Its directory cannot be written: a read-only mount, or permissions. (root ignores permissions, but not mounts.)"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which edit of the pointer this is. Equal identities: nothing has happened since.

    `mtime_ns` can be set by anybody, and `cp -p` does set it; `ctime_ns` only by the file system (over NFS: its server).
    """

    content: Digest
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at the pointer's file.

    Attributes:
        content: its bytes; None when there is no file, or one that cannot be read.
        identity: None when there is no file.
        pointer: what it says; None when there is no file, or a `problem`.
        problem: POINTER_INVALID: there is something, but no pointer.
        standing: whose file it is, and whether it can be written.
    """

    content: bytes | None = None
    identity: Identity | None = None
    pointer: Pointer | None = None
    problem: VerificationError | None = None
    standing: Standing = Standing.OURS

    @property
    def is_ours(self) -> bool:
        """Whether this process may write the file."""
        return self.standing is Standing.OURS


class PointerFace:
    """The pointer's file. May be used from any thread; blocks as long as the storage does.

    Args:
        path: `…/environments/<environment>/active.json`.
        disk: the system calls.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or Disk()
        # Only ever goes from False to True, so that a race costs a second look at most.
        self._swept = False

    @property
    def path(self) -> Path:
        """Where the pointer is."""
        return self._path

    def read(self) -> Reading:
        """Look at the pointer. Symbolic links are followed: a ConfigMap is a chain of them.

        Raises:
            StoreError: the storage failed, so that nothing is known about the pointer.
        """
        standing = self.standing()
        try:
            found = read_file(self._disk, self._path, limit=MAX_POINTER_BYTES, follow_symlink=True)
        except FileNotFoundError:
            return Reading(standing=standing)
        except OSError as error:
            if error.errno not in _NOT_READABLE_AS_IT_STANDS:
                raise store_error(error, self._path, doing="read") from error
            return Reading(
                identity=Identity(digest_of(b""), 0, 0, 0),
                problem=self._problem(f"cannot be read: {error.strerror}"),
                standing=standing,
            )
        return self._parsed(found, standing=standing)

    def write(self, record: Record, *, replacing: Reading | None = None) -> bool:
        """Show this record, by an atomic replacement of the whole file.

        Args:
            record: what to show.
            replacing: what was read before the decision to write: when the file is not the same any more, somebody
                has edited it meanwhile, and it is left alone.

        Returns:
            Whether it was written.

        Raises:
            StoreError: it was not written, or perhaps not for good. The record stands in any case.
        """
        temporary = temporary_beside(self._path)
        try:
            try:
                now_s = write_file(self._disk, temporary, [render(record)])
                if replacing is not None and self.read().identity != replacing.identity:
                    return False
                self._disk.rename(temporary, self._path)
            finally:
                discard(self._disk, temporary)
            sync_directory(self._disk, self._path.parent)
        except OSError as error:
            raise store_error(error, self._path, doing="write") from error
        if not self._swept:
            self._swept = True
            sweep(self._disk, self._path.parent, now_s=now_s)
        return True

    def standing(self) -> Standing:
        """Whose the file is now; where it is missing, whose it would be. StoreError where it cannot be told."""
        with store_faults(self._path, doing="look at"):
            try:
                if stat.S_ISLNK(self._disk.lstat(self._path).st_mode):
                    return Standing.LINKED
                read_only = self._disk.statvfs(self._path).f_flag & os.ST_RDONLY
            except OSError as error:
                if error.errno not in _NOT_READABLE_AS_IT_STANDS | {errno.ENOENT}:
                    raise
                read_only = 0
            # The nearest one there is: the directories are made with the first record.
            parents = self._path.parents
            directory = next((each for each in parents if is_directory(self._disk, each)), parents[0])
            if not self._may_write(directory):
                return Standing.READ_ONLY
            return Standing.LINKED if read_only else Standing.OURS

    def _may_write(self, directory: Path) -> bool:
        # A storage that fails makes access(2) say no, too, and Python does not tell why. A hand edit would then count as a
        # ConfigMap's, and take effect without a record: so a no must be repeated, by a directory that can be asked.
        if self._disk.access(directory, os.W_OK | os.X_OK):
            return True
        if not self._disk.access(directory, os.F_OK):
            raise OSError(errno.EIO, "whether it may be written cannot be told")
        return self._disk.access(directory, os.W_OK | os.X_OK)

    def _parsed(self, found: FileRead, *, standing: Standing) -> Reading:
        content = found.content
        identity = Identity(
            digest_of(content or b""), found.facts.st_mtime_ns, found.facts.st_ctime_ns, found.facts.st_ino
        )
        if content is None:
            problem = self._problem("is not a regular file")
            return Reading(identity=identity, problem=problem, standing=standing)
        try:
            pointer = parse_pointer(content)
        except VerificationError as problem:
            return Reading(content=content, identity=identity, problem=problem, standing=standing)
        return Reading(content=content, identity=identity, pointer=pointer, standing=standing)

    def _problem(self, what: str) -> VerificationError:
        return VerificationError(
            f'{self._path} {what}. Expected a file with {{"version": "2024.01.15.prod"}}',
            reason=Reason.POINTER_INVALID,
        )


def document(record: Record) -> dict[str, object]:
    """What the pointer says about its record, in the order in which a person reads it."""
    return {
        "schema": record.schema,
        "model": record.model,
        "environment": record.environment,
        "version": record.version,
        "generation": record.generation,
        "record_sha256": record.sha256,
        "manifest_sha256": record.manifest_sha256,
        "previous_version": record.previous_version or "",
        "action": record.action.value,
        "actor": actor_document(record.actor),
        "reason": record.reason,
        "timestamp": format_timestamp(record.timestamp),
    }


def render(record: Record) -> bytes:
    """The pointer's bytes for this record."""
    return json.dumps(document(record), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"

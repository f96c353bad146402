"""Writing a version: into a temporary sibling, made durable, and renamed into place. Complete or absent.

A killed publisher leaves its temporary directory behind; the next one sweeps it once it is an hour old.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_error, store_faults
from model_sidecar.disk.steps import discard, release, sweep, write_file
from model_sidecar.errors import CommitStateUnknownError, Reason, RefusedError, StoreError, VerificationError
from model_sidecar.release.digests import digest_from
from model_sidecar.release.manifest import FileEntry, Role
from model_sidecar.release.manifest_reading import check_file_name
from model_sidecar.release.names import ModelName, Version
from model_sidecar.store.layout import Layout
from model_sidecar.store.opening import open_directory, open_root
from model_sidecar.store.verifying import VerifiedVersion, VersionDirectory

_TEMPORARY = ".publishing-"
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + ".*", re.DOTALL)
_CHUNK = 4 << 20
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A version that is being written. Made by `stage`; one thread's."""

    model: ModelName
    version: Version
    path: Path
    """Where it stands until it is committed."""
    target: Path
    """Where it stands from then on."""
    parent: int
    descriptor: int
    disk: Disk

    def copy(self, source: Path, *, name: str, role: Role) -> FileEntry:
        """Copy the file `source` in, durably, as `name`.

        Raises:
            VerificationError: FILE_NAME_UNSAFE; or NOT_A_REGULAR_FILE, for a source that is none.
            StoreError: it could not be read or written.
        """
        with store_faults(source):
            # O_NONBLOCK: a FIFO must not wait for a writer.
            fd = self.disk.open(source, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with store_faults(source):
                regular = stat.S_ISREG(self.disk.fstat(fd).st_mode)
            if not regular:
                raise VerificationError(
                    f"{source} is not a regular file: expected one to publish",
                    reason=Reason.NOT_A_REGULAR_FILE,
                )
            return self._write(name, role, self._parts(fd, source))
        finally:
            release(self.disk, fd)

    def write(self, name: str, content: bytes, *, role: Role = Role.OTHER) -> FileEntry:
        """Write `content`, durably, as `name`; in the place of a file of that name that was written before.

        Raises:
            VerificationError: FILE_NAME_UNSAFE.
            StoreError: it could not be written.
        """
        check_file_name(name)
        with store_faults(self.path / name), suppress(FileNotFoundError):
            self.disk.unlink(name, dir_fd=self.descriptor)
        return self._write(name, role, iter([content]))

    def write_parts(self, name: str, parts: Iterator[bytes], *, role: Role) -> FileEntry:
        """As `write`, for a file that does not exist yet and is too large to be held in memory."""
        return self._write(name, role, parts)

    def verify(self, *, allow_external_data: bool) -> VerifiedVersion:
        """What was written, read back and verified as a server would; the caller closes it.

        Raises:
            As `VersionStore.verify` does.
        """
        directory = VersionDirectory(
            model=self.model,
            version=self.version,
            descriptor=self.descriptor,
            shown=self.path,
            disk=self.disk,
        )
        return directory.verify(expected_manifest=None, allow_external_data=allow_external_data)

    def commit(self) -> None:
        """Make the version appear under its name, whole. Call once.

        Raises:
            RefusedError: VERSION_EXISTS; somebody else published one of that name. Theirs is untouched.
            StoreError: nothing was published.
            CommitStateUnknownError: it is in place, but might not survive a power cut now.
        """
        with store_faults(self.path):
            self.disk.fchmod(self.descriptor, 0o755)
            self.disk.fsync(self.descriptor)
        try:
            # Onto a directory that holds anything at all, a rename fails: of two publishers the first one wins.
            self.disk.rename(self.path.name, self.target.name, dir_fd=self.parent)
        except OSError as error:
            # On NFS a reply may be lost and the repeated rename fail: look whether ours is in place.
            if not self._is_in_place():
                if error.errno in _TAKEN:
                    raise _exists(self.disk, self.parent, self.model, self.version, self.target) from error
                raise store_error(error, self.target) from error
        try:
            self.disk.fsync(self.parent)
        except OSError as error:
            raise CommitStateUnknownError(
                f"{self.target} is in place, but whether it survives a power cut is not known: {error.strerror}. "
                "Verify it before you deploy it",
                path=self.target,
            ) from error

    def _write(self, name: str, role: Role, parts: Iterator[bytes]) -> FileEntry:
        check_file_name(name)
        hasher = hashlib.sha256()
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                hasher.update(part)
                size += len(part)
                yield part

        with store_faults(self.path / name):
            write_file(self.disk, name, counted(), dir_fd=self.descriptor)
        return FileEntry(digest=digest_from(hasher), size=size, role=role)

    def _parts(self, fd: int, source: Path) -> Iterator[bytes]:
        with store_faults(source):
            while part := self.disk.read(fd, _CHUNK):
                yield part

    def _is_in_place(self) -> bool:
        try:
            found = self.disk.lstat(self.target.name, dir_fd=self.parent)
            return os.path.samestat(found, self.disk.fstat(self.descriptor))
        except OSError:
            return False


@contextmanager
def stage(
    layout: Layout, *, model: ModelName, version: Version, disk: Disk | None = None
) -> Iterator[Staging]:
    """A new version to write into; on leaving, what was not committed is removed.

    The model's directory is made where it is the model's first version; the store's own is not, so that a store that
    is not mounted is not written beside.

    Raises:
        RefusedError: VERSION_EXISTS.
        VerificationError: SYMLINK_REFUSED; the model's directory is one.
        StoreError: the store cannot be written.
    """
    disk = disk or Disk()
    shown, target = layout.model(model), layout.version(model, version)
    name = f"{_TEMPORARY}{secrets.token_hex(8)}"
    with ExitStack() as leaving:
        leaving.callback(release, disk, root := open_root(disk, layout.root))
        leaving.callback(release, disk, parent := _model_directory(disk, root, model, shown))
        with store_faults(shown):
            if _is_there(disk, parent, version):
                raise _exists(disk, parent, model, version, target)
            disk.mkdir(name, 0o700, dir_fd=parent)
        leaving.callback(discard, disk, name, dir_fd=parent)
        leaving.callback(release, disk, descriptor := _opened(disk, parent, name, shown / name))
        with store_faults(shown):
            # The file system's time, which is not always this machine's.
            sweep(disk, parent, now_s=disk.fstat(descriptor).st_mtime, leftover=_LEFTOVER)
        yield Staging(
            model=model,
            version=version,
            path=shown / name,
            target=target,
            parent=parent,
            descriptor=descriptor,
            disk=disk,
        )


def _model_directory(disk: Disk, root: int, model: ModelName, shown: Path) -> int:
    with store_faults(shown):
        with suppress(FileExistsError):
            disk.mkdir(model, 0o755, dir_fd=root)
        # Also where somebody else made it: they may have been killed before they could sync.
        disk.fsync(root)
    return _opened(disk, root, model, shown)


def _opened(disk: Disk, parent: int, name: str, shown: Path) -> int:
    descriptor = open_directory(disk, parent, name, shown=shown)
    if descriptor is None:
        raise StoreError(f"{shown} is no directory: expected one to publish into", path=shown)
    return descriptor


def _is_there(disk: Disk, parent: int, name: str) -> bool:
    try:
        disk.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def _exists(disk: Disk, parent: int, model: ModelName, version: Version, target: Path) -> RefusedError:
    """The refusal, once what it says is sure to stay: whoever published it may have been killed before they could sync."""
    with store_faults(target):
        disk.fsync(parent)
    return RefusedError(
        f"version {version} of {model} exists already ({target}), and a version never changes: publish under another "
        "name, such as one with a build number (2024.01.15.2.prod)",
        reason=Reason.VERSION_EXISTS,
        model=model,
        version=version,
    )

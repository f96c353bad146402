"""Writing a version: into a temporary sibling, made durable, and renamed into place. Complete or absent.

A killed publisher leaves its temporary directory behind; the next one sweeps it once it is an hour old.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.errors import CommitStateUnknownError, Reason, RefusedError, StoreError, VerificationError
from model_sidecar.release.digests import digest_from
from model_sidecar.release.manifest import FileEntry, Role
from model_sidecar.release.manifest_reading import check_file_name
from model_sidecar.release.names import ModelName, Version
from model_sidecar.store.faults import store_error, store_faults
from model_sidecar.store.layout import Layout
from model_sidecar.store.opening import open_directory, open_root
from model_sidecar.store.verifying import VerifiedVersion, VersionDirectory

TEMPORARY = ".publishing-"
STALE_AFTER_S = 3600.0
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

    def copy(self, source: Path, *, name: str, role: Role) -> FileEntry:
        """Copy the file `source` in, durably, as `name`.

        Raises:
            VerificationError: FILE_NAME_UNSAFE; or NOT_A_REGULAR_FILE, for a source that is none.
            StoreError: it could not be read or written.
        """
        with store_faults(source):
            # O_NONBLOCK: a FIFO must not wait for a writer.
            file = os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0)
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise VerificationError(
                    f"{source} is not a regular file: expected one to publish",
                    reason=Reason.NOT_A_REGULAR_FILE,
                )
            return self._write(name, role, _parts(file, source))

    def write(self, name: str, content: bytes, *, role: Role = Role.OTHER) -> FileEntry:
        """Write `content`, durably, as `name`; in the place of a file of that name that was written before.

        Raises:
            VerificationError: FILE_NAME_UNSAFE.
            StoreError: it could not be written.
        """
        check_file_name(name)
        with store_faults(self.path / name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)
        return self._write(name, role, iter([content]))

    def verify(self, *, allow_external_data: bool) -> VerifiedVersion:
        """What was written, read back and verified as a server would; the caller closes it.

        Raises:
            As `VersionStore.verify` does.
        """
        directory = VersionDirectory(
            model=self.model, version=self.version, descriptor=self.descriptor, shown=self.path
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
            os.fchmod(self.descriptor, 0o755)
            os.fsync(self.descriptor)
        try:
            # Onto a directory that holds anything at all, a rename fails: of two publishers the first one wins.
            os.rename(self.path.name, self.target.name, src_dir_fd=self.parent, dst_dir_fd=self.parent)
        except OSError as error:
            # On NFS a reply may be lost and the repeated rename fail: look whether ours is in place.
            if not self._is_in_place():
                if error.errno in _TAKEN:
                    raise _exists(self.model, self.version, self.target) from error
                raise store_error(error, self.target) from error
        try:
            os.fsync(self.parent)
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
        with store_faults(self.path / name):
            descriptor = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor
            )
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for part in parts:
                    hasher.update(part)
                    size += len(part)
                    _write_all(file.fileno(), part)
                # Whatever the publisher's umask: the sidecar may run as another user.
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
        return FileEntry(digest=digest_from(hasher), size=size, role=role)

    def _is_in_place(self) -> bool:
        try:
            found = os.stat(self.target.name, dir_fd=self.parent, follow_symlinks=False)
            return os.path.samestat(found, os.fstat(self.descriptor))
        except OSError:
            return False


@contextmanager
def stage(layout: Layout, *, model: ModelName, version: Version) -> Iterator[Staging]:
    """A new version to write into; on leaving, what was not committed is removed.

    The model's directory is made where it is the model's first version; the store's own is not, so that a store that
    is not mounted is not written beside.

    Raises:
        RefusedError: VERSION_EXISTS.
        VerificationError: SYMLINK_REFUSED; the model's directory is one.
        StoreError: the store cannot be written.
    """
    shown, target = layout.model(model), layout.version(model, version)
    name = f"{TEMPORARY}{secrets.token_hex(8)}"
    with ExitStack() as leaving:
        leaving.callback(os.close, root := open_root(layout.root))
        leaving.callback(os.close, parent := _model_directory(root, model, shown))
        with store_faults(shown):
            if _is_there(parent, version):
                raise _exists(model, version, target)
            os.mkdir(name, 0o700, dir_fd=parent)
        leaving.callback(shutil.rmtree, name, ignore_errors=True, dir_fd=parent)
        leaving.callback(os.close, descriptor := _opened(parent, name, shown / name))
        _sweep(parent, now=os.fstat(descriptor).st_mtime)
        yield Staging(
            model=model,
            version=version,
            path=shown / name,
            target=target,
            parent=parent,
            descriptor=descriptor,
        )


def _model_directory(root: int, model: ModelName, shown: Path) -> int:
    with store_faults(shown):
        try:
            os.mkdir(model, 0o755, dir_fd=root)
            os.fsync(root)
        except FileExistsError:
            pass
    return _opened(root, model, shown)


def _opened(parent: int, name: str, shown: Path) -> int:
    descriptor = open_directory(parent, name, shown=shown)
    if descriptor is None:
        raise StoreError(f"{shown} is no directory: expected one to publish into", path=shown)
    return descriptor


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _exists(model: ModelName, version: Version, target: Path) -> RefusedError:
    return RefusedError(
        f"version {version} of {model} exists already ({target}), and a version never changes: publish under another "
        "name, such as one with a build number (2024.01.15.2.prod)",
        reason=Reason.VERSION_EXISTS,
        model=model,
        version=version,
    )


def _sweep(parent: int, *, now: float) -> None:
    """Remove what killed publishers left. `now` is the file system's time, which is not always this machine's."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY) and now - _last_written(parent, entry) > STALE_AFTER_S:
                shutil.rmtree(entry.name, ignore_errors=True, dir_fd=parent)


def _last_written(parent: int, entry: os.DirEntry[str]) -> float:
    """When anything in it was written last: a large file may take its writer longer than an hour."""
    descriptor = os.open(
        entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
    )
    try:
        with os.scandir(descriptor) as inside:
            written = [each.stat(follow_symlinks=False).st_mtime for each in inside]
        return max([os.fstat(descriptor).st_mtime, *written])
    finally:
        os.close(descriptor)


def _parts(file: io.FileIO, source: Path) -> Iterator[bytes]:
    with store_faults(source):
        while part := file.read(_CHUNK):
            yield part


def _write_all(descriptor: int, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

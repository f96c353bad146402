"""The versions of a store: which there are, what their manifests say, and whether they may answer.

Everything here reads, in the caller's thread, and may block for as long as the store does: no event loop's business.
Any thread may call any of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_faults
from model_sidecar.disk.steps import opened_directory, release
from model_sidecar.errors import InvalidNameError, NotFoundError, Reason
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import ModelName, Version, parse_version, version_order
from model_sidecar.store.layout import Layout
from model_sidecar.store.opening import open_directory, open_root
from model_sidecar.store.verifying import VerifiedVersion, VersionDirectory


class VersionStore:
    """The version directories below a store's root.

    Attributes:
        layout: where things are.
        allow_external_data: whether a version may keep its weights in files beside its model.
        disk: the system calls.
    """

    def __init__(self, root: Path, *, allow_external_data: bool = False, disk: Disk | None = None) -> None:
        self.layout = Layout(root)
        self.allow_external_data = allow_external_data
        self.disk = disk or Disk()

    def versions(self, model: ModelName) -> list[Version]:
        """The names of a model's versions, newest first; whether they verify is another question.

        None where the store has no directory of that model.

        Raises:
            VerificationError: SYMLINK_REFUSED; the model's directory is one.
            StoreError: the store cannot be read.
        """
        shown = self.layout.model(model)
        found = []
        with ExitStack() as opened:
            directory = self._open_model(model, opened)
            if directory is None:
                return []
            with store_faults(shown):
                for name in self.disk.names(directory):
                    found += self._version_at(directory, name)
        return sorted(found, key=version_order, reverse=True)

    def manifest(self, model: ModelName, version: Version) -> Manifest:
        """What a version's manifest says; its files are not looked at.

        Raises:
            NotFoundError, VerificationError, StoreError: as `verify` does over a manifest.
        """
        with self.opened(model, version) as directory:
            return directory.manifest()

    def fingerprint(self, model: ModelName, version: Version) -> Hashable:
        """A value that is another one once anything in the version's directory has changed; None while it is absent.

        Cheap (one listing, no file is opened), so that a version that was refused or incomplete is verified again
        when there is reason to. It says nothing about whether the bytes are right.

        Raises:
            StoreError: the store cannot be read. Never for absence.
        """
        shown = self.layout.version(model, version)
        with store_faults(shown):
            try:
                directory = self.disk.lstat(shown)
                if not stat.S_ISDIR(directory.st_mode):
                    return _marks(directory)
                with opened_directory(self.disk, shown) as fd:
                    names = self.disk.names(fd)
                    return _marks(directory), frozenset((name, self._marks_at(fd, name)) for name in names)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def verify(
        self,
        model: ModelName,
        version: Version,
        *,
        expected_manifest: Digest | None = None,
        admit: Callable[[Manifest], None] | None = None,
    ) -> VerifiedVersion:
        """A version whose every file was copied once, and has the bytes that its manifest promises.

        Args:
            model: whose version it is.
            version: which one.
            expected_manifest: the identity that a ledger's record gave it; None takes it as it is.
            admit: is shown the manifest before anything is copied, and may raise what it has against that.

        Returns:
            The version with all listed files; the caller closes it.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
            IncompleteVersionError: MANIFEST_MISSING, FILE_MISSING, or SIZE_MISMATCH of a file that is too small.
            VerificationError: any other check that failed; `reason` says which.
            StoreError: the store cannot be read; what the version is, is not known.
        """
        with self.opened(model, version) as directory:
            return directory.verify(
                expected_manifest=expected_manifest,
                allow_external_data=self.allow_external_data,
                admit=admit,
            )

    @contextmanager
    def opened(self, model: ModelName, version: Version) -> Iterator[VersionDirectory]:
        """A version's directory, open.

        Raises:
            NotFoundError: VERSION_NOT_FOUND.
            VerificationError: SYMLINK_REFUSED.
            StoreError: the store cannot be read.
        """
        shown = self.layout.version(model, version)
        with ExitStack() as opened:
            parent = self._open_model(model, opened)
            descriptor = None if parent is None else open_directory(self.disk, parent, version, shown=shown)
            if descriptor is None:
                raise NotFoundError(
                    f"model {model} has no version {version}: there is no directory {shown}. Publish it first",
                    reason=Reason.VERSION_NOT_FOUND,
                    model=model,
                    version=version,
                )
            opened.callback(release, self.disk, descriptor)
            yield VersionDirectory(
                model=model, version=version, descriptor=descriptor, shown=shown, disk=self.disk
            )

    def _open_model(self, model: ModelName, opened: ExitStack) -> int | None:
        root = open_root(self.disk, self.layout.root)
        opened.callback(release, self.disk, root)
        directory = open_directory(self.disk, root, model, shown=self.layout.model(model))
        if directory is not None:
            opened.callback(release, self.disk, directory)
        return directory

    def _version_at(self, directory: int, name: str) -> list[Version]:
        try:
            version = parse_version(name)
            found = self.disk.lstat(name, dir_fd=directory).st_mode
        except (InvalidNameError, FileNotFoundError):
            return []
        # A symlink is listed, so that verifying it can say what is wrong with it.
        return [version] if stat.S_ISDIR(found) or stat.S_ISLNK(found) else []

    def _marks_at(self, directory: int, name: str) -> tuple[int, ...] | None:
        try:
            return _marks(self.disk.lstat(name, dir_fd=directory))
        except FileNotFoundError:
            return None


def _marks(found: os.stat_result) -> tuple[int, ...]:
    # The mode too: a file that could not be read becomes readable by it alone.
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns

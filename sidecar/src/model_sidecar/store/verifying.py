"""The checks that a version passes before it may answer: names, listing, sizes, digests.

What the bytes mean (whether they are a model, and give the golden answers) is the `model` room's to say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_faults
from model_sidecar.disk.steps import read_to, release
from model_sidecar.errors import IncompleteVersionError, Reason, VerificationError
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import MANIFEST, MAX_MANIFEST_BYTES, UNLISTED, FileEntry, Manifest, Role
from model_sidecar.release.manifest_reading import parse_manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.store.opening import open_file
from model_sidecar.store.sealing import SealedFile, check_size, seal

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """A version whose every file has the bytes that its manifest promises, kept where nobody can change them.

    Whoever asked for it closes it; that frees the memory. A model that was loaded from it needs it no longer.
    """

    model: ModelName
    version: Version
    manifest: Manifest
    files: Mapping[str, SealedFile]

    def close(self) -> None:
        """Give the files' memory back. Again does nothing."""
        for file in self.files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDirectory:
    """An open version directory, and what it has to be: this version of this model.

    Attributes:
        descriptor: of the directory; the opener's to close.
        shown: its path, for messages only.
        disk: the system calls.
    """

    model: ModelName
    version: Version
    descriptor: int
    shown: Path
    disk: Disk

    def manifest(self) -> Manifest:
        """The manifest, which is of this version and this model.

        Raises:
            IncompleteVersionError: MANIFEST_MISSING.
            VerificationError: it is none, or that of another version or model.
            StoreError: the store cannot be read.
        """
        return self.parsed(self.manifest_bytes(), expected=None)

    def parsed(self, content: bytes, *, expected: Digest | None) -> Manifest:
        """The manifest in these bytes, of the expected identity if one is given; raises as `manifest` does."""
        manifest = parse_manifest(content)
        if manifest.version != self.version:
            raise VerificationError(
                f"{self.shown / MANIFEST} is of version {manifest.version}: expected that of its directory, "
                f"{self.version}. Publish the version under its own name",
                reason=Reason.VERSION_MISMATCH,
                version=manifest.version,
            )
        if manifest.model is not None and manifest.model != self.model:
            raise VerificationError(
                f"{self.shown / MANIFEST} is of model {manifest.model}: expected {self.model}, whose directory it is "
                "in. Publish the version under its own model",
                reason=Reason.MODEL_MISMATCH,
                model=manifest.model,
            )
        if expected is not None and manifest.digest != expected:
            raise VerificationError(
                f"{self.shown / MANIFEST} is {manifest.digest}, but {expected} was deployed: somebody changed a published "
                "version. Put the old bytes back, or publish the new ones as a version of their own",
                reason=Reason.MANIFEST_CHANGED,
                expected=expected,
                found=manifest.digest,
            )
        return manifest

    def verify(
        self,
        *,
        expected_manifest: Digest | None,
        allow_external_data: bool,
        admit: Callable[[Manifest], None] | None = None,
    ) -> VerifiedVersion:
        """Every listed file, verified; see `VersionStore.verify`."""
        manifest = self.parsed(self.manifest_bytes(), expected=expected_manifest)
        self._check_external_data(manifest, allowed=allow_external_data)
        self._check_listing(manifest)
        if admit is not None:
            admit(manifest)
        with ExitStack() as opened:
            files = {
                name: opened.enter_context(self._seal(name, entry)) for name, entry in manifest.files.items()
            }
            opened.pop_all()
        return VerifiedVersion(self.model, self.version, manifest, MappingProxyType(files))

    def manifest_bytes(self) -> bytes:
        """The manifest as it stands there; at most one byte more than a manifest may have. Raises as `manifest` does."""
        shown = self.shown / MANIFEST
        descriptor = open_file(self.disk, self.descriptor, MANIFEST, shown=shown)
        if descriptor is None:
            raise IncompleteVersionError(
                f"{self.shown} has no {MANIFEST}: it is not completely copied, or no version",
                reason=Reason.MANIFEST_MISSING,
            )
        try:
            with store_faults(shown):
                return read_to(self.disk, descriptor, limit=MAX_MANIFEST_BYTES)
        finally:
            release(self.disk, descriptor)

    def _check_external_data(self, manifest: Manifest, *, allowed: bool) -> None:
        external = [name for name, entry in manifest.files.items() if entry.role is Role.EXTERNAL_DATA]
        if external and not allowed:
            raise VerificationError(
                f"{self.shown} holds external data ({_some(external)}), which is refused without "
                "--allow-external-data (of `serve`, and of `publish`): give it, or save the model with its weights inside",
                reason=Reason.EXTERNAL_DATA_REFUSED,
                file=external[0],
            )

    def _check_listing(self, manifest: Manifest) -> None:
        """Compare names and sizes before anything is copied: cheap while a large version is on its way."""
        found = self._listing()
        missing = [name for name in manifest.files if name not in found]
        if missing:
            raise _missing(self.shown, missing)
        for name, entry in manifest.files.items():
            there = found[name]
            if entry.size is not None and there.st_size < entry.size and stat.S_ISREG(there.st_mode):
                check_size(there.st_size, entry.size, shown=self.shown / name)
        unlisted = sorted(name for name in found if name not in manifest.files and name not in UNLISTED)
        if unlisted:
            raise VerificationError(
                f"{self.shown} holds {_some(unlisted)}, which its manifest does not list: nothing else may stand in a "
                "version's directory",
                reason=Reason.FILE_UNLISTED,
                file=ascii(unlisted[0])[1:-1],
            )

    def _listing(self) -> dict[str, os.stat_result]:
        found = {}
        with store_faults(self.shown):
            for name in self.disk.names(self.descriptor):
                # A copying tool's temporary file may have its real name by now.
                with suppress(FileNotFoundError):
                    found[name] = self.disk.lstat(name, dir_fd=self.descriptor)
        return found

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """A descriptor, for reading, of a listed file, at its beginning.

        Raises:
            IncompleteVersionError: FILE_MISSING.
            VerificationError: SYMLINK_REFUSED, or NOT_A_REGULAR_FILE.
            StoreError: it cannot be opened.
        """
        source = open_file(self.disk, self.descriptor, name, shown=self.shown / name)
        if source is None:
            raise _missing(self.shown, [name])
        try:
            yield source
        finally:
            release(self.disk, source)

    def _seal(self, name: str, listed: FileEntry) -> SealedFile:
        with self.opened(name) as source:
            return seal(source, name=name, listed=listed, shown=self.shown / name, disk=self.disk)


def _missing(shown: Path, names: list[str]) -> IncompleteVersionError:
    return IncompleteVersionError(
        f"{shown} lacks {_some(names)}, which its manifest lists: perhaps it is still being copied",
        reason=Reason.FILE_MISSING,
        file=names[0],
    )


def _some(names: list[str]) -> str:
    # repr: whoever can write to the store chooses what stands here, and a log line is no place for their newlines.
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more

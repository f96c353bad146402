"""Copies of the versions that answer, on this machine: what a sidecar starts from while the store is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from model_sidecar.disk.steps import discard
from model_sidecar.errors import (
    NotFoundError,
    QuarantinedError,
    Reason,
    ShortageError,
    SidecarError,
    VerificationError,
)
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import MANIFEST, Manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.store.publishing import stage
from model_sidecar.store.verifying import VerifiedVersion
from model_sidecar.store.versions import VersionStore

log = logging.getLogger(__name__)


class KeptVersions:
    """A store, and a directory of this sidecar's own with copies of some of its versions, laid out as the store is.

    A copy is believed no more than the store: it is verified anew, against the identity that the ledger gave the version.

    Args:
        store: where versions are published.
        root: the directory of copies; it exists.
    """

    def __init__(self, store: VersionStore, root: Path) -> None:
        self._store = store
        self._copies = VersionStore(root, allow_external_data=store.allow_external_data)
        self._unusable: dict[tuple[ModelName, Version, Digest], str] = {}  # and why, as it was told

    def verify(
        self,
        model: ModelName,
        version: Version,
        *,
        expected_manifest: Digest | None = None,
        admit: Callable[[Manifest], None] | None = None,
    ) -> VerifiedVersion:
        """The version, verified: from its copy where that is of the expected identity, else from the store.

        Raises:
            As `VersionStore.verify` does.
        """
        if expected_manifest is not None:
            try:
                return self._copies.verify(model, version, expected_manifest=expected_manifest, admit=admit)
            except NotFoundError:
                pass
            except (QuarantinedError, ShortageError):
                raise  # what `admit` has against the version, whoever has its bytes
            except SidecarError as error:
                self._set_aside(model, version, expected_manifest, error)
        return self._store.verify(model, version, expected_manifest=expected_manifest, admit=admit)

    def has(self, model: ModelName, version: Version, manifest: Digest) -> bool:
        """Whether a copy of this identity is there, and was not found unusable; its files are not read."""
        if (model, version, manifest) in self._unusable:
            return False
        try:
            return self._copies.manifest(model, version).digest == manifest
        except SidecarError:
            return False

    def keep(self, model: ModelName, version: Version, manifest: Digest) -> None:
        """Copy the version from the store, durably, as a whole or not at all; in the place of a copy of other bytes.

        Raises:
            SidecarError: it is not kept: the store cannot be read, has other bytes by now, or there is no room here.
        """
        # File by file, and not by way of memory: a large version is there once more already, in service.
        with self._store.opened(model, version) as source:
            content = source.manifest_bytes()
            listed = source.parsed(content, expected=manifest).files
            self._forget(model, version)
            with stage(self._copies.layout, model=model, version=version, disk=self._copies.disk) as staging:
                for name, entry in listed.items():
                    with source.opened(name) as file:
                        copied = staging.copy(Path(f"/proc/self/fd/{file}"), name=name, role=entry.role)
                    if copied.digest != entry.digest:
                        raise VerificationError(
                            f"{source.shown / name} is {copied.digest} by now, and no longer {entry.digest}",
                            reason=Reason.DIGEST_MISMATCH,
                        )
                staging.write(MANIFEST, content)
                staging.commit()
        self._unusable.pop((model, version, manifest), None)

    def forget_all_but(self, model: ModelName, versions: Collection[Version]) -> None:
        """Remove the copies of all other versions of this model; best effort."""
        with suppress(SidecarError):
            for version in self._copies.versions(model):
                if version not in versions:
                    self._forget(model, version)

    def _set_aside(self, model: ModelName, version: Version, manifest: Digest, error: SidecarError) -> None:
        # Told once, for with the store away this happens at every look; and not in the error's own words, whose advice is
        # for who publishes.
        key, why = (model, version, manifest), str(error)
        if self._unusable.get(key) != why:
            self._unusable[key] = why
            log.warning(
                "the copy of %s in %s is ignored, and made anew once the store can be read (%s)",
                version,
                self._copies.layout.version(model, version),
                error.reason,
            )

    def _forget(self, model: ModelName, version: Version) -> None:
        discard(self._copies.disk, self._copies.layout.version(model, version))

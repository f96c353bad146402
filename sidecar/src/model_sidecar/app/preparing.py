"""From a version's name to a model that may answer: verify, load, warm, with the time that each took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.serving.loading import Preparation, Prepare
from model_sidecar.store.verifying import VerifiedVersion


class Verifier(Protocol):
    """Where versions are had, verified."""

    def verify(
        self, model: ModelName, version: Version, *, expected_manifest: Digest | None = None
    ) -> VerifiedVersion:
        """See `VersionStore.verify`."""
        ...


def preparer(
    store: Verifier, model: ModelName, *, allow_external_data: bool, scratch: Path | None = None
) -> Prepare:
    """How the versions of one model are prepared; the result raises the errors of its three steps.

    `scratch` is where external data is laid out while it is loaded.
    """

    def prepare(version: Version, manifest: Digest | None) -> Preparation:
        began = time.monotonic()
        with store.verify(model, version, expected_manifest=manifest) as verified:
            is_verified = time.monotonic()
            loaded = load(verified, allow_external_data=allow_external_data, scratch=scratch)
            try:
                is_loaded = time.monotonic()
                rehearsal = rehearse(loaded, verified)
            except BaseException:
                loaded.close()
                raise
        phases_s = {
            "verify": is_verified - began,
            "load": is_loaded - is_verified,
            "warm": time.monotonic() - is_loaded,
        }
        return Preparation(loaded, phases_s, rehearsal.examples)

    return prepare

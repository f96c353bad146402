"""From a version's name to a model that may answer: verify, try, load, warm, with the time that each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

from model_sidecar.app.contact import DEFAULT_TIMEOUT_S, Contact
from model_sidecar.errors import Reason, RefusedError
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.serving.loading import MakeRoom, Preparation, Prepare, ShadowWish
from model_sidecar.serving.orders import ShadowReport
from model_sidecar.store.verifying import VerifiedVersion

ShadowOf = Callable[[LoadedModel, ShadowWish], ShadowReport]
"""Runs a candidate beside the live version; RefusedError (SHADOW_FAILED) where it is not good enough."""


class Verifier(Protocol):
    """Where versions are had, verified."""

    def verify(
        self,
        model: ModelName,
        version: Version,
        *,
        expected_manifest: Digest | None = None,
        admit: Callable[[Manifest], None] | None = None,
    ) -> VerifiedVersion:
        """See `VersionStore.verify`."""
        ...


def preparer(
    store: Verifier,
    model: ModelName,
    *,
    allow_external_data: bool,
    scratch: Path | None = None,
    contact: Contact | None = None,
    shadow_of: ShadowOf | None = None,
) -> Prepare:
    """How the versions of one model are prepared; the result raises the errors of its steps.

    `scratch` is where external data is laid out while it is loaded. With `contact`, a version is first tried in a child
    process; without, only versions may come that are trusted not to end this one. `shadow_of` runs a candidate beside the
    live version; None: nothing is noted that it could run on.
    """

    def prepare(
        version: Version,
        manifest: Digest | None,
        *,
        ordered: bool = False,
        make_room: MakeRoom | None = None,
        shadow: ShadowWish | None = None,
    ) -> Preparation:
        began = time.monotonic()
        phases_s: dict[str, float] = {}
        admit = None
        if contact is not None:
            admit = partial(contact.admit, model, ordered=ordered, room_can_be_made=make_room is not None)
        with store.verify(model, version, expected_manifest=manifest, admit=admit) as verified:
            phases_s["verify"] = time.monotonic() - began
            if contact is not None:
                tried_s = contact.try_out(verified, make_room=make_room)
                if tried_s is not None:
                    phases_s["trial"] = tried_s
            with contact.touching(verified) if contact is not None else nullcontext():
                with _timed(phases_s, "load"):
                    loaded = load(verified, allow_external_data=allow_external_data, scratch=scratch)
                    loaded.settle()
                try:
                    with _timed(phases_s, "warm"):
                        timeout_s = contact.timeout_s if contact is not None else DEFAULT_TIMEOUT_S
                        rehearsal = rehearse(loaded, verified, timeout_s=timeout_s)
                    if contact is not None:
                        loaded.batching = contact.batching(verified)
                except BaseException:
                    loaded.close()
                    raise
        return Preparation(loaded, phases_s, rehearsal.examples, _shadowed(loaded, shadow, phases_s))

    def _shadowed(
        loaded: LoadedModel, shadow: ShadowWish | None, phases_s: dict[str, float]
    ) -> ShadowReport | None:
        if shadow is None:
            return None
        try:
            if shadow_of is None:
                raise RefusedError(
                    f"the shadow of version {loaded.version} failed: this sidecar notes no requests (--no-monitor)",
                    reason=Reason.SHADOW_FAILED,
                )
            with _timed(phases_s, "shadow"):
                return shadow_of(loaded, shadow)
        except BaseException:
            loaded.close()
            raise

    return prepare


@contextmanager
def _timed(phases_s: dict[str, float], phase: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    phases_s[phase] = time.monotonic() - began

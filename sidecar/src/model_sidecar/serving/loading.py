"""The loader: one thread of a site that verifies, loads and warms, so that the manager's thread never waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from model_sidecar.errors import Reason, SidecarError, VerificationError
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A version that is verified, loaded and warmed; seconds by phase ("verify", "load", "warm")."""

    model: Model
    phases_s: Mapping[str, float]
    golden_examples: int


Prepare = Callable[[Version, Digest | None], Preparation]
"""Verify, load and warm a version, of this identity if one is given; raises our errors."""


class Loader:
    """Prepares one version at a time. `start` is the manager's; `done` is called on the loader's thread."""

    def __init__(self, prepare: Prepare, *, name: str) -> None:
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def start(
        self, version: Version, *, manifest: Digest | None, done: Callable[[Preparation | SidecarError], None]
    ) -> None:
        """Prepare this version, and hand over what came of it."""
        self._thread.submit(self._run, version, manifest, done)

    def stop(self) -> None:
        """Begin nothing new. What is under way is left to end by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(
        self, version: Version, manifest: Digest | None, done: Callable[[Preparation | SidecarError], None]
    ) -> None:
        began = time.monotonic()
        try:
            done(self._prepare(version, manifest))
        except SidecarError as error:
            done(error)
        except Exception as error:
            log.exception("preparing %s failed unexpectedly after %.3f s", version, time.monotonic() - began)
            done(
                VerificationError(
                    f"version {version} could not be prepared: {type(error).__name__}; the sidecar's log has the rest",
                    reason=Reason.INTERNAL,
                )
            )

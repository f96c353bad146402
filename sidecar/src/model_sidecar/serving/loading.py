"""The loader: one thread of a site that verifies, loads and warms, so that the manager's thread never waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from model_sidecar.errors import Reason, SidecarError, StoreError, VerificationError
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.orders import ShadowPlan, ShadowReport
from model_sidecar.serving.stage import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A version that is verified, loaded and warmed; seconds by phase ("verify", "trial", "load", "warm", "shadow").

    `shadow` is what running beside the live version has shown, where that was asked for.
    """

    model: Model
    phases_s: Mapping[str, float]
    golden_examples: int
    shadow: ShadowReport | None = None


@dataclass(frozen=True, slots=True)
class ShadowWish:
    """That a version is to run beside the live one before it counts as prepared; until `is_over` says to stop."""

    plan: ShadowPlan
    is_over: Callable[[], bool]


MakeRoom = Callable[[], bool]
"""Gives up memory that another version holds, in the background; False where there is none to be given up."""


class Prepare(Protocol):
    """Verifies, tries, loads and warms a version."""

    def __call__(
        self,
        version: Version,
        manifest: Digest | None,
        *,
        ordered: bool = False,
        make_room: MakeRoom | None = None,
        shadow: ShadowWish | None = None,
    ) -> Preparation:
        """The version, of this identity if one is given; raises our errors.

        Args:
            version: which one.
            manifest: its identity, if it is known.
            ordered: an operator asks for it, so that also one is tried again that was refused for what it did.
            make_room: what to call where memory is short; None: nothing may be given up for this version.
            shadow: run it beside the live one, as the last step.
        """


class Loader:
    """Prepares one version at a time. `start` is the manager's; `done` is called on the loader's thread."""

    def __init__(self, prepare: Prepare, *, name: str, give_up: Callable[[], None] = lambda: None) -> None:
        """`give_up` ends what of a preparation can be ended; it may be called from any thread."""
        self._prepare = prepare
        self._give_up = give_up
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def start(
        self,
        version: Version,
        *,
        manifest: Digest | None,
        done: Callable[[Preparation | SidecarError], None],
        ordered: bool = False,
        make_room: MakeRoom | None = None,
        shadow: ShadowWish | None = None,
    ) -> None:
        """Prepare this version, and hand over what came of it; `ordered`, `make_room` and `shadow` as in `Prepare`."""
        prepare = partial(
            self._prepare, version, manifest, ordered=ordered, make_room=make_room, shadow=shadow
        )
        self._thread.submit(self._run, prepare, version, done)

    def stop(self) -> None:
        """Begin nothing new. What is under way and cannot be given up is left to end by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._give_up()

    def _run(
        self,
        prepare: Callable[[], Preparation],
        version: Version,
        done: Callable[[Preparation | SidecarError], None],
    ) -> None:
        began = time.monotonic()
        try:
            done(prepare())
        except SidecarError as error:
            done(error)
        except OSError as error:
            # Not the store's, which are ours by then: this process is out of descriptors or of memory, and that passes.
            done(StoreError(f"version {version} cannot be prepared now: {error}. What is live answers on"))
        except Exception as error:
            log.exception("preparing %s failed unexpectedly after %.3f s", version, time.monotonic() - began)
            done(
                VerificationError(
                    f"version {version} could not be prepared: {type(error).__name__}; the sidecar's log has the rest",
                    reason=Reason.INTERNAL,
                )
            )

"""What is wanted: looks at the pointer and the ledger, again and again, and tells the manager what they say.

The poll is the truth; file events only make the next look come sooner (they are lost by network mounts, overlay
layers, overflowing queues and replaced directories).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from model_sidecar.errors import SidecarError, StoreError
from model_sidecar.events import Listener, Site, StoreRead, StoreUnreadable
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.reconcile import Adopt, Decision, External, Follow, Nothing, Unreadable
from model_sidecar.release.names import Version
from model_sidecar.serving.patience import LIMIT_S, Patience

log = logging.getLogger(__name__)

_FIRST_LOOK_S = 60.0
_JITTER = 0.1  # so that a fleet on one store does not look in step


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look found.

    Attributes:
        decision: what the pointer and the ledger mean together.
        base_generation: the head's generation at that look, 0 for an empty ledger.
        fingerprint: what the directory of the version in question looks like.
        pointer_identity: changes whenever the pointer's file does.
        read_only: whether the ledger can be read and nothing be recorded in it.
        at: monotonic seconds.
    """

    decision: Decision
    base_generation: int
    fingerprint: object
    pointer_identity: object
    read_only: bool
    at: float


@dataclass(frozen=True, slots=True)
class Unseen:
    """A look that failed: what the store says now is not known."""

    problem: SidecarError


class Source:
    """A thread that looks. `wake` may be called from anywhere; `deliver` is called on this thread."""

    def __init__(
        self,
        site: Site,
        *,
        ledger: Ledger,
        fingerprint: Callable[[Version], object],
        deliver: Callable[[Sighting | Unseen], None],
        before_look: Callable[[], None],
        on_event: Listener,
        poll_interval_s: float,
    ) -> None:
        """Begin at rest.

        Args:
            fingerprint: what a version's directory looks like, cheaply.
            before_look: lets the watch renew itself, so that what is written after the look is noticed.
        """
        self._site = site
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._deliver = deliver
        self._before_look = before_look
        self._on_event = on_event
        self._poll_interval_s = poll_interval_s
        self._patience = Patience(f"look-{site.model}")
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"source-{site.model}", daemon=True)

    def start(self) -> None:
        """Look now, and go on looking."""
        self._thread.start()

    def wake(self) -> None:
        """Look soon."""
        self._woken.set()

    def stop(self, *, timeout_s: float) -> None:
        """Look no more. A look that hangs in the store is left behind."""
        self._stopping = True
        self._woken.set()
        self._patience.close()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()  # before the look: what happens during it earns another one
            try:
                # The first look reads the whole ledger; and where none is known, there is nothing to do without it.
                limit_s = LIMIT_S if self._ledger.head is not None else _FIRST_LOOK_S
                self._deliver(self._patience.call(self._renewed_look, limit_s=limit_s))
            except SidecarError as error:
                self._fail(error)
            except OSError as error:
                self._fail(StoreError(f"a look at the pointer failed: {error}"))
            except Exception:
                log.exception("a look at the pointer failed unexpectedly")
                self._fail(StoreError("a look at the pointer failed: internal error; see the log"))
            self._woken.wait(self._poll_interval_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311

    def _fail(self, problem: SidecarError) -> None:
        if self._stopping:
            return
        self._on_event(StoreUnreadable(self._site, str(problem)))
        self._deliver(Unseen(problem))

    def _renewed_look(self) -> Sighting:
        self._before_look()
        return self.look()

    def look(self) -> Sighting:
        """What the store says now.

        Raises:
            StoreError: it cannot be read.
        """
        at = time.monotonic()
        look = self._ledger.look()
        version = _version_of(look.decision)
        sighting = Sighting(
            decision=look.decision,
            base_generation=look.head.generation if look.head else 0,
            fingerprint=self._fingerprint(version) if version else None,
            pointer_identity=look.pointer_identity,
            read_only=look.read_only,
            at=at,
        )
        # Last: a look that failed half-way is no look.
        self._on_event(StoreRead(self._site, datetime.now(UTC), look.head.generation if look.head else None))
        return sighting


def _version_of(decision: Decision) -> Version | None:
    match decision:
        case Follow(record=record):
            return record.version
        case Adopt(version=version) | External(version=version):
            return version
        case Unreadable(head=head):
            return head.version if head else None
        case Nothing():
            return None
        case _:
            assert_never(decision)

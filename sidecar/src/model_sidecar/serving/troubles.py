"""What went wrong last and has not been put right since; whoever finds something wrong tells it here. The manager's own."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from model_sidecar.errors import Reason, SidecarError, VerificationError
from model_sidecar.events import Listener, Refused, Site
from model_sidecar.release.names import Version
from model_sidecar.serving.status import Trouble

_TOLD = 8  # a head and an edit take turns while neither can be had; more need not be remembered


class Troubles:
    """One site's troubles. Not thread-safe: all calls are the manager's thread's.

    Attributes:
        current: the newest; None when the last thing that was tried has worked.
    """

    def __init__(self, site: Site, *, on_event: Listener) -> None:
        self.current: Trouble | None = None
        self._told: deque[str] = deque(maxlen=_TOLD)
        self._site = site
        self._on_event = on_event

    def tell(self, error: SidecarError, *, version: Version | None, generation: int | None) -> None:
        """Let everybody know that something was refused; what is live answers on."""
        self._told.append(str(error))
        self.current = Trouble(error.reason, str(error), version, generation, datetime.now(UTC))
        self._on_event(
            Refused(self._site, version, error.reason, str(error), isinstance(error, VerificationError))
        )

    def tell_once(self, error: SidecarError, *, version: Version | None, generation: int | None) -> None:
        """The same, unless it was told before and nothing has worked since: some things are tried again and again."""
        if str(error) not in self._told:
            self.tell(error, version=version, generation=generation)

    def over(self, reason: Reason | None = None) -> None:
        """It was put right; with a reason, only if that is what it was."""
        if reason is None or (self.current is not None and self.current.reason is reason):
            self.current = None
            self._told.clear()

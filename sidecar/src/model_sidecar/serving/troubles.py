"""What went wrong last and has not been put right since; whoever finds something wrong tells it here. The manager's own."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from model_sidecar.errors import Reason, SidecarError, VerificationError
from model_sidecar.events import Listener, Refused, Site
from model_sidecar.release.names import Version
from model_sidecar.serving.status import Trouble

_OF_THE_STORE = frozenset({Reason.STORE_UNAVAILABLE, Reason.LEDGER_INVALID})
_TOLD = 8  # a head and an edit take turns while neither can be had; more need not be remembered


class Troubles:
    """One site's troubles. Not thread-safe: all calls are the manager's thread's."""

    def __init__(self, site: Site, *, on_event: Listener) -> None:
        self._refused: Trouble | None = None
        self._ordered: Trouble | None = None
        self._unrecorded: Trouble | None = None
        self._unseen: Trouble | None = None
        self._hindrance: Trouble | None = None
        self._told: deque[str] = deque(maxlen=_TOLD)
        self._site = site
        self._on_event = on_event

    @property
    def current(self) -> Trouble | None:
        """The gravest; None when the last thing that was tried has worked, and the store can be looked at and written.

        What lasts goes before what is over: an order that was refused must not hide that the store is away. Of refusals
        it is the newest.
        """
        refusals = [each for each in (self._refused, self._ordered) if each is not None]
        newest = max(refusals, key=lambda each: each.since, default=None)
        return self._unrecorded or self._unseen or self._hindrance or newest

    def unrecorded(self, why: str) -> None:
        """An emergency rollback is known to this process alone; "" when there is none such."""
        if not why:
            self._unrecorded = None
        elif self._unrecorded is None:
            self._unrecorded = Trouble(Reason.STORE_UNAVAILABLE, why, None, None, datetime.now(UTC))

    def unseen(self, error: SidecarError) -> None:
        """The store cannot be looked at. Whoever looked has told everybody else."""
        if self._unseen is None or self._unseen.message != str(error):
            since = self._unseen.since if self._unseen is not None else datetime.now(UTC)
            self._unseen = Trouble(error.reason, str(error), None, None, since)

    def seen(self) -> None:
        """The store was looked at; what was refused only because it could not be is no trouble any more."""
        if self._unseen is not None:
            for reason in _OF_THE_STORE:
                self.over(reason)
        self._unseen = None

    def hindered(self, why: str) -> None:
        """The store can be read and not written; "" when it can. What was tried and failed is in the log."""
        if not why:
            self._hindrance = None
        elif self._hindrance is None or self._hindrance.message != why:
            self._hindrance = Trouble(Reason.STORE_UNAVAILABLE, why, None, None, datetime.now(UTC))

    def tell(self, error: SidecarError, *, version: Version | None, generation: int | None) -> None:
        """Let everybody know that something was refused; what is live answers on."""
        self._told.append(str(error))
        self._refused = Trouble(error.reason, str(error), version, generation, datetime.now(UTC))
        self._told_of(error, version)

    def order_refused(self, error: SidecarError, *, version: Version | None, generation: int | None) -> None:
        """Let everybody know that an operator's order was; what is wanted is what it was."""
        self._ordered = Trouble(error.reason, str(error), version, generation, datetime.now(UTC))
        self._told_of(error, version)

    def _told_of(self, error: SidecarError, version: Version | None) -> None:
        self._on_event(
            Refused(self._site, version, error.reason, str(error), isinstance(error, VerificationError))
        )

    def tell_once(self, error: SidecarError, *, version: Version | None, generation: int | None) -> None:
        """The same, unless it was told before and nothing has worked since: some things are tried again and again."""
        if str(error) not in self._told:
            self.tell(error, version=version, generation=generation)

    def over(self, reason: Reason | None = None) -> None:
        """It was put right; with a reason, only if that is what it was."""
        if self._ordered is not None and reason in (None, self._ordered.reason):
            self._ordered = None
        if reason is None or (self._refused is not None and self._refused.reason is reason):
            self._refused = None
            self._told.clear()

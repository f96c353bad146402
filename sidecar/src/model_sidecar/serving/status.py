"""What should answer and what does, told apart, and a board that those who watch can wait at."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from model_sidecar.errors import Reason
from model_sidecar.events import Site
from model_sidecar.ledger.record import Record
from model_sidecar.model.execution import Execution, execution_of
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.policy import Wanted
from model_sidecar.serving.stage import Model, Residents


class State(StrEnum):
    """Whether this sidecar does what it should."""

    NOT_SERVING = "NOT_SERVING"
    LOADING = "LOADING"
    READY = "READY"
    DEGRADED = "DEGRADED"


@dataclass(frozen=True, slots=True)
class Standing:
    """A version as it is wanted or served. The generation is None under an externally managed pointer."""

    version: Version
    generation: int | None
    manifest: Digest | None
    record_sha256: str


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory.

    Attributes:
        version: which.
        manifest: its identity.
        role: "live" or "standby".
        loaded_at: when.
        execution: how its usual predictions are run.
        cost_s: what one takes, as its rehearsal measured.
        max_batch_rows: the most rows of different requests that are run at once; 0: each request is run by itself.
    """

    version: Version
    manifest: Digest
    role: str
    loaded_at: datetime
    execution: Execution
    cost_s: float
    max_batch_rows: int


def resident_of(model: Model, role: str) -> Resident:
    """What there is to say of a model on the stage."""
    execution = execution_of(model)
    batching = model.batching if execution is Execution.BATCHED else None
    return Resident(
        version=model.version,
        manifest=model.manifest.digest,
        role=role,
        loaded_at=model.loaded_at,
        execution=execution,
        cost_s=model.cost_s,
        max_batch_rows=batching.max_rows if batching is not None else 0,
    )


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last thing that went wrong and has not been put right since."""

    reason: Reason
    message: str
    version: Version | None
    generation: int | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One site's status at one moment; `revision` grows with every change."""

    site: Site
    sidecar: str
    revision: int = 0
    desired: Standing | None = None
    observed: Standing | None = None
    resident: tuple[Resident, ...] = ()
    loading: Version | None = None
    last_error: Trouble | None = None
    externally_managed: bool = False
    live_since: datetime | None = None
    """Since when the live version answers without a break."""
    unrecorded: Version | None = None
    """The version that an emergency rollback has made live, until that is recorded."""
    last_look: float | None = None
    """Monotonic seconds of the last successful look at the store."""

    @property
    def state(self) -> State:
        """Whether the live version is the desired one."""
        if self.loading is not None:
            return State.LOADING
        if self.observed is None:
            return State.NOT_SERVING
        if self.desired is None or self.desired.version == self.observed.version:
            return State.READY
        return State.DEGRADED

    @property
    def pointer_staleness_s(self) -> float:
        """Age of the last successful look at the store; infinite before the first."""
        return float("inf") if self.last_look is None else time.monotonic() - self.last_look


class StatusBoard:
    """The newest status of one site. Any thread may read and wait; only the manager's thread posts."""

    def __init__(self, first: Status) -> None:
        self._changed = threading.Condition()  # guards _status and _closed
        self._status = first
        self._closed = False

    def current(self) -> Status:
        """The newest status."""
        return self._status

    def post(self, status: Status) -> None:
        """Show this status; one that differs only in the time of the last look is no news to those who wait."""
        with self._changed:
            before = self._status
            news = replace(status, revision=0, last_look=None) != replace(before, revision=0, last_look=None)
            self._status = replace(status, revision=before.revision + news)
            if news:
                self._changed.notify_all()

    def wait_newer(self, revision: int, *, timeout_s: float) -> Status | None:
        """The first status newer than `revision`, or None when the time is over or the board was closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._status.revision > revision, timeout=timeout_s
            )
            return self._status if self._status.revision > revision and not self._closed else None

    @property
    def closed(self) -> bool:
        """Whether nothing newer will ever be posted."""
        return self._closed

    def close(self) -> None:
        """Wake everybody who waits: nothing newer will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def compose(
    before: Status,
    *,
    wanted: Wanted | None,
    residents: Residents,
    record: Record | None,
    loading: Version | None,
    trouble: Trouble | None,
    externally_managed: bool,
    unrecorded: Version | None,
    last_look: float | None,
) -> Status:
    """The status that these facts make; `record` is the one that the live version answers under."""
    live = residents.live
    return replace(
        before,
        desired=Standing(wanted.version, wanted.generation, wanted.manifest, wanted.record_sha256)
        if wanted
        else None,
        observed=Standing(
            live.version, residents.generation, live.manifest.digest, record.sha256 if record else ""
        )
        if live is not None
        else None,
        resident=tuple(
            resident_of(model, role)
            for role, model in (("live", live), ("standby", residents.standby))
            if model is not None
        ),
        loading=loading,
        live_since=residents.live_since,
        last_error=trouble,
        externally_managed=externally_managed,
        unrecorded=unrecorded,
        last_look=last_look,
    )

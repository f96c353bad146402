"""What the control plane answers: frozen records of deployments, status, versions and verification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Action(StrEnum):
    """What an operator did. UNKNOWN is one that this client is too old to know."""

    DEPLOY = "DEPLOY"
    ROLLBACK = "ROLLBACK"
    ADOPT = "ADOPT"
    UNKNOWN = "UNKNOWN"


class State(StrEnum):
    """Whether a sidecar does what it should with a model.

    NOT_SERVING: nothing is live. LOADING: a candidate is on its way; the live version, if any, answers on. READY: the
    live version is the desired one. DEGRADED: it is not, and `last_error` says why. UNKNOWN: this client is too old to
    know the word.
    """

    NOT_SERVING = "NOT_SERVING"
    LOADING = "LOADING"
    READY = "READY"
    DEGRADED = "DEGRADED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acted, as the transport authenticated it; `on_behalf_of` is only a claim."""

    id: str
    method: str
    on_behalf_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The process that wrote a record."""

    sidecar: str
    host: str
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry of the ledger. `timestamp` (UTC) informs, `generation` orders."""

    schema: int
    generation: int
    previous_record_sha256: str
    model: str
    environment: str
    action: Action
    version: str
    manifest_sha256: str
    previous_version: str
    actor: Actor
    reason: str
    source_commit: str
    request_id: str
    written_by: Writer
    timestamp: datetime | None
    status: str
    record_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """That a version is to run on the live one's requests first, and what of it is good enough.

    Attributes:
        duration_s: for how long, 1 to 3600 s; refused earlier where enough is known.
        max_disagreement: the share of predictions that may differ; 0.05 if not given.
        max_slowdown: how many times as long as the live version's runs its median may take; 2 if not given.
        min_predictions: with fewer compared, the version is refused; 100 if not given.
    """

    duration_s: float
    max_disagreement: float | None = None
    max_slowdown: float | None = None
    min_predictions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What running beside the live version has shown. Medians and means are NaN where there were none.

    Attributes:
        against: the version that it was compared with.
        compared: how many predictions were.
        disagreed: of these, how many differed.
        failed: of these, how many runs failed, or gave NaN or infinity where the live version did not.
    """

    against: str
    compared: int
    disagreed: int
    failed: int
    median_ms: float
    against_median_ms: float
    mean_confidence: float
    against_mean_confidence: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A deploy or rollback that was done, or that would be done where only validation was asked for.

    Attributes:
        record: what stands in the ledger now.
        took_ms: from the arrival of the call until this sidecar served the version.
        replayed: an earlier call with this request id had already done it.
        shadow: what the shadow has shown that was asked for; None without one, and where it was replayed.
    """

    record: Record
    took_ms: float
    replayed: bool
    shadow: ShadowReport | None = None

    @property
    def version(self) -> str:
        """The version that answers now."""
        return self.record.version

    @property
    def generation(self) -> int:
        """Its generation."""
        return self.record.generation

    @property
    def previous_version(self) -> str:
        """The version that answered before; "" if none did."""
        return self.record.previous_version

    @property
    def model(self) -> str:
        """The model."""
        return self.record.model

    @property
    def environment(self) -> str:
        """The environment."""
        return self.record.environment

    @property
    def action(self) -> Action:
        """What was done."""
        return self.record.action

    @property
    def actor(self) -> Actor:
        """Who did it."""
        return self.record.actor

    @property
    def reason(self) -> str:
        """Why, in the operator's words."""
        return self.record.reason

    @property
    def request_id(self) -> str:
        """The id under which it will not be done twice."""
        return self.record.request_id

    @property
    def timestamp(self) -> datetime | None:
        """When (UTC)."""
        return self.record.timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A version as the ledger (or an externally managed pointer) wants it, or as a sidecar serves it."""

    generation: int
    version: str
    record_sha256: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentVersion:
    """A loaded version.

    Attributes:
        version: which one.
        manifest_sha256: its identity.
        role: "live" or "standby".
        loaded_at: when.
        execution: how its usual predictions are run: "inline", "lanes" or "batched"; "" where the sidecar does not tell.
        cost_seconds: what one prediction takes, as its rehearsal measured.
        max_batch_rows: the most rows of different requests that are run at once; 0: each request is run by itself.
    """

    version: str
    manifest_sha256: str
    role: str
    loaded_at: datetime | None
    execution: str = ""
    cost_seconds: float = 0.0
    max_batch_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """What went wrong with the last thing that the sidecar tried."""

    reason: str
    message: str
    version: str
    generation: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What should answer for one model (`desired`), and what does in this sidecar (`observed`).

    Attributes:
        loaded_at: when the live version was loaded, which for a standby that came back was long before it answered.
        live_since: when it began to answer, without a break since; None too where the sidecar is too old to say.
        unrecorded_version: what an emergency rollback has made live, until it is recorded; else "".
    """

    model: str
    environment: str
    state: State
    desired: Standing | None
    observed: Standing | None
    loaded_at: datetime | None
    resident: tuple[ResidentVersion, ...]
    last_error: LastError | None
    pointer_externally_managed: bool
    pointer_staleness_seconds: float
    sidecar: str
    live_since: datetime | None = None
    unrecorded_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """A version in the store. `state` is "live", "standby", "available", or "unreadable" with `problem` filled in."""

    version: str
    manifest_sha256: str
    state: str
    problem: str
    training_date: str
    data_snapshot_id: str
    preprocessing_version: str
    framework: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether a version's bytes are what its manifest says; if not, `reason` and `problem` say why.

    `files` are those that were hashed.
    """

    verified: bool
    manifest_sha256: str
    files: tuple[str, ...]
    reason: str
    problem: str

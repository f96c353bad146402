"""What happened, as frozen records. Whoever made it happen tells one callable; telemetry, health and the log listen.

A listener must be quick and must not raise: it is called on the thread that did the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from model_sidecar.errors import Reason
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Environment, ModelName, Version


@dataclass(frozen=True, slots=True)
class Site:
    """One model in one environment: what has a pointer, a ledger and a stage of its own."""

    model: ModelName
    environment: Environment

    def __str__(self) -> str:
        return f"{self.model}/{self.environment}"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a site."""

    site: Site


@dataclass(frozen=True, slots=True)
class LoadStarted(Event):
    """A candidate is being verified, loaded and warmed."""

    version: Version


@dataclass(frozen=True, slots=True)
class Prepared(Event):
    """A candidate is verified, loaded and warmed. Seconds by phase: "verify", "trial", "load", "warm"."""

    version: Version
    manifest: Digest
    phases_s: Mapping[str, float]
    golden_examples: int


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A version may not answer, or an operator's wish could not be granted; what was live answers on."""

    version: Version | None
    reason: Reason
    message: str
    verification: bool


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """This sidecar wrote a record.

    `trigger` is "operator", "pointer" or "guard"; `back` says that the version had been deployed here before.
    """

    generation: int
    version: Version
    action: str
    trigger: str
    actor: str
    reason: str
    back: bool = False


@dataclass(frozen=True, slots=True)
class Published(Event):
    """Another version answers from now on. `generation` is None under an externally managed pointer."""

    version: Version
    manifest: Digest
    generation: int | None
    previous: Version | None
    standby: Version | None
    from_standby: bool
    took_s: float
    phases_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restated(Event):
    """The head moved on, to the version that was live already."""

    version: Version
    manifest: Digest
    generation: int | None


@dataclass(frozen=True, slots=True)
class StandbyReady(Event):
    """A version became resident as the standby without having been live in this process."""

    version: Version
    manifest: Digest


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A version is no longer resident: its last request was answered and its memory given back."""

    version: Version
    manifest: Digest


@dataclass(frozen=True, slots=True)
class StoreRead(Event):
    """A look at the pointer and the ledger succeeded."""

    at: datetime
    generation: int | None


@dataclass(frozen=True, slots=True)
class StoreUnreadable(Event):
    """A look at the pointer or the ledger failed; what is live answers on."""

    message: str


@dataclass(frozen=True, slots=True)
class GaveWay(Event):
    """The live version left memory for one that has no room beside it: nothing answers until that does, or this again."""

    version: Version
    manifest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReported(Event):
    """How a version predicted in the hour that ended, by the labels so far.

    `verdict` is "inconclusive", "within" or "below"; `metrics` are by name, those made without labels end in "_estimate".
    """

    version: Version
    manifest: Digest
    verdict: str
    predictions: int
    labels: int
    evidence_log10: float
    metrics: Mapping[str, float]
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityAlarmed(QualityReported):
    """A version predicts worse than it was published with: all its labels so far say so. Told once of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftAlarmed(Event):
    """What a version sees or says has left what it was published with, or, with `ended`, is back within it.

    `cause` is the stream that says most, `kind` its kind, `summary` what it says in one sentence.
    """

    version: Version
    manifest: Digest
    ended: bool
    cause: str
    kind: str
    evidence_log10: float
    rows: int
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecided(Event):
    """The guard found something wrong with the live version, and decided what to do about it.

    `decision` is "rolled_back", "would_roll_back", "held" or "failed"; `message` holds the evidence in one sentence.
    """

    version: Version
    manifest: Digest
    decision: str
    trigger: str
    target: Version | None
    generation: int | None
    evidence_log10: float
    message: str


@dataclass(frozen=True, slots=True)
class Draining(Event):
    """The sidecar is going down: no new request is taken."""


Listener = Callable[[Event], None]

"""The one decision: given what is wanted and what is resident, what is the next step? Pure, a table in its test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version


@dataclass(frozen=True, slots=True)
class Edit:
    """A pointer edited by hand that has still to be recorded.

    Attributes:
        base_generation: the head it was seen beside; the ledger takes the edit only on top of that.
        request_id: the edit's identity, so that it is recorded once, whoever sees it.
        request_sha256: the digest of what was written.
    """

    base_generation: int
    request_id: str
    request_sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The version that should answer.

    Attributes:
        manifest: the identity it must have; None when only its name is known.
        generation: the record that wants it; None for an edit and for an externally managed pointer.
        deliberate: somebody named it in a pointer, and no sidecar has yet compared its signature with the live one's.
    """

    version: Version
    manifest: Digest | None
    generation: int | None = None
    record_sha256: str = ""
    edit: Edit | None = None
    deliberate: bool = False
    allow_schema_change: bool = False

    def is_met_by(self, holding: Holding | None) -> bool:
        """Whether this resident model is the wanted version."""
        return (
            holding is not None
            and holding.version == self.version
            and (self.manifest is None or holding.manifest == self.manifest)
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """A resident model, as far as the decision needs it."""

    version: Version
    manifest: Digest


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wish that was refused, and when it is worth another try.

    Attributes:
        wanted: the wish; another wish is another try.
        fingerprint: what the version's directory looked like; once it looks different, it is tried again.
        retry_at: monotonic seconds of the next try where the store was at fault, not the version.
    """

    wanted: Wanted
    fingerprint: object
    retry_at: float | None = None

    def stands(self, wanted: Wanted, *, fingerprint: object, now: float) -> bool:
        """Whether trying again would only find the same."""
        if self.wanted != wanted or self.fingerprint != fingerprint:
            return False
        return self.retry_at is None or now < self.retry_at


class Step(Enum):
    """What the manager does next."""

    NOTHING = auto()
    RESTATE = auto()
    """The live version is the wanted one, under another generation."""
    TAKE_STANDBY = auto()
    TAKE_CANDIDATE = auto()
    LOAD = auto()


def next_step(
    wanted: Wanted | None,
    *,
    live: Holding | None,
    live_generation: int | None,
    standby: Holding | None,
    candidate: Holding | None,
    refused: bool,
) -> Step:
    """The next step towards the wanted version.

    Args:
        wanted: None before the first deployment.
        live_generation: the generation that the live version answers under.
        candidate: a model that is loaded and warmed but not on the stage.
        refused: a refusal of this very wish still stands.
    """
    if wanted is None:
        return Step.NOTHING
    if wanted.is_met_by(live):
        settled = wanted.edit is None and wanted.generation == live_generation
        return Step.NOTHING if settled or refused else Step.RESTATE
    if refused:
        return Step.NOTHING
    if wanted.is_met_by(standby):
        return Step.TAKE_STANDBY
    if wanted.is_met_by(candidate):
        return Step.TAKE_CANDIDATE
    return Step.LOAD

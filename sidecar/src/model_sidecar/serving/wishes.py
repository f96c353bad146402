"""What is wanted: made of sightings and of our own records, with the memory of what was refused. The manager's own."""

from __future__ import annotations

import time
from typing import assert_never

from model_sidecar.errors import SidecarError
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.reconcile import Adopt, External, Follow, Nothing, Unreadable
from model_sidecar.ledger.record import Record
from model_sidecar.serving.emergency import Emergency
from model_sidecar.serving.policy import Edit, Refusal, Wanted
from model_sidecar.serving.source import Sighting


class Wishes:
    """One site's wanted version. Not thread-safe: all calls are the manager's thread's.

    Attributes:
        wanted: the version that should answer; None before the first deployment.
        since: when it became so, monotonic seconds.
        externally_managed: the last look found a pointer that is somebody else's to write.
        edit_waits: the last look found a hand edit that is tried once the head answers.
    """

    def __init__(self, ledger: Ledger, emergency: Emergency) -> None:
        self.wanted: Wanted | None = None
        self.since = 0.0
        self.externally_managed = False
        self.edit_waits = False
        self._ledger = ledger
        self._emergency = emergency
        self._fingerprint: object = None
        # Since something was last published, by whether a record wants it: the head's refusal and the last edit's. Not one
        # for every edit, of which there is no end.
        self._refusals: dict[bool, Refusal] = {}
        self._told_of: object = None

    def take_in(self, sighting: Sighting, *, live_generation: int | None) -> SidecarError | None:
        """Take over what was seen. Returns what is wrong with the pointer, once for each state of it.

        Until the head answers here, it goes before a hand edit: what answered before a restart answers again, and what
        others have recorded is followed, whatever somebody has written since; the edit is then compared with it. While
        the head cannot be had, the edit is tried.
        """
        decision, head = sighting.decision, self._ledger.head
        self._fingerprint = sighting.fingerprint
        if self._emergency.waiting is not None:
            # It could not be recorded still, and nobody has moved the head: what an operator wanted last stands.
            self.hold(self._emergency.waiting.record)
            return None
        self.externally_managed = isinstance(decision, External)
        self.edit_waits = False
        match decision:
            case Nothing():
                pass
            case Follow(record=record):
                self.follow(record)
            case Adopt() if (
                head is not None and live_generation != head.generation and not self._stands(_wish(head))
            ):
                self.edit_waits = True
                self.follow(head)
            case Adopt(version=version, allow_schema_change=allow):
                edit = Edit(sighting.base_generation, decision.request_id, decision.request_sha256)
                manifest = self._ledger.recorded_manifest(version)
                self._want(
                    Wanted(
                        version=version,
                        manifest=manifest,
                        edit=edit,
                        deliberate=True,
                        allow_schema_change=allow,
                    )
                )
            case External(version=version, allow_schema_change=allow):
                manifest = self._ledger.recorded_manifest(version)
                self._want(
                    Wanted(version=version, manifest=manifest, deliberate=True, allow_schema_change=allow)
                )
            case Unreadable(problem=problem):
                if head is not None:
                    self.follow(head)
                if self._told_of != sighting.pointer_identity:
                    self._told_of = sighting.pointer_identity
                    return problem
                return None
            case _:
                assert_never(decision)
        self._told_of = None
        return None

    def follow(self, record: Record) -> None:
        """Want what this record names, unless a newer one is known: a look may arrive after our own commit."""
        known = self.wanted.generation if self.wanted else None
        if known is None or record.generation >= known:
            self._want(_wish(record))

    def hold(self, record: Record) -> None:
        """Want what this record names, although it is not in the ledger yet; where that has grown beyond it, its head."""
        head = self._ledger.head
        if head is not None and head.generation >= record.generation:
            self.follow(head)
            return
        self._want(Wanted(version=record.version, manifest=record.manifest_sha256))

    def remember(self) -> None:
        """The store cannot be looked at: before anything else is wanted, want what is known to have answered last."""
        head = self._ledger.head
        if self._emergency.waiting is not None:
            self.hold(self._emergency.waiting.record)
        elif self.wanted is None and head is not None:
            self.follow(head)

    def as_seen(self, wanted: Wanted) -> Refusal:
        """The refusal that this wish would get, for what its directory looks like now."""
        return Refusal(wanted, self._fingerprint)

    def refuse(self, refusal: Refusal) -> None:
        """Do not try this again while the refusal stands."""
        self._refusals[_is_recorded(refusal.wanted)] = refusal

    def is_refused(self) -> bool:
        """Whether the wish was refused and trying again would only find the same."""
        return self.wanted is not None and self._stands(self.wanted)

    def was_taken_back(self) -> bool:
        """Whether something else was wanted and refused before: somebody has thought better of it."""
        return bool(self._refusals) and all(each.wanted != self.wanted for each in self._refusals.values())

    def met(self) -> None:
        """What was refused before is of the past."""
        self._refusals.clear()

    def _stands(self, wanted: Wanted) -> bool:
        refusal = self._refusals.get(_is_recorded(wanted))
        return refusal is not None and refusal.stands(
            wanted, fingerprint=self._fingerprint, now=time.monotonic()
        )

    def _want(self, wanted: Wanted) -> None:
        if self.wanted != wanted:
            self.wanted = wanted
            self.since = time.monotonic()


def _is_recorded(wanted: Wanted) -> bool:
    return wanted.generation is not None


def _wish(record: Record) -> Wanted:
    return Wanted(
        version=record.version,
        manifest=record.manifest_sha256,
        generation=record.generation,
        record_sha256=record.sha256,
    )

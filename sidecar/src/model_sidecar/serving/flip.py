"""The acts that change what is live: compare, commit, publish, release. Only the manager's thread performs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from model_sidecar.errors import ConflictError, Reason, RequestIdReusedError, VerificationError
from model_sidecar.events import Committed, GaveWay, Listener, Published, Restated, Site, StandbyReady
from model_sidecar.ledger.commit import Commit, Intent
from model_sidecar.ledger.ledger import Reception
from model_sidecar.ledger.record import Record, encode
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Version
from model_sidecar.release.tensors import Signature
from model_sidecar.serving.emergency import overtaken
from model_sidecar.serving.janitor import Janitor
from model_sidecar.serving.loading import Preparation
from model_sidecar.serving.policy import Holding
from model_sidecar.serving.scribe import Scribe
from model_sidecar.serving.stage import Model, Residents, Stage

# What follows a publication would take the interpreter from those that it is for: about one answer's time is theirs first.
_ANSWERS_FIRST_S = 0.001


@dataclass(frozen=True, slots=True)
class _Entered:
    """A commit that nobody was told of and the pointer does not show: both wait until its version answers.

    Attributes:
        told: the news of it; None of a record that stood there already.
        urgent: whether there is little time for the pointer.
    """

    commit: Commit
    told: Committed | None
    urgent: bool


class Flip:
    """One site's stage and ledger in the manager's hands, and at most one candidate: loaded, but not yet on the stage."""

    def __init__(
        self,
        site: Site,
        *,
        stage: Stage,
        scribe: Scribe,
        signature_of: Callable[[Version], Signature | None],
        janitor: Janitor,
        on_event: Listener,
    ) -> None:
        """`signature_of` says what a version's manifest promises; None where it cannot be read."""
        self._site = site
        self._stage = stage
        self._scribe = scribe
        self._ledger = scribe.ledger
        self._signature_of = signature_of
        self._janitor = janitor
        self._on_event = on_event
        self._candidate: Preparation | None = None
        self._entered: _Entered | None = None
        self._shown_at = float("-inf")

    @property
    def shown_at(self) -> float:
        """When the pointer was last rewritten for a commit, or that was tried; monotonic seconds."""
        return self._shown_at

    @property
    def candidate(self) -> Preparation | None:
        """The model at hand that is not on the stage."""
        return self._candidate

    def residents(self) -> Residents:
        """Who is on the stage."""
        return self._stage.residents()

    def at_hand(self, version: Version, manifest: Digest | None) -> Preparation | None:
        """The loaded model of this version (and identity, if one is given), wherever it is."""
        residents = self._stage.residents()
        for model in (residents.live, residents.standby):
            if model is not None and is_it(model, version, manifest):
                return Preparation(model, {}, 0)
        candidate = self._candidate
        if candidate is not None and is_it(candidate.model, version, manifest):
            return candidate
        return None

    def check_schema(self, model: Model) -> None:
        """Refuse a model whose inputs or outputs would break callers of the live one.

        Where nothing is live, but the ledger has a head, other sidecars may be serving that: it counts in its place.

        Raises:
            VerificationError: SCHEMA_CHANGED.
        """
        live, head = self._stage.residents().live, self._ledger.head
        callers_know: Version | None = None
        known: Signature | None = None
        if live is not None:
            callers_know, known = live.version, live.signature
        elif head is not None:
            version = callers_know = head.version
            known = self._scribe.ask(lambda: self._signature_of(version))
        if callers_know is None or callers_know == model.version:
            return
        breaks = ("its signature cannot be read",) if known is None else model.signature.breaks_from(known)
        if breaks:
            raise VerificationError(
                f"version {model.version} would break callers of {callers_know}: {'; '.join(breaks)}. If they are ready "
                "for it, deploy with --allow-schema-change",
                reason=Reason.SCHEMA_CHANGED,
                version=model.version,
            )

    def commit(
        self,
        intent: Intent,
        *,
        base_generation: int,
        trigger: str,
        received: Reception | None = None,
        urgent: bool = False,
    ) -> Commit:
        """Write the record, on top of this head only; errors are the ledger's. `publish`, which must follow, tells of it."""
        known = self._ledger.recorded_manifest(intent.version) is not None
        commit = self._scribe.enter(
            intent, expected_generation=base_generation, received=received, urgent=urgent
        )
        self._entered = _Entered(commit, self._committed(commit, trigger=trigger, back=known), urgent=urgent)
        return commit

    def commit_late(self, record: Record) -> Record:
        """Write down an emergency rollback, on top of whatever the head is by now; errors are the ledger's.

        Returns the record that now stands for it: where others have moved the head meanwhile, it names that and moves
        nothing.
        """
        try:
            commit = self._scribe.append(record)
        except (ConflictError, RequestIdReusedError) as error:
            head = self._ledger.head
            if head is None:
                raise
            intent = overtaken(record, by=head)
            if isinstance(error, RequestIdReusedError):
                # Somebody took the id meanwhile, for something else. This was acknowledged, and is recorded all the same.
                intent = replace(intent, request_id=f"emergency-{digest_of(encode(record))[-32:]}")
            commit = self._scribe.enter(intent, expected_generation=head.generation)
            self._show(commit)
        self._tell(self._committed(commit, trigger="operator", back=True))
        return commit.record

    def _show(self, commit: Commit, *, urgent: bool = False) -> None:
        self._scribe.show(commit, urgent=urgent)
        self._shown_at = time.monotonic()

    def _committed(self, commit: Commit, *, trigger: str, back: bool) -> Committed | None:
        if commit.replayed:
            return None
        record = commit.record
        return Committed(
            self._site,
            generation=record.generation,
            version=record.version,
            action=record.action.value,
            trigger=trigger,
            actor=record.actor.id,
            reason=record.reason,
            back=back,
        )

    def _tell(self, news: Committed | None) -> None:
        if news is not None:
            self._on_event(news)

    def publish(self, ready: Preparation, *, generation: int | None, since: float) -> None:
        """Let this model answer, under this generation, and then tell of what was committed for it and let the pointer show it.

        `since` is when it was first asked for, monotonic seconds. What is recorded is durable, and what answers waits
        neither for those who are told nor for the pointer, which costs as much again as the record; whoever gave the
        order does.
        """
        entered, self._entered = self._entered, None
        self._publish(ready, generation=generation, since=since, told=entered.told if entered else None)
        if entered is not None:
            self._show(entered.commit, urgent=entered.urgent)

    def _publish(
        self, ready: Preparation, *, generation: int | None, since: float, told: Committed | None
    ) -> None:
        model, before = ready.model, self._stage.residents()
        if self._candidate is not None and self._candidate.model is model:
            self._candidate = None
        if before.live is model:
            self._stage.restate(generation=generation)
            self._tell(told)
            self._on_event(Restated(self._site, model.version, model.manifest.digest, generation))
            return
        swapping = time.monotonic()
        self._stage.publish(model, generation=generation)
        now = time.monotonic()
        time.sleep(_ANSWERS_FIRST_S)
        # Publish before the event: a listener that asks the stage must find what it was told.
        after = self._stage.residents()
        self._tell(told)
        self._on_event(
            Published(
                self._site,
                model.version,
                model.manifest.digest,
                generation,
                previous=before.live.version if before.live else None,
                standby=after.standby.version if after.standby else None,
                from_standby=before.standby is model,
                took_s=now - since,
                phases_s={**ready.phases_s, "swap": now - swapping},
            )
        )

    def stand_by(self, model: Model, *, generation: int | None) -> None:
        """Keep this model as the standby, if there is none yet; `generation` is the one it was live under."""
        if self._stage.residents().standby is not None:
            self.drop(model)
            return
        self._stage.stand_by(model, generation=generation)
        self._on_event(StandbyReady(self._site, model.version, model.manifest.digest))

    def make_room(self) -> Residents | None:
        """Let what can be done without leave memory: the candidate and the standby, and when called again the live model.

        Returns who was on the stage before the live one gave way; None where it did not.
        """
        residents = self._stage.residents()
        if self._candidate is not None or residents.standby is not None:
            self.forget_candidate()
            self._stage.give_up_standby()
            return None
        if residents.live is None:
            return None
        # The event first: nobody is to be sent here any more.
        self._on_event(GaveWay(self._site, residents.live.version, residents.live.manifest.digest))
        self._stage.give_way()
        return residents

    def keep(self, ready: Preparation) -> None:
        """Keep this model at hand as the candidate, in place of another."""
        residents = self._stage.residents()
        if ready.model is residents.live or ready.model is residents.standby:
            return
        if self._candidate is not None and self._candidate.model is not ready.model:
            self.forget_candidate()
        self._candidate = ready

    def forget_candidate(self) -> None:
        """Release the candidate, if there is one."""
        if self._candidate is not None:
            candidate, self._candidate = self._candidate, None
            self.drop(candidate.model)

    def drop(self, model: Model) -> None:
        """Release a model, unless it is on the stage or the candidate."""
        residents = self._stage.residents()
        candidate = self._candidate.model if self._candidate else None
        if model is not residents.live and model is not residents.standby and model is not candidate:
            self._janitor.release(model, site=self._site)


def is_it(model: Model, version: Version, manifest: Digest | None) -> bool:
    """Whether a model is of this version, and of this identity if one is given."""
    return model.version == version and manifest in (None, model.manifest.digest)


def holding(model: Model | None) -> Holding | None:
    """What the policy needs to know of a model."""
    return Holding(model.version, model.manifest.digest) if model is not None else None

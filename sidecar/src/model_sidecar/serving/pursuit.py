"""Brings the stage to the wanted version: takes what is at hand, records hand edits, remembers refusals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from model_sidecar.errors import (
    CommitStateUnknownError,
    ConflictError,
    ShortageError,
    SidecarError,
    StoreError,
)
from model_sidecar.ledger.ledger import Intent
from model_sidecar.ledger.record import Action, Actor, Record
from model_sidecar.serving.flip import Flip, holding
from model_sidecar.serving.loading import Preparation
from model_sidecar.serving.policy import Edit, Refusal, Step, Wanted, next_step
from model_sidecar.serving.stage import Model
from model_sidecar.serving.troubles import Troubles
from model_sidecar.serving.wishes import Wishes

_STORE_RETRY_S = 2.0
_HEAD_RETRY_S = 10.0
_EDITOR = Actor(id="unknown", method="pointer-file", on_behalf_of="")
"""Who edits a file, the file does not tell."""


class Pursuit:
    """One site's way to what is wanted. Not thread-safe: all calls are the manager's thread's."""

    def __init__(
        self, *, wishes: Wishes, flip: Flip, troubles: Troubles, look_again: Callable[[], None]
    ) -> None:
        """`look_again` makes the source look soon."""
        self._wishes = wishes
        self._flip = flip
        self._troubles = troubles
        self._look_again = look_again

    def step(self) -> Refusal | None:
        """Do what can be done with what is at hand.

        Returns the wish that has to be loaded first, as the refusal that it gets if it cannot be; None if there is none.
        """
        residents, candidate = self._flip.residents(), self._flip.candidate
        wanted = self._wishes.wanted
        step = next_step(
            wanted,
            live=holding(residents.live),
            live_generation=residents.generation,
            standby=holding(residents.standby),
            candidate=holding(candidate.model if candidate else None),
            refused=self._wishes.is_refused(),
        )
        to_load = None
        if wanted is None or step is Step.NOTHING:
            if residents.live is not None and self._is_back_at(residents.live):
                self.publish(Preparation(residents.live, {}, 0), since=self._wishes.since)
        elif step is Step.LOAD:
            to_load = self._wishes.as_seen(wanted)
        else:
            ready = self._flip.at_hand(wanted.version, wanted.manifest)
            assert ready is not None, "the policy takes only what is at hand"
            self._take(wanted, ready)
        candidate = self._flip.candidate
        if candidate is not None and (wanted is None or candidate.model.version != wanted.version):
            self._flip.forget_candidate()
        return to_load

    def publish(self, ready: Preparation, *, since: float) -> None:
        """Let this model answer for what is wanted; `since` is when it was asked for, monotonic seconds."""
        self._wishes.met()
        self._troubles.over()
        wanted = self._wishes.wanted
        self._flip.publish(ready, generation=wanted.generation if wanted else None, since=since)

    def refuse(self, refusal: Refusal, error: SidecarError, *, at_a_price: bool = False) -> None:
        """The wish cannot be granted: tell it, and do not try it again before something changes.

        `at_a_price`: what was live had to leave for the try, so that it is not repeated by itself.
        """
        self._troubles.tell_once(error, version=refusal.wanted.version, generation=refusal.wanted.generation)
        if at_a_price:
            pass
        elif isinstance(error, StoreError | ShortageError):
            refusal = replace(refusal, retry_at=_soon())
        elif refusal.wanted.generation is not None and (
            self._wishes.edit_waits or self._flip.residents().live is None
        ):
            # The head is not served until it is mended, and its directory may be mended while an edit is looked at.
            refusal = replace(refusal, retry_at=time.monotonic() + _HEAD_RETRY_S)
        self._wishes.refuse(refusal)

    def _take(self, wanted: Wanted, ready: Preparation) -> None:
        """Let a model at hand be the live one; where a hand edit asked for it, record that first."""
        since = self._wishes.since
        try:
            if wanted.deliberate and not wanted.allow_schema_change:
                self._flip.check_schema(ready.model)
            if wanted.edit is not None:
                began = time.monotonic()
                self._wishes.follow(self._adopt(wanted.edit, ready))
                phases_s = {**ready.phases_s, "commit": time.monotonic() - began}
                ready = Preparation(ready.model, phases_s, ready.golden_examples)
        except (ConflictError, CommitStateUnknownError):
            # Another sidecar was first, or perhaps we were. What stands in the ledger decides, and the model stays at
            # hand, for most likely it is the one.
            self._flip.keep(ready)
            self._wishes.refuse(replace(self._wishes.as_seen(wanted), retry_at=_soon()))
            self._look_again()
        except SidecarError as error:
            self.refuse(self._wishes.as_seen(wanted), error)
            self._flip.forget_candidate()
        else:
            self.publish(ready, since=since)
            if self._wishes.edit_waits:
                self._look_again()

    def _is_back_at(self, live: Model) -> bool:
        """Whether a refused wish was taken back, so that what is live is again all that is wanted."""
        wanted = self._wishes.wanted
        return wanted is not None and wanted.is_met_by(holding(live)) and self._wishes.was_taken_back()

    def _adopt(self, edit: Edit, ready: Preparation) -> Record:
        intent = Intent(
            action=Action.ADOPT,
            version=ready.model.version,
            manifest_sha256=ready.model.manifest.digest,
            actor=_EDITOR,
            reason="the active pointer was edited",
            source_commit="",
            request_id=edit.request_id,
            request_sha256=edit.request_sha256,
        )
        return self._flip.commit(intent, base_generation=edit.base_generation, trigger="pointer").record


def _soon() -> float:
    return time.monotonic() + _STORE_RETRY_S

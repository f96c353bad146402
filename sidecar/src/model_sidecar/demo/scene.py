"""What the acts hand on to one another, and how much traffic they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_sidecar.demo.digits import Digits
from model_sidecar.demo.lookout import Lookout
from model_sidecar.demo.paper import Paper
from model_sidecar.demo.place import Place
from model_sidecar.demo.timeline import Move, Refusal
from model_sidecar.demo.versions import Built
from model_sidecar.store.versions import VersionStore


@dataclass(frozen=True, slots=True)
class Pace:
    """How much traffic there is.

    Attributes:
        threads, pause_s: how many ask at once, and how long each waits between two requests.
        answers: awaited per act, by day; `night_answers` by night.
        step_answers: awaited per step of the lamp.
    """

    threads: int = 4
    pause_s: float = 0.004
    answers: int = 1500
    night_answers: int = 800
    step_answers: int = 250


QUICK = Pace(threads=2, pause_s=0.002, answers=150, night_answers=150, step_answers=60)


@dataclass(slots=True)
class Scene:
    """What the acts hand on to one another. One thread's.

    Attributes:
        moves: every deploy and rollback, in their order.
        refusal: of the damaged version.
        unscaled, fading: what was noticed of the two faults of the night.
        calm: what was noticed of the good version before anything was wrong with its scans: nothing, one hopes.
    """

    paper: Paper
    place: Place
    pace: Pace
    store: VersionStore
    stream: Digits
    built: Sequence[Built] = ()
    moves: list[Move] = field(default_factory=list)
    refusal: Refusal | None = None
    unscaled: Lookout | None = None
    fading: Lookout | None = None
    calm: Lookout | None = None

    @property
    def live(self) -> str:
        """The version that answers after all of these moves."""
        return self.moves[-1].version

"""What the acts hand on to one another, and how much traffic they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_sidecar.demo.digits import Digits
from model_sidecar.demo.paper import Paper
from model_sidecar.demo.place import Place
from model_sidecar.demo.timeline import Move, Refusal
from model_sidecar.demo.versions import Built
from model_sidecar.store.versions import VersionStore


@dataclass(frozen=True, slots=True)
class Pace:
    """How much traffic there is: threads, the pause of each between two requests, and answers awaited per act."""

    threads: int = 4
    pause_s: float = 0.004
    answers: int = 1500


QUICK = Pace(threads=2, pause_s=0.002, answers=150)


@dataclass(slots=True)
class Scene:
    """What the acts hand on to one another. One thread's."""

    paper: Paper
    place: Place
    pace: Pace
    store: VersionStore
    stream: Digits
    built: Sequence[Built] = ()
    moves: list[Move] = field(default_factory=list)
    refusal: Refusal | None = None

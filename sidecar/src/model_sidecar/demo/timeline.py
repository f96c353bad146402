"""What happened, counted from the answers themselves: how long each flip took, what answered late, what was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_sidecar.demo.paper import Paper, milliseconds, percent
from model_sidecar.demo.traffic import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A deploy or rollback, as the sidecar recorded it and as the traffic saw it. Times are monotonic seconds.

    Attributes:
        version: the one that answers from then on.
        previous: the one that answered before; "" if none did.
        called_at: when the operator called.
        acknowledged_at: when the sidecar said that it serves the version.
        took_ms: how long that took by the sidecar's own account.
    """

    action: str
    version: str
    previous: str
    generation: int
    called_at: float
    acknowledged_at: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that the sidecar would not take: when (monotonic seconds), and for which reason."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the traffic saw of a move, in seconds.

    Attributes:
        first_answer_s: from the call to the first answer of the new version.
        silence_s: the longest time without any answer, from the call until half a second after it was acknowledged.
    """

    first_answer_s: float
    silence_s: float


def seen(move: Move, answers: Sequence[Answer]) -> Seen | None:
    """The move as the traffic saw it; None where nothing was asked for at that time."""
    first = [
        each.answered_at
        for each in answers
        if each.version == move.version and each.answered_at >= move.called_at
    ]
    around = [each.answered_at for each in answers if move.called_at - 0.1 <= each.answered_at]
    around = [at for at in around if at <= move.acknowledged_at + 0.5]
    before = any(each.answered_at < move.called_at for each in answers)
    if not first or not before:
        return None
    return Seen(min(first) - move.called_at, float(np.diff(sorted(around)).max()) if len(around) > 1 else 0.0)


def late(moves: Sequence[Move], answers: Sequence[Answer]) -> list[Answer]:
    """Answers of a version that was no longer to answer: asked for after the next one had been acknowledged."""
    found = []
    for at, move in enumerate(moves):
        until = moves[at + 1].called_at if at + 1 < len(moves) else float("inf")
        found += [
            each
            for each in answers
            if each.asked_at > move.acknowledged_at
            and each.answered_at < until
            and each.version != move.version
        ]
    return found


def accuracy(answers: Sequence[Answer], labels: NDArray[np.int64]) -> float:
    """The share of answers that are right."""
    return float(np.mean([each.label == labels[each.row] for each in answers])) if answers else float("nan")


def count(
    paper: Paper, answers: Sequence[Answer], labels: NDArray[np.int64], promised: Mapping[str, float]
) -> None:
    """A line per version: how many answers, how many of them right, and what its manifest had promised."""
    rows = []
    for version in dict.fromkeys(each.version for each in answers):
        of = [each for each in answers if each.version == version]
        rows.append(
            [
                version,
                f"{len(of):,}",
                percent(accuracy(of, labels)),
                percent(promised[version]) if version in promised else "",
            ]
        )
    paper.table(
        ["version", "answers", "right on the stream", "accuracy in its manifest"], rows, right=(1, 2, 3)
    )


def flips(paper: Paper, moves: Sequence[Move], answers: Sequence[Answer]) -> None:
    """A line per move: how long it took, for the operator and for the traffic."""
    rows = []
    for move in moves:
        what = seen(move, answers)
        rows.append(
            [
                str(move.generation),
                move.action,
                move.version,
                milliseconds(move.took_ms / 1000),
                milliseconds(what.first_answer_s) if what else "",
                milliseconds(what.silence_s) if what else "",
            ]
        )
    head = ["gen", "action", "to", "sidecar took", "call to first answer", "longest silence"]
    paper.table(head, rows, right=(0, 3, 4, 5))

"""What applications say of predictions later, and what became of that: frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FeedbackOutcome(StrEnum):
    """What became of a piece of feedback."""

    JOINED = "joined"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    UNSAMPLED = "unsampled"
    TOO_LATE = "too_late"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What was true of one prediction.

    Attributes:
        prediction_id: the answer's; `id#row` (from 0) for one row of several.
        truth: a number, a truth value, or a label.
        source: who says so; each source may say something once of each prediction.
        observed_at: when it became known; None: now. Without a time zone it is taken for local time.
        replace: let this take the place of what the same source said before.
    """

    prediction_id: str
    truth: float | str
    source: str = ""
    observed_at: datetime | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class FeedbackProblem:
    """A piece of feedback that was not joined; `index` counts the pieces from 0."""

    index: int
    prediction_id: str
    outcome: FeedbackOutcome
    message: str


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """What became of many pieces of feedback.

    Attributes:
        counts: how many ended how, for each outcome.
        problems: those that were not joined, with words; 100 at most are told.
    """

    counts: Mapping[FeedbackOutcome, int]
    problems: tuple[FeedbackProblem, ...]

    @property
    def joined(self) -> int:
        """How many were joined with their predictions."""
        return self.counts[FeedbackOutcome.JOINED]

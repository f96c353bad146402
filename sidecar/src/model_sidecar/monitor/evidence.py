"""Evidence that a share has left its band, made so that a false alarm is as rare as was promised."""

from __future__ import annotations


class RateDetector:
    """Whether a share of events has risen above `p0 + tolerance`. Not thread-safe.

    On average at least `arl` updates pass before it alarms of a share that has not.
    """

    def __init__(self, p0: float, tolerance: float, arl: float) -> None:
        raise NotImplementedError

    def update(self, k: int, n: int) -> None:
        """Take in that k of the next n had the event; n = 0 is no update."""
        raise NotImplementedError

    @property
    def evidence_log10(self) -> float:
        """The evidence; an alarm from log10(arl) on."""
        raise NotImplementedError

    @property
    def alarm(self) -> bool:
        """Whether the evidence has ever been enough; it stays so."""
        raise NotImplementedError

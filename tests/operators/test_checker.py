"""The checker itself: it is content with a history that can have been, and sees each violation that is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from support.linear import Attempt, Entry, Read, violations

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"


@dataclass
class Seen:
    """A history, to be spoiled in one place."""

    ledger: list[Entry] = field(
        default_factory=lambda: [
            Entry(1, A, "a"),
            Entry(2, B, "b"),
            Entry(3, C, "adopt-1"),
            Entry(4, A, "lost"),
        ]
    )
    attempts: list[Attempt] = field(
        default_factory=lambda: [
            Attempt(request_id="a", sidecar="one", sent=1, ended=3, acknowledged=1),
            Attempt(request_id="b", sidecar="two", sent=4, ended=9, acknowledged=2),
            Attempt(request_id="late", sidecar="one", sent=5, ended=10, refused=True, winner=2),
            Attempt(request_id="lost", sidecar="one", sent=11, ended=13),
            Attempt(request_id="lost", sidecar="two", sent=14, ended=20, acknowledged=4),
        ]
    )
    reads: list[Read] = field(
        default_factory=lambda: [
            Read(reader="ana", sidecar="one", began=4, generation=1, version=A),
            Read(reader="ana", sidecar="two", began=12, generation=3, version=C),
            Read(reader="ana", sidecar="one", began=15, generation=2, version=B),
        ]
    )
    edits: int = 1

    def violations(self) -> list[str]:
        return violations(self.ledger, self.attempts, self.reads, edits=self.edits)


def test_a_history_that_can_have_been_is_no_violation() -> None:
    """Lost replies, conflicts, edits and sidecars that lag behind one another are everyday life."""
    assert Seen().violations() == []


def gap(seen: Seen) -> None:
    del seen.ledger[2]


def two_winners(seen: Seen) -> None:
    seen.ledger[2] = replace(seen.ledger[2], generation=2)


def recorded_twice(seen: Seen) -> None:
    seen.ledger.append(Entry(5, B, "b"))


def nobodys_record(seen: Seen) -> None:
    seen.edits = 0


def acknowledged_and_lost(seen: Seen) -> None:
    seen.ledger.pop()


def acknowledged_as_another(seen: Seen) -> None:
    seen.attempts[1] = replace(seen.attempts[1], acknowledged=1)


def refused_and_recorded(seen: Seen) -> None:
    seen.ledger.append(Entry(5, B, "late"))


def lost_against_itself(seen: Seen) -> None:
    seen.attempts[3] = replace(seen.attempts[3], refused=True, winner=4)


def later_and_yet_earlier(seen: Seen) -> None:
    seen.attempts[0] = replace(seen.attempts[0], sent=10, ended=11)
    seen.reads.clear()


def stale_read(seen: Seen) -> None:
    seen.reads.append(Read(reader="bob", sidecar="two", began=21, generation=3, version=C))


def no_history(seen: Seen) -> None:
    seen.reads.append(Read(reader="bob", sidecar="one", began=21, generation=0, version=""))


def going_back(seen: Seen) -> None:
    seen.reads.append(Read(reader="ana", sidecar="one", began=16, generation=1, version=A))


def torn_tag(seen: Seen) -> None:
    seen.reads[0] = replace(seen.reads[0], version=B)


def wrong_numbers(seen: Seen) -> None:
    seen.reads[0] = replace(seen.reads[0], right=False)


def from_the_future(seen: Seen) -> None:
    seen.reads.append(Read(reader="bob", sidecar="two", began=22, generation=9, version=C))


@pytest.mark.parametrize(
    "plant",
    [
        gap,
        two_winners,
        recorded_twice,
        nobodys_record,
        acknowledged_and_lost,
        acknowledged_as_another,
        refused_and_recorded,
        lost_against_itself,
        later_and_yet_earlier,
        stale_read,
        no_history,
        going_back,
        torn_tag,
        wrong_numbers,
        from_the_future,
    ],
)
def test_what_cannot_have_been_is_seen(plant: Callable[[Seen], None]) -> None:
    """Each way in which a history can be impossible is told."""
    seen = Seen()
    plant(seen)

    assert seen.violations() != []

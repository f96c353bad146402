"""Whether what operators and readers saw can have been: a checker for histories of one ledger. Pure.

No search for an order is needed, as general checkers of linearizability do it: every acknowledgement names its
generation, and that is the order. So it is enough to hold the ledger, the acknowledgements and the reads side by side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the ledger as it stands at the end."""

    generation: int
    version: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An order given once. Moments are whole numbers: of any two, the smaller was earlier.

    Attributes:
        request_id: one for all attempts of an order.
        sidecar: whom it was sent to.
        sent, ended: when.
        acknowledged: the generation that it was answered with; None if it was not acknowledged.
        refused: whether the sidecar said that nothing was recorded. Neither: nobody knows.
        winner: the generation that a refusal named as the one that was first; 0 if none.
    """

    request_id: str
    sidecar: str
    sent: int
    ended: int
    acknowledged: int | None = None
    refused: bool = False
    winner: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A prediction, a status or a look at the history: the generation it showed, under that version's name; 0 and "" for none.

    `right`: whether the numbers were those of that version, or the history that of the ledger.
    """

    reader: str
    sidecar: str
    began: int
    generation: int
    version: str
    right: bool = True


def violations(
    ledger: Sequence[Entry], attempts: Sequence[Attempt], reads: Sequence[Read], *, edits: int
) -> list[str]:
    """What cannot have been, in words; empty where all is well. `edits`: how often the pointer was written by hand."""
    return [
        *_chain(ledger, {each.request_id for each in attempts}, edits),
        *_orders(ledger, attempts),
        *_order_in_time(ledger, attempts),
        *_stale_reads(attempts, reads),
        *_false_reads(ledger, reads),
    ]


def _chain(ledger: Sequence[Entry], known: set[str], edits: int) -> Iterator[str]:
    if [each.generation for each in ledger] != [*range(1, len(ledger) + 1)]:
        yield "the chain has a gap, or a generation with two winners"
    if len({each.request_id for each in ledger}) != len(ledger):
        yield "a request id is recorded twice"
    strangers = [each for each in ledger if each.request_id not in known]
    if len(strangers) > edits or not all(each.request_id.startswith("adopt-") for each in strangers):
        yield f"{len(strangers)} records are nobody's order, after {edits} edits"


def _orders(ledger: Sequence[Entry], attempts: Sequence[Attempt]) -> Iterator[str]:
    recorded = {each.request_id: each.generation for each in ledger}
    of: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of[attempt.request_id].append(attempt)
        there = recorded.get(attempt.request_id)
        if attempt.acknowledged is not None and there != attempt.acknowledged:
            yield f"{attempt.request_id} was acknowledged as generation {attempt.acknowledged}, the ledger has {there}"
        if there is not None and there <= attempt.winner:
            yield f"{attempt.request_id} lost to generation {attempt.winner}, and had itself won {there}"
    for request_id, tries in of.items():
        if request_id in recorded and all(each.refused for each in tries):
            yield f"{request_id} was refused, and is recorded as generation {recorded[request_id]}"


def _order_in_time(ledger: Sequence[Entry], attempts: Sequence[Attempt]) -> Iterator[str]:
    acknowledged = sorted((each.ended, each.acknowledged) for each in attempts if each.acknowledged)
    newest = _Newest([(ended, generation) for ended, generation in acknowledged])
    sent: dict[str, int] = {}
    for each in attempts:
        sent[each.request_id] = min(each.sent, sent.get(each.request_id, each.sent))
    for entry in ledger:
        before = newest.before(sent.get(entry.request_id, -1))
        if before >= entry.generation:
            yield f"generation {entry.generation} was asked for after {before} had been acknowledged"


def _stale_reads(attempts: Sequence[Attempt], reads: Sequence[Read]) -> Iterator[str]:
    by_sidecar: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for each in sorted(attempts, key=lambda attempt: attempt.ended):
        if each.acknowledged is not None:
            by_sidecar[each.sidecar].append((each.ended, each.acknowledged))
    newest = {sidecar: _Newest(acknowledged) for sidecar, acknowledged in by_sidecar.items()}
    last: dict[tuple[str, str], int] = {}
    for read in sorted(reads, key=lambda each: each.began):
        before = newest[read.sidecar].before(read.began) if read.sidecar in newest else 0
        if read.generation < before:
            yield f"{read} is older than generation {before}, which that sidecar had acknowledged"
        own = last.get((read.reader, read.sidecar), 0)
        if read.generation < own:
            yield f"{read} is older than generation {own}, which that reader had seen there"
        last[read.reader, read.sidecar] = max(read.generation, own)


def _false_reads(ledger: Sequence[Entry], reads: Sequence[Read]) -> Iterator[str]:
    names = {0: ""} | {each.generation: each.version for each in ledger}
    for read in reads:
        if names.get(read.generation) != read.version:
            yield f"{read} shows a version that generation {read.generation} is not of"
        if not read.right:
            yield f"{read} has the numbers of another version, or another history"


class _Newest:
    """The highest generation that was acknowledged before a moment; made of (moment, generation), in order."""

    def __init__(self, acknowledged: Sequence[tuple[int, int]]) -> None:
        self._moments = [moment for moment, _ in acknowledged]
        self._highest = [0, *accumulate((generation for _, generation in acknowledged), max)]

    def before(self, moment: int) -> int:
        return self._highest[bisect_left(self._moments, moment)]

"""What the guard keeps, and what it reads off the ledger."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.ledgers import MODEL, PROD, Registry, commit, intent

from model_sidecar.config import GuardMode
from model_sidecar.disk.calls import Disk
from model_sidecar.events import Site
from model_sidecar.ledger.record import GUARD, Action
from model_sidecar.monitor.guard.decisions import KEPT, Decisions, GuardDecision
from model_sidecar.monitor.guard.guard_records import GuardRecords
from model_sidecar.release.names import Version

SITE = Site(MODEL, PROD)
WAIT_S = 20.0
A, B, C = Version("2024.01.10.prod"), Version("2024.01.12.prod"), Version("2024.01.15.prod")


def decision(number: int) -> GuardDecision:
    return GuardDecision(
        time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        decision="held",
        trigger="nonfinite",
        version=B,
        target=A,
        generation=number,
        evidence_log10=8.25,
        message="30 of 100 answers hold NaN or infinity",
    )


def test_the_last_twenty_decisions_outlive_a_restart(tmp_path: Path) -> None:
    """Newest first, and no more than that of however many."""
    path = tmp_path / "sites" / "guard.jsonl"
    for number in range(KEPT + 5):
        Decisions(GuardMode.ON, path_of=lambda _site: path).add(SITE, decision(number))

    kept = Decisions(GuardMode.ON, path_of=lambda _site: path).recent(SITE)

    assert list(kept) == [decision(number) for number in range(KEPT + 4, 4, -1)]
    assert len(path.read_bytes().splitlines()) == KEPT


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    """Decisions are information: what cannot be read stops nobody."""
    path = tmp_path / "guard.jsonl"
    path.write_bytes(b'{"time": "yesterday"}\n\xff')
    decisions = Decisions(GuardMode.ON, path_of=lambda _site: path)

    assert decisions.recent(SITE) == ()
    decisions.add(SITE, decision(1))
    assert Decisions(GuardMode.ON, path_of=lambda _site: path).recent(SITE) == (decision(1),)


def test_what_cannot_be_kept_is_known_until_the_end(tmp_path: Path) -> None:
    """A full or missing disk is no reason to forget at once."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    decisions = Decisions(GuardMode.ON, path_of=lambda _site: blocked / "guard.jsonl")
    decisions.add(SITE, decision(1))

    assert decisions.recent(SITE) == (decision(1),)


class _Hanging(Disk):
    """A disk whose next write hangs until it is let go."""

    def __init__(self) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()

    def fsync(self, fd: int) -> None:
        self.asked.set()
        assert self.let_go.wait(WAIT_S)
        super().fsync(fd)


def test_a_disk_that_hangs_keeps_no_reader(tmp_path: Path) -> None:
    """While decisions are being written, others are shown them all the same, the newest too."""
    disk = _Hanging()
    decisions = Decisions(GuardMode.ON, path_of=lambda _site: tmp_path / "guard.jsonl", disk=disk)
    adding = threading.Thread(target=decisions.add, args=(SITE, decision(1)))
    adding.start()
    try:
        assert disk.asked.wait(WAIT_S)
        reading = threading.Thread(target=lambda: shown.append(decisions.recent(SITE)), daemon=True)
        shown: list[tuple[GuardDecision, ...]] = []
        reading.start()
        reading.join(WAIT_S / 4)
        assert shown == [(decision(1),)]
    finally:
        disk.let_go.set()
        adding.join()
    assert Decisions(GuardMode.ON, path_of=lambda _site: tmp_path / "guard.jsonl").recent(SITE) == (
        decision(1),
    )


def test_the_ledger_says_what_guards_have_rolled_back(tmp_path: Path) -> None:
    """Of any sidecar, at any time; an operator's rollback, or a user called guard, is none of them."""
    ledger = Registry(tmp_path).open()
    records = GuardRecords(ledger)
    commit(ledger, intent(A))
    bad = commit(ledger, intent(B)).record
    by_user = replace(GUARD, method="unix-peer")
    commit(ledger, replace(intent(A, action=Action.ROLLBACK), actor=by_user))
    records.refresh()
    assert records.rolled_back == set()

    commit(ledger, intent(B))
    back = commit(ledger, replace(intent(A, action=Action.ROLLBACK), actor=GUARD)).record
    commit(ledger, intent(C))
    records.refresh()

    assert records.rolled_back == {bad.manifest_sha256}
    later = back.timestamp + timedelta(seconds=60)
    assert records.cooldown_left_s(100, now=later) == 40
    assert records.cooldown_left_s(50, now=later) == 0

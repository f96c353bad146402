"""The ledger in the manager's hands: a storage that hangs is not waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ledgers import A, B, FaultyDisk, Registry, commit, intent

from model_sidecar.errors import CommitStateUnknownError, StoreError
from model_sidecar.serving.patience import Patience
from model_sidecar.serving.scribe import Scribe

HANG_S = 10.0


class HangingDisk(FaultyDisk):
    """A disk of which one kind of call does not return, until the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()

    def hang(self, call: str) -> None:
        """From the next such call on."""
        self.fail(call, lambda: None if self.back.wait(HANG_S) else pytest.fail("it was waited for"))


@pytest.fixture
def disk() -> Iterator[HangingDisk]:
    disk = HangingDisk()
    yield disk
    disk.back.set()


@pytest.fixture
def scribe(tmp_path: Path, disk: HangingDisk) -> Iterator[Scribe]:
    ledger = Registry(tmp_path / "store").open(disk=disk, face_disk=disk)
    commit(ledger, A)
    scribe = Scribe(ledger, Patience("scribe", limit_s=0.1))
    yield scribe
    scribe.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda scribe: scribe.receive("new", request_sha256=scribe.ledger.head.request_sha256),
        lambda scribe: scribe.receive("new", request_sha256=scribe.ledger.head.request_sha256, urgent=True),
        lambda scribe: scribe.receive(
            scribe.ledger.head.request_id, request_sha256=scribe.ledger.head.request_sha256
        ),
    ],
)
def test_nobody_waits_for_a_ledger_that_hangs(
    scribe: Scribe, disk: HangingDisk, ask: Callable[[Scribe], object]
) -> None:
    """Each question ends with the store's error, and so does the next one, at once."""
    disk.hang("open")
    for _ in range(2):
        with pytest.raises(StoreError, match="has not answered"):
            ask(scribe)
    assert not disk.back.is_set()


def test_a_pointer_that_cannot_be_rewritten_now_is_left_for_the_next_look(
    scribe: Scribe, disk: HangingDisk
) -> None:
    """Rewriting is best effort: that the storage hangs is no error of whoever found the pointer lagging."""
    disk.hang("open")
    scribe.rewrite_face()


def test_a_pointer_that_cannot_show_a_commit_in_time_takes_nothing_back(
    scribe: Scribe, disk: HangingDisk
) -> None:
    """What is recorded stands, and is served by now: that its pointer hangs is no error of the order's."""
    entered = scribe.enter(intent(B), expected_generation=1)
    disk.hang("rename")
    scribe.show(entered)

    assert not disk.back.is_set()
    assert scribe.ledger.head == entered.record


def test_a_commit_that_hangs_is_in_doubt_and_not_refused(scribe: Scribe, disk: HangingDisk) -> None:
    """It may land yet: the same request again finds out, and finds it once."""
    wanted = intent(B)
    disk.hang("link")
    with pytest.raises(CommitStateUnknownError):
        scribe.enter(wanted, expected_generation=1)
    disk.back.set()
    with pytest.MonkeyPatch.context() as patience:
        patience.setattr(scribe, "_patience", Patience("later", limit_s=HANG_S))
        again = scribe.enter(wanted, expected_generation=1)
        scribe.close()
    assert (again.record.generation, again.record.request_id) == (2, wanted.request_id)
    assert len(scribe.ledger.records()) == 2

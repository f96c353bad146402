"""What a power cut leaves, recovered from by the code that users have. `make power-loss` tries thousands of states."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledgers import A, B, KilledError, Registry, chain, commit
from support.power_cuts import OPERATIONS, cut_power, workplace, write_version
from support.power_loss import KINDS, RecordingDisk
from support.versions import NAME, VERSION

from model_sidecar.disk.steps import sync_directory, write_file
from model_sidecar.errors import Reason, RefusedError
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.store.versions import VersionStore

CHANCE = random.Random(20240115)


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory where there is some."""
    with tempfile.TemporaryDirectory(prefix="power-loss-", dir=workplace()) as place:
        yield Path(place)


def test_nothing_that_was_said_is_lost(place: Path) -> None:
    """After a few hundred cuts during every operation chains hold, what was acknowledged stands once, versions verify."""
    tally = cut_power(place, seed=CHANCE.randrange(10**6), states=250, kill_every=12)
    assert tally.lost == []
    assert tally.states >= 250
    assert set(tally.by_kind) == set(KINDS)
    assert set(tally.by_operation) == {operation.name for operation in OPERATIONS}


@pytest.mark.parametrize("forgotten", ["files", "directories"])
def test_without_fsync_something_is_lost(place: Path, forgotten: str) -> None:
    """The control: with the fsync of files taken out, or that of directories, each operation is seen to lose something."""
    tally = cut_power(place, seed=1, states=120, forget=forgotten, kill_every=32, give_up_after=100)
    loses = {
        operation.name
        for operation in OPERATIONS
        if any(f"{operation.name}, " in each for each in tally.lost)
    }
    assert loses == {operation.name for operation in OPERATIONS}


def after_the_worst(disk: RecordingDisk, place: Path) -> Path:
    """A store as a power cut leaves it now that takes all with it that was not synced."""
    trace = disk.trace
    trace.state(cut=len(trace.steps), kind="dropped", chance=CHANCE).lay(place / "after")
    return place / "after"


def test_a_record_stands_where_a_killed_process_made_the_directories(place: Path) -> None:
    """Whoever records first waits for every directory on the way, also for those that somebody killed has made."""
    for calls in range(4):
        registry = Registry(place / f"{calls}" / "store")
        disk = RecordingDisk(registry.model_directory.parent)
        disk.kill(after_calls=calls)
        with pytest.raises(KilledError):
            commit(registry.open(disk=disk, face_disk=disk), A)
        disk.kill(after_calls=None)
        record = commit(registry.open(disk=disk, face_disk=disk), B).record
        after = Registry(after_the_worst(disk, place / f"{calls}"), make=False)
        assert after.open().refresh() == record


def test_a_record_stands_in_a_ledger_that_somebody_else_put_back_and_was_killed(place: Path) -> None:
    """A long-running sidecar's next record waits for the directories that appeared meanwhile."""
    registry = Registry(place / "store")
    disk = RecordingDisk(registry.model_directory.parent)
    running = registry.open(disk=disk, face_disk=disk)
    commit(running, A)
    # The environment's directory is renamed away and back: its name is not on the disk until somebody syncs it.
    disk.rename(registry.directory, registry.directory.with_name("other"))
    sync_directory(disk, registry.directory.parent)
    disk.rename(registry.directory.with_name("other"), registry.directory)
    record = commit(running, B).record
    assert Registry(after_the_worst(disk, place), make=False).open().refresh() == record


def test_a_record_does_not_outlive_the_one_it_stands_upon(place: Path) -> None:
    """Two processes are killed, each when its record has just appeared: a cut leaves no gap."""
    registry = Registry(place / "store")
    disk = RecordingDisk(registry.model_directory.parent)
    commit(registry.open(disk=disk, face_disk=disk), A)
    disk.rest()
    for generation in (2, 3):
        for calls in itertools.count():
            disk.kill(after_calls=calls)
            with pytest.raises(KilledError):
                commit(registry.open(disk=disk, face_disk=disk), A)
            if registry.slot(generation).exists():
                break
    found = set()
    for number in range(60):
        kind = ("reordered", "subset")[number % 2]
        state = disk.trace.state(cut=len(disk.trace.steps), kind=kind, chance=random.Random(number))
        state.lay(place / "after")
        head = Registry(place / "after", make=False).open().refresh()
        assert head is not None
        found.add(head.generation)
        shutil.rmtree(place / "after")
    assert found == {2, 3}, "the first one is there, for the second one's writer has waited for it"


def heads_after_a_cut(disk: RecordingDisk, place: Path, *, since: int) -> set[int]:
    """The generations that ledgers end with, each whole, that a power cut at some step from there on leaves."""
    found = set()
    for cut in range(since, len(disk.trace.steps) + 1):
        for number in range(8):
            state = disk.trace.state(cut=cut, kind="subset", chance=random.Random(number))
            state.lay(place / "after")
            head = Registry(place / "after", make=False).open().refresh()
            assert head is not None
            found.add(head.generation)
            shutil.rmtree(place / "after")
    return found


def test_a_record_does_not_outlive_anothers_that_it_stands_upon(place: Path) -> None:
    """Who has recorded before has synced his own names; those of another, who was killed, he waits for."""
    registry = Registry(place / "store")
    disk = RecordingDisk(registry.model_directory.parent)
    running = registry.open(disk=disk, face_disk=disk)
    commit(running, A)
    disk.rest()
    for calls in itertools.count():
        disk.kill(after_calls=calls)
        with pytest.raises(KilledError):
            commit(registry.open(disk=disk, face_disk=disk), B)
        if registry.slot(2).exists():
            break
    disk.kill(after_calls=None)
    killed = len(disk.trace.steps)
    commit(running, A)
    assert heads_after_a_cut(disk, place, since=killed) == {1, 2, 3}


def test_a_record_does_not_outlive_one_that_somebody_has_put_back(place: Path) -> None:
    """Who has recorded before has synced the names as he left them; what has come into their place since, he waits for."""
    registry = Registry(place / "store")
    disk = RecordingDisk(registry.model_directory.parent)
    running = registry.open(disk=disk, face_disk=disk)
    commit(running, A)
    commit(running, B)
    disk.rest()
    newest, left = registry.slot(2), registry.ledger_directory.stat()
    content = newest.read_bytes()
    while registry.ledger_directory.stat().st_mtime_ns == left.st_mtime_ns:  # its clock may tick coarsely
        disk.unlink(newest)
        write_file(disk, newest, [content])
    put_back = len(disk.trace.steps)
    commit(running, A)
    assert heads_after_a_cut(disk, place, since=put_back) == {1, 2, 3}


def test_a_rollback_that_waits_to_be_recorded_stands(place: Path) -> None:
    """What was acknowledged while the store was away is on this machine's disk, with the directories made for it."""
    (place / "machine").mkdir()
    disk = RecordingDisk(place / "machine")
    record = chain(A)[0]
    PendingFile(place / "machine" / "state" / "site" / "pending.json", disk=disk).save(record)
    assert PendingFile(after_the_worst(disk, place) / "state" / "site" / "pending.json").read() == record


def test_a_version_stands_though_its_first_publisher_was_killed(place: Path) -> None:
    """Who publishes, or is told that the version exists already, can rely on it, whoever made its directories."""
    told = []
    for calls in itertools.count():
        store = place / f"{calls}" / "store"
        store.mkdir(parents=True)
        disk = RecordingDisk(store)
        disk.kill(after_calls=calls)
        try:
            write_version(store, VERSION, disk=disk)
            break
        except KilledError:
            disk.kill(after_calls=None)
        try:
            write_version(store, VERSION, disk=disk)
            told.append("published")
        except RefusedError as refused:
            told.append(refused.reason)
        VersionStore(after_the_worst(disk, store.parent)).verify(NAME, VERSION).close()
    assert set(told) == {"published", Reason.VERSION_EXISTS}

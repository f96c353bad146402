"""Records as files, on a disk that may fail."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledgers import FaultyDisk, Registry

from model_sidecar.errors import CommitStateUnknownError, Reason, StoreError, StoreFullError
from model_sidecar.ledger.backend import GenerationTakenError
from model_sidecar.ledger.file_backend import FileBackend

OURS, THEIRS = b'{"ours":1}\n', b'{"theirs":1}\n'


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def backend(registry: Registry, disk: FaultyDisk) -> FileBackend:
    return FileBackend(registry.ledger_directory, disk=disk)


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_slot_is_empty_and_then_filled_for_good(backend: FileBackend, registry: Registry) -> None:
    """A put makes the directories and the file; it is read back; another put finds it taken and changes nothing."""
    assert (backend.read(1), backend.latest_hint()) == (None, 0)
    backend.put_if_absent(1, OURS)
    assert registry.record_file(1).read_bytes() == OURS

    with pytest.raises(GenerationTakenError):
        backend.put_if_absent(1, THEIRS)
    assert (backend.read(1), backend.latest_hint()) == (OURS, 1)
    assert registry.leftovers() == []


def test_everybody_may_read_a_record(narrow_umask: None, backend: FileBackend, registry: Registry) -> None:
    """The file's mode is 0644 under any umask: the other sidecars run as other users."""
    backend.put_if_absent(1, OURS)
    assert registry.record_file(1).stat().st_mode & 0o7777 == 0o644


def test_the_very_same_record_may_be_put_again(backend: FileBackend) -> None:
    """EEXIST over one's own bytes is success: the first reply was lost."""
    backend.put_if_absent(1, OURS)
    backend.put_if_absent(1, OURS)


def test_a_store_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    """Without the model's directory nothing is created: its absence means that the mount is missing."""
    missing = tmp_path / "not-mounted" / "model"
    with pytest.raises(StoreError, match="mounted"):
        FileBackend(missing / "environments" / "prod" / "ledger").put_if_absent(1, OURS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["prod", "ledger", "environments"])
def test_directories_made_by_somebody_else_are_used(
    backend: FileBackend, registry: Registry, stage: str
) -> None:
    """A directory that is half made already is completed."""
    existing = {"environments": registry.directory.parent, "prod": registry.directory}
    existing.get(stage, registry.ledger_directory).mkdir(parents=True)
    backend.put_if_absent(1, OURS)
    assert backend.read(1) == OURS


@pytest.mark.parametrize(
    "fault",
    [
        ("write", errno.ENOSPC, StoreFullError),
        ("write", errno.EDQUOT, StoreFullError),
        ("write", errno.EIO, StoreError),
        ("fsync", errno.EIO, StoreError),
        ("fsync", errno.ENOSPC, StoreFullError),
        ("close", errno.EIO, StoreError),
        ("close", errno.EDQUOT, StoreFullError),
        ("link", errno.ENOSPC, StoreFullError),
        ("link", errno.EROFS, StoreError),
        ("link", errno.ESTALE, StoreError),
        ("open", errno.EROFS, StoreError),
        ("open", errno.EACCES, StoreError),
    ],
)
def test_a_fault_before_the_link_records_nothing(
    backend: FileBackend,
    registry: Registry,
    disk: FaultyDisk,
    fault: tuple[str, int, type[StoreError]],
) -> None:
    """A full or failing disk refuses the record, leaves the slot empty, and the next try succeeds with a new file."""
    call, number, error = fault
    backend.put_if_absent(1, OURS)
    disk.fail(call, number)
    with pytest.raises(StoreError) as refusal:
        backend.put_if_absent(2, OURS)
    assert disk.failed == 1
    assert type(refusal.value) is error
    assert refusal.value.reason is (
        Reason.STORE_FULL if error is StoreFullError else Reason.STORE_UNAVAILABLE
    )
    assert not registry.record_file(2).exists()
    assert registry.leftovers() == []

    backend.put_if_absent(2, OURS)
    assert backend.read(2) == OURS


def test_a_full_disk_may_not_take_the_directories(backend: FileBackend, disk: FaultyDisk) -> None:
    """No space for the first directory is STORE_FULL too."""
    disk.fail("mkdir", errno.ENOSPC)
    with pytest.raises(StoreFullError):
        backend.put_if_absent(1, OURS)


def test_a_file_whose_sync_failed_is_never_synced_again(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """One fsync is tried, for a second one could report success for pages that were dropped."""
    backend.put_if_absent(1, OURS)
    disk.fail("fsync", errno.EIO, times=100)
    with pytest.raises(StoreError):
        backend.put_if_absent(2, OURS)
    assert disk.failed == 1


def test_short_writes_are_continued(registry: Registry) -> None:
    """A write that takes a few bytes only is followed by the rest."""

    class ShortDisk(FaultyDisk):
        def write(self, fd: int, content: bytes) -> int:
            return super().write(fd, content[:3])

    backend = FileBackend(registry.ledger_directory, disk=ShortDisk())
    backend.put_if_absent(1, OURS)
    assert backend.read(1) == OURS


def test_a_record_whose_directory_was_not_synced_is_in_doubt(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """EIO on the directory after the link is COMMIT_STATE_UNKNOWN, for the record is visible; settling ends the doubt."""
    backend.put_if_absent(1, OURS)
    disk.fail("fsync", errno.EIO, skip=1, times=2)
    with pytest.raises(CommitStateUnknownError) as doubt:
        backend.put_if_absent(2, OURS)
    assert (doubt.value.reason, doubt.value.facts["generation"]) == (Reason.COMMIT_STATE_UNKNOWN, "2")
    assert backend.read(2) == OURS
    assert registry.leftovers() == []

    with pytest.raises(CommitStateUnknownError):
        backend.settle(2)
    backend.settle(2)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT, errno.ESTALE])
def test_a_link_whose_reply_was_lost_has_landed(backend: FileBackend, disk: FaultyDisk, number: int) -> None:
    """An error of link(2) after it did its work is success."""
    disk.fail("link", number, after=True)
    backend.put_if_absent(1, OURS)
    assert disk.failed == 1
    assert backend.read(1) == OURS


def test_a_link_that_landed_counts_though_a_cache_hides_it(registry: Registry) -> None:
    """A mount that goes on saying "no such file" does not turn our own record into a conflict."""

    class CachingDisk(FaultyDisk):
        def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
            if path == registry.record_file(1):
                raise FileNotFoundError(errno.ENOENT, "not that I remember")
            return super().open(path, flags, mode)

    disk = CachingDisk()
    disk.fail("link", errno.EEXIST, after=True)
    FileBackend(registry.ledger_directory, disk=disk).put_if_absent(1, OURS)
    assert registry.record_file(1).read_bytes() == OURS

    with pytest.raises(GenerationTakenError):
        FileBackend(registry.ledger_directory, disk=disk).put_if_absent(1, THEIRS)


def test_a_link_that_failed_while_somebody_else_won_is_a_conflict(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """Whatever the error says, other bytes in the slot mean that another writer has it."""
    backend.put_if_absent(1, OURS)
    disk.fail("link", lambda: _win_and_time_out(registry.record_file(2)))
    with pytest.raises(GenerationTakenError):
        backend.put_if_absent(2, OURS)
    assert backend.read(2) == THEIRS


def _win_and_time_out(slot: Path) -> None:
    slot.write_bytes(THEIRS)
    raise OSError(errno.ETIMEDOUT, "timed out")


def test_a_link_of_which_nothing_can_be_learned_is_in_doubt(backend: FileBackend, disk: FaultyDisk) -> None:
    """When the slot cannot be read after a failed link, the state is unknown, never "failed"."""
    backend.put_if_absent(1, OURS)

    def time_out_and_stay_away() -> None:
        disk.fail("open", errno.EIO, times=100)
        raise OSError(errno.ETIMEDOUT, "timed out")

    disk.fail("link", time_out_and_stay_away)
    with pytest.raises(CommitStateUnknownError):
        backend.put_if_absent(2, OURS)


def test_what_cannot_be_a_record_is_refused(backend: FileBackend, registry: Registry, tmp_path: Path) -> None:
    """A symbolic link, a FIFO, a directory and a huge file in a slot are LEDGER_INVALID, and nothing blocks."""
    registry.ledger_directory.mkdir(parents=True)
    (tmp_path / "elsewhere.json").write_bytes(OURS)
    registry.record_file(1).symlink_to(tmp_path / "elsewhere.json")
    os.mkfifo(registry.record_file(2))
    registry.record_file(3).mkdir()
    registry.record_file(4).write_bytes(b"x" * (64 << 10) + b"\n")
    for generation in (1, 2, 3, 4):
        with pytest.raises(StoreError) as refusal:
            backend.read(generation)
        assert refusal.value.reason is Reason.LEDGER_INVALID
        with pytest.raises(StoreError) as refusal:
            backend.put_if_absent(generation, OURS)
        assert refusal.value.reason is Reason.LEDGER_INVALID


def test_a_store_that_fails_is_not_an_empty_one(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """A read error, and a directory that was there and has gone, are STORE_UNAVAILABLE; before, "nothing yet"."""
    assert backend.read(1) is None
    backend.put_if_absent(1, OURS)
    disk.fail("open", errno.EIO)
    with pytest.raises(StoreError, match="cannot read"):
        backend.read(1)

    moved = registry.directory.rename(registry.directory.with_name("away"))
    with pytest.raises(StoreError, match="mounted") as gone:
        backend.read(2)
    assert gone.value.reason is Reason.STORE_UNAVAILABLE
    moved.rename(registry.directory)
    assert (backend.read(1), backend.read(2)) == (OURS, None)


def test_a_ledger_that_was_deleted_is_told_from_a_store_that_is_away(
    backend: FileBackend, registry: Registry
) -> None:
    """Vanished means: records were seen, the environment's directory is there, and not one record is in it."""
    assert not backend.vanished()
    backend.put_if_absent(1, OURS)
    assert not backend.vanished()
    shutil.rmtree(registry.directory)
    assert not backend.vanished()
    registry.directory.mkdir()
    assert backend.vanished()
    registry.ledger_directory.mkdir()
    assert backend.vanished()
    registry.record_file(2).touch()
    assert not backend.vanished()


def test_the_hint_is_the_highest_name(backend: FileBackend, registry: Registry) -> None:
    """Temporary files and strangers in the directory are no generations."""
    registry.ledger_directory.mkdir(parents=True)
    for name in (
        "00000000000000000007.json",
        "00000000000000000010.json",
        "notes.json",
        "99.json",
        ".x.json",
    ):
        (registry.ledger_directory / name).touch()
    assert backend.latest_hint() == 10


def test_leftovers_of_killed_writers_are_swept_by_age(registry: Registry) -> None:
    """The first put removes our temporary files older than an hour, not younger ones, and nobody else's files."""
    registry.ledger_directory.mkdir(parents=True)
    old = registry.ledger_directory / f".{1:020d}.json.{'0' * 32}.tmp"
    young = registry.ledger_directory / f".{1:020d}.json.{'1' * 32}.tmp"
    foreign = registry.ledger_directory / ".nfs0000000000000001"
    for path in (old, young, foreign):
        path.touch()
    now = young.stat().st_mtime
    for path, age_s in ((old, 3700), (young, 3000), (foreign, 9999)):
        os.utime(path, (now - age_s, now - age_s))

    FileBackend(registry.ledger_directory).put_if_absent(1, OURS)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()

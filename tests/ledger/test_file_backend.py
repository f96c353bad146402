"""Records as files, on a disk that may fail."""

import errno
import itertools
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.ledgers import FaultyDisk, KilledError, Registry

from model_sidecar.errors import CommitStateUnknownError, Reason, StoreError, StoreFullError
from model_sidecar.ledger.backend import GenerationTakenError
from model_sidecar.ledger.file_backend import FileBackend

OURS, THEIRS = b'{"ours":1}\n', b'{"theirs":1}\n'


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


@pytest.fixture(params=["link", "directories"])
def disk(request: pytest.FixtureRequest) -> FaultyDisk:
    """A disk that fills slots by link, and one without link."""
    return FaultyDisk(links=request.param == "link")


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
    """The file's mode is 0644 under any umask, its directory's 0755: the other sidecars run as other users."""
    backend.put_if_absent(1, OURS)
    assert registry.record_file(1).stat().st_mode & 0o7777 == 0o644
    assert registry.slot(1).stat().st_mode & 0o555 in (0o444, 0o555)


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
        ("filling", errno.ENOSPC, StoreFullError),
        ("filling", errno.EROFS, StoreError),
        ("filling", errno.ESTALE, StoreError),
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
    disk.fail(disk.filling_call if call == "filling" else call, number)
    with pytest.raises(StoreError) as refusal:
        backend.put_if_absent(2, OURS)
    assert disk.failed == 1
    assert type(refusal.value) is error
    assert refusal.value.reason is (
        Reason.STORE_FULL if error is StoreFullError else Reason.STORE_UNAVAILABLE
    )
    assert not registry.slot(2).exists()
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


@pytest.mark.parametrize("links", [True, False])
def test_short_writes_are_continued(registry: Registry, links: bool) -> None:
    """A write that takes a few bytes only is followed by the rest."""

    class ShortDisk(FaultyDisk):
        def write(self, fd: int, content: bytes | memoryview) -> int:
            return super().write(fd, content[:3])

    backend = FileBackend(registry.ledger_directory, disk=ShortDisk(links=links))
    backend.put_if_absent(1, OURS)
    assert backend.read(1) == OURS


def test_a_record_whose_directory_was_not_synced_is_in_doubt(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """EIO on the directory after the link is COMMIT_STATE_UNKNOWN, for the record is visible; settling ends the doubt."""
    backend.put_if_absent(1, OURS)
    disk.fail("fsync", errno.EIO, skip=disk.syncs_to_lay, times=2)
    with pytest.raises(CommitStateUnknownError) as doubt:
        backend.put_if_absent(2, OURS)
    assert (doubt.value.reason, doubt.value.facts["generation"]) == (Reason.COMMIT_STATE_UNKNOWN, "2")
    assert backend.read(2) == OURS
    assert registry.leftovers() == []

    with pytest.raises(CommitStateUnknownError):
        backend.settle(2)
    backend.settle(2)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT, errno.ESTALE])
def test_a_record_whose_reply_was_lost_has_landed(
    backend: FileBackend, disk: FaultyDisk, number: int
) -> None:
    """An error of the call that fills a slot, after it did its work, is success."""
    backend.put_if_absent(1, OURS)
    disk.fail(disk.filling_call, number, after=True)
    backend.put_if_absent(2, OURS)
    assert disk.failed == 1
    assert backend.read(2) == OURS


def test_a_link_that_landed_counts_though_a_cache_hides_it(registry: Registry) -> None:
    """A mount that goes on saying "no such file" does not turn our own record into a conflict."""

    class CachingDisk(FaultyDisk):
        def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
            if name == registry.record_file(1):
                raise FileNotFoundError(errno.ENOENT, "not that I remember")
            return super().open(name, flags, mode, dir_fd=dir_fd)

    disk = CachingDisk()
    backend = FileBackend(registry.ledger_directory, disk=disk)
    backend.put_if_absent(2, OURS)
    disk.fail("link", errno.EEXIST, after=True)
    backend.put_if_absent(1, OURS)
    assert registry.record_file(1).read_bytes() == OURS

    with pytest.raises(GenerationTakenError):
        backend.put_if_absent(1, THEIRS)


def test_a_directory_that_has_gone_where_a_cache_shows_nothing_is_in_doubt(registry: Registry) -> None:
    """The hidden directory is gone and the slot seems empty: it was moved there, or swept. That is no success."""

    class CachingDisk(FaultyDisk):
        def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
            if name == registry.slot(1):
                raise FileNotFoundError(errno.ENOENT, "not that I remember")
            return super().open(name, flags, mode, dir_fd=dir_fd)

    disk = CachingDisk(links=False)
    backend = FileBackend(registry.ledger_directory, disk=disk)
    backend.put_if_absent(2, OURS)
    disk.fail("rename", errno.ENOENT, after=True)
    with pytest.raises(CommitStateUnknownError):
        backend.put_if_absent(1, OURS)
    disk.fail("rename", errno.EEXIST)
    with pytest.raises(GenerationTakenError):
        backend.put_if_absent(1, THEIRS)


def test_a_link_that_failed_while_somebody_else_won_is_a_conflict(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """Whatever the error says, other bytes in the slot mean that another writer has it."""
    backend.put_if_absent(1, OURS)
    disk.fail(disk.filling_call, lambda: _win_and_time_out(registry.slot(2)))
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

    disk.fail(disk.filling_call, time_out_and_stay_away)
    with pytest.raises(CommitStateUnknownError):
        backend.put_if_absent(2, OURS)


def test_what_cannot_be_a_record_is_refused(backend: FileBackend, registry: Registry, tmp_path: Path) -> None:
    """A symbolic link, a FIFO, a directory of anything else and a huge file are LEDGER_INVALID, and nothing blocks."""
    registry.ledger_directory.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "record.json").write_bytes(OURS)
    registry.slot(1).symlink_to(tmp_path / "elsewhere" / "record.json")
    os.mkfifo(registry.slot(2))
    registry.slot(3).mkdir()
    (registry.slot(3) / "notes.json").write_bytes(OURS)
    registry.slot(4).write_bytes(b"x" * (64 << 10) + b"\n")
    registry.slot(5).symlink_to(tmp_path / "elsewhere")
    registry.slot(6).mkdir()
    (registry.slot(6) / "record.json").symlink_to(tmp_path / "elsewhere" / "record.json")
    registry.slot(7).mkdir()
    os.mkfifo(registry.slot(7) / "record.json")
    for generation in range(1, 8):
        with pytest.raises(StoreError) as refusal:
            backend.read(generation)
        assert refusal.value.reason is Reason.LEDGER_INVALID
        with pytest.raises(StoreError) as refusal:
            backend.put_if_absent(generation, OURS)
        assert refusal.value.reason is Reason.LEDGER_INVALID


def test_records_of_both_kinds_stand_in_one_ledger(registry: Registry) -> None:
    """Sidecars with link and without share a store: each reads the other's records, and neither takes a filled slot."""
    linking, moving = (
        FileBackend(registry.ledger_directory, disk=FaultyDisk(links=links)) for links in (True, False)
    )
    for generation in range(1, 7):
        writer, other = (linking, moving) if generation % 2 else (moving, linking)
        writer.put_if_absent(generation, b"%d\n" % generation)
        other.put_if_absent(generation, b"%d\n" % generation)
        with pytest.raises(GenerationTakenError):
            other.put_if_absent(generation, THEIRS)
    assert [registry.slot(generation).is_dir() for generation in range(1, 7)] == [False, True] * 3
    for reader in (linking, moving):
        assert [reader.read(generation) for generation in range(1, 7)] == [b"%d\n" % n for n in range(1, 7)]
        assert (reader.latest_hint(), reader.first_missing(6), reader.first_missing(7)) == (6, None, 7)
    assert registry.leftovers() == []


@pytest.mark.parametrize("links", [True, False])
def test_of_many_writers_of_one_slot_exactly_one_wins(tmp_path: Path, links: bool) -> None:
    """Eight writers fill each of ten slots at the same moment, half of them with link if the disk has it: one wins."""
    registry = Registry(tmp_path / "store")
    writers = [
        FileBackend(registry.ledger_directory, disk=FaultyDisk(links=links and number % 2 == 0))
        for number in range(8)
    ]

    def put(number: int, generation: int, together: threading.Barrier) -> bytes | None:
        together.wait()
        try:
            writers[number].put_if_absent(generation, b"%d\n" % number)
        except GenerationTakenError:
            return None
        return b"%d\n" % number

    with ThreadPoolExecutor(8) as pool:
        for generation in range(1, 11):
            together = threading.Barrier(8, timeout=30)
            told = [*pool.map(lambda n: put(n, generation, together), range(8))]  # noqa: B023 - mapped at once
            assert [won for won in told if won] == [writers[0].read(generation)]
    assert registry.leftovers() == []


def test_trouble_in_the_self_test_is_trouble_and_tried_again(backend: FileBackend, disk: FaultyDisk) -> None:
    """No space or an I/O error says nothing about promises: the record is refused for now, the next try succeeds."""
    for call, number, error in (
        ("mkdir", errno.ENOSPC, StoreFullError),
        ("write", errno.EDQUOT, StoreFullError),
        (disk.filling_call, errno.EIO, StoreError),
        ("fsync", errno.EIO, StoreError),
    ):
        disk.fail(call, number)
        with pytest.raises(StoreError) as refused:
            backend.put_if_absent(1, OURS)
        assert (type(refused.value), disk.failed) == (error, 1)
    backend.put_if_absent(1, OURS)


def test_a_self_test_that_was_killed_hinders_nobody(registry: Registry) -> None:
    """Killed at any call, it leaves at most a hidden directory, beside which the next sidecar records; later it is swept."""
    for calls in itertools.count():
        disk = FaultyDisk(links=False)
        disk.kill(after_calls=calls)
        try:
            FileBackend(registry.ledger_directory, disk=disk).put_if_absent(1, OURS)
            break
        except KilledError:
            pass
    assert calls > 30
    assert any(path.name.startswith(".self-test.") for path in registry.leftovers())
    for path in registry.ledger_directory.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    FileBackend(registry.ledger_directory).put_if_absent(2, OURS)
    assert registry.leftovers() == []


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
    disk.fail("stat", errno.EIO, times=2)
    for ask in (lambda: backend.read(2), backend.vanished):
        with pytest.raises(StoreError, match="cannot access"):
            ask()
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


SELF_TEST_RENAMES = 3
RECORDS = [b'{"record":%d}\n' % number for number in range(1, 4)]


def vanish(backend: FileBackend, registry: Registry) -> None:
    """A ledger of three records that was read here, in an environment that was deleted and made again."""
    for generation, content in enumerate(RECORDS, 1):
        backend.put_if_absent(generation, content)
    shutil.rmtree(registry.directory)
    registry.directory.mkdir()
    assert backend.vanished()


def standing(registry: Registry) -> list[bytes]:
    """What anybody sees of the ledger."""
    return [path.read_bytes() for path in sorted(registry.ledger_directory.glob("*"))]


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "close", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("emptied", [False, True])
def test_a_fault_in_a_put_back_leaves_all_or_nothing(
    tmp_path: Path, call: str, number: int, emptied: bool
) -> None:
    """Whichever call fails, no part of the ledger is ever seen, nothing lies about, and the next try succeeds."""
    told: list[type[Exception] | None] = []
    for skip in itertools.count():
        registry, disk = Registry(tmp_path / f"{skip}"), FaultyDisk()
        backend = FileBackend(registry.ledger_directory, disk=disk)
        vanish(backend, registry)
        if emptied:
            registry.ledger_directory.mkdir()
        disk.fail(call, number, skip=skip)
        try:
            backend.put_back(RECORDS)
            told.append(None)
        except (StoreError, CommitStateUnknownError) as error:
            told.append(type(error))
        if not disk.failed:
            break
        # In doubt, or swept in vain: the whole has appeared. Refused: nothing has.
        appeared = told[-1] in (CommitStateUnknownError, None)
        assert standing(registry) == (RECORDS if appeared else [])
        assert backend.vanished() is not appeared
        # What the self-test could not clear away is hidden, and swept like any leftover.
        assert [path for path in registry.leftovers() if call != "open"] == []

        backend.put_back(RECORDS)
        assert standing(registry) == RECORDS
    assert told[0] is (StoreFullError if number == errno.ENOSPC else StoreError)
    assert (CommitStateUnknownError in told) == (call in ("open", "fsync"))
    assert told[-1] is None


def test_a_put_back_that_was_killed_leaves_all_or_nothing(tmp_path: Path) -> None:
    """After a kill at any call the ledger is not there or whole, and another sidecar puts it back beside the leftovers."""
    seen, killed, calls = [], True, 0
    while killed:
        registry, disk = Registry(tmp_path / f"{calls}"), FaultyDisk()
        backend, other = (FileBackend(registry.ledger_directory, disk=each) for each in (disk, None))
        vanish(backend, registry)
        disk.kill(after_calls=calls)
        try:
            backend.put_back(RECORDS)
            killed = False
        except KilledError:
            seen.append(len(standing(registry)))
        assert standing(registry) in ([], RECORDS)
        other.put_back(RECORDS)
        assert standing(registry) == RECORDS
        calls += 1
    assert set(seen) == {0, 3}
    assert len(seen) > 30


def test_of_two_put_backs_both_succeed(registry: Registry) -> None:
    """Whoever comes second finds its own bytes, completes what the first did not know, and refuses other bytes."""
    disk = FaultyDisk()
    backend, other = (FileBackend(registry.ledger_directory, disk=each) for each in (disk, None))
    for known in (3, 2):
        vanish(backend, registry)
        disk.fail("rename", lambda known=known: other.put_back(RECORDS[:known]), skip=SELF_TEST_RENAMES)  # type: ignore[misc]  # the loop's own
        backend.put_back(RECORDS)
        assert standing(registry) == RECORDS
        assert registry.leftovers() == []
        shutil.rmtree(registry.ledger_directory)

    vanish(backend, registry)
    disk.fail("rename", lambda: other.put_back([RECORDS[0], THEIRS]), skip=SELF_TEST_RENAMES)
    with pytest.raises(GenerationTakenError) as taken:
        backend.put_back(RECORDS)
    assert taken.value.generation == 2
    assert standing(registry) == [RECORDS[0], THEIRS]
    assert registry.leftovers() == []


def test_many_put_backs_at_once_leave_one_ledger(registry: Registry) -> None:
    """Eight sidecars that move in at the same moment all succeed, and the ledger is whole."""
    together = threading.Barrier(8, timeout=30)

    def put_back(_: int) -> None:
        disk = FaultyDisk()
        disk.fail("rename", lambda: _pass(together), skip=SELF_TEST_RENAMES)
        FileBackend(registry.ledger_directory, disk=disk).put_back(RECORDS)

    registry.directory.mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(put_back, range(8))] == [None] * 8
    assert standing(registry) == RECORDS
    assert registry.leftovers() == []


def _pass(barrier: threading.Barrier) -> None:
    barrier.wait()


def test_a_put_back_whose_reply_was_lost_has_landed(
    backend: FileBackend, registry: Registry, disk: FaultyDisk
) -> None:
    """An error of rename(2) after it did its work is success."""
    vanish(backend, registry)
    # Of the self-test's renames only the first one succeeds.
    disk.fail("rename", errno.ENOENT, skip=1, after=True)
    backend.put_back(RECORDS)
    assert disk.failed == 1
    assert standing(registry) == RECORDS


def test_nothing_is_put_back_over_what_is_no_record(backend: FileBackend, registry: Registry) -> None:
    """Something else in the empty ledger is named; a killed writer's leftover is swept by age, and then all goes on."""
    vanish(backend, registry)
    registry.ledger_directory.mkdir()
    leftover = registry.ledger_directory / f".{1:020d}.json.{'0' * 32}.tmp"
    leftover.touch()
    with pytest.raises(StoreError, match="not empty"):
        backend.put_back(RECORDS)
    assert standing(registry) == [b""]

    old = leftover.stat().st_mtime - 3700
    os.utime(leftover, (old, old))
    with pytest.raises(StoreError, match="not empty"):
        backend.put_back(RECORDS)
    backend.put_back(RECORDS)
    assert standing(registry) == RECORDS
    assert registry.leftovers() == []


def test_leftovers_of_killed_put_backs_are_swept_by_age(backend: FileBackend, registry: Registry) -> None:
    """The hidden directory of a killed put-back goes with all that is in it once it is an hour old, not before."""
    vanish(backend, registry)
    old, young = (registry.directory / f".ledger.{digit * 32}.tmp" for digit in "01")
    for directory in (old, young):
        directory.mkdir()
        (directory / registry.record_file(1).name).write_bytes(RECORDS[0])
    past = old.stat().st_mtime - 3700
    for path in (old / registry.record_file(1).name, old, young):
        os.utime(path, (past, past))
    backend.put_back(RECORDS)
    assert not old.exists()
    assert young.exists(), "a file in it was written just now"


def test_the_first_missing_record_is_found_by_one_listing(registry: Registry) -> None:
    """A gap is named; a record that an old listing lacks is not missing; and no record is opened but such a one."""
    opened: list[str] = []

    class Noting(FaultyDisk):
        def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
            opened.append(Path(name).name)
            return super().open(name, flags, mode, dir_fd=dir_fd)

    class OldListing(Noting):
        def names(self, directory: Path | int) -> list[str]:
            return [name for name in super().names(directory) if name != registry.record_file(2).name]

    disk, cached = Noting(), OldListing()
    backend, mounted_elsewhere = (
        FileBackend(registry.ledger_directory, disk=each) for each in (disk, cached)
    )
    assert backend.first_missing(0) is None
    for generation, content in enumerate(RECORDS, 1):
        backend.put_if_absent(generation, content)
    opened.clear()
    assert backend.first_missing(3) is None
    assert {*opened} == {registry.ledger_directory.name}
    assert mounted_elsewhere.first_missing(3) is None
    assert {*opened} == {registry.ledger_directory.name, registry.record_file(2).name}
    registry.record_file(2).unlink()
    assert (backend.first_missing(1), backend.first_missing(3), mounted_elsewhere.first_missing(3)) == (
        None,
        2,
        2,
    )


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Listings(FaultyDisk):
    """A disk that counts how often the ledger was listed; without times of directories where it is told so."""

    def __init__(self, *, keeps_times: bool = True) -> None:
        super().__init__()
        self.keeps_times = keeps_times
        self.count = 0

    def names(self, directory: Path | int) -> list[str]:
        self.count += isinstance(directory, Path)
        return super().names(directory)

    def stat(self, name: Path | str) -> os.stat_result:
        return self._seen(super().stat(name))

    def fstat(self, fd: int) -> os.stat_result:
        return self._seen(super().fstat(fd))

    def _seen(self, facts: os.stat_result) -> os.stat_result:
        if self.keeps_times or not stat.S_ISDIR(facts.st_mode):
            return facts
        return os.stat_result((*facts[:7], 0, 0, 0))


def at_rest(backend: FileBackend, clock: Clock, *, head: int) -> None:
    """What a sidecar's looks do in some seconds in which nobody touches the ledger."""
    for _ in range(5):
        backend.survey(head)
        clock.now += 1


def test_a_ledger_at_rest_is_not_listed_for_a_commit(registry: Registry) -> None:
    """However long it is: it was listed once when it had come to rest, and its directory has not changed since."""
    disk, clock = Listings(), Clock()
    backend = FileBackend(registry.ledger_directory, disk=disk, clock=clock)
    for generation in (1, 2):
        backend.put_if_absent(generation, RECORDS[generation - 1])
    disk.count = 0
    at_rest(backend, clock, head=2)
    assert disk.count == 1
    assert backend.first_missing(2) is None
    assert disk.count == 1

    assert backend.first_missing(3) == 3, "nobody has seen this one"
    backend.put_if_absent(3, RECORDS[2])
    disk.count = 0
    assert backend.first_missing(3) is None
    assert disk.count == 1, "something came meanwhile, and perhaps something went"
    at_rest(backend, clock, head=3)
    assert disk.count == 2


@pytest.mark.parametrize("touch", [True, False], ids=["times set back", "plainly"])
def test_a_record_that_goes_is_missed_though_the_ledger_was_at_rest(registry: Registry, touch: bool) -> None:
    """By the very next commit; and it is told by every one from then on."""
    clock = Clock()
    backend = FileBackend(registry.ledger_directory, clock=clock)
    for generation, content in enumerate(RECORDS, 1):
        backend.put_if_absent(generation, content)
    at_rest(backend, clock, head=3)
    before = registry.ledger_directory.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    registry.record_file(2).unlink()
    if touch:
        os.utime(registry.ledger_directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert backend.first_missing(3) == 2
    at_rest(backend, clock, head=3)
    assert backend.first_missing(3) == 2


def test_a_ledger_that_changes_in_the_tick_of_its_listing_is_listed_again(registry: Registry) -> None:
    """A coarse clock does not tell two changes apart: one that was seen whole a moment after a change is not believed."""
    disk, clock = Listings(), Clock()
    backend = FileBackend(registry.ledger_directory, disk=disk, clock=clock)
    for generation, content in enumerate(RECORDS, 1):
        backend.put_if_absent(generation, content)
    disk.count = 0
    for _ in range(3):
        assert backend.first_missing(3) is None
        clock.now += 0.8
    assert disk.count == 3


def test_a_mount_without_times_of_directories_is_always_listed(registry: Registry) -> None:
    """It looks at rest whatever happens in it."""
    disk, clock = Listings(keeps_times=False), Clock()
    backend = FileBackend(registry.ledger_directory, disk=disk, clock=clock)
    for generation, content in enumerate(RECORDS, 1):
        backend.put_if_absent(generation, content)
    at_rest(backend, clock, head=3)
    assert backend.first_missing(3) is None
    registry.record_file(2).unlink()
    assert backend.first_missing(3) == 2


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

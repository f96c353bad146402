"""Publishing: complete or absent, once, durable."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.versions import FILES, NAME, VERSION, entry, write_version

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import Reason, RefusedError, StoreError, StoreFullError, VerificationError
from model_sidecar.release import strict_json
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import MANIFEST, MODEL, FileEntry, Role
from model_sidecar.store.layout import Layout
from model_sidecar.store.publishing import Staging, stage
from model_sidecar.store.versions import VersionStore


def fill(staging: Staging, by: str = "") -> None:
    """Write a complete version; `by` makes it one publisher's own."""
    for name, content in FILES.items():
        staging.write(name, content)
    manifest = {
        "version": VERSION,
        "model_hash": digest_of(FILES[MODEL]),
        "files": {name: entry(name, content) for name, content in FILES.items()},
        "deployed_by": by,
    }
    staging.write(MANIFEST, strict_json.dumps(manifest))


def names(store: Path) -> list[str]:
    return sorted(path.name for path in (store / NAME).iterdir())


def test_a_published_version_is_there_whole(tmp_path: Path) -> None:
    """What was written and committed verifies, other users can read it, and nothing else is left."""
    previous = os.umask(0o077)
    try:
        with stage(Layout(tmp_path), model=NAME, version=VERSION) as staging:
            fill(staging)
            assert VersionStore(tmp_path).versions(NAME) == []
            assert stat.S_IMODE(staging.path.stat().st_mode) == 0o700
            staging.commit()
    finally:
        os.umask(previous)
    assert names(tmp_path) == [VERSION]
    VersionStore(tmp_path).verify(NAME, VERSION).close()
    directory = tmp_path / NAME / VERSION
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o644}


def test_what_is_copied_is_told(tmp_path: Path) -> None:
    """Copying a file tells its digest and size; what is written again replaces what was there."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(9 << 20))
    (tmp_path / "store").mkdir()
    with stage(Layout(tmp_path / "store"), model=NAME, version=VERSION) as staging:
        copied = staging.copy(source, name=MODEL, role=Role.MODEL)
        assert copied == FileEntry(digest_of(source.read_bytes()), 9 << 20, Role.MODEL)
        assert (staging.path / MODEL).read_bytes() == source.read_bytes()
        staging.write("notes.txt", b"long before")
        assert staging.write("notes.txt", b"short").size == 5
        assert (staging.path / "notes.txt").read_bytes() == b"short"


def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    """Leaving by an error removes what was written, and the version stays absent."""

    def interrupted() -> None:
        with stage(Layout(tmp_path), model=NAME, version=VERSION) as staging:
            fill(staging)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    """Publishing under a name that exists is refused at once, and the one that exists is untouched."""
    write_version(tmp_path)
    before = VersionStore(tmp_path).fingerprint(NAME, VERSION)
    with (
        pytest.raises(RefusedError, match="exists already") as refused,
        stage(Layout(tmp_path), model=NAME, version=VERSION),
    ):
        pytest.fail("it must not be staged")
    assert refused.value.reason is Reason.VERSION_EXISTS
    assert VersionStore(tmp_path).fingerprint(NAME, VERSION) == before


@pytest.mark.parametrize("obstacle", ["version", "file", "symlink"])
def test_whatever_appeared_meanwhile_is_not_overwritten(obstacle: str, tmp_path: Path) -> None:
    """What came to stand under the name between the first look and the commit wins."""
    with stage(Layout(tmp_path), model=NAME, version=VERSION) as staging:
        fill(staging)
        match obstacle:
            case "version":
                write_version(tmp_path)
            case "file":
                staging.target.write_text("x")
            case _:
                staging.target.symlink_to(tmp_path)
        there = staging.target.lstat()
        with pytest.raises(RefusedError) as refused:
            staging.commit()
        assert refused.value.reason is Reason.VERSION_EXISTS
        assert staging.target.lstat() == there
    assert names(tmp_path) == [VERSION]


def test_of_many_publishers_of_one_version_exactly_one_wins(tmp_path: Path) -> None:
    """Eight publishers commit one name at the same moment, twenty times over: one wins, and its version is whole."""
    for turn in range(20):
        store = tmp_path / str(turn)
        store.mkdir()
        together = threading.Barrier(8)

        def publish(by: int, store: Path = store, together: threading.Barrier = together) -> int | None:
            with stage(Layout(store), model=NAME, version=VERSION) as staging:
                fill(staging, by=str(by))
                together.wait()
                try:
                    staging.commit()
                except RefusedError:
                    return None
                return by

        with ThreadPoolExecutor(8) as publishers:
            winners = [by for by in publishers.map(publish, range(8)) if by is not None]
        assert len(winners) == 1
        assert names(store) == [VERSION]
        with VersionStore(store).verify(NAME, VERSION) as verified:
            assert verified.manifest.deployed_by == str(winners[0])


PUBLISHER = """
import sys, time
from pathlib import Path
from model_sidecar.store.layout import Layout
from model_sidecar.store.publishing import stage
with stage(Layout(Path(sys.argv[1])), model=sys.argv[2], version=sys.argv[3]) as staging:
    staging.write("model.onnx", b"half of it")
    print("staged", flush=True)
    time.sleep(600)
"""


def test_a_killed_publisher_leaves_no_version_and_is_swept_after_an_hour(tmp_path: Path) -> None:
    """What a killed publisher left is no version; it is swept once it is old, and not while it could be somebody's."""
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path), NAME, VERSION]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    ) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == b"staged\n"
        publisher.send_signal(signal.SIGKILL)
    (left,) = names(tmp_path)
    assert VersionStore(tmp_path).versions(NAME) == []

    with stage(Layout(tmp_path), model=NAME, version=VERSION):
        assert left in names(tmp_path)
    long_ago = time.time() - 7200
    os.utime(tmp_path / NAME / left, (long_ago, long_ago))
    with stage(Layout(tmp_path), model=NAME, version=VERSION):
        assert left in names(tmp_path), "a file in it was written just now"
    os.utime(tmp_path / NAME / left / MODEL, (long_ago, long_ago))
    with stage(Layout(tmp_path), model=NAME, version=VERSION):
        assert left not in names(tmp_path)


def test_the_sweep_follows_no_symlink(tmp_path: Path) -> None:
    """A symlink that is called like a temporary directory leads the sweep nowhere."""
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    os.utime(keep / "file", (0, 0))
    os.utime(keep, (0, 0))
    store = tmp_path / "store"
    (store / NAME).mkdir(parents=True)
    (store / NAME / ".publishing-link").symlink_to(keep)
    with stage(Layout(store), model=NAME, version=VERSION) as staging:
        fill(staging)
        staging.commit()
    assert (keep / "file").exists()


class NotingDisk(Disk):
    """Notes which inodes are synced, and when something is renamed."""

    def __init__(self) -> None:
        self.done: list[int | str] = []

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self.done.append(os.fstat(fd).st_ino)

    def fchmod(self, fd: int, mode: int) -> None:
        super().fchmod(fd, mode)
        assert os.fstat(fd).st_ino not in self.done

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        super().rename(source, target, dir_fd=dir_fd)
        self.done.append("rename")


def test_everything_is_durable_before_it_is_visible(tmp_path: Path) -> None:
    """Files, their modes and their directory are synced before the rename, the model's directory after it."""
    disk = NotingDisk()
    done = disk.done
    with stage(Layout(tmp_path), model=NAME, version=VERSION, disk=disk) as staging:
        fill(staging)
        staging.commit()

    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    directory = tmp_path / NAME / VERSION
    assert {directory.stat().st_ino, *(path.stat().st_ino for path in directory.iterdir())} <= set(before)
    assert tmp_path.stat().st_ino in before, "the model's own directory was made"
    assert after == [(tmp_path / NAME).stat().st_ino]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield mounted
    subprocess.run(["/bin/umount", str(mounted)], check=True)


def test_a_full_disk_publishes_nothing(small_disk: Path, tmp_path: Path) -> None:
    """Without room, publishing says so and leaves nothing, so that the room is there again."""
    source = tmp_path / "source"
    source.write_bytes(bytes(2 << 20))
    with (
        pytest.raises(StoreFullError) as refused,
        stage(Layout(small_disk), model=NAME, version=VERSION) as staging,
    ):
        staging.copy(source, name=MODEL, role=Role.MODEL)
    assert refused.value.reason is Reason.STORE_FULL
    assert names(small_disk) == []
    with stage(Layout(small_disk), model=NAME, version=VERSION) as staging:
        fill(staging)
        staging.commit()


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A store that is not mounted is no reason to publish beside it."""
    with (
        pytest.raises(StoreError, match="store"),
        stage(Layout(tmp_path / "store"), model=NAME, version=VERSION),
    ):
        pytest.fail("it must not be staged")
    assert not (tmp_path / "store").exists()


def test_only_regular_files_of_safe_names_are_published(tmp_path: Path) -> None:
    """A FIFO is no file to copy, and does not wait; a name that could lead elsewhere is no name."""
    os.mkfifo(tmp_path / "fifo")
    with stage(Layout(tmp_path), model=NAME, version=VERSION) as staging:
        with pytest.raises(VerificationError) as refused:
            staging.copy(tmp_path / "fifo", name=MODEL, role=Role.MODEL)
        assert refused.value.reason is Reason.NOT_A_REGULAR_FILE
        with pytest.raises(VerificationError):
            staging.write("../x", b"")
        with pytest.raises(VerificationError):
            staging.copy(tmp_path / "fifo", name="/x", role=Role.OTHER)
        with pytest.raises(StoreError, match="absent"):
            staging.copy(tmp_path / "absent", name=MODEL, role=Role.MODEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", NAME]

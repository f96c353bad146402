"""`store-check` on mounts that keep their word, and on some that do not."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from model_sidecar.app import mount_check
from model_sidecar.app.mount_check import Finding, check_mount
from model_sidecar.disk.calls import Disk

VERDICT = "so a sidecar here"


def findings(store: Path, disk: Disk | None = None) -> Mapping[str, Finding]:
    """What is found, by its first words; and nothing is left behind."""
    found = {each.what.split(" (")[0]: each for each in check_mount(store, disk=disk)}
    assert [*store.iterdir()] == []
    return found


class Quick(Disk):
    """A disk that waits for nothing."""

    def fsync(self, fd: int) -> None:
        pass


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come on a local disk at once does not come."""
    monkeypatch.setattr(mount_check, "_CLOCK_WAIT_S", 0.2)


def fails(call: str, number: int) -> Disk:
    """A disk of which one call always fails."""

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    disk = Quick()
    setattr(disk, call, failing)
    return disk


class ReplacingLinks(Quick):
    def link(self, source: Path | str, target: Path | str) -> None:
        Path(target).unlink(missing_ok=True)
        super().link(source, target)


class SilentLinks(Quick):
    def link(self, source: Path | str, target: Path | str) -> None:
        if not Path(target).exists():
            super().link(source, target)


class LostLinks(Quick):
    """Links are said to be made, and are not."""

    def link(self, source: Path | str, target: Path | str) -> None:
        pass


class ReplacingRenames(Quick):
    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        if Path(source).is_dir() and Path(target).exists():
            shutil.rmtree(target) if Path(target).is_dir() else Path(target).unlink()
        super().rename(source, target, dir_fd=dir_fd)


class IdleRenames(Quick):
    """Renames of files are said to be done, and are not."""

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        if Path(source).is_dir():
            super().rename(source, target, dir_fd=dir_fd)


class NoSyncOf(Quick):
    def __init__(self, is_kind: Callable[[int], bool]) -> None:
        self._is_kind = is_kind

    def fsync(self, fd: int) -> None:
        if self._is_kind(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().fsync(fd)


class NoLinksNorDirectories(ReplacingRenames):
    def link(self, source: Path | str, target: Path | str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


class Clock(Quick):
    """Modification times that another clock gives."""

    def __init__(self, shift: Callable[[int], int]) -> None:
        self._shift = shift

    def lstat(self, name: Path | str, *, dir_fd: int | None = None) -> os.stat_result:
        real = super().lstat(name, dir_fd=dir_fd)
        told_ns = self._shift(real.st_mtime_ns)
        return os.stat_result(tuple(real), {"st_mtime_ns": told_ns, "st_mtime": told_ns / 1e9})


class Room(Quick):
    def __init__(self, blocks: int, files: int = 10**6) -> None:
        self._free = blocks, files

    def statvfs(self, name: Path | str) -> os.statvfs_result:
        blocks, files = self._free
        return os.statvfs_result((4096, 4096, 10**6, blocks, blocks, 10**7, files, files, 0, 255))


def test_a_sound_mount_is_said_to_be_so(tmp_path: Path) -> None:
    """All promises are kept on a local disk, records are files, and events come."""
    found = findings(tmp_path)
    assert [each.ok for each in found.values()] == [True] * 10
    assert "records deployments, as files" in found[VERDICT].detail


@pytest.mark.parametrize(
    ("disk", "what", "ok", "says", "verdict"),
    [
        (
            fails("link", errno.EPERM),
            "exclusive link",
            None,
            "not offered .* kept as directories",
            "as directories",
        ),
        (ReplacingLinks(), "exclusive link", None, "replaces what has the name", "as directories"),
        (SilentLinks(), "exclusive link", None, "says that it gave a name", "as directories"),
        (LostLinks(), "exclusive link", None, "nothing has it", "as directories"),
        (fails("link", errno.EIO), "exclusive link", False, "could not be tried", "refuses"),
        (ReplacingRenames(), "a directory is not replaced by rename", False, "from one place", "as files"),
        (NoLinksNorDirectories(), "exclusive link", False, "not offered", "records nothing"),
        (IdleRenames(), "rename replaces a file at once", False, "lags behind", "as files"),
        (
            fails("rename", errno.EIO),
            "rename replaces a file at once",
            False,
            "could not be tried",
            "as files",
        ),
        (NoSyncOf(stat.S_ISDIR), "fsync of directories", False, "no record would be safe", "records nothing"),
        (NoSyncOf(stat.S_ISREG), "fsync of files", False, "no record would be safe", "records nothing"),
        (
            Clock(lambda ns: ns + 90 * 10**9),
            "modification times move forward",
            True,
            "90 s ahead of",
            "as files",
        ),
        (
            Clock(lambda ns: ns - 90 * 10**9),
            "modification times move forward",
            True,
            "90 s behind",
            "as files",
        ),
        (Clock(lambda _: 10**18), "modification times move forward", False, "stand still", "as files"),
        (Clock(lambda ns: 2 * 10**18 - ns), "modification times move forward", False, "go back", "as files"),
        (Room(0), "free space", False, "STORE_FULL", "as files"),
        (Room(10**6, files=0), "free space", False, "STORE_FULL", "as files"),
        (Room(100), "free space", None, "which is little", "as files"),
        (fails("statvfs", errno.ENOSYS), "free space", None, "not told", "as files"),
    ],
)
def test_a_promise_that_is_not_kept_is_found_out(
    tmp_path: Path, disk: Disk, what: str, ok: bool | None, says: str, verdict: str
) -> None:
    """Whether the call fails or lies: what was found is told, and what a sidecar does because of it."""
    found = findings(tmp_path, disk)
    assert found[what].ok is ok
    assert re.search(says, found[what].detail), found[what].detail
    assert verdict in found[VERDICT].detail


def test_events_that_do_not_come_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written where the watch does not look, as by another host, is no event: polling alone is left."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "store").mkdir()

    class Remote(Quick):
        def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
            if Path(name).name == "active.json":
                name = elsewhere / "active.json"
            return super().open(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(mount_check, "_EVENT_WAIT_S", 0.3)
    found = findings(tmp_path / "store", Remote())
    assert found["file events"].ok is None
    assert "polling alone" in found["file events"].detail


@pytest.mark.parametrize(("number", "ok"), [(errno.ENOSPC, False), (errno.EIO, False)])
def test_a_store_in_which_nothing_can_be_made_is_told(tmp_path: Path, number: int, ok: bool) -> None:
    """A full or failing store fails the check before anything is tried."""
    found = findings(tmp_path, fails("mkdir", number))
    assert found["writable"].ok is ok
    assert "refused" in found[VERDICT].detail


@contextmanager
def mounted(*arguments: str | Path, at: Path) -> Iterator[None]:
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting needs root and mount(8)")
    if subprocess.run([mount, *arguments, at], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)  # noqa: S607 - the one beside mount


def checked(store: Path) -> tuple[int, dict[str, dict[str, object]]]:
    """What the command says for programs."""
    done = subprocess.run(
        [sys.executable, "-m", "model_sidecar", "store-check", "--store", store, "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["store"] == str(store)
    return done.returncode, {each["what"].split(" (")[0]: each for each in said["findings"]}


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass


def test_a_small_mount_and_a_full_one(tmp_path: Path) -> None:
    """On a real file system of one MiB all is kept and room is little; once it is full the check fails, and says why."""
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", at=tmp_path):
        code, found = checked(tmp_path)
        assert code == 0
        assert found["exclusive link"]["ok"] is found[VERDICT]["ok"] is True
        assert found["free space"]["ok"] is None
        fill(tmp_path / "model")
        code, found = checked(tmp_path)
        assert code == 1
        assert found["free space"]["ok"] is False
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_could_not_be_tried_has_no_consequence(tmp_path: Path) -> None:
    """Without room nothing is known of the mount: of its promises only that they could not be tried is said."""

    class NoPlaceToTry(Quick):
        def mkdir(self, name: Path | str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            if Path(name).parent.parent == tmp_path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().mkdir(name, mode, dir_fd=dir_fd)

    found = findings(tmp_path, NoPlaceToTry())
    untried = [each for each in found.values() if "could not be tried" in each.detail]
    assert {each.detail for each in untried} == {"it could not be tried (No space left on device)"}
    assert len(untried) == 6  # five promises, and file events
    assert "the pointer only where there is no ledger" in found[VERDICT].detail


def test_a_read_only_mount_is_followed(tmp_path: Path) -> None:
    """A read-only mount is no fault: it is said that deployments are refused there, and the check succeeds."""
    with mounted("--bind", tmp_path, at=tmp_path):
        subprocess.run(["mount", "-o", "remount,ro,bind", tmp_path], check=True)  # noqa: S607 - as above
        code, found = checked(tmp_path)
    assert code == 0
    assert found["writable"]["ok"] is None
    assert "follows the ledger's head; the pointer only where there is no ledger" in str(
        found[VERDICT]["detail"]
    )

"""How a slot is filled: which way is taken, and what becomes of a store that offers none."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest
from support.ledgers import A, B, FaultyDisk, Registry, commit

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import Reason, RefusedError
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.filling import ByDirectory, ByLink, choose_filling
from model_sidecar.ledger.reconcile import Adopt, External


class ReplacingDisk(FaultyDisk):
    """Renaming a directory replaces what is there."""

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        if Path(source).is_dir():
            shutil.rmtree(target) if Path(target).is_dir() else Path(target).unlink(missing_ok=True)
        super().rename(source, target, dir_fd=dir_fd)


class LyingDisk(FaultyDisk):
    """A second link to one name is said to have succeeded; `replaces`: and it has."""

    def __init__(self, *, replaces: bool) -> None:
        super().__init__()
        self._replaces = replaces

    def link(self, source: Path | str, target: Path | str) -> None:
        if Path(target).exists():
            if not self._replaces:
                return
            Path(target).unlink()
        super().link(source, target)


class MumblingDisk(FaultyDisk):
    """A link to a name that is taken fails, but not with EEXIST."""

    def link(self, source: Path | str, target: Path | str) -> None:
        if Path(target).exists():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().link(source, target)


class ForgetfulDisk(FaultyDisk):
    """The names in a directory cannot be waited for."""

    def fsync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().fsync(fd)


@pytest.mark.parametrize(
    ("disk", "way"),
    [
        (Disk(), ByLink),
        (ReplacingDisk(), ByLink),
        (FaultyDisk(links=False), ByDirectory),
        (LyingDisk(replaces=True), ByDirectory),
        (LyingDisk(replaces=False), ByDirectory),
        (MumblingDisk(), ByDirectory),
    ],
)
def test_the_way_is_the_one_that_the_mount_keeps_its_word_for(tmp_path: Path, disk: Disk, way: type) -> None:
    """Link where it is exclusive and says so; else directories; and the try leaves nothing behind."""
    assert isinstance(choose_filling(disk, tmp_path), way)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("disk", "found"),
    [
        (
            ReplacingDisk(links=False),
            r"link is not offered \(.*not supported\), and a directory .* is replaced",
        ),
        (ForgetfulDisk(), "fsync of a directory is not offered"),
    ],
)
def test_a_store_on_which_no_record_is_safe_is_followed_only(tmp_path: Path, disk: Disk, found: str) -> None:
    """STORE_UNSUPPORTED names what was tried and found; then a hand edit is followed, and nothing is recorded."""
    registry = Registry(tmp_path / "store")
    registry.directory.mkdir(parents=True)
    registry.pointer.write_text(f'{{"version": "{A}"}}')
    ledger = registry.open(disk=disk)
    assert isinstance(ledger.look().decision, Adopt)
    for _ in range(2):
        with pytest.raises(RefusedError, match=found) as refused:
            commit(ledger, B)
        assert refused.value.reason is Reason.STORE_UNSUPPORTED
        assert ledger.look().decision == External(version=A, allow_schema_change=False)
    assert [*registry.ledger_directory.iterdir()] == []


def test_a_ledger_is_not_put_back_where_a_rename_would_replace_one(tmp_path: Path) -> None:
    """Where link works but a directory is replaced by rename, records are kept, and no whole ledger is moved in."""
    registry = Registry(tmp_path / "store")
    backend = FileBackend(registry.ledger_directory, disk=ReplacingDisk())
    backend.put_if_absent(1, b"{}\n")
    shutil.rmtree(registry.ledger_directory)
    assert backend.vanished()
    with pytest.raises(RefusedError, match="replaced by rename") as refused:
        backend.put_back([b"{}\n"])
    assert refused.value.reason is Reason.STORE_UNSUPPORTED
    assert [*registry.directory.iterdir()] == []

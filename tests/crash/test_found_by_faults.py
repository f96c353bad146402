"""What faults at system calls have brought to light, each by itself."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from support.ledgers import A as FIRST
from support.ledgers import FaultyDisk, Registry, commit
from support.versions import FILES, NAME, VERSION, write_version

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.steps import write_file
from model_sidecar.errors import SidecarError, StoreError
from model_sidecar.ledger.face import Standing
from model_sidecar.model.session import open_session
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.serving.loading import Loader, Preparation
from model_sidecar.store.versions import VersionStore


class ForgetfulDisk(Disk):
    """A disk of which access(2) fails so many times."""

    def __init__(self, times: int) -> None:
        self._times = times

    def access(self, name: Path | str, mode: int) -> bool:
        self._times -= 1
        return self._times < 0 and super().access(name, mode)


def test_a_failing_access_does_not_make_the_pointer_somebody_elses(tmp_path: Path) -> None:
    """A hand edit would take effect without a record; once it is overlooked, and for ever it is the store's trouble."""
    registry = Registry(tmp_path)
    commit(registry.open(), FIRST)
    assert registry.face(disk=ForgetfulDisk(1)).standing() is Standing.OURS
    with pytest.raises(StoreError, match="cannot be told"):
        registry.face(disk=ForgetfulDisk(1000)).standing()


def test_a_pointer_that_cannot_be_replaced_is_tried_again_only_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try leaves something to notice beside the pointer: looks and tries would drive each other, log and all."""
    registry, disk = Registry(tmp_path), FaultyDisk()
    ledger = registry.open(face_disk=disk)
    disk.fail("rename", errno.EPERM, times=1000)
    with caplog.at_level(logging.WARNING):
        warning = commit(ledger, FIRST).warning
        assert "lags behind" in warning
        assert [ledger.rewrite_face() for _ in range(50)] == [warning] * 50
    assert disk.failed == 1
    assert caplog.text.count("lags behind") == 1

    disk.fail("rename", errno.EPERM, times=0)
    monkeypatch.setattr("model_sidecar.ledger.ledger.time.monotonic", lambda: 1e12)
    assert ledger.rewrite_face() == ""
    assert registry.pointer.exists()


class LyingDisk(Disk):
    """A disk that takes a part, and says that it was all; or nothing, and says so."""

    def __init__(self, *, takes: bool) -> None:
        self._takes = takes

    def write(self, fd: int, content: bytes | memoryview) -> int:
        if not self._takes:
            return 0
        return os.write(fd, bytes(content)[1:]) + 1


@pytest.mark.parametrize(("takes", "words"), [(True, "but the file has"), (False, "takes no more")])
def test_a_write_that_did_not_happen_is_an_error(tmp_path: Path, *, takes: bool, words: str) -> None:
    """A record with a byte missing would stand in the ledger for good, and a write of nothing be repeated for ever."""
    with pytest.raises(OSError, match=words):
        write_file(LyingDisk(takes=takes), tmp_path / "record", [b"the record"])


def test_being_out_of_descriptors_is_no_verdict_on_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes, and the version is tried again: so it is the store's kind of trouble, not the version's."""

    def memfd_create(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    write_version(tmp_path, files=FILES)
    monkeypatch.setattr("os.memfd_create", memfd_create)
    with pytest.raises(StoreError, match="Too many open files"):
        VersionStore(tmp_path).verify(NAME, VERSION)


def test_a_loader_out_of_descriptors_says_so() -> None:
    """Whatever step meets it, of the load or the rehearsal, it is told as something that passes."""

    def prepare(version: Version, manifest: Digest | None, **_: object) -> Preparation:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    told: list[Preparation | SidecarError] = []
    loader = Loader(prepare, name="load-test")
    loader.start(VERSION, manifest=None, done=told.append)
    loader._thread.shutdown(wait=True)
    assert [type(each) for each in told] == [StoreError]


def test_a_model_that_cannot_be_opened_is_not_blamed(tmp_path: Path) -> None:
    """Onnxruntime would say of a path that it cannot open that it holds no model."""
    with pytest.raises(FileNotFoundError):
        open_session(str(tmp_path / "nothing"), name="model.onnx")

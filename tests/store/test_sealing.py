"""Sealed files: bytes that nobody can change between the hash and the load."""

import gc
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import IncompleteVersionError, Reason, VerificationError
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.manifest import FileEntry, Role
from model_sidecar.store.sealing import SealedFile, seal

CONTENT = os.urandom(1 << 20) * 9  # more than two copy buffers


@pytest.fixture(params=["memfd", "temporary file"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every story is told on a system with memfd, and on one without."""
    if request.param != "memfd":
        monkeypatch.delattr(os, "memfd_create")
    return str(request.param)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sealed(
    path: Path, *, size: int | None = None, digest: Digest | None = None, disk: Disk | None = None
) -> SealedFile:
    content = path.read_bytes()
    entry = FileEntry(digest or digest_of(content), size, Role.OTHER)
    with opened(path) as source:
        return seal(source, name=path.name, listed=entry, shown=path, disk=disk)


class CountingDisk(Disk):
    """Counts the bytes that were read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read_into(self, fd: int, buffer: memoryview) -> int:
        got = super().read_into(fd, buffer)
        self.read_bytes += got
        return got


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    return path


def test_the_sealed_bytes_are_the_files(file: Path) -> None:
    """Size, digest, `read` and the path all tell of the same bytes, which are the file's."""
    with sealed(file, size=len(CONTENT)) as made:
        assert (made.name, made.size, made.digest) == ("model.onnx", len(CONTENT), digest_of(CONTENT))
        assert made.read() == CONTENT
        assert Path(made.path).read_bytes() == CONTENT


def test_nobody_can_write_sealed_bytes(file: Path, kind: str) -> None:
    """Writing, growing and shrinking fail through the descriptor, whatever happens to the store's file."""
    with sealed(file, size=len(CONTENT)) as made:
        for change in (
            lambda: os.pwrite(made.fd, b"x", 0),
            lambda: os.ftruncate(made.fd, 0),
            lambda: os.ftruncate(made.fd, len(CONTENT) + 1),
        ):
            with pytest.raises(OSError, match=r"not permitted|Bad file|Invalid argument"):
                change()
        if kind == "memfd":
            with pytest.raises(PermissionError), Path(made.path).open("r+b", buffering=0) as anew:
                anew.write(b"x")
        else:
            assert "(deleted)" in str(Path(made.path).readlink())
        file.write_bytes(b"other")
        file.unlink()
        assert made.read() == CONTENT


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    """A file of no bytes seals like any other."""
    (tmp_path / "empty").touch()
    with sealed(tmp_path / "empty", size=0) as made:
        assert made.read() == b""


def test_many_threads_read_one_sealed_file(file: Path) -> None:
    """Readers share no position."""
    with sealed(file, size=len(CONTENT)) as made, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: made.read() == CONTENT, range(32)))


def test_closing_twice_closes_nobody_elses_descriptor(file: Path) -> None:
    """After the second close, a descriptor that has got the same number meanwhile is still open."""
    made = sealed(file, size=len(CONTENT))
    made.close()
    with opened(file) as another:
        made.close()
        os.fstat(another)


def test_a_sealed_file_that_is_forgotten_says_so(file: Path) -> None:
    """Dropping one without closing it gives the memory back, with a warning."""
    made = sealed(file, size=len(CONTENT))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del made
        gc.collect()
    assert [each.category for each in caught] == [ResourceWarning]


@pytest.mark.parametrize(
    ("size", "error"), [(len(CONTENT) + 1, IncompleteVersionError), (len(CONTENT) - 1, VerificationError)]
)
def test_another_size_is_refused(file: Path, size: int, error: type[VerificationError]) -> None:
    """Too small may be on its way, too large never is right."""
    with pytest.raises(VerificationError) as refused:
        sealed(file, size=size)
    assert refused.value.reason is Reason.SIZE_MISMATCH
    assert type(refused.value) is error


@pytest.mark.parametrize("size", [0, None])
def test_no_more_than_was_promised_is_ever_copied(size: int | None) -> None:
    """A file that has more bytes than its size says (one of /proc, or one that grows) is refused after one byte more."""
    before = sorted(Path("/proc/self/fd").iterdir())
    disk = CountingDisk()
    with pytest.raises(VerificationError) as refused:
        sealed(Path("/proc/self/maps"), size=size, disk=disk)
    assert disk.read_bytes == 1
    assert refused.value.reason is Reason.SIZE_MISMATCH
    assert isinstance(refused.value, IncompleteVersionError) == (size is None)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("size", "reason"), [(len(CONTENT), Reason.DIGEST_MISMATCH), (None, Reason.MODEL_HASH_MISMATCH)]
)
def test_other_bytes_are_refused_and_leave_nothing_open(file: Path, size: int | None, reason: Reason) -> None:
    """Another digest is refused, with both named, and no descriptor is left behind."""
    before = sorted(Path("/proc/self/fd").iterdir())
    expected = digest_of(b"other")
    with pytest.raises(VerificationError, match=expected) as refused:
        sealed(file, size=size, digest=expected)
    assert refused.value.reason is reason
    assert digest_of(CONTENT) in str(refused.value)
    assert sorted(Path("/proc/self/fd").iterdir()) == before

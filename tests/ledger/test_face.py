"""The active pointer's file."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.ledgers import A, B, FaultyDisk, Registry, chain
from support.mounts import read_only

from model_sidecar.errors import Reason, StoreError, StoreFullError
from model_sidecar.ledger.face import Standing, document
from model_sidecar.release.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A place where the environment's directory is there already."""
    registry = Registry(tmp_path / "store")
    registry.directory.mkdir(parents=True)
    return registry


def test_no_file_is_no_pointer(registry: Registry) -> None:
    """A missing file, or a missing directory, is nothing and no problem."""
    for _ in range(2):
        reading = registry.face().read()
        assert (reading.content, reading.identity, reading.pointer, reading.problem) == (
            None,
            None,
            None,
            None,
        )
        assert reading.is_ours
        if registry.directory.exists():
            registry.directory.rmdir()


def test_a_written_pointer_shows_its_record(registry: Registry) -> None:
    """The file holds the record's facts for people, in order, with a newline at its end, and parses as its pointer."""
    record = chain(A, B)[1]
    assert registry.face().write(record)

    content = registry.pointer.read_text()
    assert content.endswith("}\n")
    assert content.startswith('{\n  "schema": 1,\n  "model": "recommendation-v1",\n')
    assert json.loads(content) == document(record)
    assert list(json.loads(content)) == [
        *("schema", "model", "environment", "version", "generation", "record_sha256", "manifest_sha256"),
        *("previous_version", "action", "actor", "reason", "timestamp"),
    ]
    assert parse_pointer(content.encode()) == Pointer(B, generation=2)
    assert registry.pointer.stat().st_mode & 0o7777 == 0o644
    assert registry.leftovers() == []
    assert registry.face().read().pointer == Pointer(B, generation=2)


def test_an_edit_by_hand_is_read(registry: Registry) -> None:
    """One field is enough."""
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    reading = registry.face().read()
    assert (reading.pointer, reading.problem) == (Pointer(B), None)
    assert reading.content == b'{"version": "2024.01.12.prod"}'


def test_the_identity_says_whether_anything_has_happened(registry: Registry) -> None:
    """Two looks are equal; other content, the same content written anew, and another file with it are not."""
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    os.utime(registry.pointer, ns=(1, 1))
    identities = [registry.face().read().identity]
    assert registry.face().read().identity == identities[0]

    os.utime(registry.pointer, ns=(2, 2))
    identities.append(registry.face().read().identity)
    registry.pointer.write_text('{"version": "2024.01.12.prod" }')
    os.utime(registry.pointer, ns=(2, 2))
    identities.append(registry.face().read().identity)
    other = registry.pointer.with_name("other")
    shutil.copy2(registry.pointer, other)
    other.replace(registry.pointer)
    identities.append(registry.face().read().identity)
    assert len(set(identities)) == 4


def make_empty(path: Path) -> None:
    path.touch()


def make_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def make_half_written(path: Path) -> None:
    path.write_text('{"version": "2024.01.1')


def make_huge(path: Path) -> None:
    path.write_bytes(b'{"version": "2024.01.12.prod"}' + b" " * MAX_POINTER_BYTES)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "make",
    [
        make_empty,
        make_binary,
        make_half_written,
        make_huge,
        make_fifo,
        make_directory,
        make_loop,
        make_device,
    ],
)
def test_what_is_no_pointer_is_a_problem_and_no_exception(
    registry: Registry, make: Callable[[Path], None]
) -> None:
    """Whatever stands in the pointer's place is POINTER_INVALID, without blocking and without reading on for ever."""
    make(registry.pointer)
    reading = registry.face().read()
    assert reading.problem is not None
    assert reading.problem.reason is Reason.POINTER_INVALID
    assert reading.pointer is None
    assert reading.identity is not None
    assert len(reading.content or b"") <= MAX_POINTER_BYTES + 1
    assert registry.face().read().identity == reading.identity


def test_a_pointer_that_may_not_be_read_is_a_problem(registry: Registry) -> None:
    """EACCES is about this file; EIO is about the store."""
    disk = FaultyDisk()
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    disk.fail("open", errno.EACCES)
    problem = registry.face(disk=disk).read().problem
    assert problem is not None
    assert problem.reason is Reason.POINTER_INVALID

    disk.fail("open", errno.EIO)
    with pytest.raises(StoreError) as trouble:
        registry.face(disk=disk).read()
    assert trouble.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize("call", ["lstat", "stat"])
def test_a_store_that_cannot_be_asked_is_trouble_of_the_store(registry: Registry, call: str) -> None:
    """EIO where only facts of the pointer or its directory are asked for is STORE_UNAVAILABLE, no mistake of ours."""
    disk = FaultyDisk()
    disk.fail(call, errno.EIO)
    with pytest.raises(StoreError) as trouble:
        registry.face(disk=disk).read()
    assert trouble.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("open", errno.EROFS, StoreError),
        ("write", errno.ENOSPC, StoreFullError),
        ("fsync", errno.EIO, StoreError),
        ("close", errno.EIO, StoreError),
        ("rename", errno.EIO, StoreError),
    ],
)
def test_a_pointer_that_cannot_be_written_stays_as_it_was(
    registry: Registry, call: str, number: int, error: type[StoreError]
) -> None:
    """A fault up to the rename leaves the old pointer whole, and no temporary file."""
    first, second = chain(A, B)
    registry.face().write(first)
    disk = FaultyDisk()
    disk.fail(call, number)
    with pytest.raises(StoreError) as trouble:
        registry.face(disk=disk).write(second)
    assert type(trouble.value) is error
    assert registry.face().read().pointer == Pointer(A, generation=1)
    assert registry.leftovers() == []


def test_a_directory_that_cannot_be_synced_is_told(registry: Registry) -> None:
    """EIO after the rename is an error too, though the new pointer is visible."""
    disk = FaultyDisk()
    disk.fail("fsync", errno.EIO, skip=1)
    with pytest.raises(StoreError):
        registry.face(disk=disk).write(chain(A)[0])
    assert registry.face().read().pointer == Pointer(A, generation=1)


def test_an_edit_made_meanwhile_is_not_overwritten(registry: Registry) -> None:
    """Told what it replaces, a write leaves a file alone that is another one by then."""
    first, second = chain(A, B)
    face = registry.face()
    nothing = face.read()
    assert face.write(first, replacing=nothing)
    assert not face.write(second, replacing=nothing)

    shown = face.read()
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    assert not face.write(second, replacing=shown)
    assert registry.pointer.read_text() == '{"version": "2024.01.12.prod"}'
    assert registry.leftovers() == []
    assert face.write(second, replacing=face.read())


def mount_config_map(directory: Path, content: str, *, revision: str) -> None:
    """What the kubelet does: a new directory, and `..data` swapped to it by rename."""
    (directory / f"..{revision}").mkdir()
    (directory / f"..{revision}" / "active.json").write_text(content)
    (directory / "..data_tmp").symlink_to(f"..{revision}")
    (directory / "..data_tmp").replace(directory / "..data")
    if not (directory / "active.json").is_symlink():
        (directory / "active.json").symlink_to("..data/active.json")


def test_a_config_map_is_followed_and_externally_managed(registry: Registry) -> None:
    """A pointer behind the `..data` symlinks is read through them, after a swap anew, and is not ours to write."""
    mount_config_map(registry.directory, '{"version": "2024.01.10.prod"}', revision="r1")
    face = registry.face()
    first = face.read()
    assert (first.pointer, first.standing) == (Pointer(A), Standing.LINKED)

    mount_config_map(registry.directory, '{"version": "2024.01.12.prod"}', revision="r2")
    second = face.read()
    assert (second.pointer, second.standing) == (Pointer(B), Standing.LINKED)
    assert second.identity != first.identity


def test_a_dangling_link_is_no_pointer_and_not_ours(registry: Registry) -> None:
    """While a ConfigMap is being taken away nothing is there, and nothing may be put there."""
    registry.pointer.symlink_to("..data/active.json")
    reading = registry.face().read()
    assert (reading.identity, reading.problem, reading.standing) == (None, None, Standing.LINKED)


def test_an_ordinary_pointer_is_ours(registry: Registry) -> None:
    """A file, or none, in a directory that we may write is not externally managed; nor is a read-only file mode."""
    assert registry.face().standing() is Standing.OURS
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    registry.pointer.chmod(0o444)
    assert registry.face().standing() is Standing.OURS


@pytest.mark.parametrize(
    ("part", "standing"),
    [
        ("directory", Standing.READ_ONLY),
        ("pointer", Standing.LINKED),
        ("model_directory", Standing.READ_ONLY),
    ],
)
def test_what_lies_on_a_read_only_mount_is_not_ours(
    registry: Registry, part: str, standing: Standing
) -> None:
    """A pointer whose directory, or which itself, is mounted read-only is followed and not written, even as root."""
    registry.pointer.write_text('{"version": "2024.01.12.prod"}')
    with read_only(getattr(registry, part)):
        reading = registry.face().read()
        assert (reading.pointer, reading.standing) == (Pointer(B), standing)
    assert registry.face().standing() is Standing.OURS


def test_a_read_only_store_without_a_pointer_is_not_ours(tmp_path: Path) -> None:
    """Where the environment's directory is missing and could not be made, the pointer is not ours either."""
    registry = Registry(tmp_path / "store")
    assert registry.face().standing() is Standing.OURS
    with read_only(registry.model_directory):
        assert registry.face().read().standing is Standing.READ_ONLY


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_we_may_not_write_is_not_ours(registry: Registry) -> None:
    """Permissions count as a read-only mount does."""
    registry.directory.chmod(0o555)
    try:
        assert registry.face().standing() is Standing.READ_ONLY
    finally:
        registry.directory.chmod(0o755)

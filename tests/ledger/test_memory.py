"""What a sidecar remembers of its ledger through restarts."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from support.ledgers import A, B, C, FaultyDisk, Registry, chain, commit, follow

from model_sidecar.errors import Reason, StoreError
from model_sidecar.ledger.face import PointerFace
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.pending import PendingFile
from model_sidecar.ledger.record import Writer, encode


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


@pytest.fixture
def memory_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sites" / "ledger.seen"


def restarted(registry: Registry, memory: Memory) -> Ledger:
    """The ledger as a process sees it that has just started."""
    from support.ledgers import MODEL, PROD, START

    ledger = Ledger(
        FileBackend(registry.ledger_directory),
        PointerFace(registry.pointer),
        model=MODEL,
        environment=PROD,
        writer=Writer("sidecar-1", "host-1", "test"),
        now=lambda: START,
        memory=memory,
    )
    ledger.recall()
    return ledger


def test_a_restart_knows_what_the_process_before_knew(registry: Registry, memory_file: Path) -> None:
    """Own commits and others' records, without a look at the store; and it goes on from there."""
    first = restarted(registry, Memory(memory_file))
    commit(first, A)
    commit(registry.open("another"), B)
    first.refresh()

    second = restarted(registry, Memory(memory_file))
    assert [record.version for record in second.records()] == [B, A]
    assert second.head == first.head
    commit(second, C)
    third = restarted(registry, Memory(memory_file))
    assert [record.version for record in third.records()] == [C, B, A]
    assert Memory(memory_file).read() == [encode(record) for record in reversed(third.records())]


def test_a_ledger_that_went_back_is_noticed_after_a_restart(registry: Registry, memory_file: Path) -> None:
    """A record that was seen before is missing: told, with the way out, and nothing is added."""
    first = restarted(registry, Memory(memory_file))
    for version in (A, B):
        commit(first, version)
    registry.record_file(2).unlink()

    second = restarted(registry, Memory(memory_file))
    with pytest.raises(StoreError, match="went back") as told:
        second.look()
    assert told.value.reason is Reason.LEDGER_INVALID
    assert str(memory_file) in str(told.value)
    with pytest.raises(StoreError, match="went back"):
        commit(second, C)


def test_a_store_that_is_not_mounted_is_no_ledger_that_went_back(
    registry: Registry, memory_file: Path
) -> None:
    """After a restart an empty directory in the store's place is told as that, and writes nothing."""
    commit(restarted(registry, Memory(memory_file)), A)
    registry.model_directory.rename(registry.model_directory.with_name("elsewhere"))
    with pytest.raises(StoreError, match="still mounted") as told:
        restarted(registry, Memory(memory_file)).look()
    assert told.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-10], id="cut short"),
        pytest.param(lambda content: content[:-200] + bytes(200), id="zeros at its end"),
        pytest.param(lambda content: content.replace(b'"generation":2', b'"generation":7'), id="edited"),
        pytest.param(lambda content: content + b"{}\n", id="a line too many"),
        pytest.param(lambda content: content.replace(b"retrain", b"reXrain", 1), id="a letter in the first"),
        pytest.param(
            lambda content: b"reXrain".join(content.rsplit(b"retrain", 1)), id="a letter in the last"
        ),
    ],
)
def test_damaged_lines_are_forgotten_and_learned_again(
    registry: Registry, memory_file: Path, damage: object
) -> None:
    """What is whole is believed; the rest comes from the ledger, and the file is right again."""
    first = restarted(registry, Memory(memory_file))
    for version in (A, B):
        commit(first, version)
    whole = memory_file.read_bytes()
    memory_file.write_bytes(damage(whole))  # type: ignore[operator]

    second = restarted(registry, Memory(memory_file))
    second.refresh()
    assert second.head == first.head
    commit(second, C)
    assert memory_file.read_bytes().startswith(whole)
    assert len(restarted(registry, Memory(memory_file)).records()) == 3


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda _: encode(follow(None, B)), id="begins anew"),
        pytest.param(lambda _: encode(follow(follow(None, C), B)), id="follows another"),
        pytest.param(lambda record: record.replace(b"T03:00", b"T3 pm."), id="no record"),
        pytest.param(lambda _: b"[]\n", id="no object"),
    ],
)
def test_lines_that_are_whole_but_follow_nothing_are_not_believed(
    registry: Registry, memory_file: Path, second: Callable[[bytes], bytes]
) -> None:
    """Each has its digest, as if we had written it; what does not hold as a chain is learned from the ledger again."""
    records = [encode(each) for each in chain(A, B)]
    registry.ledger_directory.mkdir(parents=True)
    for generation, content in enumerate(records, 1):
        registry.record_file(generation).write_bytes(content)
    memory = Memory(memory_file)
    memory.append(1, [records[0], second(records[1])])

    ledger = restarted(registry, Memory(memory_file))
    assert [record.version for record in ledger.records()] == [A]
    ledger.refresh()
    assert [record.version for record in ledger.records()] == [B, A]
    assert Memory(memory_file).read() == records


def test_a_memory_that_cannot_be_written_stops_nothing(
    registry: Registry, memory_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk of the sidecar's own is told once; deployments go on, and are remembered when there is room again."""
    disk = FaultyDisk()
    ledger = restarted(registry, Memory(memory_file, disk=disk))
    disk.fail("write", errno.ENOSPC, times=2)
    for version in (A, B):
        commit(ledger, version)
    assert len(caplog.records) == 1
    commit(ledger, C)
    assert len(restarted(registry, Memory(memory_file)).records()) == 3


def test_what_waits_to_be_recorded_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """The newest record that was saved is read; one that could not be saved leaves the one before."""
    (one, other) = chain(A, B)
    disk = FaultyDisk()
    pending = PendingFile(tmp_path / "state" / "pending.json", disk=disk)
    assert pending.read() is None
    pending.save(one)
    disk.fail("fsync", errno.EIO)
    with pytest.raises(StoreError):
        pending.save(other)
    assert PendingFile(tmp_path / "state" / "pending.json").read() == one
    pending.clear()
    assert pending.read() is None
    assert [*(tmp_path / "state").iterdir()] == []

"""Several processes on one ledger, and processes killed at any moment."""

import os
import random
import selectors
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import ledger_writer
from support.ledgers import Registry, commit, intent

import model_sidecar
from model_sidecar.ledger.reconcile import Follow, interpret
from model_sidecar.ledger.record import Record

KILLS = 50
KILLED_WITHIN_S = 0.05


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


def start(registry: Registry, number: int, count: int) -> subprocess.Popen[bytes]:
    """A writer; every other one has the store on a mount without link."""
    way = ("link", "directories")[number % 2]
    roots = [Path(ledger_writer.__file__).parents[1], Path(model_sidecar.__file__).parents[1]]
    return subprocess.Popen(
        [
            *(sys.executable, ledger_writer.__file__, registry.model_directory.parent),
            *(f"writer-{number}", str(count), way),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def acknowledged(output: bytes) -> dict[str, int]:
    """Generation by request id, of whole lines only: what a killed process was about to say was never said."""
    lines = [line.split() for line in output.decode().splitlines(keepends=True) if line.endswith("\n")]
    return {request_id: int(generation) for generation, request_id in lines}


def whole_chain(registry: Registry) -> list[Record]:
    """Every record, by a sidecar that has never looked before; its links are checked as it loads."""
    ledger = registry.open("auditor")
    head = ledger.refresh()
    records = [*reversed(ledger.records(limit=10**6))]
    assert head is not None
    assert [record.generation for record in records] == [*range(1, head.generation + 1)]
    assert len([*registry.ledger_directory.glob("*.json")]) == head.generation
    assert len({record.request_id for record in records}) == len(records)
    return records


def test_four_writers_leave_one_gapless_chain(registry: Registry) -> None:
    """Each acknowledged record is there, at its generation, once; there are no others, no gap and no leftovers.

    Two of them fill slots by link and two by directories, side by side.
    """
    writers = [start(registry, number, 25) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        outputs = [
            output for output, _ in pool.map(lambda writer: writer.communicate(b"go\n", timeout=100), writers)
        ]
    assert [writer.returncode for writer in writers] == [0] * 4

    told = [acknowledged(output) for output in outputs]
    assert [len(each) for each in told] == [25] * 4
    together = {request_id: generation for each in told for request_id, generation in each.items()}
    assert {record.request_id: record.generation for record in whole_chain(registry)} == together
    assert registry.leftovers() == []


def output_until_killed(writer: subprocess.Popen[bytes], *, after_s: float) -> bytes:
    """Everything the writer said until it was killed, `after_s` after its first acknowledgement."""
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write(b"go\n")
    writer.stdin.flush()
    said = os.read(writer.stdout.fileno(), 1 << 16)
    end = time.monotonic() + after_s
    with selectors.DefaultSelector() as selector:
        selector.register(writer.stdout, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if selector.select(left):
                said += os.read(writer.stdout.fileno(), 1 << 16)
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    assert writer.returncode == -signal.SIGKILL
    return said + rest


def test_killed_writers_leave_a_valid_chain(registry: Registry) -> None:
    """After fifty kills at random moments, two writers at a time, nothing acknowledged is lost and all goes on."""
    chance = random.Random(20240115)
    told: dict[str, int] = {}
    with ThreadPoolExecutor(2) as pool:

        def one_life(number: int) -> dict[str, int]:
            writer = start(registry, number, 0)
            return acknowledged(output_until_killed(writer, after_s=chance.uniform(0, KILLED_WITHIN_S)))

        for each in pool.map(one_life, range(KILLS)):
            told |= each
            # The chain holds at every moment, also beside the next writers' work.
            registry.open("auditor").refresh()
    records = whole_chain(registry)
    by_request = {record.request_id: record.generation for record in records}
    lost = {
        request_id: generation
        for request_id, generation in told.items()
        if by_request.get(request_id) != generation
    }
    print(
        f"{KILLS} kills: {len(records)} records, {len(told)} acknowledged, {len(registry.leftovers())} leftovers"
    )
    assert lost == {}
    # At most one record in doubt for each kill.
    assert len(records) - len(told) <= KILLS

    # Whoever comes next goes on, and the pointer is healed by one look.
    ledger = registry.open()
    head = ledger.refresh()
    decision = interpret(registry.face().read(), head, ledger.record, ledger.find_request)
    assert isinstance(decision, Follow)
    assert decision.record == head
    assert commit(ledger, intent(request_id="afterwards")).record.generation == len(records) + 1

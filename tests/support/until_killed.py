"""Processes that work until they are killed, and what can be said of their ledger afterwards."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from support import ledger_writer
from support.ledgers import Registry, commit, intent
from support.shell import as_started
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD

import model_sidecar
from model_sidecar.ledger.reconcile import Follow, interpret
from model_sidecar.ledger.record import Record
from model_sidecar_client import SidecarError


@dataclass
class Told:
    """What writers acknowledged: generation by request id; and how long their commits took, seconds."""

    generations: dict[str, int] = field(default_factory=dict)
    commits_s: list[float] = field(default_factory=list)

    def add(self, other: Told) -> None:
        self.generations |= other.generations
        self.commits_s += other.commits_s


def start_writer(
    registry: Registry, sidecar: str, count: int, *, linkless: bool = False
) -> subprocess.Popen[bytes]:
    """A writer (`support.ledger_writer`), which begins once it is told to; `linkless`: as on a mount without link."""
    roots = [Path(ledger_writer.__file__).parents[1], Path(model_sidecar.__file__).parents[1]]
    return subprocess.Popen(
        [
            *(sys.executable, ledger_writer.__file__, registry.model_directory.parent, sidecar, str(count)),
            *(["directories"] if linkless else []),
        ],
        env=as_started(PYTHONPATH=os.pathsep.join(map(str, roots))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def acknowledged(output: bytes) -> Told:
    """Of whole lines only: what a killed process was about to say was never said."""
    told = Told()
    for line in output.decode().splitlines(keepends=True):
        if line.endswith("\n"):
            generation, request_id, took_s = line.split()
            told.generations[request_id] = int(generation)
            told.commits_s.append(float(took_s))
    return told


def write_until_killed(registry: Registry, sidecar: str, *, after_s: float, linkless: bool = False) -> Told:
    """A writer's life: it is killed `after_s` after its first acknowledgement."""
    writer = start_writer(registry, sidecar, 0, linkless=linkless)
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
    return acknowledged(said + rest)


def whole_chain(registry: Registry) -> list[Record]:
    """Every record, by a sidecar that has never looked before; its links are checked as it loads."""
    ledger = registry.open("auditor")
    head = ledger.refresh()
    records = [*reversed(ledger.records(limit=10**6))]
    assert head is not None
    assert [record.generation for record in records] == [*range(1, head.generation + 1)]
    assert len([*registry.ledger_directory.glob("*.json")]) == head.generation
    return records


def lost(told: Told, records: list[Record]) -> dict[str, int]:
    """What was acknowledged and does not stand where it should."""
    there = {record.request_id: record.generation for record in records}
    return {name: number for name, number in told.generations.items() if there.get(name) != number}


def doubled(records: list[Record]) -> int:
    """How many records there are too many."""
    return len(records) - len({record.request_id for record in records})


def goes_on(registry: Registry) -> None:
    """Whoever comes next finds the pointer healed by one look, and adds the next generation."""
    ledger = registry.open()
    head = ledger.refresh()
    assert head is not None
    decision = interpret(registry.face().read(), head, ledger.record, ledger.find_request)
    assert isinstance(decision, Follow)
    assert decision.record == head
    assert commit(ledger, intent(request_id="afterwards")).record.generation == head.generation + 1


def order_until_it_dies(
    sidecar: RunningSidecar, versions: tuple[str, ...], acknowledged: dict[int, str]
) -> None:
    """Deploy these versions in turn until the sidecar is not there any more; what it acknowledged is added."""
    with sidecar.operator() as operator:
        turn = 0
        while True:
            turn += 1
            try:
                done = operator.deploy(
                    MODEL,
                    versions[turn % len(versions)],
                    environment=PROD,
                    reason="until it dies",
                    timeout_s=5,
                )
            except SidecarError:
                if sidecar.dead():
                    return
                continue
            acknowledged[done.generation] = done.version

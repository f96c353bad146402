"""kill -9 at any moment: what starts again serves what the ledger says, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

from support.sidecars import RunningSidecar
from support.until_killed import order_until_it_dies
from support.yard import MODEL, PROD, Yard

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"
KILLS = 12


def test_a_killed_sidecar_serves_what_the_ledger_says(yard: Yard, tmp_path: Path) -> None:
    """Killed at random moments amid orders, then started: head, pointer and answers agree, each acknowledgement stands."""
    for version in (A, B, C):
        yard.publish(version)
    acknowledged: dict[int, str] = {}
    chance = random.Random(7)
    with RunningSidecar(yard, "--poll-interval", "50ms", "--state-dir", str(tmp_path / "state")) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            for version in (A, B, C):  # from now on they need no trial, which takes longer than a life below
                operator.deploy(MODEL, version, environment=PROD)
        for _ in range(KILLS):
            sidecar.wait_answering()
            killer = threading.Timer(chance.uniform(0.02, 0.4), sidecar.kill)
            killer.start()
            order_until_it_dies(sidecar, (A, B, C), acknowledged)
            killer.join()
            sidecar.start()
        sidecar.wait_answering()
        ledger = yard.ledger()
        head = ledger.head
        assert head is not None
        sidecar.wait_version(head.version)
        with sidecar.client() as client:
            answer = client.predict(MODEL, {"raw": [[1.0, 0.0]]})

        assert (answer.version, answer.generation) == (head.version, head.generation)
        assert float(answer.outputs["y"][0][0]) == yard.expected(head.version, 1.0)
        pointer = json.loads(yard.pointer.read_text())
        assert (pointer["version"], pointer["generation"]) == (head.version, head.generation)
        recorded = {record.generation: record.version for record in ledger.records(limit=100_000)}
        assert recorded | acknowledged == recorded
        assert sorted(recorded) == list(range(1, head.generation + 1))
        print(
            f"\n{KILLS} kills, {len(acknowledged)} acknowledged orders, {len(recorded)} generations, 0 lost"
        )


def test_a_pointer_that_lags_after_a_crash_is_rewritten(yard: Yard) -> None:
    """Killed between the record and the pointer: the record counts, and the pointer is put right at the start."""
    for version in (A, B):
        yard.publish(version)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            operator.deploy(MODEL, A, environment=PROD)
            before = yard.pointer.read_bytes()
            operator.deploy(MODEL, B, environment=PROD)
        sidecar.kill()
        yard.pointer.write_bytes(before)
        sidecar.start().wait_answering()
        sidecar.wait_version(B)

        assert json.loads(yard.pointer.read_text())["generation"] == 2
        assert len(yard.ledger().records()) == 2

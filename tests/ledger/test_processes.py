"""Several processes on one ledger, and processes killed at any moment; `make kills` has more of them, and other mounts."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.ledgers import Registry
from support.until_killed import (
    Told,
    acknowledged,
    doubled,
    goes_on,
    lost,
    start_writer,
    whole_chain,
    write_until_killed,
)

KILLS = 50
KILLED_WITHIN_S = 0.05


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


def test_four_writers_leave_one_gapless_chain(registry: Registry) -> None:
    """Each acknowledged record is there, at its generation, once; there are no others, no gap and no leftovers.

    Two of them fill slots by link and two by directories, side by side.
    """
    writers = [
        start_writer(registry, f"writer-{number}", 25, linkless=number % 2 == 1) for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        outputs = [
            output for output, _ in pool.map(lambda writer: writer.communicate(b"go\n", timeout=100), writers)
        ]
    assert [writer.returncode for writer in writers] == [0] * 4

    told = [acknowledged(output).generations for output in outputs]
    assert [len(each) for each in told] == [25] * 4
    together = {request_id: generation for each in told for request_id, generation in each.items()}
    assert {record.request_id: record.generation for record in whole_chain(registry)} == together
    assert registry.leftovers() == []


def test_killed_writers_leave_a_valid_chain(registry: Registry) -> None:
    """After fifty kills at random moments, two writers at a time, nothing acknowledged is lost and all goes on."""
    chance = random.Random(20240115)
    told = Told()
    with ThreadPoolExecutor(2) as pool:

        def one_life(number: int) -> Told:
            after_s = chance.uniform(0, KILLED_WITHIN_S)
            return write_until_killed(registry, f"writer-{number}", after_s=after_s, linkless=number % 2 == 1)

        for each in pool.map(one_life, range(KILLS)):
            told.add(each)
            # The chain holds at every moment, also beside the next writers' work.
            registry.open("auditor").refresh()
    records = whole_chain(registry)
    print(
        f"{KILLS} kills: {len(records)} records, {len(told.generations)} acknowledged, "
        f"{len(registry.leftovers())} leftovers"
    )
    assert lost(told, records) == {}
    assert doubled(records) == 0
    # At most one record in doubt for each kill.
    assert len(records) - len(told.generations) <= KILLS
    goes_on(registry)

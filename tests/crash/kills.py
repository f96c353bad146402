"""kill -9 at random moments: four writers on one store, on every kind of file system that can be mounted here; and sidecars.

    make kills                            (ARGS='--kills 200 --sidecar-kills 20 --seed 7')

Writers are commit loops in processes of their own, four at a time; each is killed within 50 ms of its first
acknowledgement, and replaced. One in four finds no hard links, and writes records as directories beside the others. Sidecars are `model-sidecar serve`, killed amid orders and hand edits of the pointer, started
again and compared with the ledger. Ends with 1 where anything acknowledged is lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.file_systems import KINDS, NotMountedError, mounted
from support.ledgers import Registry
from support.sidecars import RunningSidecar
from support.until_killed import (
    Told,
    doubled,
    goes_on,
    lost,
    order_until_it_dies,
    whole_chain,
    write_until_killed,
)
from support.yard import MODEL, Yard

WRITERS = 4
KILLED_WITHIN_S = 0.05
SIDECAR_KILLED_WITHIN_S = 2.0
VERSIONS = ("2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod")


def kill_writers(directory: Path, *, kills: int, chance: random.Random) -> tuple[str, bool]:
    """One row of the table, and whether nothing was lost."""
    registry = Registry(directory / "store")
    told = Told()
    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        moments = [chance.uniform(0, KILLED_WITHIN_S) for _ in range(kills)]
        lives = pool.map(
            lambda life: write_until_killed(
                registry, f"writer-{life[0]}", after_s=life[1], linkless=life[0] % 4 == 3
            ),
            enumerate(moments),
        )
        reader = registry.open("reader")
        for each in lives:
            told.add(each)
            reader.refresh()  # raises where the chain is broken, or has gone back behind what was seen
    records = whole_chain(registry)
    missing, twice, leftovers = lost(told, records), doubled(records), len(registry.leftovers())
    goes_on(registry)
    p50_ms = statistics.median(told.commits_s) * 1e3
    row = (
        f"{kills:7} {len(records):9} {len(told.generations):13} {len(missing):6} {twice:8} {leftovers:10} "
        f"{p50_ms:13.1f} {time.monotonic() - began:6.0f}"
    )
    return row, not missing and not twice and len(records) - len(told.generations) <= kills


def kill_sidecars(directory: Path, *, kills: int, chance: random.Random) -> tuple[str, bool]:
    """One row of the table, and whether nothing was lost."""
    yard = Yard(directory)
    for version in VERSIONS:
        yard.publish(version)
    acknowledged: dict[int, str] = {}
    differing: list[str] = []
    began = time.monotonic()
    with RunningSidecar(yard, "--poll-interval", "50ms") as sidecar:
        for number in range(kills):
            sidecar.wait_answering()
            killer = threading.Timer(chance.uniform(0.02, SIDECAR_KILLED_WITHIN_S), sidecar.kill)
            editor = threading.Thread(target=_edit_until_it_dies, args=(yard, sidecar, chance.random()))
            for thread in (killer, editor):
                thread.start()
            order_until_it_dies(sidecar, VERSIONS, acknowledged)
            killer.join()
            editor.join()
            sidecar.start()
            differing += _compare(yard, sidecar, number)
    recorded = {record.generation: record.version for record in yard.ledger().records(limit=10**6)}
    missing = {number: version for number, version in acknowledged.items() if recorded.get(number) != version}
    whole = sorted(recorded) == list(range(1, len(recorded) + 1))
    leftovers = len([*yard.pointer.parent.rglob(".*.tmp")])
    row = (
        f"{kills:7} {len(recorded):9} {len(acknowledged):13} {len(missing):6} {'-':>8} {leftovers:10} "
        f"{'-':>13} {time.monotonic() - began:6.0f}"
    )
    for each in differing:
        print(f"  differs: {each}")
    return row, not missing and not differing and whole


def _edit_until_it_dies(yard: Yard, sidecar: RunningSidecar, seed: float) -> None:
    chance = random.Random(seed)
    while not sidecar.dead():
        time.sleep(chance.uniform(0.05, 0.3))
        with suppress(OSError):
            chance.choice((yard.edit_pointer, yard.replace_pointer))(chance.choice(VERSIONS))


def _compare(yard: Yard, sidecar: RunningSidecar, number: int) -> list[str]:
    """Started again, and left in peace: pointer, head and answers come to agree."""
    sidecar.wait_ready()
    end = time.monotonic() + 30
    while True:
        head = yard.ledger().head
        assert head is not None
        pointer = json.loads(yard.pointer.read_bytes())
        with sidecar.client() as client:
            answer = client.predict(MODEL, {"raw": [[1.0, 0.0]]})
        value = float(answer.outputs["y"][0][0])
        if value != yard.expected(answer.version, 1.0):
            return [f"kill {number}: {value} is tagged {answer.version}"]
        said = (head.generation, head.version)
        if said == (answer.generation, answer.version) == (pointer.get("generation"), pointer["version"]):
            return []
        if time.monotonic() > end:
            return [
                f"kill {number}: head {said}, answer {answer.generation} {answer.version}, pointer {pointer}"
            ]
        time.sleep(0.02)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=1000, help="of writers, over all file systems (%(default)s)"
    )
    parser.add_argument("--sidecar-kills", type=int, default=60, help="of sidecars (%(default)s)")
    parser.add_argument("--seed", type=int, default=20240115)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    good = True
    print(
        f"{'':26} {'kills':>7} {'records':>9} {'acknowledged':>13} {'lost':>6} {'doubled':>8} {'leftovers':>10} "
        f"{'p50 commit ms':>13} {'s':>6}"
    )
    rows = [(f"4 writers, {kind}", kind, -(-arguments.kills // len(KINDS))) for kind in KINDS]
    rows += [(f"sidecar, {kind}", kind, arguments.sidecar_kills // 2) for kind in ("plain disk", "overlayfs")]
    for label, kind, kills in rows:
        kill = kill_writers if label.startswith("4") else kill_sidecars
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with mounted(kind, Path(scratch)) as directory:
                    row, kept = kill(directory, kills=kills, chance=chance)
            except NotMountedError as error:
                row, kept = f"not mounted here: {error}", True
        print(f"{label:26} {row}", flush=True)
        good = good and kept
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

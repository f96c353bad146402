"""What a start and a commit cost as the ledger grows, and a start as the store does."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness import models, servers
from harness.figures import Figure, Goal, Line, Plot, ratios, spread
from harness.rounds import in_turns
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.ledger.ledger import Intent, Ledger
from model_sidecar.ledger.record import Action, Actor, Record, Writer, encode
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Version

VERSIONS = (Version("2024.01.10.prod"), Version("2024.01.12.prod"))
MANY_VERSIONS = 1000
FLAT = Goal(1.25, at_most=True)
OPERATOR = Actor(id="uid:1000", method="unix-peer")
_SETTLES_S = 4.0  # longer than a ledger must be at rest until it is known to be whole


def grown(yard: Yard, generations: int) -> None:
    """Write a ledger of so many deployments of two versions in turns, as sidecars would have over the years."""
    layout = yard.versions.layout
    folder = layout.ledger(MODEL, PROD)
    folder.mkdir(parents=True, exist_ok=True)
    manifests = [yard.versions.manifest(MODEL, version).digest for version in VERSIONS]
    last: Record | None = None
    for generation in range(1, generations + 1):
        last = _record(last, generation, VERSIONS[generation % 2], manifests[generation % 2])
        (folder / f"{generation:020d}.json").write_bytes(encode(last))


def start(*, sizes: Sequence[int], rounds: int) -> tuple[list[Figure], Plot]:
    """Seconds from the process's start to the first answer, without and with a memory of its own."""
    with ExitStack() as stack:
        yards = {size: _yard(stack, size) for size in sizes}
        crowded = _yard(stack, sizes[0])
        for number in range(MANY_VERSIONS):
            shutil.copytree(crowded.version_dir(VERSIONS[0]), crowded.version_dir(_version(number)))
        states = {size: _folder(stack) for size in sizes}
        ways = {("no memory", size): partial(_start_s, yard) for size, yard in yards.items()}
        ways |= {
            ("--state-dir", size): partial(_start_s, yard, "--state-dir", str(states[size] / "state"))
            for size, yard in yards.items()
        }
        ways["store", MANY_VERSIONS] = partial(_start_s, crowded)
        for size in sizes:
            ways["--state-dir", size]()  # it remembers from then on
        found = in_turns(ways, rounds=rounds)
    least, most = sizes[0], sizes[-1]
    figures = [
        Figure(
            f"start to first answer, a ledger of {most:,}, of one of {least}: {who}",
            ratios(found[who, most], found[who, least]),
            FLAT if who == "--state-dir" else None,
            note=f"{spread(found[who, most], '{:.2f}')} s beside {spread(found[who, least], '{:.2f}')} s",
        )
        for who in ("--state-dir", "no memory")
    ]
    figures.append(
        Figure(
            f"start to first answer, a store of {MANY_VERSIONS + 2:,} versions, of one of 2",
            ratios(found["store", MANY_VERSIONS], found["no memory", least]),
            FLAT,
        )
    )
    lines = [
        Line(who, tuple((size, statistics.median(found[who, size])) for size in sizes))
        for who in ("no memory", "--state-dir")
    ]
    return figures, Plot("start", "Start to first answer", "generations in the ledger", "s", tuple(lines))


def commit(*, sizes: Sequence[int], rounds: int) -> tuple[list[Figure], Plot]:
    """Milliseconds of a commit, to a ledger that nobody has touched for some seconds and right behind another commit."""
    with ExitStack() as stack:
        ledgers = {size: _opened(_yard(stack, size)) for size in sizes}
        for ledger in ledgers.values():
            _commit_ms(ledger)  # the first one tries what the mount can do
        found: dict[tuple[str, int], list[float]] = {
            (when, size): [] for when in ("at rest", "at once again") for size in sizes
        }
        for number in range(rounds):
            rests = time.monotonic() + _SETTLES_S
            while time.monotonic() < rests:
                for ledger in ledgers.values():
                    ledger.look()  # as a sidecar does all the time
                time.sleep(0.5)
            for size in sizes if number % 2 else sizes[::-1]:
                found["at rest", size].append(_commit_ms(ledgers[size]))
                found["at once again", size].append(_commit_ms(ledgers[size]))
    least, most = sizes[0], sizes[-1]
    figures = [
        Figure(
            f"a commit to a ledger of {most:,}, of one of {least}: {when}",
            ratios(found[when, most], found[when, least]),
            FLAT if when == "at rest" else None,
            note=f"{spread(found[when, most], '{:.1f}')} ms beside {spread(found[when, least], '{:.1f}')} ms",
        )
        for when in ("at rest", "at once again")
    ]
    lines = [
        Line(when, tuple((size, statistics.median(found[when, size])) for size in sizes))
        for when in ("at once again", "at rest")
    ]
    return figures, Plot("commit", "A commit", "generations in the ledger", "ms", tuple(lines))


def _start_s(yard: Yard, *options: str) -> float:
    begun = time.perf_counter()
    with RunningSidecar(yard, *options) as running:
        servers.first_answer(running.data, models.tiny().request(MODEL))
        took = time.perf_counter() - begun
        running.stop()  # in order, so that what it keeps is kept
    return took


def _commit_ms(ledger: Ledger) -> float:
    head = ledger.head
    assert head is not None, "it was grown"
    version = next(each for each in VERSIONS if each != head.version)
    intent = Intent(
        action=Action.DEPLOY,
        version=version,
        manifest_sha256=digest_of(version.encode()),
        actor=OPERATOR,
        request_id=f"commit-{head.generation}",
        request_sha256=digest_of(b""),
    )
    begun = time.perf_counter()
    ledger.commit(intent, expected_generation=head.generation)
    return (time.perf_counter() - begun) * 1e3


def _opened(yard: Yard) -> Ledger:
    ledger = open_ledger(yard.versions.layout, MODEL, PROD)
    ledger.refresh()
    return ledger


def _yard(stack: ExitStack, generations: int) -> Yard:
    yard = Yard(_folder(stack))
    yard.publish(VERSIONS[0], model=models.tiny().content)
    yard.publish(VERSIONS[1], model=models.mlp([64, 64, 8], seed=9).content)
    grown(yard, generations)
    return yard


def _record(last: Record | None, generation: int, version: Version, manifest: Digest) -> Record:
    return Record(
        generation=generation,
        previous_record_sha256=last.sha256 if last else None,
        model=MODEL,
        environment=PROD,
        action=Action.DEPLOY,
        version=version,
        manifest_sha256=manifest,
        previous_version=last.version if last else None,
        actor=OPERATOR,
        reason="retrained on last week's data",
        source_commit="0123456789abcdef0123456789abcdef01234567",
        request_id=f"deploy-{generation}",
        request_sha256=digest_of(b""),
        written_by=Writer("sidecar-1", "host-1", "model-sidecar 0.1.0"),
        timestamp=datetime(2024, 1, 15, tzinfo=UTC),
    )


def _version(number: int) -> str:
    return f"2023.01.01.{number + 1}.prod"


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))

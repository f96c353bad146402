"""The operations during which the power is cut, and what has to hold on whatever a cut has left.

    python -m support.power_cuts [--seed N] [--states N]     (from tests/, as `make power-loss` does)

Every operation is done once for each way of filling a slot, by one process; and again by a second process after a
first one was killed at each of its calls, whose work nobody has synced. Then the power is cut after every call.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.ledgers import ALICE, A, B, C, KilledError, Registry, intent
from support.power_loss import KINDS, RecordingDisk, Said, State, Trace
from support.versions import FILES, NAME, entry

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import CommitStateUnknownError, RefusedError
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Intent, Ledger
from model_sidecar.ledger.reconcile import Adopt, Follow, Nothing
from model_sidecar.ledger.record import Action, Record, encode
from model_sidecar.release import strict_json
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import MANIFEST, MODEL
from model_sidecar.release.names import Version
from model_sidecar.store.layout import Layout
from model_sidecar.store.publishing import stage
from model_sidecar.store.versions import VersionStore


@dataclass(frozen=True, slots=True)
class Recorded:
    """Said by a ledger: this record stands."""

    record: Record


@dataclass(frozen=True, slots=True)
class Published:
    """Said by a publisher: this version is there."""

    version: Version


class UnhurriedDisk(Disk):
    """A disk that waits for nothing: for what is done before the trace, and after the cut."""

    def fsync(self, fd: int) -> None:
        pass


class Scene:
    """A store, and processes that work on it one after the other, all their calls noted by one disk."""

    def __init__(self, store: Path, *, links: bool, forget: str) -> None:
        self.registry = Registry(store)
        self.disk = RecordingDisk(store, links=links, forget=forget)
        self.known: list[Record] = []
        """Durable at the beginning; or, where the ledger was deleted, what a sidecar remembers of it."""
        self.deleted = False
        self.asked: list[Intent] = []

    def ledger(self) -> Ledger:
        """The ledger as a process that has just started has it."""
        return self.registry.open(disk=self.disk, face_disk=self.disk)

    def commit(self, ledger: Ledger, wanted: Intent) -> None:
        """Record it, and say so."""
        if wanted not in self.asked:
            self.asked.append(wanted)
        head = ledger.refresh()
        done = ledger.commit(wanted, expected_generation=head.generation if head else 0)
        self.disk.say(Recorded(done.record))


# -------------------------------------------------------------------------------------- what there is beforehand
def nothing(scene: Scene) -> None:
    """A model's directory, and no environment in it."""


def no_model(scene: Scene) -> None:
    """Not even that."""
    scene.registry.model_directory.rmdir()


def three_records(scene: Scene) -> None:
    """A ledger and its pointer."""
    ledger = scene.registry.open(disk=UnhurriedDisk(), face_disk=UnhurriedDisk())
    for generation, version in enumerate((A, B, C)):
        scene.known.append(ledger.commit(intent(version), expected_generation=generation).record)


def an_edit(scene: Scene) -> None:
    """A ledger whose pointer was edited by hand."""
    three_records(scene)
    scene.registry.pointer.write_text(f'{{"version": "{A}"}}')


# -------------------------------------------------------------------------------------- what is done
def deploy(scene: Scene) -> None:
    scene.commit(scene.ledger(), intent(A))


def deploy_twice(scene: Scene) -> None:
    """The second record of a process finds made what the first one made."""
    ledger = scene.ledger()
    scene.commit(ledger, intent(A))
    scene.commit(ledger, intent(B))


def roll_back(scene: Scene) -> None:
    scene.commit(scene.ledger(), intent(B, action=Action.ROLLBACK))


def adopt(scene: Scene) -> None:
    ledger = scene.ledger()
    decision = ledger.look().decision
    if isinstance(decision, Adopt):  # not yet by the process that was killed
        scene.commit(ledger, adoption(decision))


def adoption(decision: Adopt) -> Intent:
    """The intent by which a hand edit is recorded."""
    return Intent(
        action=Action.ADOPT,
        version=decision.version,
        manifest_sha256=digest_of(decision.version.encode()),
        actor=ALICE,
        request_id=decision.request_id,
        request_sha256=decision.request_sha256,
    )


def deploy_in_doubt(scene: Scene) -> None:
    """A sync after the record was moved in fails, and the same request is asked again."""
    ledger, wanted = scene.ledger(), intent(B)
    scene.commit(ledger, intent(A))
    scene.disk.fail_sync(skip=3)
    with suppress(CommitStateUnknownError):
        scene.commit(ledger, wanted)
    scene.commit(ledger, wanted)


def put_back(scene: Scene) -> None:
    """The environment's directory is deleted, and made again with an edit in it, while a sidecar remembers the ledger."""
    ledger = scene.ledger()
    ledger.refresh()
    shutil.rmtree(scene.registry.directory)
    scene.disk.rest()
    scene.deleted = True
    scene.disk.mkdir(scene.registry.directory)
    edit_by_hand(scene.disk, scene.registry.pointer, A)
    look = ledger.look()
    for record in scene.known:
        scene.disk.say(Recorded(record))
    assert isinstance(look.decision, Adopt), look
    scene.commit(ledger, adoption(look.decision))


def edit_by_hand(disk: Disk, pointer: Path, version: Version) -> None:
    """Write the pointer as a careful editor does, who syncs the file and no directory."""
    new = pointer.with_name("editor.swp")
    fd = disk.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    disk.write(fd, f'{{"version": "{version}"}}'.encode())
    disk.fsync(fd)
    disk.close(fd)
    disk.rename(new, pointer)


def publish(scene: Scene) -> None:
    with suppress(
        RefusedError
    ):  # the process that was killed had it in place: then this one says that it is there
        write_version(scene.registry.model_directory.parent, C, disk=scene.disk)
    scene.disk.say(Published(C))


def write_version(store: Path, version: Version, *, disk: Disk) -> None:
    """Publish a small version."""
    with stage(Layout(store), model=NAME, version=version, disk=disk) as staging:
        for name, content in FILES.items():
            staging.write(name, content)
        manifest = {
            "version": version,
            "model_hash": digest_of(FILES[MODEL]),
            "files": {name: entry(name, content) for name, content in FILES.items()},
        }
        staging.write(MANIFEST, strict_json.dumps(manifest))
        staging.commit()


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that is done, what there is before, and whether it can be begun again after a kill."""

    name: str
    before: Callable[[Scene], None]
    act: Callable[[Scene], None]
    again: bool = True


OPERATIONS = (
    Operation("deploy", three_records, deploy),
    Operation("rollback", three_records, roll_back),
    Operation("adopt", an_edit, adopt),
    Operation("first record", nothing, deploy),
    Operation("two first records", nothing, deploy_twice, again=False),
    Operation("deploy in doubt", nothing, deploy_in_doubt, again=False),
    Operation("put back", three_records, put_back, again=False),
    Operation("publish", nothing, publish),
    Operation("first publish", no_model, publish),
)


# -------------------------------------------------------------------------------------- cuts
@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut: during which operation, after how many calls, and what it does to what was not synced."""

    operation: Operation
    scene: Scene
    trace: Trace
    links: bool
    killed_after: int | None
    after: int
    kind: str
    seed: str

    @property
    def is_hardest(self) -> bool:
        """Whether all is lost that may be, just after somebody was told that something stands."""
        return self.kind == "dropped" and isinstance(self.trace.steps[self.after - 1], Said)

    def __str__(self) -> str:
        killed = (
            "" if self.killed_after is None else f", a first process killed after {self.killed_after} calls"
        )
        return (
            f"{self.operation.name}, {'link' if self.links else 'directories'}{killed}, cut after {self.after} of "
            f"{len(self.trace.steps)} steps, {self.kind}, seed {self.seed!r}"
        )


def all_cuts(place: Path, *, seed: int, forget: str = "", kill_every: int = 1) -> Iterator[Cut]:
    """Every operation, done by one process or after a kill at each call, cut after every step, in every kind.

    `kill_every`: only after every so many calls.
    """
    for operation in OPERATIONS:
        for links in (True, False):
            kills = itertools.count(random.Random(seed).randrange(kill_every), kill_every)
            lives = itertools.chain([None], kills) if operation.again else [None]
            for killed_after in lives:
                scene = Scene(place / f"{operation.name} {links} {killed_after}", links=links, forget=forget)
                operation.before(scene)
                scene.disk.rest()
                if killed_after is not None and not _killed(operation, scene, after_calls=killed_after):
                    break
                begun = len(scene.disk.trace.steps)
                operation.act(scene)
                trace = scene.disk.trace
                for after in range(begun, len(trace.steps) + 1):
                    for kind in KINDS:
                        each = f"{seed} {operation.name} {links} {killed_after} {after} {kind}"
                        yield Cut(operation, scene, trace, links, killed_after, after, kind, each)


def _killed(operation: Operation, scene: Scene, *, after_calls: int) -> bool:
    """Let a process begin with it, and kill it; False where it was done before."""
    scene.disk.kill(after_calls=after_calls)
    try:
        operation.act(scene)
    except KilledError:
        return True
    finally:
        scene.disk.kill(after_calls=None)
    return False


@dataclass(slots=True)
class Tally:
    """What was tried, and what was found."""

    by_operation: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def states(self) -> int:
        """How many different states were recovered from."""
        return self.by_kind.total()


def cut_power(
    place: Path, *, seed: int, states: int, forget: str = "", kill_every: int = 1, give_up_after: int = 5
) -> Tally:
    """Recover from about so many different states, spread evenly over all cuts; more where every cut is to be tried.

    Args:
        place: an empty directory to work in.
        seed: of all that is left to chance.
        states: how many; the same state under the same words is counted once.
        forget: the control (see `RecordingDisk`).
        kill_every: see `all_cuts`.
        give_up_after: so many states in which something was lost.
    """
    chance = random.Random(seed)
    cuts = [*all_cuts(place / "scenes", seed=seed, forget=forget, kill_every=kill_every)]
    chance.shuffle(cuts)
    cuts.sort(key=lambda cut: cut.is_hardest)
    # From the end, and each operation in turn, so that none crowds out the others.
    in_turn: dict[str, list[Cut]] = {operation.name: [] for operation in OPERATIONS}
    for cut in cuts:
        in_turn[cut.operation.name].append(cut)
    tally, seen = Tally(), set()
    while tally.states < states and any(in_turn.values()) and len(tally.lost) < give_up_after:
        for name, left in in_turn.items():
            while left:
                cut = left.pop()
                state = cut.trace.state(cut=cut.after, kind=cut.kind, chance=random.Random(cut.seed))
                if (known := (name, cut.links, state.digest())) not in seen:
                    seen.add(known)
                    tally.by_operation[name] += 1
                    tally.by_kind[cut.kind] += 1
                    try:
                        recover(cut, state, place / "state", random.Random(cut.seed))
                    except Exception as error:  # noqa: BLE001 - whatever goes wrong here is what we look for
                        tally.lost.append(f"{cut}: {type(error).__name__}: {error}")
                    shutil.rmtree(place / "state")
                    break
    return tally


# -------------------------------------------------------------------------------------- recovery
def recover(cut: Cut, state: State, place: Path, chance: random.Random) -> None:
    """Start anew on what the cut has left, with the code that users have. AssertionError: something was lost."""
    state.lay(place)
    store = place
    said = [each.record for each in state.said if isinstance(each, Recorded)]
    registry = Registry(store, make=False)
    if registry.model_directory.exists():
        disk = RecoveryDisk(links=chance.random() < 0.5)
        _put_back(cut.scene, registry, disk)
        _look(cut.scene, registry, disk, said)
        _ask_again(cut.scene, registry, disk, said)
    else:
        assert not said, "the model's directory is lost"
        assert not cut.scene.known, "the model's directory is lost"
    _versions(store, state)
    _modes(store)


class RecoveryDisk(UnhurriedDisk):
    """The disk after the cut; another sidecar's mount may have link, or not."""

    def __init__(self, *, links: bool) -> None:
        self._links = links

    def link(self, source: Path | str, target: Path | str) -> None:
        if not self._links:
            raise PermissionError(1, "Operation not permitted")
        super().link(source, target)


def _put_back(scene: Scene, registry: Registry, disk: Disk) -> None:
    """A ledger that was deleted is whole again, or gone; then another sidecar that remembers it puts it back."""
    backend = FileBackend(registry.ledger_directory, disk=disk)
    if not scene.deleted or not registry.directory.exists():
        return
    there = backend.latest_hint()
    assert there == 0 or there >= len(scene.known), f"{there} of {len(scene.known)} records are back"
    backend.put_back([encode(record) for record in scene.known])


def _look(scene: Scene, registry: Registry, disk: Disk, said: list[Record]) -> None:
    """The chain holds, what was said stands in it, and the pointer is repaired."""
    ledger = registry.open(disk=disk, face_disk=disk)
    look = ledger.look()
    records = ledger.records(limit=10**6)
    known = [] if scene.deleted and look.head is None else scene.known
    for record in (*known, *said):
        assert ledger.record(record.generation) == record, f"generation {record.generation} is lost"
    ids = Counter(record.request_id for record in records)
    assert set(ids.values()) <= {1}, "a request stands twice"
    strangers = (
        ids.keys() - {record.request_id for record in scene.known} - {each.request_id for each in scene.asked}
    )
    assert not strangers, "nobody asked for that"
    if isinstance(look.decision, Adopt):
        assert scene.deleted or scene.registry.pointer.exists(), "nobody edited the pointer"
        assert not any(record.action is Action.ADOPT for record in records), "an edit would be adopted again"
        ledger.commit(adoption(look.decision), expected_generation=look.head.generation if look.head else 0)
    else:
        assert isinstance(look.decision, Follow | Nothing), look.decision
        if isinstance(look.decision, Follow) and look.decision.rewrite_face:
            ledger.rewrite_face()
    head, pointer = ledger.head, registry.face().read().pointer
    if head is not None:
        assert pointer is not None, "there is no pointer"
        assert (pointer.version, pointer.generation) == (head.version, head.generation), "the pointer lags"


def _ask_again(scene: Scene, registry: Registry, disk: Disk, said: list[Record]) -> None:
    """Every request asked again stands exactly once, at the generation that was said; and all goes on."""
    ledger = registry.open(disk=disk, face_disk=disk)
    generations = {record.request_id: record.generation for record in said}
    for wanted in scene.asked:
        if wanted.action is Action.ADOPT:
            continue
        head = ledger.refresh()
        again = ledger.commit(wanted, expected_generation=head.generation if head else 0)
        assert again.record.generation == generations.get(wanted.request_id, again.record.generation)
        assert again.replayed or wanted.request_id not in generations
    head = ledger.refresh()
    last = ledger.commit(intent(C), expected_generation=head.generation if head else 0)
    assert (last.replayed, last.warning) == (False, "")
    anew = registry.open()
    assert anew.refresh() == last.record
    assert Counter(record.request_id for record in anew.records(limit=10**6)).most_common(1)[0][1] == 1


def _versions(store: Path, state: State) -> None:
    """What was said to be published verifies; whatever else is there verifies too; what is absent can be published."""
    versions = VersionStore(store, disk=UnhurriedDisk())
    there = versions.versions(NAME)
    for each in state.said:
        assert not isinstance(each, Published) or each.version in there, f"version {each.version} is lost"
    if C in there:
        versions.verify(NAME, C).close()
    else:
        write_version(store, C, disk=UnhurriedDisk())
        versions.verify(NAME, C).close()


def _modes(store: Path) -> None:
    """Whatever is no leftover can be read by sidecars of other users."""
    for path in store.rglob("*"):
        if not any(part.startswith(".") or part == "editor.swp" for part in path.relative_to(store).parts):
            wanted = 0o555 if path.is_dir() else 0o444
            assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, (
                f"{path.name} cannot be read by others"
            )


def workplace() -> str | None:
    """Memory, where there is some: thousands of trees are laid, and what the disk would do is known without it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - within a fresh directory of our own


def main() -> int:
    """Cut the power often, and print what was tried."""
    parser = argparse.ArgumentParser(
        description="Cut the power during every operation of the store, and recover."
    )
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--states", type=int, default=5000, help="how many different states")
    arguments = parser.parse_args()
    logging.disable()  # what the code says about each of thousands of stores
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    failed = False
    for forget, states in (
        ("", arguments.states),
        ("files", arguments.states),
        ("directories", arguments.states),
    ):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="power-loss-", dir=workplace()) as place:
            tally = cut_power(Path(place), seed=seed, states=states, forget=forget)
        took = f"{time.monotonic() - began:.0f} s, seed {seed}"
        if forget:
            found = bool(tally.lost)
            print(
                f"control: fsync of {forget} taken out: {'found out' if found else 'NOT FOUND OUT'} after {tally.states} states ({took})"
            )
            failed |= not found
            if found:
                print(f"  {tally.lost[0]}")
            continue
        print(f"{tally.states} states, {len(tally.lost)} with something lost ({took})")
        for title, counts in (("operation", tally.by_operation), ("kind", tally.by_kind)):
            print(f"  by {title}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        for each in tally.lost:
            print(f"  LOST: {each}")
        failed |= bool(tally.lost) or tally.states < min(arguments.states, 2000)
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""A store, three sidecars and everything that can befall them, for hypothesis to put into any order.

The sidecars are hand-driven (`support.hand_driven`): a run is the same whenever it is repeated, so that hypothesis can
shrink a failure to a few lines. After every step the invariants are looked at; at the end the store is put right, and
whoever is healthy must agree.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import manifests
from support.hand_driven import SITE, Answered, HandDriven
from support.ledgers import KilledError
from support.manifests import ABSENT

from model_sidecar.app.ledgers import open_ledger
from model_sidecar.errors import CommitStateUnknownError, ConflictError, Reason, SidecarError
from model_sidecar.ledger.chain import previous_good
from model_sidecar.ledger.record import Action, Actor, Record
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.names import Version
from model_sidecar.serving import pursuit
from model_sidecar.serving.orders import (
    DeployOrder,
    Outcome,
    RollbackOrder,
    RollbackTarget,
    ToGeneration,
    ToPrevious,
    ToVersion,
)
from model_sidecar.store.layout import Layout

NAMES = ("one", "two", "three")
FORGETFUL = "three"
"""The sidecar without a --state-dir."""
VERSIONS = tuple(Version(f"2024.01.{day}.prod") for day in (10, 12, 15, 17))
ANA = Actor(id="uid:1000", method="unix-peer", on_behalf_of="")

names = st.sampled_from(NAMES)
versions = st.sampled_from(VERSIONS)
targets = st.one_of(
    st.just(ToPrevious()), st.builds(ToGeneration, st.integers(1, 8)), st.builds(ToVersion, versions)
)
bases = st.none() | st.sampled_from([0, -1])
"""What an operator states as `expected_generation`: nothing, the head that the sidecar knows, or the one before it."""
quickly = st.sampled_from([True, True, False])
"""Whether loads are done at once, or other things happen meanwhile."""
faults = st.sampled_from(
    [
        ("write", errno.ENOSPC, False),
        ("link", errno.ENOSPC, False),
        ("link", errno.EIO, True),  # the reply was lost, the link stands
        ("mkdir", errno.ENOSPC, False),
        ("rename", errno.EIO, False),
        ("fsync", errno.EIO, False),
    ]
)


@dataclass(frozen=True)
class Attempt:
    """An order as it was given to one sidecar.

    Attributes:
        head: the ledger's newest generation then, which is the order's condition; None where there was no store.
        tampered: how often somebody had taken records away by then.
    """

    sidecar: HandDriven
    future: Future[Outcome]
    head: int | None
    tampered: int


@dataclass
class Asked:
    """An order, however often it was given, and what is known of it.

    Attributes:
        open: the attempts that were not answered yet.
        record: what it was answered with; None before, and after somebody has taken that record out of the ledger.
        in_doubt: an attempt ended without saying whether the order was recorded.
        promised_by: the sidecars where it is in effect without being recorded yet.
    """

    order: DeployOrder | RollbackOrder
    open: list[Attempt] = field(default_factory=list)
    record: Record | None = None
    in_doubt: bool = False
    promised_by: set[str] = field(default_factory=set)


class Store(RuleBasedStateMachine):
    """The rules are what operators, scripts, disks and power supplies do; see the module."""

    steps: ClassVar[Counter[str]] = Counter()
    """How often each rule was carried out in this process, for whoever wants to print it."""

    def __init__(self) -> None:
        super().__init__()
        self._place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.root = self._place / "ml-models"
        self.layout = Layout(self.root)
        self.layout.model(SITE.model).mkdir(parents=True)
        self.environment = self.layout.environment(SITE.model, SITE.environment)
        self.pointer = self.layout.pointer(SITE.model, SITE.environment)
        self.truth: dict[tuple[Version, Digest], float] = {}
        self.sidecars: dict[str, HandDriven] = {}
        self.asked: list[Asked] = []
        self.seen: dict[HandDriven, Answered] = {}
        self.links = True
        self.tampered = 0
        # The waits between two tries are the manager's; here a turn of the wheel is the only time there is.
        self._no_waits = mock.patch.multiple(pursuit, _STORE_RETRY_S=0.0, _HEAD_RETRY_S=0.0)
        self._no_waits.start()

    def teardown(self) -> None:
        try:
            self.put_all_right()
            self.everybody_agrees()
        finally:
            self._no_waits.stop()
            shutil.rmtree(self._place)

    # Versions.

    @initialize(
        deployed=st.lists(st.sampled_from(VERSIONS[:3]), max_size=4),
        everybody=st.booleans(),
        links=st.sampled_from([True, True, False]),
    )
    def begin(self, deployed: list[Version], everybody: bool, links: bool) -> None:
        """A store with three versions, of which some were deployed; on a file system with link(2), or without."""
        self.links = links
        for version in VERSIONS[:3]:
            self.publish(version)
        for version in deployed:
            self.simply_deploy(NAMES[0], version)
        if everybody:
            self.everybody_looks()

    @rule(version=versions)
    def publish(self, version: Version) -> None:
        """A version, complete; once."""
        directory = self.layout.version(SITE.model, version)
        if (self._place / "whole" / version).exists() or not self.root.exists():
            return
        self._count("publish")
        constant = float(VERSIONS.index(version) + 1)
        content = f"{constant:08.1f}".encode()
        document = manifests.full_form(
            model=SITE.model,
            version=version,
            model_hash=digest_of(content),
            files={"model.onnx": {"digest": digest_of(content), "size": len(content), "role": "model"}},
            golden=ABSENT,
            baseline=ABSENT,
            rollback_target=ABSENT,
        )
        directory.mkdir()
        (directory / "model.onnx").write_bytes(content)
        (directory / "manifest.json").write_bytes(manifests.content(document))
        self.truth[version, digest_of(manifests.content(document))] = constant
        shutil.copytree(directory, self._place / "whole" / version)

    @rule(version=versions, how=st.sampled_from(["flip", "cut", "no model", "no manifest", "gone"]))
    def tear(self, version: Version, how: str) -> None:
        """Something happens to a published version's directory."""
        directory = self.layout.version(SITE.model, version)
        model = directory / "model.onnx"
        if not model.exists():
            return
        self._count("tear")
        match how:
            case "flip":
                model.write_bytes(b"9" + model.read_bytes()[1:])
            case "cut":
                model.write_bytes(model.read_bytes()[:-1])
            case "no model":
                model.unlink()
            case "no manifest":
                (directory / "manifest.json").unlink(missing_ok=True)
            case _:
                shutil.rmtree(directory)

    @rule(version=versions)
    def mend(self, version: Version) -> None:
        """It is put right."""
        whole = self._place / "whole" / version
        if whole.exists() and self.root.exists():
            self._count("mend")
            shutil.rmtree(self.layout.version(SITE.model, version), ignore_errors=True)
            shutil.copytree(whole, self.layout.version(SITE.model, version))

    # Operators.

    @rule(
        name=names, version=versions, base=bases, quick=quickly, validate_only=st.sampled_from([False, True])
    )
    def deploy(self, name: str, version: Version, base: int | None, quick: bool, validate_only: bool) -> None:
        """Somebody orders a deploy."""
        sidecar = self._running(name)
        self._count("deploy")
        order = DeployOrder(version=version, **self._order(sidecar, base, validate_only=validate_only))
        self._give(sidecar, self._asked(order))
        self._load(sidecar, quick)

    @rule(name=names, version=versions)
    def simply_deploy(self, name: str, version: Version) -> None:
        """Somebody orders a deploy on whatever the head is, and waits for it."""
        self.deploy(name, version, None, quick=True, validate_only=False)

    @rule(name=names, to=targets, base=bases, quick=quickly, emergency=st.booleans())
    def roll_back(
        self, name: str, to: RollbackTarget, base: int | None, quick: bool, emergency: bool
    ) -> None:
        """Somebody orders a rollback."""
        sidecar = self._running(name)
        self._count("rollback")
        order = RollbackOrder(target=to, emergency=emergency, **self._order(sidecar, base))
        self._give(sidecar, self._asked(order))
        self._load(sidecar, quick)

    @rule(name=names)
    def emergency(self, name: str) -> None:
        """The store is away, and somebody must go back all the same."""
        self.unmount()
        self.roll_back(name, ToPrevious(), None, quick=True, emergency=True)

    @rule(name=names, other=names, version=versions, others=versions)
    def deploy_at_once(self, name: str, other: str, version: Version, others: Version) -> None:
        """Of two deploys, one is recorded after the other has looked for the last time."""
        if name == other:
            return
        self._count("deploy at once")
        disk = self._running(name).disk
        disk.fail(disk.filling_call, lambda: self.simply_deploy(other, others))
        self.simply_deploy(name, version)
        disk.fail("", 0, times=0)

    @precondition(lambda self: self.asked)
    @rule(name=names, which=st.integers(0, 10), quick=quickly)
    def ask_again(self, name: str, which: int, quick: bool) -> None:
        """Somebody who was not answered, or was, sends the same order to any sidecar."""
        sidecar = self._running(name)
        self._count("ask again")
        self._give(sidecar, self.asked[-1 - which % len(self.asked)])
        self._load(sidecar, quick)

    # What sidecars do by themselves.

    @rule(name=names)
    def start_without_a_look(self, name: str) -> None:
        """A sidecar starts, and is asked before it has looked."""
        if name not in self.sidecars:
            self._count("start")
            state = None if name == FORGETFUL else self._place / "state" / name
            self.sidecars[name] = HandDriven(self.root, name, state=state, links=self.links)

    @rule(name=names, quick=quickly)
    def look(self, name: str, quick: bool) -> None:
        """A sidecar looks at the store."""
        sidecar = self._running(name)
        self._count("look")
        sidecar.look()
        self._load(sidecar, quick)

    @rule(name=names)
    def glance(self, name: str) -> None:
        """A sidecar looks at the store, and is slow to act on it."""
        self._count("glance")
        self._running(name).glance()

    @rule(name=names)
    def notice(self, name: str) -> None:
        """It acts on what it saw, whatever has happened since."""
        self._running(name).notice()
        self._gather()

    @rule(name=names, version=versions)
    def act_on_old_news(self, name: str, version: Version) -> None:
        """It acts on what it saw before an order came."""
        self._count("act on old news")
        self.glance(name)
        self.simply_deploy(name, version)
        self.notice(name)

    @rule()
    def everybody_looks(self) -> None:
        """Every sidecar looks, and loads what it wants."""
        for name in NAMES:
            self.look(name, quick=True)

    @rule(name=names)
    def finish_load(self, name: str) -> None:
        """A load is done."""
        sidecar = self._running(name)
        if sidecar.loading:
            sidecar.finish_load()
            self._gather()

    @rule(name=names)
    def kill(self, name: str) -> None:
        """A sidecar dies between two steps."""
        if name in self.sidecars:
            self._count("kill")
            self._bury(name)

    @rule(name=names, calls=st.integers(0, 12), version=versions, by_hand=st.booleans())
    def die_amid(self, name: str, calls: int, version: Version, by_hand: bool) -> None:
        """A sidecar dies at some system call of a deploy, or of what a look makes it write."""
        sidecar = self._running(name)
        self._count("die amid")
        if by_hand:
            self._write_pointer(version)
        sidecar.disk.kill(after_calls=calls)
        try:
            if by_hand:
                sidecar.look()
            else:
                order = DeployOrder(version=version, **self._order(sidecar, None))
                asked = self._asked(order)
                asked.in_doubt = True
                self._give(sidecar, asked)
            self._load(sidecar, quick=True)
        except KilledError:
            pass
        self._bury(name)

    # The store.

    @rule(version=versions, careful=st.booleans())
    def edit(self, version: Version, careful: bool) -> None:
        """Somebody writes the pointer by hand, of whatever version, published or not."""
        self._count("edit")
        self._write_pointer(version, careful=careful)

    @rule()
    def scribble(self) -> None:
        """Somebody is in the middle of an edit."""
        if self.environment.exists():
            self._count("scribble")
            self.pointer.write_text('{"version": "2024.')

    @rule(name=names, fault=faults, times=st.sampled_from([1, 2, 10**6]), skip=st.integers(0, 2))
    def disk_fails(self, name: str, fault: tuple[str, int, bool], times: int, skip: int) -> None:
        """A sidecar's disk is full or broken from now on, or once or twice."""
        call, number, after = fault
        self._count("disk fails")
        self._running(name).disk.fail(call, number, skip=skip, times=times, after=after)

    @rule(name=names)
    def disk_works(self, name: str) -> None:
        """There is room again."""
        self._running(name).disk.fail("", 0, times=0)

    @rule()
    def unmount(self) -> None:
        """The store is gone, all of it."""
        if self.root.exists():
            self._count("unmount")
            self.root.rename(self._place / "away")

    @rule()
    def mount(self) -> None:
        """The store is back as it was."""
        if not self.root.exists():
            (self._place / "away").rename(self.root)

    @rule()
    def take_snapshot(self) -> None:
        """A backup is made."""
        if self.environment.exists():
            self._count("snapshot")
            shutil.rmtree(self._place / "snapshot", ignore_errors=True)
            shutil.copytree(self.environment, self._place / "snapshot")

    @rule()
    def restore_snapshot(self) -> None:
        """The backup is put back: the ledger is as it was then."""
        if (self._place / "snapshot").exists() and self.root.exists():
            self._count("restore")
            self._replace_environment(self._place / "snapshot")

    @rule()
    def delete_environment(self) -> None:
        """Somebody removes pointer and ledger."""
        if self.environment.exists():
            self._count("delete")
            self._replace_environment(None)

    @rule(name=names, version=versions)
    def delete_and_edit(self, name: str, version: Version) -> None:
        """Somebody removes pointer and ledger, and writes a pointer: who remembers the records puts them back."""
        sidecar = self._running(name)
        records, known = self._records(), sidecar.ledger.head
        if not records or not self.root.exists() or known != records[-1]:
            return
        self._count("delete and edit")
        shutil.rmtree(self.environment)
        self._write_pointer(version)
        sidecar.look()
        self._gather()
        if sidecar.blind is None:
            assert self._records()[: len(records)] == records, "the records were not put back"
        self._forget_what_is_gone()

    # Invariants (docs/contract.md, section 9).

    @invariant()
    def every_answer_is_of_the_version_that_it_names(self) -> None:
        """I1, I3, I6, I7: tag and numbers belong together, generations grow, and what is live stays."""
        for sidecar in self.sidecars.values():
            answer, before = sidecar.predict(), self.seen.get(sidecar)
            if answer is None:
                assert before is None, f"{sidecar.name} has stopped answering"
                continue
            assert self.truth.get((answer.version, answer.manifest)) == answer.constant, answer
            if answer.generation is None:
                promised = any(sidecar.name in asked.promised_by for asked in self.asked)
                assert promised, f"{sidecar.name} answers without a generation"
                continue
            record = sidecar.ledger.record(answer.generation)
            assert record is not None
            assert (record.version, record.manifest_sha256) == (answer.version, answer.manifest)
            if before is not None:
                assert before.generation is not None
                assert answer.generation >= before.generation, (sidecar.name, before, answer)
            self.seen[sidecar] = answer

    @invariant()
    def the_ledger_holds_what_was_acknowledged_and_nothing_that_was_refused(self) -> None:
        """I4, I5: the chain is valid and without gaps; each acknowledged order once, a refused one never."""
        if not self.root.exists():
            return
        records = self._records()
        by_request = {record.request_id: record for record in records}
        assert len(by_request) == len(records)
        for asked in self.asked:
            found = by_request.get(asked.order.request_id)
            if asked.order.validate_only:
                assert found is None
            elif asked.record is not None:
                assert found == asked.record, f"{asked.order} was acknowledged as {asked.record}"
            elif not asked.in_doubt and not asked.open:
                assert found is None, f"{asked.order} was refused"

    def put_all_right(self) -> None:
        """Whatever was broken is mended, and whoever died comes back."""
        self.mount()
        for version in VERSIONS:
            self.mend(version)
        for name in NAMES:
            self._running(name).disk.fail("", 0, times=0)
        for _ in range(12):
            for sidecar in self.sidecars.values():
                sidecar.look()
                self._load(sidecar, quick=True)
        self.every_answer_is_of_the_version_that_it_names()
        self.the_ledger_holds_what_was_acknowledged_and_nothing_that_was_refused()

    def everybody_agrees(self) -> None:
        """I8: every sidecar whose memory the ledger does not contradict serves the head, and the pointer shows it."""
        records = self._records()
        recorded = {record.request_id for record in records}
        for asked in self.asked:
            assert not asked.open, f"{asked.order} was never answered"
        for sidecar in self.sidecars.values():
            known = sidecar.ledger.head
            if known is not None and known not in records:
                assert sidecar.blind is not None, (
                    f"{sidecar.name} is content with a ledger that contradicts it"
                )
                continue
            for asked in self.asked:
                if sidecar.name in asked.promised_by:
                    assert asked.order.request_id in recorded, f"{asked.order} was in effect, and got lost"
            answer = sidecar.predict()
            head = records[-1] if records else None
            served = (answer.generation, answer.version) if answer else None
            assert served == ((head.generation, head.version) if head else None), sidecar.name
        if records and self.pointer.exists():
            self._check_pointer(records[-1])

    def _check_pointer(self, head: Record) -> None:
        try:
            document = json.loads(self.pointer.read_text())
        except ValueError:
            return  # an edit that nobody has finished is left alone
        if Version(document["version"]) in {version for version, _ in self.truth} and any(
            sidecar.blind is None for sidecar in self.sidecars.values()
        ):
            assert (document["version"], document.get("generation")) == (head.version, head.generation)

    # How it is done.

    def _running(self, name: str) -> HandDriven:
        if name not in self.sidecars:
            self.start_without_a_look(name)
            self.look(name, quick=True)
        return self.sidecars[name]

    def _load(self, sidecar: HandDriven, quick: bool) -> None:
        # Not for ever: where the store is at fault, the next try follows at once, for there is no clock.
        for _ in range(4 if quick else 0):
            if sidecar.loading:
                self._count("load")
                sidecar.finish_load()
        self._gather()

    def _bury(self, name: str) -> None:
        sidecar = self.sidecars.pop(name)
        self.seen.pop(sidecar, None)
        for asked in self.asked:
            left = [attempt for attempt in asked.open if attempt.sidecar is not sidecar]
            asked.in_doubt |= left != asked.open
            asked.open = left
            if name == FORGETFUL:
                asked.promised_by.discard(name)

    def _order(self, sidecar: HandDriven, base: int | None, *, validate_only: bool = False) -> dict[str, Any]:
        head = sidecar.ledger.head
        known = head.generation if head else 0
        return {
            "actor": ANA,
            "reason": "because",
            "source_commit": "",
            "request_id": f"r-{len(self.asked)}",
            "expected_generation": None if base is None else max(known + base, 0),
            "validate_only": validate_only,
        }

    def _asked(self, order: DeployOrder | RollbackOrder) -> Asked:
        asked = Asked(order)
        self.asked.append(asked)
        return asked

    def _give(self, sidecar: HandDriven, asked: Asked) -> None:
        future: Future[Outcome] = Future()
        head = len(self._records()) if self.root.exists() else None
        asked.open.append(Attempt(sidecar, future, head, self.tampered))
        sidecar.order(replace(asked.order), future)
        self._gather()

    def _gather(self) -> None:
        for asked in self.asked:
            for attempt in tuple(asked.open):
                # Another step may be under way inside of this one, and may have been here first.
                if attempt.future.done() and attempt in asked.open:
                    asked.open.remove(attempt)
                    self._take(asked, attempt)

    def _take(self, asked: Asked, attempt: Attempt) -> None:
        sidecar, future = attempt.sidecar, attempt.future
        error, order = future.exception(), asked.order
        if error is None:
            outcome = future.result()
            if outcome.pending:
                self._count("in effect before it is recorded")
                asked.promised_by.add(sidecar.name)
                asked.in_doubt = True
            elif not order.validate_only:
                self._acknowledge(asked, attempt, outcome)
            return
        assert isinstance(error, SidecarError), repr(error)
        assert error.reason is not Reason.INTERNAL, error
        asked.in_doubt |= isinstance(error, CommitStateUnknownError)
        if isinstance(error, ConflictError) and self.root.exists():
            winners = self._records()[: int(error.facts["generation"])]
            assert order.request_id not in {record.request_id for record in winners}, (
                f"{order} lost against itself: {error}"
            )

    def _acknowledge(self, asked: Asked, attempt: Attempt, outcome: Outcome) -> None:
        record, order, sidecar = outcome.record, asked.order, attempt.sidecar
        records, undisturbed = self._records(), attempt.tampered == self.tampered
        if record not in records and not undisturbed:
            asked.in_doubt = True  # it was there, and somebody has taken it away before it was served
            return
        assert record in records, f"{order} was acknowledged as {record}, which is not in the ledger"
        assert asked.record in (None, record), "a second record for the same order"
        asked.record = record
        before = records[: record.generation - 1]
        match order:
            case DeployOrder(version=version) | RollbackOrder(target=ToVersion(version)):
                assert record.version == version
            case RollbackOrder(target=ToGeneration(generation)):
                assert record.version == records[generation - 1].version
            case _:
                previous = previous_good(before)
                assert previous is not None
                assert record.version == previous.version
        assert record.action is (Action.DEPLOY if isinstance(order, DeployOrder) else Action.ROLLBACK)
        if undisturbed and not outcome.replayed and attempt.head is not None:
            assert record.generation == attempt.head + 1, f"{order} undid what it knew nothing of"
        if order.expected_generation is not None:
            assert record.generation == order.expected_generation + 1
        answer = sidecar.predict()
        assert answer is not None
        if answer.generation is not None:  # else a rollback is in effect that is younger than all records
            assert answer.generation >= record.generation, (
                f"{sidecar.name} acknowledged {record}, serves {answer}"
            )
            self.seen[sidecar] = answer

    def _write_pointer(self, version: Version, *, careful: bool = True) -> None:
        if not self.root.exists():
            return
        self.environment.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": version})
        if careful:
            beside = self.pointer.with_name("active.json.new")
            beside.write_text(text)
            beside.replace(self.pointer)
        else:
            self.pointer.write_text(text)

    def _replace_environment(self, source: Path | None) -> None:
        shutil.rmtree(self.environment, ignore_errors=True)
        if source is not None:
            shutil.copytree(source, self.environment)
        self._forget_what_is_gone()

    def _forget_what_is_gone(self) -> None:
        """What somebody took out of the ledger is no longer promised, and may come back."""
        self.tampered += 1
        records = self._records()
        for asked in self.asked:
            if asked.record is not None and asked.record not in records:
                asked.record, asked.in_doubt = None, True

    def _records(self) -> list[Record]:
        """The chain on the disk, by a reader who knows nothing else; its links are checked as it is read."""
        if not self.root.exists():
            return []
        auditor = open_ledger(self.layout, SITE.model, SITE.environment, sidecar_id="auditor")
        auditor.refresh()
        return [*reversed(auditor.records(limit=10**6))]

    def _count(self, step: str) -> None:
        type(self).steps[step] += 1

"""One operation of a writer, broken at one of its system calls; and what is left of it, examined.

The promises that are held against each of them (docs/contract.md, sections 3 and 9): the chain is valid; nothing that was
acknowledged is lost or doubled; nothing that was refused is recorded; the pointer is put right by the next look; the same
request, asked again, has one record; and the next one goes on.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import operations
from support.operations import MODEL, A, B, C
from support.shell import as_started
from support.strace import NO_LINKS, Call, Strace, failing_at, failing_from, killing_at
from support.yard import Yard, write_build

import model_sidecar
from model_sidecar.errors import Reason, SidecarError
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.ledger.reconcile import Adopt, Follow, Nothing
from model_sidecar.ledger.record import Action
from model_sidecar.serving.emergency import Emergency
from model_sidecar.store.versions import VersionStore

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "ESTALE", "EMFILE", "EINTR")
FULL = ("ENOSPC", "EDQUOT")
HUNG_S = 20.0
_TRIES = 3  # where threads of onnxruntime's are about, a call comes a little sooner or later now and then

_PLACES = (f"/{operations.STORE}", "/build", "/state")
_GO, _END = "rt_sigtimedwait", "writev"
# No matter of the store's, and not always the same number of them.
_MEMORY = re.compile(
    r"brk|m(un|re)?map|mprotect|madvise|futex|getrandom|clone3?|set_robust_list|rseq|rt_sig\w+|getpid|gettid|prctl"
    r"|sched_\w+|clock_\w+|sysinfo|prlimit64|getrusage|membarrier|restart_syscall|uname|get[eu]?[gu]id|socket|connect"
    # These ask the kernel, which need not ask a disk.
    r"|lseek|ioctl|fcntl|dup[23]?"
)
_RANDOM = re.compile(r"[0-9a-f]{16,32}|(?<=-)\d+$")  # temporary files' names, copies' names


def touches_storage(name: str) -> bool:
    """Whether a call of this name can fail because of a disk; not that by which an operation is acknowledged."""
    return name != _END and not _MEMORY.fullmatch(name)


@dataclass(frozen=True, slots=True)
class Point:
    """A system call of an operation.

    Attributes:
        index: which of the operation's calls it is, from 0.
        name, number: the how manieth call of this name it is, from 1, as strace counts.
        before: the names of all calls since strace was attached.
    """

    index: int
    name: str
    number: int
    before: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return f"call {self.index}, {self.name} #{self.number}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a point: "SIGKILL", or an error; once, or from there on with every call."""

    what: str
    lasting: bool = False

    def __str__(self) -> str:
        if self.what == "SIGKILL":
            return self.what
        return f"{self.what} {'for ever' if self.lasting else 'once'}"

    def options(self, point: Point, names: Sequence[str]) -> tuple[str, ...]:
        """strace's, to bring it about."""
        if self.what == "SIGKILL":
            return killing_at(point.name, point.number)
        if self.lasting:
            return failing_from(point.before, touches_storage, names, self.what)
        return failing_at(point.name, point.number, self.what)


KILL = Fault("SIGKILL")
SHORT_WRITE = Fault("short write", lasting=True)


@dataclass(frozen=True, slots=True)
class Run:
    """One operation, as it went.

    Attributes:
        said: the answer; None where the process did not live to give one.
        status: its exit status; -9 where it was killed.
        calls: everything from strace's attaching on.
        held: of an emergency, that it was said to be in effect.
    """

    said: dict[str, Any] | None
    status: int
    calls: list[Call]
    held: bool

    @property
    def own(self) -> list[Call]:
        """The operation's calls, up to and including that which acknowledges."""
        return own_calls(self.calls)


def own_calls(calls: list[Call]) -> list[Call]:
    """What lies between the marks. The first is not in the trace when it came before the process had stopped to be traced."""
    names = [call.name for call in calls]
    begin = names.index(_GO) + 1 if _GO in names else 0
    if "exit_group" not in names:  # it did not live to say all that it had to say
        return calls[begin:]
    return calls[begin : max(index for index, name in enumerate(names) if name == _END) + 1]


class Performer:
    """A process that performs operations (`support.operations`); one at a time."""

    def __init__(self) -> None:
        roots = (Path(operations.__file__).parents[1], Path(model_sidecar.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, operations.__file__],
            env=as_started(PYTHONPATH=os.pathsep.join(map(str, roots))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def perform(self, operation: str, root: Path, *options: str, largest_file: int = 0) -> Run:
        """One operation under strace with these options, or that may not write files larger than that."""
        assert self._process.stdin
        self._process.stdin.write(f"{operation} {root} {largest_file}\n")
        self._process.stdin.flush()
        pid = int(self._expect("ready"))
        with Strace(pid, *options, output=root.with_name(f"{root.name}.trace")) as strace:
            late = threading.Timer(HUNG_S, _kill, (pid,))
            late.start()
            os.kill(pid, signal.SIGUSR1)
            calls = strace.ended()
            late.cancel()
            strace.output.unlink()
        said, line = None, self._line()
        held = line == operations.HELD
        if held:
            line = self._line()
        if line.startswith("said "):
            said, line = json.loads(line.removeprefix("said ")), self._line()
        assert line.startswith("ended "), line
        return Run(said, int(line.removeprefix("ended ")), calls, held)

    def _expect(self, word: str) -> str:
        line = self._line()
        assert line.startswith(f"{word} "), line
        return line.removeprefix(f"{word} ")

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fault at a point, and what was found afterwards: problems by kind, none where every promise was kept.

    Attributes:
        struck: the fault came about just there.
        recorded: the operation's record (or version) stands.
        kept: a copy of the store as it was found.
    """

    point: Point | None
    fault: Fault
    struck: bool
    recorded: bool
    said: dict[str, Any] | None
    leftovers: int
    problems: list[tuple[str, str]]
    kept: Path | None


class Stage:
    """One operation's store, made once and copied for each point. Threads may share it."""

    def __init__(self, operation: str, directory: Path, *, links: bool = True) -> None:
        """Without `links`, the writer finds a file system that has none, and writes records as directories."""
        self.operation = operation
        self._always = () if links else NO_LINKS
        name = operation if links else f"{operation}-unlinked"
        self._template = directory / f"{name}-template"
        self._copies = (directory / f"{name}-{number}" for number in itertools.count())
        self._lock = threading.Lock()
        self.yard = _furnish(operation, self._template)
        ledger = operations.environment_of(self._template) / "ledger"
        self.before = [path.read_bytes() for path in sorted(ledger.glob("*.json"))]
        self.points: list[Point] = []
        self._names: list[str] = []
        self._calls: list[Call] = []
        self._shown: list[str] = []

    def copy(self) -> Path:
        """A fresh store."""
        with self._lock:
            root = next(self._copies)
        shutil.copytree(self._template, root, copy_function=_copied)
        return root

    def rehearse(self, performer: Performer) -> None:
        """Perform it unharmed, and take down its calls."""
        run = performer.perform(self.operation, self.copy(), *self._always)
        assert run.said is not None, "an unharmed operation fails"
        assert "generation" in run.said, run.said
        assert run.status == 0
        names = [call.name for call in run.calls]
        first, own = names.index(_GO) + 1 if _GO in names else 0, run.own
        self._names = names
        self._calls = own
        self._shown = [_shown(call) for call in own]
        self.points = [
            Point(
                index, call.name, names[: first + index + 1].count(call.name), tuple(names[: first + index])
            )
            for index, call in enumerate(own)
        ]

    def kill_points(self) -> list[Point]:
        """Every call, but where links always fail: strace does one thing to a call, and before and after it is as good."""
        return [point for point in self.points if not (self._always and point.name.startswith("link"))]

    def storage_points(self) -> list[Point]:
        """Where an error of a disk's, or being out of descriptors, can come: not in what is ours, in memory."""
        return [
            point
            for point, call in zip(self.points, self._calls, strict=True)
            if touches_storage(point.name) and any(place in call.arguments for place in _PLACES)
        ]

    def break_at(self, point: Point, fault: Fault, performer: Performer, *, keep: bool = False) -> Outcome:
        """Break it there, and examine what is left. `keep` what was found before the examination added to it."""
        for _ in range(_TRIES):
            root, memory = self._fresh()
            options = (*self._always, *fault.options(point, self._names))
            run = performer.perform(self.operation, root, *options)
            struck = self._struck(run, point, fault)
            if struck:
                break
        return self._examined(root, memory, run, fault, point=point, struck=struck, keep=keep)

    def break_by_size(self, largest_file: int, performer: Performer) -> Outcome:
        """Let a write be cut short where a file has become as large as that."""
        root, memory = self._fresh()
        run = performer.perform(self.operation, root, largest_file=largest_file)
        struck = any("EFBIG" in call.result for call in run.own)
        return self._examined(root, memory, run, SHORT_WRITE, point=None, struck=struck, keep=False)

    def _fresh(self) -> tuple[Path, Ledger]:
        """A copy, and what another sidecar remembers of it."""
        root = self.copy()
        memory = operations.opened(root, remembering=False)
        if self.operation != "publish":
            memory.look()
        return root, memory

    def _examined(
        self,
        root: Path,
        memory: Ledger,
        run: Run,
        fault: Fault,
        *,
        point: Point | None,
        struck: bool,
        keep: bool,
    ) -> Outcome:
        kept = None
        if keep:
            kept = root.with_name(f"{root.name}-kept")
            shutil.copytree(root, kept)
        examination = Examination(self, root, run, fault, memory)
        examination.examine()
        shutil.rmtree(root)
        return Outcome(
            point=point,
            fault=fault,
            struck=struck,
            recorded=examination.recorded,
            said=run.said,
            leftovers=examination.leftovers,
            problems=examination.problems,
            kept=kept,
        )

    def _struck(self, run: Run, point: Point, fault: Fault) -> bool:
        """Whether it came about at that very call, after the very same ones on the storage."""
        own = run.own
        if fault is KILL:
            hit = (
                run.status == -signal.SIGKILL and run.said is None and len(own) > 0 and own[-1].result == "?"
            )
            upto = len(own) - 1
        else:
            injected = [index for index, call in enumerate(own) if call.injected]
            hit, upto = bool(injected), injected[0] if injected else 0
        if not hit or own[upto].name != point.name:
            return False
        return _storage(map(_shown, own[:upto])) == _storage(self._shown[: point.index])


def _storage(shown: Iterator[str] | Sequence[str]) -> list[str]:
    return [each for each in shown if touches_storage(each.split(" ", 1)[0])]


def _shown(call: Call) -> str:
    """A call's name, and the names in it that are no random ones."""
    paths = re.findall(r'"(?:[^"]*/)?([^"/]*)"', call.arguments)
    return f"{call.name} {' '.join(_RANDOM.sub('#', path) for path in paths)}"


def _copied(source: str, target: str) -> None:
    # Versions never change. What may be written in place is copied.
    if {"environments", "state"} & set(Path(source).parts):
        shutil.copy2(source, target)
    else:
        os.link(source, target)


def _furnish(operation: str, root: Path) -> Yard:
    """What each operation finds: three versions, two records, and what is its own."""
    root.mkdir()
    yard = Yard(root)
    yard.store.mkdir()
    for version in (A, B) if operation == "publish" else (A, B, C):
        yard.publish(version)
    if operation == "publish":
        yard.constants[C] = 3.0
        (root / "build").mkdir(exist_ok=True)
        write_build(root / "build", yard.constants[C])
        return yard
    if operation == "first":
        return yard
    ledger = operations.opened(root)
    for version in (A, B):
        operations.commit(ledger, operations.order(root, Action.DEPLOY, version, f"first-{version}"))
    if operation == "adopt":
        yard.edit_pointer(C)
    return yard


class Examination:
    """What is held against the promises, once."""

    def __init__(self, stage: Stage, root: Path, run: Run, fault: Fault, memory: Ledger) -> None:
        self.problems: list[tuple[str, str]] = []
        self.recorded = False
        self.leftovers = 0
        self._stage, self._root, self._run, self._fault, self._memory = stage, root, run, fault, memory

    def examine(self) -> None:
        """Find the problems."""
        try:
            if self._run.said is None and self._fault is not KILL:
                self._problem("hung", f"no answer within {HUNG_S} s")
            if self._stage.operation == "publish":
                self._version()
            else:
                self._ledger()
        except SidecarError as error:
            self._problem("invalid", f"{error.reason}: {error}")

    def _problem(self, kind: str, what: str) -> None:
        self.problems.append((kind, what))

    # A ledger.

    def _ledger(self) -> None:
        environment = operations.environment_of(self._root)
        self.leftovers = len([*environment.rglob(".*.tmp")]) if environment.exists() else 0
        ledger = operations.opened(self._root)
        ledger.recall()
        recalled = [*reversed(ledger.records(limit=10**6))]
        # Where the whole ledger is gone, this puts back what the state directory remembers of it.
        look = ledger.look()
        self._records(most=1)
        known = {record.generation: record.sha256 for record in ledger.records(limit=10**6)}
        if any(known.get(record.generation) != record.sha256 for record in recalled):
            self._problem("memory", "the state directory remembers what is not in the ledger")
        self._answer(has_linked="link" if self._stage.operation != "put-back" else "rename")
        # The next look, as a sidecar takes it, puts the pointer right.
        if isinstance(look.decision, Follow):
            if look.decision.rewrite_face:
                ledger.rewrite_face()
            self._pointer(ledger)
        elif not isinstance(look.decision, Adopt | Nothing):
            self._problem("pointer", f"it means {look.decision}")
        # Asked again with the same request id: through another sidecar, which remembers what it saw.
        head = self._again()
        self._records(most=1, least=1)
        if head != len(self._stage.before) + 1:
            self._problem("retry", f"it is generation {head}")
        # And it goes on.
        ledger = operations.opened(self._root)
        following = operations.order(self._root, Action.DEPLOY, B, "afterwards")
        if operations.commit(ledger, following) != head + 1:
            self._problem("stuck", "the next commit is not the next generation")
        self._pointer(ledger)

    def _records(self, *, most: int, least: int = 0) -> None:
        """The files themselves: those before are untouched, and how many there are besides."""
        directory = operations.environment_of(self._root) / "ledger"
        names = sorted(path.name for path in directory.glob("*.json"))
        contents = [_content(directory / name) for name in names]
        before = self._stage.before
        if names != [f"{number:020}.json" for number in range(1, len(names) + 1)]:
            self._problem("invalid", f"not gapless: {names}")
        if contents[: len(before)] != before:
            self._problem("lost", f"{len(before)} records stood there, now {len(names)}")
        new = len(contents) - len(before)
        self.recorded = self.recorded if least else new > 0
        if new > most:
            self._problem("doubled", f"{new} records are new")
        if new < least:
            self._problem("lost", "the record is not there")

    def _answer(self, *, has_linked: str) -> None:
        """Whether what was said is true."""
        said = self._run.said
        if said is None:
            return
        if "generation" in said:
            if not self.recorded or said["generation"] != len(self._stage.before) + 1:
                self._problem("false ack", f"{said}, recorded: {self.recorded}")
            return
        self._error(said, tried=any(call.name.startswith(has_linked) for call in self._run.own))

    def _error(self, said: dict[str, Any], *, tried: bool) -> None:
        reason = said["reason"]
        if reason == Reason.COMMIT_STATE_UNKNOWN:
            if not tried:
                self._problem("reason", f"nothing can have been recorded, but: {said['message']}")
        elif reason in (Reason.STORE_UNAVAILABLE, Reason.STORE_FULL):
            if self.recorded:
                self._problem("false refusal", f"it is recorded, but: {said['message']}")
            if reason == Reason.STORE_FULL and self._fault.what not in FULL:
                self._problem("reason", f"nothing is full, but: {said['message']}")
        else:
            self._problem("reason", f"{said['error']} {reason}: {said['message']}")

    def _pointer(self, ledger: Ledger) -> None:
        decision = ledger.look().decision
        head = ledger.head
        pointer = json.loads((operations.environment_of(self._root) / "active.json").read_bytes())
        if not isinstance(decision, Follow) or decision.rewrite_face or head is None:
            self._problem("pointer", f"it means {decision}")
        elif (pointer["generation"], pointer["version"]) != (head.generation, head.version):
            self._problem("pointer", f"it shows {pointer['generation']}, the head is {head.generation}")

    def _again(self) -> int:
        match self._stage.operation:
            case "deploy":
                return operations.commit(self._memory, operations.order(self._root, Action.DEPLOY, C))
            case "rollback":
                return operations.commit(self._memory, operations.order(self._root, Action.ROLLBACK, A))
            case "first":
                return operations.commit(self._memory, operations.order(self._root, Action.DEPLOY, A))
            case "emergency":
                return self._record_late()
            case _:
                return operations.looked_and_adopted(self._root, self._memory)

    def _record_late(self) -> int:
        """As a sidecar that starts again does; where the rollback was never in effect, it is ordered again."""
        ledger, held = operations.opened(self._root), Emergency(operations.pending(self._root))
        ledger.refresh()
        if held.recall(ledger) is not None:
            return operations.record_what_waits(ledger, held)
        if self._run.held and self._fault is KILL and not self.recorded:
            self._problem("lost", "the rollback was in effect")
        return operations.commit(self._memory, operations.order(self._root, Action.ROLLBACK, A))

    # A version.

    def _version(self) -> None:
        store = VersionStore(operations.store_of(self._root))
        directory = operations.store_of(self._root) / MODEL
        self.leftovers = len([*directory.glob(".publishing-*")])
        self.recorded = C in store.versions(MODEL)
        if self.recorded:
            store.verify(MODEL, C).close()
        said = self._run.said
        if said is not None and "generation" in said:
            if not self.recorded:
                self._problem("false ack", "it is not in the store")
        elif said is not None and not (self._fault.lasting and _is_refusal(said)):
            self._error(said, tried=any(call.name.startswith("rename") for call in self._run.own))
        try:
            operations.published(self._root)
        except SidecarError as error:
            if not (self.recorded and error.reason is Reason.VERSION_EXISTS):
                raise
        store.verify(MODEL, C).close()
        if store.versions(MODEL) != [C, B, A]:
            self._problem("invalid", f"versions: {store.versions(MODEL)}")


def _content(record: Path) -> bytes:
    # Where there are no hard links, a record is a directory with the bytes in it.
    if record.is_dir():
        (record,) = record.iterdir()
    return record.read_bytes()


def _is_refusal(said: dict[str, Any]) -> bool:
    # Where everything fails from some call on, so does reading what is in our own memory: onnxruntime then blames the model.
    return said["error"] in {"VerificationError", "IncompleteVersionError"}


def count(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """A row of the table."""
    kinds = Counter(kind for outcome in outcomes for kind, _ in outcome.problems)
    return {
        "points": len(outcomes),
        "struck": sum(outcome.struck for outcome in outcomes),
        "in doubt": sum(
            outcome.recorded and "generation" not in (outcome.said or {}) for outcome in outcomes
        ),
        "leftovers": sum(outcome.leftovers for outcome in outcomes),
        "lost": kinds["lost"],
        "doubled": kinds["doubled"],
        "invalid": kinds["invalid"],
        "other": sum(kinds.values()) - kinds["lost"] - kinds["doubled"] - kinds["invalid"],
    }

"""A disk that is really written, and remembered: which of it would a power cut leave?

POSIX promises little, and this takes it by the word. What was written to a file is on the disk once that file was synced;
a name, once its directory was; until then each write and each change of a name may have happened or not, in any order
and a write in part, and a file may have its new size before its bytes. Only a rename within one directory is all or
nothing as far as its target goes: no file system that is worth a ledger loses both.

`RecordingDisk` notes every call by the identity of what it changes, not by path; `Trace.state` makes the trees that a cut
after any call could leave.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.ledgers import KilledError

from model_sidecar.disk.calls import Disk

KINDS = ("dropped", "subset", "torn", "reordered", "kept")
"""Of what was not synced: nothing is left; each change or not; all, the last write in part; the later, not the earlier; all."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes were written to a file at an offset."""

    inode: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Moded:
    """A file or directory got a mode."""

    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class Named:
    """Names in a directory changed, in one step; None: the name is gone."""

    inode: int
    names: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's bytes, or a directory's names, and its mode are on the disk."""

    inode: int


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody was told something, which from then on has to hold."""

    what: object


Step = Wrote | Moded | Named | Synced | Said


@dataclass(slots=True)
class Node:
    """A file or directory as the disk has it."""

    mode: int
    content: bytes = b""
    names: dict[str, int] | None = None


@dataclass(slots=True)
class Trace:
    """What was on the disk at the beginning, and every step since. `nodes` knows also those that were made later, empty."""

    root: int
    nodes: dict[int, Node] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def state(self, *, cut: int, kind: str, chance: random.Random) -> State:
        """One tree that a power cut after `cut` steps could leave."""
        durable, pending = self._at(cut)
        kept = _kept(pending, kind, chance)
        nodes = {
            inode: _after(node, [step for number, step in pending if step.inode == inode and number in kept])
            for inode, node in durable.items()
        }
        writes = [step for _, step in pending if isinstance(step, Wrote)]
        if kind == "torn" and writes:
            _tear(nodes[writes[-1].inode], writes[-1], chance)
        elif kind in ("subset", "reordered"):
            for write in writes:  # the size may be there before the bytes
                if chance.random() < 0.3:
                    node = nodes[write.inode]
                    node.content = node.content.ljust(write.offset + len(write.content), b"\0")
        if kind == "subset":
            _leave_both_names(nodes, [step for number, step in pending if number in kept], chance)
        said = tuple(step.what for step in self.steps[:cut] if isinstance(step, Said))
        return State(self.root, nodes, said)

    def _at(self, cut: int) -> tuple[dict[int, Node], list[tuple[int, Wrote | Moded | Named]]]:
        """What is surely on the disk, and what else was done, by its number."""
        durable = {
            inode: Node(node.mode, node.content, None if node.names is None else dict(node.names))
            for inode, node in self.nodes.items()
        }
        pending: list[tuple[int, Wrote | Moded | Named]] = []
        for number, step in enumerate(self.steps[:cut]):
            if isinstance(step, Synced):
                settled = [each for _, each in pending if each.inode == step.inode]
                pending = [each for each in pending if each[1].inode != step.inode]
                durable[step.inode] = _after(durable[step.inode], settled)
            elif not isinstance(step, Said):
                pending.append((number, step))
        return durable, pending


@dataclass(frozen=True, slots=True)
class State:
    """A tree that a power cut left, and what had been said before."""

    root: int
    nodes: Mapping[int, Node]
    said: tuple[object, ...]

    def lay(self, place: Path) -> None:
        """Make the tree at `place`, which does not exist yet."""
        laid: dict[int, Path] = {}

        def lay(inode: int, path: Path) -> None:
            node = self.nodes[inode]
            if inode in laid:
                if node.names is None:
                    path.hardlink_to(laid[inode])
                return
            laid[inode] = path
            if node.names is None:
                path.write_bytes(node.content)
            else:
                path.mkdir()
                for name, child in sorted(node.names.items()):
                    lay(child, path / name)
            path.chmod(node.mode)

        lay(self.root, place)

    def digest(self) -> str:
        """Equal for equal trees before which the same was said."""

        def shown(inode: int) -> object:
            node = self.nodes[inode]
            inside = (
                node.content if node.names is None else [(n, shown(c)) for n, c in sorted(node.names.items())]
            )
            return node.mode, inside

        return hashlib.sha256(repr((shown(self.root), self.said)).encode()).hexdigest()


class RecordingDisk(Disk):
    """A real disk below `root` that remembers what was done to it. One thread's.

    Args:
        root: the directory that is looked at.
        links: whether the file system knows link(2).
        forget: "files" or "directories", of which fsync does nothing: the control, which must be found out.
    """

    def __init__(self, root: Path, *, links: bool = True, forget: str = "") -> None:
        self._root = root
        self._links = links
        self._forget = forget
        self._numbers: dict[tuple[int, int], int] = {}
        self._next = itertools.count(1)
        self._calls_until_killed: int | None = None
        self._failing_sync: int | None = None
        self.rest()

    def rest(self) -> None:
        """A long time passes: all that is there now is durable, and the trace begins."""
        self.trace = Trace(self._number(self._root.stat()))
        self._survey(self._root)

    def say(self, what: object) -> None:
        """Somebody is told this now."""
        self.trace.steps.append(Said(what))

    def kill(self, *, after_calls: int | None) -> None:
        """Let so many calls that change something through, and no more. None: another process begins."""
        self._calls_until_killed = after_calls

    def fail_sync(self, *, skip: int) -> None:
        """Let one fsync fail with EIO, after so many that succeed."""
        self._failing_sync = skip

    def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_CREAT:
            return super().open(name, flags, mode, dir_fd=dir_fd)
        assert flags & os.O_EXCL, "a file of the store that is made anew is a new one"
        self._strike()
        fd = super().open(name, flags, mode, dir_fd=dir_fd)
        self._born(os.fstat(fd), name, dir_fd)
        return fd

    def write(self, fd: int, content: bytes | memoryview) -> int:
        self._strike()
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = super().write(fd, content)
        self._note(Wrote(self._number(os.fstat(fd)), offset, bytes(content[:written])))
        return written

    def fchmod(self, fd: int, mode: int) -> None:
        self._strike()
        super().fchmod(fd, mode)
        self._note(Moded(self._number(os.fstat(fd)), mode))

    def fsync(self, fd: int) -> None:
        """Waits for nothing: that no power is cut here is certain."""
        self._strike()
        if self._failing_sync is not None:
            self._failing_sync -= 1
            if self._failing_sync < 0:
                self._failing_sync = None
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        number = self._number(os.fstat(fd))
        kind = "files" if self.trace.nodes[number].names is None else "directories"
        if kind != self._forget:
            self._note(Synced(number))

    def link(self, source: Path | str, target: Path | str) -> None:
        self._strike()
        if not self._links:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        super().link(source, target)
        self._name(target, None, self._number(os.lstat(source)))

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        self._strike()
        moved = self._number(os.stat(source, dir_fd=dir_fd, follow_symlinks=False))
        super().rename(source, target, dir_fd=dir_fd)
        directory = self._directory(source, dir_fd)
        assert directory == self._directory(target, dir_fd), "nothing is moved from one directory to another"
        self._note(Named(directory, {os.path.basename(source): None, os.path.basename(target): moved}))  # noqa: PTH119

    def unlink(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        self._strike()
        super().unlink(name, dir_fd=dir_fd)
        self._name(name, dir_fd, None)

    def mkdir(self, name: Path | str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._strike()
        super().mkdir(name, mode, dir_fd=dir_fd)
        self._born(os.stat(name, dir_fd=dir_fd, follow_symlinks=False), name, dir_fd, names={})

    def rmdir(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        self._strike()
        super().rmdir(name, dir_fd=dir_fd)
        self._name(name, dir_fd, None)

    def _strike(self) -> None:
        if self._calls_until_killed is not None:
            if not self._calls_until_killed:
                raise KilledError
            self._calls_until_killed -= 1

    def _survey(self, directory: Path) -> None:
        names = {path.name: self._number(path.lstat()) for path in directory.iterdir()}
        self.trace.nodes[self._number(directory.stat())] = Node(
            directory.stat().st_mode & 0o7777, names=names
        )
        for path in directory.iterdir():
            if path.is_dir():
                self._survey(path)
            else:
                self.trace.nodes[self._number(path.stat())] = Node(
                    path.stat().st_mode & 0o7777, path.read_bytes()
                )

    def _number(self, facts: os.stat_result) -> int:
        identity = facts.st_dev, facts.st_ino
        if identity not in self._numbers:
            self._numbers[identity] = next(self._next)
        return self._numbers[identity]

    def _born(
        self,
        facts: os.stat_result,
        name: Path | str,
        dir_fd: int | None,
        *,
        names: dict[str, int] | None = None,
    ) -> None:
        # A new number even where the file system uses a deleted file's inode again.
        self._numbers[facts.st_dev, facts.st_ino] = number = next(self._next)
        self.trace.nodes[number] = Node(facts.st_mode & 0o7777, names=names)
        self._name(name, dir_fd, number)

    def _name(self, name: Path | str, dir_fd: int | None, inode: int | None) -> None:
        self._note(Named(self._directory(name, dir_fd), {Path(name).name: inode}))

    def _directory(self, name: Path | str, dir_fd: int | None) -> int:
        return self._number(Path(name).parent.stat() if dir_fd is None else os.fstat(dir_fd))

    def _note(self, step: Step) -> None:
        self.trace.steps.append(step)


def _after(node: Node, steps: Sequence[Wrote | Moded | Named]) -> Node:
    """The node once these steps, all its own, are done to it."""
    content = bytearray(node.content)
    names = None if node.names is None else dict(node.names)
    mode = node.mode
    for step in steps:
        match step:
            case Wrote():
                content.extend(bytes(max(0, step.offset - len(content))))
                content[step.offset : step.offset + len(step.content)] = step.content
            case Moded():
                mode = step.mode
            case Named():
                assert names is not None
                for name, inode in step.names.items():
                    names.pop(name, None)
                    if inode is not None:
                        names[name] = inode
    return Node(mode, bytes(content), names)


def _kept(pending: Sequence[tuple[int, Wrote | Moded | Named]], kind: str, chance: random.Random) -> set[int]:
    """Which of the steps that were not synced are on the disk all the same."""
    numbers = [number for number, _ in pending]
    match kind:
        case "dropped":
            return set()
        case "kept" | "torn":
            return set(numbers)
        case "subset":
            return {number for number in numbers if chance.random() < 0.5}
        case "reordered":
            named = [number for number, step in pending if isinstance(step, Named)]
            after = chance.choice(named) if named else 0
            return {number for number in numbers if number >= after}
        case _:
            raise ValueError(kind)


def _tear(node: Node, write: Wrote, chance: random.Random) -> None:
    """Leave a part of the write: a shorter file, or one of full size that ends in zeros."""
    torn = node.content[: write.offset + chance.randrange(len(write.content) + 1)]
    node.content = torn if chance.random() < 0.5 else torn.ljust(len(node.content), b"\0")


def _leave_both_names(
    nodes: dict[int, Node], steps: Sequence[Wrote | Moded | Named], chance: random.Random
) -> None:
    """Let a renamed file keep its old name as well, as a file system may that first adds and then removes."""
    for step in steps:
        if isinstance(step, Named) and len(step.names) == 2 and chance.random() < 0.3:
            names = nodes[step.inode].names
            assert names is not None
            (old, _), (new, moved) = step.names.items()
            if moved is not None and nodes[moved].names is None and names.get(new) == moved:
                names.setdefault(old, moved)

"""Ledgers on real directories, and a disk of which one call can be made to fail."""

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.ledger.face import PointerFace
from model_sidecar.ledger.file_backend import FileBackend
from model_sidecar.ledger.ledger import Commit, Intent, Ledger
from model_sidecar.ledger.record import Action, Actor, Record, Writer
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Environment, ModelName, Version

MODEL = ModelName("recommendation-v1")
PROD = Environment("prod")
A, B, C = Version("2024.01.10.prod"), Version("2024.01.12.prod"), Version("2024.01.15.prod")
ALICE = Actor("uid:1000", "unix-peer", "alice")
START = datetime(2024, 1, 15, 3, 0, tzinfo=UTC)

_numbers = itertools.count(1)


def intent(
    version: Version = A,
    *,
    action: Action = Action.DEPLOY,
    request_id: str | None = None,
    reason: str = "retrain",
    body: str | None = None,
) -> Intent:
    """A wish for this version; without a request id, a wish of its own."""
    return Intent(
        action=action,
        version=version,
        manifest_sha256=digest_of(version.encode()),
        actor=ALICE,
        reason=reason,
        source_commit="0123abcd",
        request_id=request_id or f"request-{os.getpid()}-{next(_numbers)}",
        request_sha256=digest_of((body or f"{action} {version}").encode()),
    )


def follow(
    previous: Record | None,
    version: Version,
    *,
    action: Action = Action.DEPLOY,
    request_id: str | None = None,
) -> Record:
    """The record that stands behind `previous` when `version` is chosen."""
    wanted = intent(version, action=action, request_id=request_id)
    return Record(
        generation=previous.generation + 1 if previous else 1,
        previous_record_sha256=previous.sha256 if previous else None,
        model=MODEL,
        environment=PROD,
        action=wanted.action,
        version=wanted.version,
        manifest_sha256=wanted.manifest_sha256,
        previous_version=previous.version if previous else None,
        actor=wanted.actor,
        reason=wanted.reason,
        source_commit=wanted.source_commit,
        request_id=wanted.request_id,
        request_sha256=wanted.request_sha256,
        written_by=Writer("sidecar-1", "host-1", "model-sidecar 0.1.0"),
        timestamp=START,
    )


def chain(*steps: tuple[Action, Version] | Version) -> list[Record]:
    """A whole chain; a bare version is a DEPLOY."""
    records: list[Record] = []
    for step in steps:
        action, version = step if isinstance(step, tuple) else (Action.DEPLOY, step)
        records.append(follow(records[-1] if records else None, version, action=action))
    return records


class Registry:
    """The place of one model's ledger and pointer in a store, to be opened by any number of sidecars.

    Args:
        store: the store's directory.
        make: whether to make it and the model's.
        links: whether its file system knows link(2); without it, records are kept as directories.
    """

    def __init__(self, store: Path, *, make: bool = True, links: bool = True) -> None:
        self._links = links
        self.model_directory = store / MODEL
        if make:
            self.model_directory.mkdir(parents=True)
        self.directory = self.model_directory / "environments" / PROD
        self.ledger_directory = self.directory / "ledger"
        self.pointer = self.directory / "active.json"

    def disk(self) -> "FaultyDisk":
        """A disk under this store that can be made to fail."""
        return FaultyDisk(links=self._links)

    def face(self, *, disk: Disk | None = None) -> PointerFace:
        return PointerFace(self.pointer, disk=disk)

    def open(
        self, sidecar: str = "sidecar-1", *, disk: Disk | None = None, face_disk: Disk | None = None
    ) -> Ledger:
        return Ledger(
            FileBackend(self.ledger_directory, disk=disk or (None if self._links else self.disk())),
            self.face(disk=face_disk),
            model=MODEL,
            environment=PROD,
            writer=Writer(sidecar, "host-1", "model-sidecar 0.1.0"),
            now=lambda: datetime.now(UTC),
        )

    def slot(self, generation: int) -> Path:
        """Where a record stands, as a file or as a directory."""
        return self.ledger_directory / f"{generation:020d}.json"

    def take_away(self, generation: int) -> None:
        """Remove a record, of whichever kind."""
        slot = self.slot(generation)
        shutil.rmtree(slot) if slot.is_dir() else slot.unlink()

    def record_file(self, generation: int) -> Path:
        """The file that holds a record's bytes."""
        slot = self.slot(generation)
        return slot / "record.json" if slot.is_dir() else slot

    def leftovers(self) -> list[Path]:
        return [*self.directory.rglob(".*.tmp")]


def commit(ledger: Ledger, wanted: Intent | Version) -> Commit:
    """Commit upon whatever the head is now."""
    if isinstance(wanted, str):
        wanted = intent(wanted)
    head = ledger.refresh()
    return ledger.commit(wanted, expected_generation=head.generation if head else 0)


class KilledError(BaseException):
    """The process was killed: nothing that it might still have done is done."""


class FaultyDisk(Disk):
    """A real disk on which the `skip + 1`-th `call` from now on fails `times` times, instead of or after its work.

    Or one whose process is killed, after which every call raises KilledError.

    Args:
        links: whether the file system knows link(2); without it, records are kept as directories.
    """

    def __init__(self, *, links: bool = True) -> None:
        self.links = links
        self._lock = threading.Lock()
        self._call = ""
        self._failure: Callable[[], None] | None = None
        self._skip = self._times = 0
        self._after = False
        self._calls_until_killed: int | None = None
        self.failed = 0

    @property
    def filling_call(self) -> str:
        """The call that fills a slot."""
        return "link" if self.links else "rename"

    @property
    def syncs_to_lay(self) -> int:
        """How many calls of fsync come before a record is moved into its slot by who has recorded the one before: its own."""
        return 1 if self.links else 2

    def kill(self, *, after_calls: int) -> None:
        """Let so many calls that change something through, and no more."""
        self._calls_until_killed = after_calls

    def fail(
        self,
        call: str,
        error: int | Callable[[], None],
        *,
        skip: int = 0,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Arm it. A callable in place of an error number is simply called, and may raise."""
        self._call, self._skip, self._times, self._after, self.failed = call, skip, times, after, 0
        self._failure = error if callable(error) else lambda: _raise(error)

    def open(self, name: Path | str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        self._strike("open", after=False)
        return super().open(name, flags, mode, dir_fd=dir_fd)

    def write(self, fd: int, content: bytes | memoryview) -> int:
        self._strike("write", after=False)
        return super().write(fd, content)

    def fsync(self, fd: int) -> None:
        # Nothing is waited for: no test could see it, and the disk is shared.
        self._strike("fsync", after=False)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._strike("close", after=False)

    def link(self, source: Path | str, target: Path | str) -> None:
        if not self.links:
            _raise(errno.EOPNOTSUPP)
        if not self._after:
            self._strike("link", after=False)
        super().link(source, target)
        self._strike("link", after=True)

    def rename(self, source: Path | str, target: Path | str, *, dir_fd: int | None = None) -> None:
        if not self._after:
            self._strike("rename", after=False)
        super().rename(source, target, dir_fd=dir_fd)
        self._strike("rename", after=True)

    def unlink(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        self._strike("unlink", after=False)
        super().unlink(name, dir_fd=dir_fd)

    def rmdir(self, name: Path | str, *, dir_fd: int | None = None) -> None:
        self._strike("rmdir", after=False)
        super().rmdir(name, dir_fd=dir_fd)

    def mkdir(self, name: Path | str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._strike("mkdir", after=False)
        super().mkdir(name, mode, dir_fd=dir_fd)

    def lstat(self, name: Path | str, *, dir_fd: int | None = None) -> os.stat_result:
        if self._call == "lstat":  # not one of the calls that change something
            self._strike("lstat", after=False)
        return super().lstat(name, dir_fd=dir_fd)

    def stat(self, name: Path | str) -> os.stat_result:
        if self._call == "stat":
            self._strike("stat", after=False)
        return super().stat(name)

    def _strike(self, call: str, *, after: bool) -> None:
        with self._lock:
            if self._calls_until_killed is not None:
                if not self._calls_until_killed:
                    raise KilledError
                self._calls_until_killed -= 1
            if call != self._call or after != self._after or self._failure is None:
                return
            if self._skip:
                self._skip -= 1
                return
            if not self._times:
                return
            self._times -= 1
            self.failed += 1
        self._failure()


def _raise(number: int) -> None:
    raise OSError(number, os.strerror(number))

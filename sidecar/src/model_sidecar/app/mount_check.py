"""Whether a mount keeps the promises that the ledger and the store rely on, and what a sidecar does there if not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.promises import (
    durable_files,
    durable_names,
    exclusive_directory,
    exclusive_link,
    replacing_rename,
)
from model_sidecar.disk.steps import discard, sweep, temporary_beside, write_file
from model_sidecar.serving.watch import Watch

_VERDICT = "so a sidecar here"
_FOLLOWS = "follows the ledger's head; the pointer only where there is no ledger"
_EVENT_WAIT_S = 2.0
_CLOCK_WAIT_S = 2.5
"""FAT keeps modification times to two seconds."""
_CLOCK_SKEW_S = 2.0
_LITTLE_ROOM_BYTES = 64 << 20
_FEW_INODES = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: in a few words.
        ok: None where the answer is no fault, only good to know.
        detail: what was found, and what a sidecar does because of it.
        of_version: it is about a version's bytes.
    """

    what: str
    ok: bool | None
    detail: str = ""
    of_version: bool = False


def check_mount(store: Path, *, disk: Disk | None = None) -> Iterator[Finding]:
    """Try on this mount what ledger and store do, in a hidden directory that is removed again."""
    disk = disk or Disk()
    if refused := _refused(store, disk):
        yield refused
        yield from _room(store, disk)
        yield Finding(
            _VERDICT,
            ok=refused.ok,
            detail=f"{_FOLLOWS}. Deploy and Rollback are refused",
        )
        return
    yield Finding("writable", ok=True)
    with _scratch(store, disk) as scratch:
        tried = _Tried(disk, scratch)
        yield from tried.promises()
        yield from (_times(disk, scratch), _events(disk, scratch))
    yield from _room(store, disk)
    yield tried.verdict()


@dataclass(slots=True)
class _Tried:
    """What was found of each promise: "" where it is kept."""

    disk: Disk
    scratch: Path
    found: dict[str, str] = field(default_factory=dict)
    untried: set[str] = field(default_factory=set)

    def promises(self) -> Iterator[Finding]:
        link = self._try("link", exclusive_link)
        directory = self._try("directory", exclusive_directory)
        instead = bool(link) and not directory and "link" not in self.untried
        yield Finding(
            "exclusive link (of two operators one wins)",
            ok=None if instead else not link,
            detail=f"{link}: records are kept as directories instead" if instead else link,
        )
        yield Finding(
            "a directory is not replaced by rename (publish)",
            ok=not directory,
            detail=self._told(
                "directory",
                "of two who publish one version at once both succeed, and one is lost; publish from one place. A ledger "
                "that was deleted is not put back",
            ),
        )
        rename = self._try("rename", replacing_rename)
        yield Finding(
            "rename replaces a file at once (the pointer)",
            ok=not rename,
            detail=self._told("rename", "the pointer cannot be rewritten and lags behind the ledger"),
        )
        for name, attempt, what in (
            ("files", durable_files, "fsync of files"),
            ("names", durable_names, "fsync of directories"),
        ):
            found = self._try(name, attempt)
            yield Finding(
                what, ok=not found, detail=self._told(name, "no record would be safe from a power cut")
            )

    def verdict(self) -> Finding:
        not_offered = {name for name, found in self.found.items() if found} - self.untried
        if not_offered & {"files", "names"} or {"link", "directory"} <= not_offered:
            return Finding(
                _VERDICT,
                ok=False,
                detail=f"{_FOLLOWS}. It records nothing, and Deploy and Rollback are refused (STORE_UNSUPPORTED)",
            )
        if self.untried & {"link", "files", "names"}:
            return Finding(
                _VERDICT,
                ok=False,
                detail=f"{_FOLLOWS}. It refuses Deploy and Rollback for as long as this lasts (STORE_UNAVAILABLE)",
            )
        kind = "directories" if self.found["link"] else "files"
        return Finding(
            _VERDICT,
            ok=True,
            detail=f"records deployments, as {kind}. Whether what it is told to be on the disk survives a power cut "
            "only the file system's documentation tells",
        )

    def _try(self, name: str, attempt: Callable[[Disk, Path], str]) -> str:
        place = self.scratch / name
        try:
            self.disk.mkdir(place)
            self.found[name] = attempt(self.disk, place)
        except OSError as error:
            self.found[name] = _could_not(error)
            self.untried.add(name)
        return self.found[name]

    def _told(self, name: str, consequence: str) -> str:
        """What was found, and what comes of it; of what could not be tried, nothing is known."""
        found = self.found[name]
        return f"{found}: {consequence}" if found and name not in self.untried else found


def _refused(store: Path, disk: Disk) -> Finding | None:
    """Why nothing can be made in the store; None where something was."""
    what = "writable"
    if not disk.access(store, os.W_OK | os.X_OK):
        return Finding(what, ok=None, detail="no: it is mounted read-only, or this user may not write")
    probe = temporary_beside(store / "store-check")
    try:
        disk.mkdir(probe)
    except OSError as error:
        return Finding(what, ok=False, detail=f"no: {_said(error)}")
    discard(disk, probe)
    return None


@contextmanager
def _scratch(store: Path, disk: Disk) -> Iterator[Path]:
    scratch = temporary_beside(store / "store-check")
    disk.mkdir(scratch)
    try:
        # What earlier checks left that were killed.
        sweep(disk, store, now_s=disk.lstat(scratch).st_mtime)
        yield scratch
    finally:
        discard(disk, scratch)


def _times(disk: Disk, scratch: Path) -> Finding:
    what = "modification times move forward"
    useless = "an edit that leaves the pointer's bytes as they were is not taken for a new one"
    try:
        first = _written_at(disk, scratch / "first")
        skew_s = first / 1e9 - time.time()
        began = time.monotonic()
        number = 0
        while (now := _written_at(disk, scratch / f"again-{number}")) <= first:
            if time.monotonic() - began > _CLOCK_WAIT_S:
                stands = "go back" if now < first else "stand still"
                return Finding(what, ok=False, detail=f"they {stands} for {_CLOCK_WAIT_S} s: {useless}")
            number += 1
            time.sleep(0.01)
    except OSError as error:
        return Finding(what, ok=False, detail=_could_not(error))
    if abs(skew_s) > _CLOCK_SKEW_S:
        clock = (
            f"by a clock that is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
        )
        return Finding(what, ok=True, detail=f"{clock}; leftovers are swept by that one")
    return Finding(what, ok=True)


def _written_at(disk: Disk, path: Path) -> int:
    write_file(disk, path, [b"now"])
    return disk.lstat(path).st_mtime_ns


def _events(disk: Disk, scratch: Path) -> Finding:
    what = "file events"
    polled = "changes are found by polling alone (--poll-interval)"
    folder = scratch / "model" / "environments" / "prod"
    seen = threading.Event()
    watch = Watch(folder / "active.json", wake=seen.set)
    try:
        for directory in (folder.parent.parent, folder.parent, folder):
            disk.mkdir(directory)
        watch.renew()
        write_file(disk, folder / "active.json", [b""])
        arrived = seen.wait(_EVENT_WAIT_S)
    except OSError as error:
        return Finding(what, ok=None, detail=_could_not(error))
    finally:
        watch.stop()
    if arrived:
        return Finding(
            what, ok=True, detail=f"of this machine's changes; on a shared volume other hosts' {polled}"
        )
    return Finding(what, ok=None, detail=f"none: {polled}")


def _room(store: Path, disk: Disk) -> Iterator[Finding]:
    what = "free space"
    refused = "what is live goes on, deployments and publishing are refused (STORE_FULL) until there is room"
    try:
        found = disk.statvfs(store)
    except OSError as error:
        yield Finding(what, ok=None, detail=f"it is not told ({_said(error)})")
        return
    if not found.f_blocks:
        yield Finding(what, ok=None, detail="it is not told")
        return
    free = found.f_bavail * found.f_frsize
    inodes = found.f_favail if found.f_files else None
    detail = f"{free / (1 << 20):,.0f} MiB" + ("" if inodes is None else f", {inodes:,} files")
    if not free or inodes == 0:
        yield Finding(what, ok=False, detail=f"{detail}: {refused}")
    elif free < _LITTLE_ROOM_BYTES or (inodes is not None and inodes < _FEW_INODES):
        yield Finding(what, ok=None, detail=f"{detail}, which is little: once it is used up, {refused}")
    else:
        yield Finding(what, ok=True, detail=detail)


def _could_not(error: OSError) -> str:
    return f"it could not be tried ({_said(error)})"


def _said(error: OSError) -> str:
    return error.strerror or str(error)

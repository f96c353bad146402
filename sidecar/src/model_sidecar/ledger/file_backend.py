"""Records as files: `<environment>/ledger/<generation, 20 digits>.json`, on a local disk or a shared volume.

A record is first laid under a hidden name, written and synced, and then moved into its slot by a call that succeeds for
exactly one writer (`filling`): the slot is a file, or on mounts without link a directory that holds `record.json`. Both
kinds may stand in one ledger.

A whole ledger that was deleted is put back by rename(2) of a directory, which it moves only to where there is nothing or
an empty directory, so that at no moment a part of the records can be taken for all of them.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.faults import store_error, store_faults
from model_sidecar.disk.steps import (
    discard,
    is_directory,
    opened_directory,
    read_file,
    sweep,
    sync_directory,
    temporary_beside,
    write_directory,
)
from model_sidecar.errors import CommitStateUnknownError, Reason, RefusedError, StoreError
from model_sidecar.ledger.backend import GenerationTakenError
from model_sidecar.ledger.filling import RECORD, Filling, choose_filling, require_exclusive_directory
from model_sidecar.ledger.record import MAX_READ_BYTES
from model_sidecar.ledger.whole import State, Wholeness

_NAME = re.compile(r"[0-9]{20}\.json", re.ASCII)


class FileBackend:
    """The `Backend` in a directory. May be used from any thread and any number of processes.

    Args:
        directory: `<store>/<model>/environments/<environment>/ledger`. It, its parent and its parent's parent are made
            at the first commit. The model's directory is not: if that is missing, the store is not mounted.
        disk: the system calls.
        clock: monotonic seconds.
    """

    def __init__(
        self, directory: Path, *, disk: Disk | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._disk = disk or Disk()
        self._wholeness = Wholeness(clock)
        # A race costs a second look at most.
        self._filling: Filling | None = None
        self._unsupported = False
        self._seen = False
        self._swept = False
        # Which generation was the last to be recorded here, and how that left the directory: as long as it is like this,
        # all names in it up to that one are durable.
        self._settled: tuple[int, State] | None = None
        # Names of the first so many records, all of which the last listing had.
        self._familiar: set[str] = set()

    def read(self, generation: int) -> bytes | None:
        """See `Backend.read`. A directory that was there and is not any more is an error, not an empty ledger."""
        path = self._path(generation)
        try:
            found = read_file(self._disk, path, limit=MAX_READ_BYTES, follow_symlink=False)
            if found.is_directory:
                path /= RECORD
                found = read_file(self._disk, path, limit=MAX_READ_BYTES, follow_symlink=False)
        except FileNotFoundError as error:
            if path.name == RECORD:
                raise _unfit(path.parent, f"it is a directory without {RECORD}") from error
            if self._seen and not self._is_directory(self._directory):
                raise StoreError(f"{self._directory} has gone: is the store still mounted?") from error
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _unfit(path, "it is a symbolic link") from error
            raise store_error(error, path, doing="read") from error
        if found.content is None:
            raise _unfit(path, "it is not a regular file")
        if len(found.content) > MAX_READ_BYTES:
            raise _unfit(path, f"it has more than {MAX_READ_BYTES} bytes")
        self._seen = True
        return found.content

    def put_if_absent(self, generation: int, content: bytes) -> None:
        """See `Backend.put_if_absent`."""
        temporary = temporary_beside(self._path(generation))
        before = self._state_shown()
        try:
            filling, now_s = self._lay(temporary, content)
            if before is None or self._settled != (generation - 1, before):
                self._secure_earlier()
            self._settled = None
            self._move(filling, temporary, generation, content)
        finally:
            discard(self._disk, temporary)
        self._seen = True
        after = self._state_shown()
        if after is not None:
            self._settled = generation, after
        self._wholeness.wrote(before=before, after=after)
        if not self._swept:
            self._swept = True
            sweep(self._disk, self._directory, now_s=now_s)

    def settle(self, generation: int) -> None:
        """See `Backend.settle`."""
        try:
            self._sync_way()
        except OSError as error:
            raise CommitStateUnknownError(
                f"generation {generation} is in the ledger, but syncing {self._directory} and what is above it failed "
                f"({error.strerror}), so it may not survive a power cut. Ask again with the same request id",
                generation=generation,
            ) from error

    def expect_records(self) -> None:
        """See `Backend.expect_records`."""
        self._seen = True

    def latest_hint(self) -> int:
        """The highest generation in the directory's listing; 0 if there is none."""
        try:
            names = self._disk.names(self._directory)
        except FileNotFoundError:
            root = self._directory.parents[3]
            if not self._is_directory(root):
                raise StoreError(f"{root} is not there: is the store mounted?") from None
            return 0
        except OSError as error:
            raise store_error(error, self._directory, doing="list") from error
        return int(max(filter(_NAME.fullmatch, names), default="0").removesuffix(".json"))

    def first_missing(self, head: int) -> int | None:
        """See `Backend.first_missing`. Costs one listing of the directory, where `survey` had not seen it like this."""
        state = self._state()
        if state is not None and self._wholeness.covers(head, state):
            return None
        missing = self._listed_missing(head)
        if state is not None:
            up_to = head if missing is None else missing - 1
            self._wholeness.listed(up_to=up_to, before=state, after=self._state())
        return missing

    def survey(self, head: int) -> None:
        """See `Backend.survey`. Costs a look at the directory, and a listing once it has come to rest after a change."""
        state = self._state()
        if state is not None and self._wholeness.is_due(state):
            with contextlib.suppress(StoreError):  # whoever has to know will be told
                self.first_missing(head)

    def unsupported(self) -> bool:
        """See `Backend.unsupported`. Every try to record tries the mount again."""
        return self._unsupported

    def vanished(self) -> bool:
        """See `Backend.vanished`. Without the environment's directory the store is rather not mounted."""
        return self._seen and self._is_directory(self._directory.parent) and self.latest_hint() == 0

    def put_back(self, contents: Sequence[bytes]) -> None:
        """See `Backend.put_back`. The records are laid in a hidden directory beside, which then becomes the ledger's."""
        hidden = temporary_beside(self._directory)
        files = {_file_name(generation): content for generation, content in enumerate(contents, 1)}
        try:
            require_exclusive_directory(self._disk, self._directory)
            now_s = write_directory(self._disk, hidden, files)
            self._move_in(hidden, contents, now_s=now_s)
        except OSError as error:
            raise store_error(error, self._directory, doing="put back") from error
        finally:
            discard(self._disk, hidden)
        try:
            self._sync_way()
        except OSError as error:
            raise CommitStateUnknownError(
                f"{self._directory} was put back, but syncing it and what is above it failed ({error.strerror}), so it "
                "may not survive a power cut",
                generation=len(contents),
            ) from error
        sweep(self._disk, self._directory.parent, now_s=now_s)

    def _listed_missing(self, head: int) -> int | None:
        try:
            listed = set(self._disk.names(self._directory))
        except FileNotFoundError:
            listed = set()
        except OSError as error:
            raise store_error(error, self._directory, doing="list") from error
        familiar = self._familiar if self._familiar <= listed else set()
        for generation in range(len(familiar) + 1, head + 1):
            name = _file_name(generation)
            # A mount may show an old listing, without a record that another host has just written: reading it decides.
            if name not in listed and self.read(generation) is None:
                return generation
            familiar.add(name)
        self._familiar = familiar
        return None

    def _state(self) -> State | None:
        # Opened, since over NFS that is what asks the server; stat(2) may be answered from what this host has seen.
        with contextlib.suppress(OSError), opened_directory(self._disk, self._directory) as fd:
            return State.of(self._disk.fstat(fd))
        return None

    def _state_shown(self) -> State | None:
        with contextlib.suppress(OSError):
            return State.of(self._disk.stat(self._directory))
        return None

    def _path(self, generation: int) -> Path:
        return self._directory / _file_name(generation)

    def _is_directory(self, path: Path) -> bool:
        with store_faults(path):
            return is_directory(self._disk, path)

    def _lay(self, temporary: Path, content: bytes) -> tuple[Filling, float]:
        with store_faults(self._directory, doing="record in"):
            try:
                filling = self._filling or self._choose()
                now_s = filling.lay(self._disk, temporary, content)
            except FileNotFoundError:
                self._make_directory()
                filling = self._filling or self._choose()
                now_s = filling.lay(self._disk, temporary, content)
        self._filling = filling
        return filling, now_s

    def _choose(self) -> Filling:
        try:
            filling = choose_filling(self._disk, self._directory)
        except RefusedError:
            self._unsupported = True
            raise
        self._unsupported = False
        return filling

    def _secure_earlier(self) -> None:
        """Wait until the names of all earlier records are on the disk: a power cut must not leave this one without them.

        Who wrote them may not have come to it yet, or was killed before; not so where that was this very process.
        """
        with store_faults(self._directory, doing="record in"):
            sync_directory(self._disk, self._directory)

    def _make_directory(self) -> None:
        for directory in (*self._directory.parents[1::-1], self._directory):
            with contextlib.suppress(FileExistsError):
                self._disk.mkdir(directory)

    def _sync_way(self) -> None:
        """Wait until the ledger's names are on the disk, and every directory's on the way to it from the store's root.

        Every time and not only where we made them: whoever did may have been killed before it could sync them.
        """
        for directory in (self._directory, *self._directory.parents[:4]):
            sync_directory(self._disk, directory)

    def _move_in(self, hidden: Path, contents: Sequence[bytes], *, now_s: float) -> None:
        try:
            self._disk.rename(hidden, self._directory)
        except OSError as error:
            # Somebody was first; or, over NFS, it was we, and the reply got lost. What stands there tells.
            if self.latest_hint():
                self._complete(contents)
                return
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            sweep(self._disk, self._directory, now_s=now_s)
            raise StoreError(
                f"cannot put {self._directory} back: there is no record in it, but it is not empty. Remove what is in it"
            ) from error

    def _complete(self, contents: Sequence[bytes]) -> None:
        # One by one is no risk here: a whole ledger stands there already, and each record only makes it longer.
        for generation, content in enumerate(contents, 1):
            there = self.read(generation)
            if there is None:
                self.put_if_absent(generation, content)
            elif there != content:
                raise GenerationTakenError(generation)

    def _move(self, filling: Filling, temporary: Path, generation: int, content: bytes) -> None:
        try:
            filling.move(self._disk, temporary, self._path(generation))
        except OSError as error:
            self._check_landed(filling, temporary, generation, content, error)
        self.settle(generation)

    def _check_landed(
        self, filling: Filling, temporary: Path, generation: int, content: bytes, error: OSError
    ) -> None:
        # An error does not mean that nothing was moved: over a network the reply can get lost, and the repeated call
        # then finds our own work in its way.
        try:
            there = self.read(generation)
            if there == content or (there is None and filling.has_landed(self._disk, temporary)):
                return
        except (OSError, StoreError) as unread:
            if isinstance(unread, StoreError) and unread.reason is Reason.LEDGER_INVALID:
                raise
            raise CommitStateUnknownError(
                f"filling generation {generation} failed ({error.strerror}), and whether it landed cannot be read: "
                f"{unread}. Ask again with the same request id",
                generation=generation,
            ) from error
        if there is not None or error.errno == errno.EEXIST:
            raise GenerationTakenError(generation) from error
        raise store_error(error, self._directory, doing="record in") from error


def _file_name(generation: int) -> str:
    return f"{generation:020d}.json"


def _unfit(path: Path, problem: str) -> StoreError:
    return StoreError(f"{path} cannot be a record of the ledger: {problem}", reason=Reason.LEDGER_INVALID)

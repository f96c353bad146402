"""What one look at the pointer means, given the ledger. Pure: whoever looked does what is decided here.

Three steps, in this order: read the pointer, refresh the ledger, `interpret` (`Ledger.look` takes them). The other way
round, a record committed in between would make its own face look like somebody's edit. An adoption is committed upon the
head that was interpreted, as `expected_generation`: after a ConflictError all three steps begin anew, so that an edit
which a deployment has overtaken does not win over it.

An edit is adopted exactly once, by whichever sidecar comes first, through restarts and through faces that could not be
rewritten: the request id of its ADOPT is derived from the file's content, modification time and change time alone. The
change time tells a file that is put there again by `cp -p`, which is a new edit, from one that nobody has touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from model_sidecar.errors import SidecarError, StoreError
from model_sidecar.ledger.face import Identity, Reading, Standing
from model_sidecar.ledger.record import Record
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import Version
from model_sidecar.release.pointer import Pointer


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing was ever deployed, and nobody wants anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """The head is wanted. `rewrite_face`: the pointer is missing or does not show it."""

    record: Record
    rewrite_face: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Somebody edited the pointer: verify the version, and commit an ADOPT with just this request id and digest."""

    version: Version
    request_id: str
    request_sha256: Digest
    allow_schema_change: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """There is something in the pointer's place that cannot be acted on.

    The head, if there is one, is followed on. The file is left alone: somebody may be in the middle of an edit.
    """

    problem: SidecarError
    head: Record | None


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """The pointer is somebody else's: follow it, record nothing, write nothing."""

    version: Version
    allow_schema_change: bool


Decision = Nothing | Follow | Adopt | Unreadable | External


def interpret(
    reading: Reading,
    head: Record | None,
    lookup: Callable[[int], Record | None],
    find_request: Callable[[str], Record | None],
) -> Decision:
    """What to do after this look at the pointer.

    Args:
        reading: the look.
        head: the ledger's head, refreshed after the look.
        lookup: the record of a generation, if there is one.
        find_request: the record of a request id, if there is one.
    """
    if reading.problem is not None:
        return Unreadable(problem=reading.problem, head=head)
    pointer = reading.pointer
    if pointer is None or reading.identity is None:
        if head is None:
            return Nothing()
        return Follow(record=head, rewrite_face=reading.is_ours)
    if is_external(reading.standing, head):
        return External(version=pointer.version, allow_schema_change=pointer.allow_schema_change)
    if head is not None and _is_face_of(pointer, head):
        return Follow(record=head, rewrite_face=False)
    request_id = adoption_id(reading.identity)
    if head is not None and (
        pointer.version == head.version  # an edit that asks for what already is, or one that was just adopted
        or (
            pointer.generation is not None and _is_face_of(pointer, lookup(pointer.generation))
        )  # lags behind
        or find_request(request_id) is not None  # adopted before, and the face could not be rewritten since
    ):
        return Follow(record=head, rewrite_face=reading.is_ours)
    if not reading.is_ours:
        problem = StoreError(
            f"the pointer names {pointer.version}, which is not recorded, and the store is read-only here: the head "
            "stays until a sidecar that may write has recorded the edit"
        )
        return Unreadable(problem=problem, head=head)
    return Adopt(
        version=pointer.version,
        request_id=request_id,
        request_sha256=reading.identity.content,
        allow_schema_change=pointer.allow_schema_change,
    )


def is_external(standing: Standing, head: Record | None) -> bool:
    """Whether the pointer is somebody else's to move.

    Where there is a ledger, a directory that cannot be written is a fault, or a store that others write: its head is
    followed all the same.
    """
    return standing is Standing.LINKED or (standing is Standing.READ_ONLY and head is None)


def adoption_id(identity: Identity) -> str:
    """The request id under which this edit is adopted, the same on every sidecar that sees it.

    Without the inode, which some mounts number differently on every host; both times are the file's own, so that hosts
    which share a volume read the same ones.
    """
    edit = f"{identity.content} {identity.mtime_ns} {identity.ctime_ns}"
    return "adopt-" + hashlib.sha256(edit.encode()).hexdigest()[:32]


def _is_face_of(pointer: Pointer, record: Record | None) -> bool:
    return record is not None and (pointer.generation, pointer.version) == (record.generation, record.version)

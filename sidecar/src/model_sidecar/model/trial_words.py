"""What a trial's parent and child say to each other: one job, then one line of JSON for each step and for the end.

The child may be in the hands of a hostile model by the time it speaks, so nothing it says is more than bounded text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from model_sidecar.errors import Reason
from model_sidecar.model.execution import Batching
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import ModelName, Version

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 50)]


class JobFile(msgspec.Struct, frozen=True):
    """A sealed file by the descriptor that the child inherits."""

    fd: int
    digest: Digest
    size: int


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried, and within which limits."""

    parent: int
    model: ModelName
    version: Version
    manifest: Manifest
    files: Mapping[str, JobFile]
    allow_external_data: bool
    scratch: str | None
    timeout_s: float
    memory_bytes: int | None
    max_batch_rows: int = 0


class PassedWord(msgspec.Struct, frozen=True):
    """It was loaded and rehearsed: how many examples it answered, and how much memory all that took at most.

    `batching` is what several rows at once cost, where that was tried and pays; else `not_batched` says why it does not.
    """

    examples: _Count
    took_bytes: _Count
    batching: Batching | None = None
    not_batched: _Text = ""


class RefusedWord(msgspec.Struct, frozen=True):
    """It may not answer: the fields of the VerificationError."""

    reason: Reason
    message: _Text
    facts: Annotated[dict[_Text, _Text], msgspec.Meta(max_length=16)] = {}


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the child's: what it begins to do, or how it ended. `rehearsed`: it passed, and more is tried."""

    doing: _Text = ""
    rehearsed: PassedWord | None = None
    passed: PassedWord | None = None
    refused: RefusedWord | None = None
    unable: _Text = ""

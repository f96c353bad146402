"""The active pointer's bytes: what people, scripts and other languages write, and what we write for them to read.

A person need write no more than `{"version": "2024.01.15.prod"}`. We write the head's record beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from model_sidecar.errors import InvalidNameError, Reason, VerificationError
from model_sidecar.release import strict_json
from model_sidecar.release.names import Version, parse_version

POINTER = "active.json"
MAX_POINTER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Pointer:
    """What `active.json` says.

    Attributes:
        version: the version that should answer.
        generation: the record it is the face of; None when a person wrote it.
        allow_schema_change: whoever edited it accepts other inputs or outputs than the live version's.
    """

    version: Version
    generation: int | None = None
    allow_schema_change: bool = False


class _Document(msgspec.Struct, frozen=True):
    version: str
    generation: int | None = None
    allow_schema_change: bool = False


# msgspec learns a type when it first meets it, which must not happen in two threads at once (see manifest_reading).
msgspec.convert({"version": ""}, _Document)


def parse_pointer(content: bytes) -> Pointer:
    """The pointer in these bytes.

    Raises:
        VerificationError: POINTER_INVALID; the message says what was found, and what to write instead.
    """
    try:
        if not content.strip():
            raise ValueError("it is empty")
        if len(content) > MAX_POINTER_BYTES:
            raise ValueError(f"it has more than {MAX_POINTER_BYTES} bytes")
        document = msgspec.convert(strict_json.loads(content), _Document)
        version = parse_version(document.version)
    except (ValueError, InvalidNameError, msgspec.ValidationError) as error:
        raise VerificationError(
            f'{POINTER} is not a pointer: {error}. Expected {{"version": "2024.01.15.prod"}}',
            reason=Reason.POINTER_INVALID,
        ) from None
    return Pointer(version, document.generation, document.allow_schema_change)

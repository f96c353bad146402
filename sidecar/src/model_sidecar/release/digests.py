"""sha256 digests as they are written in manifests, records and metrics: `sha256:` and 64 lower-case hex digits."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

Digest = NewType("Digest", str)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def parse_digest(text: str) -> Digest:
    """The digest, or ValueError."""
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a digest: expected 'sha256:' and 64 lower-case hex digits")
    return Digest(text)


def digest_of(content: bytes) -> Digest:
    """The digest of bytes that are already in memory."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def digest_from(hasher: hashlib._Hash) -> Digest:
    """The digest that a sha256 hasher has arrived at."""
    return Digest(f"sha256:{hasher.hexdigest()}")

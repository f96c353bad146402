"""Digests as they are written."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.release.digests import digest_from, digest_of, parse_digest


@given(st.binary(max_size=300))
def test_a_digest_is_the_sha256_of_the_bytes(content: bytes) -> None:
    """A digest of bytes, from a hasher or at once, is their sha256 and parses as itself."""
    digest = digest_of(content)
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert digest == digest_from(hashlib.sha256(content))
    assert parse_digest(digest) == digest


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256:", "a" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "A" * 64),
        *("sha256:" + "a" * 64 + "\n", " sha256:" + "a" * 64, "md5:" + "a" * 64, "sha256:" + "٠" * 64),
        *("SHA256:" + "a" * 64, "sha256-" + "a" * 64, "sha256:" + "g" * 64),
    ],
)
def test_what_is_not_written_as_a_digest_is_refused(text: str) -> None:
    """Only `sha256:` and 64 lower-case hex digits are a digest."""
    with pytest.raises(ValueError, match="not a digest"):
        parse_digest(text)

"""The active pointer's bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.pointer import MAX_POINTER_BYTES, Pointer, parse_pointer


def test_a_person_writes_no_more_than_the_version() -> None:
    """One field is a pointer; spaces, newlines and unknown fields are no harm."""
    assert parse_pointer(b'{"version": "2024.01.15.prod"}') == Pointer(version="2024.01.15.prod")  # type: ignore[arg-type]  # a literal Version
    assert parse_pointer(b'\n{ "note": [1], "version":"2024.01.15.prod" }\r\n').generation is None


def test_what_we_write_beside_the_version_is_read() -> None:
    """Generation and the consent to another schema are read."""
    pointer = parse_pointer(b'{"version": "2024.01.15.prod", "generation": 17, "allow_schema_change": true}')
    assert (pointer.generation, pointer.allow_schema_change) == (17, True)


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\n \n",
            b"{}",
            b"null",
            b"[]",
            b'"2024.01.15.prod"',
            b"2024.01.15.prod",
            b'{"version":',
            b"\x00" * 64,
        ),
        *(
            b"\x80\x04\x95\x1b",
            b'{"version": null}',
            b'{"version": 20240115}',
            b'{"version": "latest"}',
            b"\xff\xfe{}",
        ),
        *(
            b'{"version": "2024.02.30.prod"}',
            b'{"version": "2024.01.15.prod\\n"}',
            b'{"version": "../2024.01.15.prod"}',
        ),
        *(
            b'{"version": "2024.01.15.prod", "version": "2024.01.16.prod"}',
            b'{"version": "2024.01.15.prod"} {}',
        ),
        *(
            b'{"version": "2024.01.15.prod", "generation": "17"}',
            b'{"version": "2024.01.15.prod", "generation": 1.5}',
        ),
        *(b'{"version": "2024.01.15.prod", "generation": true}', b'{"version": "2024.01.15.prod", "x": NaN}'),
        b'{"version": "2024.01.15.prod", "allow_schema_change": "yes"}',
        b'{"version": "2024.01.15.prod"}' + b" " * MAX_POINTER_BYTES,
        b'{"version": "2024.01.15.prod", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_pointer_is_refused_with_what_to_write(content: bytes) -> None:
    """Anything else is POINTER_INVALID, in one line that shows what a pointer looks like."""
    with pytest.raises(VerificationError) as refused:
        parse_pointer(content)
    assert refused.value.reason is Reason.POINTER_INVALID
    assert '{"version": "2024.01.15.prod"}' in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_pointer_or_are_refused(content: bytes) -> None:
    """No bytes raise anything but POINTER_INVALID."""
    reason = Reason.POINTER_INVALID
    try:
        parse_pointer(content)
    except VerificationError as error:
        reason = error.reason
    assert reason is Reason.POINTER_INVALID

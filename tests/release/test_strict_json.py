"""JSON that every reader reads alike, or that is refused."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.release import strict_json
from model_sidecar.release.strict_json import DuplicateKeyError, NotFiniteError, NotStrictJsonError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_what_was_written_is_what_is_read(document: Any) -> None:
    """Any document that can be written canonically is read back equal, and writes the same bytes again."""
    content = strict_json.dumps(document)
    assert strict_json.loads(content) == document
    assert strict_json.dumps(strict_json.loads(content)) == content
    assert content.endswith(b"\n")
    assert content.count(b"\n") == 1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_json_or_are_refused(content: bytes) -> None:
    """Bytes either are JSON that the standard reader reads alike, or raise our error and no other."""
    try:
        document = strict_json.loads(content)
    except NotStrictJsonError:
        return
    assert document == json.loads(content)


@given(st.text(alphabet='[]{}",:\\0a eE+-.', max_size=40))
def test_json_like_text_is_json_or_is_refused(text: str) -> None:
    """Text made of JSON's own characters raises our error or is read."""
    with suppress(NotStrictJsonError):
        strict_json.loads(text.encode())


@pytest.mark.parametrize("content", [b'{"a":1,"a":1}', b'[{"b":{"a":1,"\\u0061":2}}]', b'{"":0,"":0}'])
def test_a_key_that_stands_twice_is_refused(content: bytes) -> None:
    """A duplicate key is refused however deep it stands and however it is spelled."""
    with pytest.raises(DuplicateKeyError, match="twice"):
        strict_json.loads(content)


@pytest.mark.parametrize(
    "literal",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1" * 21,
        str(1 << 64),
        str(-(1 << 63) - 1),
        "9" * 5000,
    ],
)
def test_a_number_that_readers_would_differ_over_is_refused(literal: str) -> None:
    """NaN, infinities, and numbers beyond a double or 64 bits are refused."""
    with pytest.raises(NotFiniteError):
        strict_json.loads(f'{{"a": {literal}}}'.encode())


def test_the_widest_64_bit_integers_are_numbers() -> None:
    """The least signed and the greatest unsigned 64-bit integer are read."""
    widest = [-(1 << 63), (1 << 64) - 1]
    assert strict_json.loads(json.dumps(widest).encode()) == widest


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b" ",
            b"{",
            b"{}{}",
            b"{} x",
            b"'a'",
            b"{a:1}",
            b"[1,]",
            b"{,}",
            b"01",
            b"+1",
            b".5",
            b"tru",
            b"\xff",
        ),
        *(
            b"\xef\xbb\xbf{}",
            b'"\x00"',
            b'"\n"',
            b'"\\x"',
            b'"\\ud800"',
            b'{"\\udfff":1}',
            b'["\\ud83d"]',
            b'"\xed\xa0\x80"',
        ),
        *(b"\x80\x04\x95", b"// c\n{}", b"\x00", '{"a":1}'.encode("utf-16")),
    ],
)
def test_what_is_not_strict_json_is_refused(content: bytes) -> None:
    """Anything but one strict JSON document in UTF-8 is refused."""
    with pytest.raises(NotStrictJsonError):
        strict_json.loads(content)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    """An escaped pair of surrogates is the character that it encodes."""
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded(opening: bytes, closing: bytes) -> None:
    """32 levels are read, 33 are refused, and a hundred thousand are refused just as quietly."""
    deepest = strict_json.MAX_DEPTH
    assert strict_json.loads(opening * deepest + b"0" + closing * deepest)
    for depth in (deepest + 1, 100_000):
        with pytest.raises(NotStrictJsonError, match="deeper"):
            strict_json.loads(opening * depth + b"0" + closing * depth)


def test_brackets_in_strings_are_no_nesting() -> None:
    """Brackets within a string, behind escaped quotes too, count as text."""
    text = '[{"' * 50 + "\\"
    assert strict_json.loads(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize("start", [b'"', b"", b'["', b'{"a":"'])
@pytest.mark.parametrize("filling", [b'\\"', b'"', b"\\", b"[]", b'"a\\'])
def test_no_megabyte_keeps_the_reader_busy(start: bytes, filling: bytes) -> None:
    """A hostile document of a megabyte is read or refused in the time that reading takes, not in its square."""
    content = (start + filling * (1 << 20))[: 1 << 20]
    began = time.process_time()
    with pytest.raises(NotStrictJsonError):
        strict_json.loads(content)
    assert time.process_time() - began < 5

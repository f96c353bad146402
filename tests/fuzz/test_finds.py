"""What fuzzing has found, each by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledgers import A, B, chain
from support.parsers import PARSERS, REFUSED

from model_sidecar.config import parse_address, parse_duration, parse_size
from model_sidecar.errors import ConfigurationError
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.record import encode
from model_sidecar_client.errors import InternalError
from model_sidecar_client.tensors import decode_elements


@pytest.mark.parametrize("name", ["settings_file", "operators_settings_file"])
@pytest.mark.parametrize("content", [b"x = " + b"[" * 60_000, b"[serve]\nx = " + b"{a=" * 20_000])
def test_a_settings_file_that_is_nested_too_deeply_is_refused(name: str, content: bytes) -> None:
    """Python's TOML reader recurses; its RecursionError ended the program with a stack of a thousand lines."""
    assert PARSERS[name](content) == REFUSED


@pytest.mark.parametrize("name", ["settings_file", "operators_settings_file"])
def test_a_settings_file_of_endless_size_is_refused(name: str) -> None:
    """A dotted key of 200 kB took the TOML reader 45 seconds."""
    assert PARSERS[name](b"a" + b".a" * 100_000 + b" = 1") == REFUSED


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_address])
@pytest.mark.parametrize("text", ["1" * 5000 + "s", "1" * 5000, "host:" + "1" * 5000])
def test_thousands_of_digits_are_no_setting(parse: object, text: str) -> None:
    """Python refuses to read so long a number, with an error that was not ours."""
    with pytest.raises(ConfigurationError):
        parse(text)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["9" * 400 + "s", "999999999h"])
def test_no_setting_waits_for_ever(text: str) -> None:
    """400 digits of seconds were infinity, which no thread can wait for."""
    with pytest.raises(ConfigurationError):
        parse_duration(text)


def test_an_address_is_shown_as_it_can_be_given() -> None:
    """However many slashes a socket's path began with: what is shown names the same address."""
    for text in ("unix:/a", "unix:///a", "unix://///a"):
        assert str(parse_address(text)) == "unix:/a"
        assert parse_address(str(parse_address(text))) == parse_address(text)


@pytest.mark.parametrize("text", ["[[f66bb:0", "[::1:80", "::1]:80", "a b:80", "a/b:80", "[]:80"])
def test_brackets_and_blanks_are_no_host(text: str) -> None:
    """One bracket was taken off, and the other stayed in the name of a host that nobody can have."""
    with pytest.raises(ConfigurationError, match="not an address"):
        parse_address(text)


def test_a_carriage_return_in_what_is_remembered_damages_what_is_behind_it_only(tmp_path: Path) -> None:
    """It was taken for the end of a line, and what was remembered next was written over the middle of another."""
    first, second, third = (encode(each) for each in chain(A, B, A))
    path = tmp_path / "ledger.seen"
    memory = Memory(path)
    for generation, record in enumerate((first, second, third), 1):
        memory.append(generation, [record])
    content = path.read_bytes()
    at = content.index(second) + 10
    path.write_bytes(content[:at] + b"\r" + content[at + 1 :])
    memory = Memory(path)

    assert memory.read() == [first]
    for generation, record in enumerate((second, third), 2):
        memory.append(generation, [record])
    assert path.read_bytes() == content


def test_an_answer_whose_elements_do_not_fit_their_datatype_is_malformed() -> None:
    """INT8 travels among int32: a server's 255 was numpy's OverflowError in the caller's face."""
    with pytest.raises(InternalError, match="malformed"):
        decode_elements("y", "INT8", [1], [255])

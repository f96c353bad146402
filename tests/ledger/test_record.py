"""Records and their bytes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledgers import A, B, chain, follow

from model_sidecar.errors import InvalidRequestError, Reason, StoreError
from model_sidecar.ledger.chain import check_link
from model_sidecar.ledger.record import (
    MAX_GENERATION,
    MAX_RECORD_BYTES,
    Action,
    Actor,
    Record,
    Writer,
    decode,
    encode,
    format_timestamp,
)
from model_sidecar.release import strict_json
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Environment, ModelName, Version

words = st.text(max_size=60)
digests = st.binary(max_size=8).map(digest_of)
versions = st.dates().map(lambda day: Version(f"{day.year:04}.{day.month:02}.{day.day:02}.prod"))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that can be written."""
    generation = draw(st.integers(1, MAX_GENERATION))
    return Record(
        generation=generation,
        previous_record_sha256=draw(digests) if generation > 1 else None,
        model=ModelName(draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True))),
        environment=Environment(draw(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True))),
        action=draw(st.sampled_from(Action)),
        version=draw(versions),
        manifest_sha256=draw(digests),
        previous_version=draw(versions) if generation > 1 else None,
        actor=Actor(draw(words), draw(words), draw(words)),
        reason=draw(st.text(max_size=500)),
        source_commit=draw(words),
        request_id=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)),
        request_sha256=draw(digests),
        written_by=Writer(draw(words), draw(words), draw(words)),
        timestamp=draw(st.datetimes(timezones=st.just(UTC))),
    )


def changed(**fields: Any) -> bytes:
    """The bytes of a good record of generation 2 with other fields; a field that is `...` is left out."""
    document = json.loads(encode(chain(A, B)[1])) | fields
    return strict_json.dumps({name: value for name, value in document.items() if value is not ...})


@given(records())
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    """Decoding is the inverse of encoding, and the digest is that of the bytes."""
    content = encode(record)
    again = decode(content)

    assert again == record
    assert again.sha256 == digest_of(content)
    assert content.count(b"\n") == 1
    assert content.endswith(b"\n")


def test_a_record_has_the_fields_of_the_contract() -> None:
    """What stands in the file is what docs/contract.md names, and nothing else but the request's digest."""
    document = json.loads(encode(chain(A, B)[1]))

    assert set(document) == {
        *("schema", "generation", "previous_record_sha256", "model", "environment", "action", "version"),
        *(
            "manifest_sha256",
            "previous_version",
            "actor",
            "reason",
            "source_commit",
            "request_id",
            "written_by",
        ),
        *("timestamp", "status", "request_sha256"),
    }
    assert set(document["actor"]) == {"id", "method", "on_behalf_of"}
    assert set(document["written_by"]) == {"sidecar", "host", "software"}
    assert (document["schema"], document["generation"], document["action"]) == (1, 2, "DEPLOY")
    assert (document["version"], document["previous_version"], document["status"]) == (B, A, "COMMITTED")
    assert document["timestamp"] == "2024-01-15T03:00:00.000000Z"


def test_the_first_record_follows_nothing() -> None:
    """In generation 1 the two fields about the record before are empty texts."""
    document = json.loads(encode(follow(None, A)))
    assert (document["previous_record_sha256"], document["previous_version"]) == ("", "")


def test_a_timestamp_is_written_in_utc() -> None:
    """Whatever the zone of a moment, RFC 3339 with microseconds and Z is written; a naive one is our mistake."""
    summer = timezone(timedelta(hours=2))
    assert format_timestamp(datetime(2024, 7, 1, 1, 30, tzinfo=summer)) == "2024-06-30T23:30:00.000000Z"
    with pytest.raises(ValueError, match="time zone"):
        format_timestamp(datetime(2024, 7, 1))  # noqa: DTZ001 - a naive one is what is tried


def test_fields_of_newer_software_are_left_alone() -> None:
    """A field that we do not know is no harm, and the digest still is that of the bytes as they stand."""
    content = changed(pinned=True, attestation={"kind": "x"})
    assert decode(content).sha256 == digest_of(content)
    assert decode(content).sha256 != digest_of(encode(decode(content)))


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\n",
            b"{}\n",
            b"null\n",
            b"[1]\n",
            b"\x00" * 300,
            b"\xff\xfe\n",
            encode(follow(None, A))[:-1],
        ),
        *(encode(follow(None, A))[:-2] + b"\n", encode(follow(None, A)) + b"\n", encode(follow(None, A)) * 2),
        *(
            b"\n" + encode(follow(None, A)),
            encode(follow(None, A)).replace(b",", b",\n", 1),
            b"[" * 2000 + b"\n",
        ),
        *(changed(schema=2), changed(schema="1"), changed(schema=...), changed(schema=True)),
        *(
            changed(generation=0),
            changed(generation=-1),
            changed(generation=1 << 63),
            changed(generation="2"),
        ),
        *(changed(generation=1), changed(generation=2.5), changed(generation=10**30)),
        *(
            changed(previous_record_sha256=""),
            changed(previous_record_sha256="sha256:12"),
            changed(previous_version=""),
        ),
        *(
            changed(model="../x"),
            changed(environment="PROD"),
            changed(version="latest"),
            changed(version=...),
        ),
        *(
            changed(action="INIT"),
            changed(action="deploy"),
            changed(manifest_sha256=""),
            changed(request_sha256=...),
        ),
        *(
            changed(request_id=""),
            changed(actor="alice"),
            changed(actor={"id": "alice"}),
            changed(written_by=None),
        ),
        *(changed(timestamp="2024-01-15T03:00:00Z"), changed(timestamp="2024-13-15T03:00:00.000000Z")),
        *(
            changed(timestamp="2024-01-15T03:00:00.000000+00:00"),
            changed(timestamp=0),
            changed(status="PENDING"),
        ),
        changed(generation=1, previous_record_sha256=""),
        changed(generation=1, previous_version=""),
        changed().replace(b'"schema":1', b'"schema":1,"schema":1'),
        changed(padding="x" * (64 << 10)),
    ],
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    """Torn, foreign, ambiguous and newer-schema bytes are LEDGER_INVALID."""
    with pytest.raises(StoreError) as refusal:
        decode(content)
    assert refusal.value.reason is Reason.LEDGER_INVALID


@given(st.data())
def test_corruption_is_told_or_breaks_the_chain(data: st.DataObject) -> None:
    """Bytes changed anywhere are LEDGER_INVALID, by themselves or by the record behind them; nothing else is raised."""
    first = follow(None, A, request_id="first")
    second = follow(first, B, request_id="second")
    content = encode(first)
    at = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.integers(0, 3))
    corrupt = content[:at] + data.draw(st.binary(max_size=3)) + content[at + cut :]
    if corrupt == content:
        return

    with pytest.raises(StoreError) as refusal:
        check_link(decode(corrupt), second)
    assert refusal.value.reason is Reason.LEDGER_INVALID


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(encode(follow(None, A))))), json_values)
def test_any_value_in_any_field_is_a_record_or_is_told(field: str, value: object) -> None:
    """Whatever JSON stands in a field, decoding gives a record or LEDGER_INVALID, never another exception."""
    refusal = refusal_of(changed(**{field: value}))
    assert refusal is None or refusal.reason is Reason.LEDGER_INVALID


def refusal_of(content: bytes) -> StoreError | None:
    try:
        decode(content)
    except StoreError as error:
        return error
    return None


@given(st.binary(max_size=200))
def test_noise_is_never_a_record(noise: bytes) -> None:
    """Random bytes are LEDGER_INVALID."""
    with pytest.raises(StoreError):
        decode(noise + b"\n")


def test_a_reason_is_bounded() -> None:
    """4096 characters are recorded; one more is refused, and so are characters that take too many bytes."""
    record = follow(None, A)
    fields = {name: getattr(record, name) for name in Record.__slots__ if name != "sha256"}

    assert len(decode(encode(Record(**fields | {"reason": "x" * 4096}))).reason) == 4096
    for reason in ("x" * 4097, "\N{FIRE}" * 4096, "\0" * 4096):
        with pytest.raises(InvalidRequestError, match="at most"):
            Record(**fields | {"reason": reason})
    with pytest.raises(InvalidRequestError, match="not Unicode"):
        Record(**fields | {"reason": "\udcff"})
    with pytest.raises(InvalidRequestError, match=str(MAX_RECORD_BYTES)):
        Record(**fields | {"source_commit": "c" * MAX_RECORD_BYTES})


def test_a_record_keeps_the_digest_it_was_read_with() -> None:
    """The digest is a fact about the file, not about our encoding of it."""
    assert decode(changed(later="x")).sha256 != decode(changed(later="y")).sha256

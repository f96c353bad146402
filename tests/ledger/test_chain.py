"""The rules of the chain."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledgers import A, B, C, chain, follow

from model_sidecar.errors import InvalidRequestError, Reason, StoreError
from model_sidecar.ledger.chain import check_link, previous_good, validate_request_id
from model_sidecar.ledger.record import Action, Record
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Environment, ModelName, Version

BACK, ADOPT = Action.ROLLBACK, Action.ADOPT


def test_records_that_follow_one_another_are_a_chain() -> None:
    """The first follows nothing, and each other one the digest and the version before it."""
    records = chain(A, B, (BACK, A), (ADOPT, C))
    for previous, record in zip([None, *records], records, strict=False):
        check_link(previous, record)


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 4},
        {"generation": 2},
        {"previous_record_sha256": digest_of(b"another history")},
        {"previous_version": A},
        {"model": ModelName("fraud-v2")},
        {"environment": Environment("staging")},
    ],
)
def test_a_record_that_does_not_fit_breaks_the_chain(fields: dict[str, object]) -> None:
    """Another number, digest, version before or place is LEDGER_INVALID, and the generation is named."""
    previous = chain(A, B)[1]
    with pytest.raises(StoreError, match="generation 3") as refusal:
        check_link(previous, dataclasses.replace(follow(previous, C), **fields))  # type: ignore[arg-type]  # by name
    assert refusal.value.reason is Reason.LEDGER_INVALID
    assert refusal.value.facts["generation"] == "3"


def test_a_chain_begins_at_one() -> None:
    """A later record cannot be the first."""
    with pytest.raises(StoreError, match="generation 1"):
        check_link(None, chain(A, B)[1])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], None),
        ([A], None),
        ([A, A], None),
        ([A, B], (1, A)),
        ([A, B, B], (1, A)),
        ([A, B, C], (2, B)),
        ([A, B, C, (BACK, B)], (1, A)),
        ([A, B, C, (BACK, B), (BACK, A)], None),
        ([A, B, (BACK, A)], None),
        ([A, B, (BACK, A), C], (3, A)),
        ([A, B, (BACK, A), B], (3, A)),
        ([A, B, (BACK, A), B, C], (4, B)),
        ([A, B, (BACK, A), (ADOPT, B), C], (4, B)),
        ([A, B, A], (2, B)),
        ([A, B, (ADOPT, A)], (2, B)),
        ([A, B, C, (BACK, A)], (2, B)),
        ([A, B, C, (BACK, C)], (2, B)),
        ([A, B, (BACK, A), C, (BACK, A)], None),
    ],
)
def test_what_a_rollback_goes_back_to(
    steps: list[Version | tuple[Action, Version]], expected: tuple[int, Version] | None
) -> None:
    """The last good, different version: never one that was rolled away from since it was last chosen."""
    record = previous_good(chain(*steps))
    assert (record and (record.generation, record.version)) == expected


@given(st.lists(st.tuples(st.sampled_from(Action), st.sampled_from([A, B, C])), max_size=12))
def test_a_rollback_target_is_good_and_different(steps: list[tuple[Action, Version]]) -> None:
    """For any history the answer agrees with the definition, spelled out the slow way."""
    records = chain(*steps)

    def is_good(record: Record) -> bool:
        later = records[record.generation :]
        return not any(each.version == record.version for each in later) and not any(
            each.action is BACK and each.previous_version == record.version for each in later
        )

    candidates = [each for each in records[:-1] if each.version != records[-1].version and is_good(each)]
    assert previous_good(records) == (candidates[-1] if candidates else None)


def test_rolling_back_again_and_again_never_returns_to_a_bad_version() -> None:
    """Plain rollbacks walk back through the good versions and then stop."""
    records = chain(A, B, C)
    walked = []
    while target := previous_good(records):
        walked.append(target.version)
        records.append(follow(records[-1], target.version, action=BACK))
    assert walked == [B, A]


@pytest.mark.parametrize("text", ["a", " ", "~" * 64, "adopt-0123", 'say "x"'])
def test_a_request_id_is_printable_ascii(text: str) -> None:
    """One to sixty-four printable characters are a request id."""
    validate_request_id(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a\n", "\ta", "é", "\x7f", "a\0", "\N{FIRE}"])
def test_other_request_ids_are_refused(text: str) -> None:
    """Empty, too long, control and non-ASCII characters are INVALID_ARGUMENT."""
    with pytest.raises(InvalidRequestError, match="64 printable"):
        validate_request_id(text)

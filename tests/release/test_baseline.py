"""baseline.json: what was counted comes back as it was, and what contradicts itself is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.streams import classification_baseline

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.baseline import Baseline, class_name
from model_sidecar.release.baseline_reading import MAX_BASELINE_BYTES, parse_baseline, write_baseline

Document = dict[str, Any]
WHOLE = write_baseline(classification_baseline())


def refusal(content: bytes) -> str:
    with pytest.raises(VerificationError) as refused:
        parse_baseline(content)
    assert refused.value.reason is Reason.BASELINE_INVALID
    assert "--baseline-data" in str(refused.value)
    return str(refused.value)


def test_a_baseline_comes_back_as_it_was_written() -> None:
    """All there can be in one, and next to nothing; the same baseline makes the same bytes."""
    for baseline in (classification_baseline(), Baseline(1)):
        content = write_baseline(baseline)
        assert parse_baseline(content) == baseline
        assert write_baseline(parse_baseline(content)) == content


SPOILED: dict[str, Callable[[Document], object]] = {
    "another schema": lambda made: made.update(schema_version=2),
    "no schema": lambda made: made.pop("schema_version"),
    "no rows": lambda made: made.update(rows=0),
    "rows that do not add up": lambda made: made["streams"][0].update(nan=1),
    "fewer cuts than counts": lambda made: made["streams"][0]["cuts"].pop(),
    "cuts that do not ascend": lambda made: made["streams"][0]["cuts"].reverse(),
    "counts that do not ascend": lambda made: made["streams"][0]["at_or_below"].reverse(),
    "a cut that has all rows": lambda made: made["streams"][0]["at_or_below"].__setitem__(-1, 400),
    "more cuts than there are deciles": lambda made: made["streams"][0].update(
        cuts=list(range(10)), at_or_below=list(range(1, 11))
    ),
    "no low": lambda made: made["streams"][0].update(low=None),
    "a low above the cuts": lambda made: made["streams"][0].update(low=100.0, high=101.0),
    "a stream twice": lambda made: made["streams"].append(made["streams"][0]),
    "a kind that is none of a value": lambda made: made["streams"][0].update(kind="range"),
    "a count below nothing": lambda made: made["streams"][0].update(nan=-1, finite=401),
    "too many streams": lambda made: made.update(streams=made["streams"] * 40),
    "two scores": lambda made: made["streams"].append({**made["streams"][2], "name": "other"}),
    "a class twice": lambda made: made["classes"].update(names=["0", "0"]),
    "a class without a count": lambda made: made["classes"]["counts"].pop(),
    "classes that do not add up": lambda made: made["classes"].update(other=7),
    "more errors than rows": lambda made: made["calibration"]["errors"].__setitem__(0, 400),
    "a bin without an edge": lambda made: made["calibration"]["edges"].pop(),
    "edges that do not ascend": lambda made: made["calibration"]["edges"].reverse(),
    "more holes than rows": lambda made: made.update(nonfinite=401),
    "an error below nothing": lambda made: made.update(error_q90=-0.1),
}


@pytest.mark.parametrize("how", sorted(SPOILED))
def test_a_baseline_that_contradicts_itself_is_refused(how: str) -> None:
    """Counts that do not add up, cuts out of order, what is there twice or too often: refused with the reason."""
    document = json.loads(WHOLE)
    SPOILED[how](document)
    refusal(json.dumps(document).encode())


def test_what_is_no_json_of_ours_is_refused_shortly() -> None:
    """Other bytes are refused in a line that quotes little of them, however long they are."""
    assert len(refusal(b"[" * 1000)) < 300
    assert "bytes that are read" in refusal(b" " * (MAX_BASELINE_BYTES + 1))
    assert len(refusal(json.dumps({"schema_version": 1, "rows": "x" * 100_000}).encode())) < 500
    refusal(WHOLE.replace(b'"rows":400', b'"rows":NaN', 1))


@pytest.mark.parametrize(
    ("said", "called"), [(3.0, "3"), (0.5, "0.5"), ("cat", "cat"), (float("nan"), "nan")]
)
def test_a_class_has_one_name_as_number_and_as_text(said: float | str, called: str) -> None:
    """Whole numbers have no fraction; text is what it is; what is no class has a name too."""
    assert class_name(said) == called

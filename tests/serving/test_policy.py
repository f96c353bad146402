"""The policy as a table: what is wanted, what is resident, what is next."""

from __future__ import annotations

import pytest

from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Version
from model_sidecar.serving.policy import Edit, Holding, Refusal, Step, Wanted, next_step

A, B = Version("2024.01.10.prod"), Version("2024.01.15.prod")
BYTES_A, BYTES_B, OTHER = digest_of(b"a"), digest_of(b"b"), digest_of(b"other")
HAS_A, HAS_B = Holding(A, BYTES_A), Holding(B, BYTES_B)


def want(version: Version = B, **settings: object) -> Wanted:
    return Wanted(**{"version": version, "manifest": BYTES_B, "generation": 2, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "live", "live_generation", "standby", "candidate", "refused", "expected"),
    [
        pytest.param(None, None, None, None, None, False, Step.NOTHING, id="nothing was ever deployed"),
        pytest.param(want(), None, None, None, None, False, Step.LOAD, id="the first version is loaded"),
        pytest.param(want(), HAS_A, 1, None, None, False, Step.LOAD, id="another version is loaded beside the live one"),
        pytest.param(want(), HAS_B, 2, HAS_A, None, False, Step.NOTHING, id="the wanted version is live"),
        pytest.param(want(generation=3), HAS_B, 2, None, None, False, Step.RESTATE, id="a new record of what is live"),
        pytest.param(
            want(generation=None, edit=Edit(2, "adopt-1", BYTES_B), manifest=None), HAS_B, 2, None, None, False, Step.RESTATE,
            id="a hand edit to what is live has still to be recorded",
        ),
        pytest.param(want(), HAS_A, 1, HAS_B, None, False, Step.TAKE_STANDBY, id="the standby is taken"),
        pytest.param(want(), HAS_A, 1, None, HAS_B, False, Step.TAKE_CANDIDATE, id="the loaded candidate is taken"),
        pytest.param(want(), HAS_A, 1, HAS_B, HAS_B, False, Step.TAKE_STANDBY, id="the standby before the candidate"),
        pytest.param(
            want(), HAS_A, 1, Holding(B, OTHER), None, False, Step.LOAD, id="a standby of other bytes is not the version"
        ),
        pytest.param(
            want(manifest=None), HAS_A, 1, Holding(B, OTHER), None, False, Step.TAKE_STANDBY,
            id="where only the name is known, the name decides",
        ),
        pytest.param(want(), HAS_A, 1, None, None, True, Step.NOTHING, id="what was refused is not tried again"),
        pytest.param(want(), HAS_A, 1, HAS_B, None, True, Step.NOTHING, id="not even where it is at hand"),
    ],
)  # fmt: skip
def test_the_next_step(
    wanted: Wanted | None,
    live: Holding | None,
    live_generation: int | None,
    standby: Holding | None,
    candidate: Holding | None,
    refused: bool,
    expected: Step,
) -> None:
    """Every row of the policy's table."""
    step = next_step(
        wanted,
        live=live,
        live_generation=live_generation,
        standby=standby,
        candidate=candidate,
        refused=refused,
    )

    assert step is expected


@pytest.mark.parametrize(
    ("wanted", "fingerprint", "now", "stands"),
    [
        pytest.param(want(), "same", 0.0, True, id="nothing has changed"),
        pytest.param(want(generation=3), "same", 0.0, False, id="another wish is another try"),
        pytest.param(want(), "changed", 0.0, False, id="the directory changed: the copy may be complete now"),
    ],
)
def test_a_refusal_stands_until_something_changes(
    wanted: Wanted, fingerprint: str, now: float, stands: bool
) -> None:
    """A refused version is tried again when the wish or its directory is another one, and not before."""
    refusal = Refusal(want(), "same")

    assert refusal.stands(wanted, fingerprint=fingerprint, now=now) is stands


def test_a_refusal_for_the_stores_fault_ends_by_itself() -> None:
    """Where the store was at fault, the version is tried again after a while though nothing changed."""
    refusal = Refusal(want(), "same", retry_at=10.0)

    assert refusal.stands(want(), fingerprint="same", now=9.9)
    assert not refusal.stands(want(), fingerprint="same", now=10.0)

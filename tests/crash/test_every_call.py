"""A writer is killed at its system calls, and each of them fails in turn: what is left is whole, and nothing is lost.

A sample, always the same; `make crash` takes every call.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import strace
from support.crashing import ERRORS, KILL, Fault, Outcome, Performer, Point, Stage
from support.crashing_served import serve_what_is_left
from support.operations import OPERATIONS

LEDGER_OPERATIONS = sorted(set(OPERATIONS) - {"publish"})
TURNING_POINTS = ("mkdir", "link", "rename", "writev")
"""Between these calls lie the states that differ."""
KILLS, FAULTS = 3, 3

pytestmark = pytest.mark.skipif(bool(why := strace.problem()), reason=why)


@pytest.fixture(scope="module")
def performer() -> Iterator[Performer]:
    with Performer() as performer:
        yield performer


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.node.name)


def staged(operation: str, directory: Path, performer: Performer) -> Stage:
    stage = Stage(operation, directory)
    stage.rehearse(performer)
    return stage


def sample(points: list[Point], chance: random.Random, count: int) -> list[Point]:
    turning = [point for point in points if point.name in TURNING_POINTS]
    return sorted({*turning, *chance.sample(points, min(count, len(points)))}, key=lambda point: point.index)


def check(outcomes: list[Outcome]) -> None:
    assert [str(outcome) for outcome in outcomes if outcome.problems] == []
    assert [str(outcome.point) for outcome in outcomes if not outcome.struck] == []


@pytest.mark.parametrize("operation", LEDGER_OPERATIONS)
def test_a_writer_killed_at_a_call_loses_nothing(
    operation: str, tmp_path: Path, performer: Performer, chance: random.Random
) -> None:
    """Chain valid, nothing lost or doubled, the pointer put right by a look, the request asked again has one record."""
    stage = staged(operation, tmp_path, performer)
    outcomes = [stage.break_at(point, KILL, performer) for point in sample(stage.points, chance, KILLS)]
    check(outcomes)
    # The last call is the acknowledgement, so that the record stood in some, and was missing in others.
    assert {outcome.recorded for outcome in outcomes} == {False, True}


@pytest.mark.parametrize("operation", LEDGER_OPERATIONS)
def test_a_call_that_fails_leads_to_no_false_answer(
    operation: str, tmp_path: Path, performer: Performer, chance: random.Random
) -> None:
    """Whatever fails, once or from there on: no false acknowledgement or refusal, our error, and a retry succeeds."""
    stage = staged(operation, tmp_path, performer)
    outcomes = [
        stage.break_at(point, Fault(chance.choice(ERRORS[:-1]), lasting=chance.random() < 0.5), performer)
        for point in sample(stage.storage_points(), chance, FAULTS)
    ]
    check(outcomes)


def test_a_publisher_killed_or_failing_at_a_call_leaves_a_version_whole_or_absent(
    tmp_path: Path, performer: Performer, chance: random.Random
) -> None:
    """A version is there and verifies, or is not there and can be published; what is left over is hidden."""
    stage = staged("publish", tmp_path, performer)
    points = [point for point in stage.points if point.name in ("rename", "writev")]
    points += chance.sample(stage.storage_points(), 8)
    faults = [
        KILL,
        *(Fault(error, lasting=lasting) for error in ("EIO", "ENOSPC") for lasting in (False, True)),
    ]
    outcomes = [
        stage.break_at(point, chance.choice(faults) if point.name != "writev" else KILL, performer)
        for point in points
    ]
    check(outcomes)


def test_a_short_write_is_finished_or_refused(tmp_path: Path, performer: Performer) -> None:
    """A record of which only the first bytes find room is never one; nor is the pointer ever half of one."""
    stage = staged("deploy", tmp_path, performer)
    size = len(stage.before[-1])
    outcomes = [stage.break_by_size(limit, performer) for limit in (1, size // 2, size - 1, size, size + 20)]
    check([outcome for outcome in outcomes if outcome.problems])
    assert [outcome.recorded for outcome in outcomes[:2]] == [False, False]
    assert outcomes[0].struck


def test_what_a_killed_writer_leaves_is_served(tmp_path: Path, performer: Performer) -> None:
    """A whole sidecar starts on it, answers as the ledger's head says, and carries out the next order."""
    stage = staged("deploy", tmp_path, performer)
    points = {point.name: point for point in stage.points}
    kept = [stage.break_at(points[name], KILL, performer, keep=True) for name in ("link", "rename")]
    check(kept)
    with ThreadPoolExecutor(2) as pool:
        served = [*pool.map(lambda outcome: serve_what_is_left(stage, outcome), kept)]
    assert served == ["2024.01.12.prod", "2024.01.15.prod"]

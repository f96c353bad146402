"""Deploy, roll back and look, over real gRPC."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from model_sidecar_client import (
    Action,
    CommitStateUnknownError,
    ConflictError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    NotReachableError,
    Operator,
    RefusedError,
    State,
    VerificationFailedError,
    from_wire,
)
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire import deployment as wire

MODEL = "recommendation-v1"
V10, V15, V20 = "2024.01.10.prod", "2024.01.15.prod", "2024.01.20.prod"


@pytest.fixture
def stocked(sidecar: StandInSidecar) -> StandInSidecar:
    for version in (V10, V15, V20):
        sidecar.publish(MODEL, version)
    return sidecar


def test_a_deployment_is_answered_with_its_record(stocked: StandInSidecar, operator: Operator) -> None:
    """Who, what, when, why and from which commit come back, and the version and generation at hand."""
    operator.deploy(MODEL, V10, environment="prod")
    done = operator.deploy(
        MODEL,
        V15,
        environment="prod",
        reason="Q1 retrain",
        on_behalf_of="ana",
        source_commit="abc123",
        request_id="r1",
    )

    record = done.record
    assert (done.version, done.generation, done.previous_version, done.action) == (V15, 2, V10, Action.DEPLOY)
    assert (done.model, done.environment, done.reason, done.request_id) == (MODEL, "prod", "Q1 retrain", "r1")
    assert (done.replayed, done.took_ms > 0) == (False, True)
    assert (record.actor.on_behalf_of, record.source_commit) == ("ana", "abc123")
    assert record.timestamp is not None
    assert record.timestamp.tzinfo is UTC
    assert abs(datetime.now(UTC) - record.timestamp) < timedelta(minutes=1)
    assert done.timestamp == record.timestamp
    assert done.actor == record.actor
    assert record.previous_record_sha256
    assert record.record_sha256


def test_rolling_back_to_the_last_good_version(stocked: StandInSidecar, operator: Operator) -> None:
    """Previous is the last good version; a rollback of a rollback does not bring the bad one back."""
    for version in (V10, V15, V20):
        operator.deploy(MODEL, version, environment="prod")

    first = operator.rollback(MODEL, environment="prod", reason="precision alert")
    second = operator.rollback(MODEL, environment="prod", reason="worse still")

    assert [(each.version, each.action, each.generation) for each in (first, second)] == [
        (V15, Action.ROLLBACK, 4),
        (V10, Action.ROLLBACK, 5),
    ]
    with pytest.raises(RefusedError) as nothing_left:
        operator.rollback(MODEL, environment="prod")
    assert nothing_left.value.reason == "NO_PREVIOUS_VERSION"


def test_a_rollback_names_at_most_one_target(stocked: StandInSidecar, operator: Operator) -> None:
    """A version or a generation; both together are refused before anything is sent."""
    for version in (V10, V15, V20):
        operator.deploy(MODEL, version, environment="prod")

    by_version = operator.rollback(MODEL, environment="prod", version=V10)
    by_generation = operator.rollback(MODEL, environment="prod", generation=2)

    assert (by_version.version, by_generation.version) == (V10, V15)
    with pytest.raises(InvalidRequestError, match="at most one target"):
        operator.rollback(MODEL, environment="prod", version=V10, generation=2)
    assert len(stocked.received("Rollback")) == 2


def test_the_same_request_id_is_never_done_twice(stocked: StandInSidecar, operator: Operator) -> None:
    """The second answer is the first one, marked as replayed."""
    first = operator.deploy(MODEL, V10, environment="prod", request_id="r1")
    again = operator.deploy(MODEL, V10, environment="prod", request_id="r1")

    assert (again.record, first.replayed, again.replayed) == (first.record, False, True)
    assert len(operator.history(MODEL, environment="prod")) == 1


def test_every_action_has_a_request_id(stocked: StandInSidecar, operator: Operator) -> None:
    """One is made up where none is given, so that gRPC's own retries cannot act twice."""
    stocked.fail_next("Deploy", grpc.StatusCode.UNAVAILABLE, times=2)

    done = operator.deploy(MODEL, V10, environment="prod")

    ids = [getattr(each.request, "request_id", "") for each in stocked.received("Deploy")]
    assert len(ids) == 3
    assert set(ids) == {done.request_id}
    assert uuid.UUID(done.request_id).version == 4


def test_a_failed_action_tells_its_request_id(stocked: StandInSidecar, operator: Operator) -> None:
    """An unknown outcome can be asked for again, under the id in the error."""
    stocked.fail_next("Deploy", grpc.StatusCode.UNKNOWN, reason="COMMIT_STATE_UNKNOWN")
    with pytest.raises(CommitStateUnknownError) as unknown:
        operator.deploy(MODEL, V10, environment="prod")

    assert uuid.UUID(unknown.value.request_id).version == 4
    again = operator.deploy(MODEL, V10, environment="prod", request_id=unknown.value.request_id)
    assert again.request_id == unknown.value.request_id


def test_a_deploy_that_takes_too_long_goes_on(stocked: StandInSidecar, operator: Operator) -> None:
    """The deadline ends the waiting only."""
    changes = operator.watch(MODEL, environment="prod", timeout_s=20)
    assert next(changes).desired is None
    with stocked.hold("Deploy") as held:
        with pytest.raises(DeadlineError) as raised:
            operator.deploy(MODEL, V10, environment="prod", timeout_s=0.2)
        assert held.arrived.wait(5)

    observed = next(changes).observed
    assert observed is not None
    assert observed.version == V10
    assert operator.history(MODEL, environment="prod")[0].request_id == raised.value.request_id


def test_the_second_operator_learns_who_was_first(stocked: StandInSidecar, operator: Operator) -> None:
    """expected_generation loses against a newer head, and says whose; 0 stands for an empty ledger."""
    operator.deploy(MODEL, V10, environment="prod", expected_generation=0)

    with pytest.raises(ConflictError) as lost:
        operator.rollback(MODEL, environment="prod", version=V15, expected_generation=0)

    assert (lost.value.generation, lost.value.version, lost.value.actor) == (1, V10, "somebody")
    assert lost.value.reason == "GENERATION_MISMATCH"


def test_a_bad_version_is_refused(stocked: StandInSidecar, operator: Operator) -> None:
    """Failed verification is an error of its own, with the check as its reason, and nothing moves."""
    stocked.publish(MODEL, "2024.02.01.prod", problem="GOLDEN_MISMATCH")
    operator.deploy(MODEL, V10, environment="prod")

    with pytest.raises(VerificationFailedError) as refused:
        operator.deploy(MODEL, "2024.02.01.prod", environment="prod")

    assert refused.value.reason == "GOLDEN_MISMATCH"
    assert [each.version for each in operator.history(MODEL, environment="prod")] == [V10]
    verdict = operator.verify(MODEL, "2024.02.01.prod")
    assert (verdict.verified, verdict.reason) == (False, "GOLDEN_MISMATCH")
    assert operator.verify(MODEL, V10).verified


def test_unknown_names(stocked: StandInSidecar, operator: Operator) -> None:
    """What is not there is NotFoundError, with a reason that says what."""
    with pytest.raises(NotFoundError) as version:
        operator.deploy(MODEL, "2023.01.01.prod", environment="prod")
    with pytest.raises(NotFoundError) as model:
        operator.deploy("nobody", V10, environment="prod")

    assert [each.value.reason for each in (version, model)] == ["VERSION_NOT_FOUND", "MODEL_NOT_FOUND"]


def test_validating_moves_nothing(stocked: StandInSidecar, operator: Operator) -> None:
    """validate_only answers with the record that would be written."""
    would = operator.deploy(MODEL, V10, environment="prod", validate_only=True)

    assert (would.version, would.generation, would.record.record_sha256) == (V10, 1, "")
    assert operator.history(MODEL, environment="prod") == []


def test_flags_reach_the_sidecar(stocked: StandInSidecar, operator: Operator) -> None:
    """allow_schema_change and an absent expected_generation arrive as what they are."""
    operator.deploy(MODEL, V10, environment="prod", allow_schema_change=True)

    request = stocked.received("Deploy")[0].request
    assert isinstance(request, wire.DeployRequest)
    assert request.allow_schema_change
    assert not request.HasField("expected_generation")


def test_what_the_wire_cannot_carry_is_the_callers_mistake(operator: Operator) -> None:
    """A negative generation, and text that is no Unicode, never leave this process."""
    with pytest.raises(InvalidRequestError):
        operator.deploy(MODEL, V10, environment="prod", expected_generation=-1)
    with pytest.raises(InvalidRequestError):
        operator.deploy(MODEL, V10, environment="prod", reason="\ud800")


def test_status_tells_what_should_answer_from_what_does(stocked: StandInSidecar, operator: Operator) -> None:
    """Nothing live yet is a status like any other."""
    (before,) = operator.status(MODEL, environment="prod")
    operator.deploy(MODEL, V10, environment="prod")
    operator.deploy(MODEL, V15, environment="prod")
    (after,) = operator.status()

    assert (before.state, before.desired, before.observed, before.loaded_at) == (
        State.NOT_SERVING,
        None,
        None,
        None,
    )
    assert after.state is State.READY
    assert after.observed == after.desired
    assert after.observed is not None
    assert (after.observed.version, after.observed.generation) == (V15, 2)
    assert [(each.version, each.role) for each in after.resident] == [(V15, "live"), (V10, "standby")]
    assert after.last_error is None


def test_a_standby_that_came_back_is_live_since_then(stocked: StandInSidecar, operator: Operator) -> None:
    """After a rollback `loaded_at` is still the standby's, and `live_since` is the rollback's."""
    first = operator.deploy(MODEL, V10, environment="prod")
    operator.deploy(MODEL, V15, environment="prod")
    back = operator.rollback(MODEL, environment="prod")
    again = operator.deploy(MODEL, V10, environment="prod")
    (status,) = operator.status()

    assert again.timestamp is not None
    assert back.timestamp is not None
    assert back.timestamp < again.timestamp
    assert (status.loaded_at, status.live_since) == (first.timestamp, back.timestamp)
    assert status.resident[0].loaded_at == first.timestamp


def test_history_turns_the_pages(stocked: StandInSidecar, operator: Operator) -> None:
    """More records than fit on one page come newest first, each once; a limit is exact."""
    for turn in range(450):
        stocked.answer(MODEL, {}, version=(V10, V15)[turn % 2])

    records = operator.history(MODEL, environment="prod")

    assert [each.generation for each in records] == list(range(450, 0, -1))
    assert records[0].action is Action.ADOPT
    assert len(stocked.received("ListDeployments")) == 3
    assert [each.generation for each in operator.history(MODEL, environment="prod", limit=201)] == list(
        range(450, 249, -1)
    )
    assert len(operator.history(MODEL, environment="prod", limit=1)) == 1
    with pytest.raises(InvalidRequestError, match="limit is 0"):
        operator.history(MODEL, environment="prod", limit=0)


def test_watching_from_one_thread_while_another_deploys(stocked: StandInSidecar, operator: Operator) -> None:
    """Each change arrives; the iterator ends when it is closed."""
    changes = operator.watch(MODEL, environment="prod", timeout_s=20)
    states = [next(changes).state]
    deploying = threading.Thread(target=operator.deploy, args=(MODEL, V10), kwargs={"environment": "prod"})
    deploying.start()
    states.append(next(changes).state)
    deploying.join()
    changes.close()

    assert states == [State.NOT_SERVING, State.READY]


def test_a_watch_ends_with_the_sidecar() -> None:
    """A sidecar that goes away, even politely, is told from one that has nothing to say."""
    with StandInSidecar() as sidecar, Operator(sidecar.target) as operator:
        sidecar.publish(MODEL, V10)
        changes = operator.watch(MODEL, environment="prod")
        next(changes)
        sidecar.close()
        with pytest.raises(NotReachableError):
            list(changes)


def test_versions(stocked: StandInSidecar, operator: Operator) -> None:
    """The store's versions, newest name first, with what they are now."""
    stocked.publish(MODEL, "2024.02.01.prod", problem="DIGEST_MISMATCH")
    operator.deploy(MODEL, V10, environment="prod")
    operator.deploy(MODEL, V15, environment="prod")

    assert [
        (each.version, each.state, each.problem) for each in operator.versions(MODEL, environment="prod")
    ] == [
        ("2024.02.01.prod", "unreadable", "DIGEST_MISMATCH"),
        (V20, "available", ""),
        (V15, "live", ""),
        (V10, "standby", ""),
    ]


def test_every_field_of_the_wire_arrives() -> None:
    """A full message of each kind loses nothing on its way into our records."""
    record = wire.Record(
        schema=1,
        generation=7,
        previous_record_sha256="p",
        model="m",
        environment="prod",
        action=wire.ACTION_ROLLBACK,
        version=V10,
        manifest_sha256="h",
        previous_version=V15,
        actor=wire.Actor(id="a", method="b", on_behalf_of="c"),
        reason="d",
        source_commit="e",
        request_id="f",
        written_by=wire.Writer(sidecar="g", host="i", software="j"),
        status="k",
        record_sha256="l",
    )
    record.timestamp.FromJsonString("2024-01-15T10:20:30.123456789Z")
    status = wire.ModelStatus(
        model="m",
        environment="prod",
        state=wire.STATE_DEGRADED,
        desired=wire.Standing(generation=2, version=V15, record_sha256="r", manifest_sha256="s"),
        observed=wire.Standing(generation=1, version=V10),
        resident=[wire.ResidentVersion(version=V10, manifest_sha256="t", role="live")],
        last_error=wire.StatusError(reason="DIGEST_MISMATCH", message="n", version=V15, generation=2),
        pointer_externally_managed=True,
        pointer_staleness_seconds=1.5,
        sidecar="o",
    )
    status.live_since.FromJsonString("2024-01-15T10:20:30Z")
    summary = wire.VersionSummary(
        version=V10,
        manifest_sha256="h",
        state="live",
        problem="p",
        training_date="2024-01-01",
        data_snapshot_id="d",
        preprocessing_version="v",
        framework="f",
        metrics={"accuracy": 0.98},
    )
    verdict = wire.VerifyVersionResponse(
        verified=True, manifest_sha256="h", files=["a"], reason="r", problem="p"
    )

    for message, ours in (
        (record, from_wire.record_of(record)),
        (status, from_wire.status_of(status)),
        (summary, from_wire.version_of(summary)),
        (verdict, from_wire.verification_of(verdict)),
    ):
        assert {field.name for field in message.DESCRIPTOR.fields} == set(ours.__dataclass_fields__)
        for field in message.DESCRIPTOR.fields:
            is_there = message.HasField(field.name) if field.has_presence else getattr(message, field.name)
            assert getattr(ours, field.name) or not is_there, field.name
    assert from_wire.record_of(record).timestamp == datetime(2024, 1, 15, 10, 20, 30, 123456, tzinfo=UTC)
    assert from_wire.record_of(record).action is Action.ROLLBACK
    assert from_wire.status_of(status).state is State.DEGRADED


def test_a_newer_sidecar_may_know_more() -> None:
    """Actions and states of the future are listed, not refused."""
    assert from_wire.record_of(wire.Record(action=99)).action is Action.UNKNOWN  # type: ignore[arg-type] # open enum
    assert from_wire.status_of(wire.ModelStatus(state=99)).state is State.UNKNOWN  # type: ignore[arg-type] # open enum

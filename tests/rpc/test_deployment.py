"""Orders over a real socket to a real manager and ledger, and what operators read back."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.rpc_control import WAIT_S, Control, order
from support.rpc_plane import RPC_S, error_info

from model_sidecar.config import Address
from model_sidecar.errors import Reason, VerificationError
from model_sidecar_client.wire.deployment import (
    ACTION_DEPLOY,
    ACTION_ROLLBACK,
    STATE_NOT_SERVING,
    STATE_READY,
    DeployRequest,
    GetStatusRequest,
    ListDeploymentsRequest,
    ListVersionsRequest,
    RollbackRequest,
    ShadowPlan,
    VerifyVersionRequest,
    WatchStatusRequest,
)

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with Control(tmp_path).running() as running:
        for version in (A, B, C):
            running.shelf.put(version)
        yield running


@pytest.fixture
def call(control: Control) -> Iterator[SimpleNamespace]:
    with control.calling() as calls:
        yield calls


def shadow(seconds: int, **limits: Any) -> ShadowPlan:
    plan = ShadowPlan(**limits)
    plan.duration.seconds = seconds
    return plan


def refused(call: Any, request: object) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=RPC_S)
    return caught.value


def test_a_deploy_answers_with_its_record_once_it_is_served(control: Control, call: SimpleNamespace) -> None:
    """The answer holds the record as it stands in the ledger, who acted by the transport's word, and the time it took."""
    request = DeployRequest(
        **order(version=A, on_behalf_of="ci", source_commit="abc123", reason="Q1\nretrain", request_id="r-1")
    )
    answer = call.Deploy(request, timeout=RPC_S)

    live = control.stage.residents().live
    assert live is not None
    assert live.version == A
    record = answer.record
    assert (record.generation, record.action, record.version) == (1, ACTION_DEPLOY, A)
    assert record.actor.id == f"{getpass.getuser()} (uid {os.getuid()})"
    assert (record.actor.method, record.actor.on_behalf_of) == ("unix-peer", "ci")
    assert (record.reason, record.source_commit, record.request_id) == ("Q1 retrain", "abc123", "r-1")
    head = control.ledger.head
    assert head is not None
    assert (record.record_sha256, record.manifest_sha256) == (head.sha256, live.manifest.digest)
    assert record.timestamp.ToDatetime() == head.timestamp.replace(tzinfo=None)
    assert answer.took_ms > 0
    assert not answer.replayed


def test_the_same_request_id_is_done_once(control: Control, call: SimpleNamespace) -> None:
    """A repeated call is answered with the first one's record; without an id each call is its own."""
    request = DeployRequest(**order(version=A, request_id="once"))
    first, second = (call.Deploy(request, timeout=RPC_S) for _ in range(2))
    assert (first.replayed, second.replayed) == (False, True)
    assert second.record == first.record

    uuid.UUID(call.Deploy(DeployRequest(**order(version=B)), timeout=RPC_S).record.request_id)
    assert (
        refused(call.Deploy, DeployRequest(**order(version=C, request_id="once"))).code()
        is StatusCode.INVALID_ARGUMENT
    )


def test_a_rollback_goes_to_the_previous_version_or_where_it_is_told(
    control: Control, call: SimpleNamespace
) -> None:
    """Nothing said means the last good version before; a generation and a version mean themselves."""
    for version in (A, B, C):
        call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S)

    plain = call.Rollback(RollbackRequest(**order()), timeout=RPC_S)
    assert (plain.record.action, plain.record.version) == (ACTION_ROLLBACK, B)
    assert call.Rollback(RollbackRequest(**order(generation=1)), timeout=RPC_S).record.version == A
    assert call.Rollback(RollbackRequest(**order(version=C)), timeout=RPC_S).record.version == C
    missing = refused(call.Rollback, RollbackRequest(**order(generation=99)))
    assert (missing.code(), error_info(missing).reason) == (StatusCode.NOT_FOUND, "GENERATION_NOT_FOUND")


@pytest.mark.parametrize("validate_only", [False, True])
def test_a_deploy_with_a_shadow_answers_with_its_report(
    control: Control, call: SimpleNamespace, *, validate_only: bool
) -> None:
    """The plan arrives with the contract's limits where it has none of its own; the report comes back, once."""
    call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S)
    control.shelf.shadow_ends.set()
    request = DeployRequest(
        **order(version=B, request_id="r", validate_only=validate_only, shadow=shadow(5, min_predictions=7))
    )
    answer = call.Deploy(request, timeout=RPC_S)

    plan = control.shelf.shadowed[B]
    assert (plan.duration_s, plan.max_disagreement, plan.max_slowdown, plan.min_predictions) == (
        5,
        0.05,
        2,
        7,
    )
    assert (answer.shadow.against, answer.shadow.compared, answer.shadow.disagreed) == (A, 200, 3)
    assert (answer.shadow.median_ms, answer.shadow.seconds) == (0.5, 5)
    if not validate_only:
        again = call.Deploy(request, timeout=RPC_S)
        assert again.replayed
        assert not again.HasField("shadow")


def test_validate_only_moves_nothing(control: Control, call: SimpleNamespace) -> None:
    """Every check is done, the record that would be is shown without a digest, and nothing stands."""
    answer = call.Deploy(DeployRequest(**order(version=A, validate_only=True)), timeout=RPC_S)
    assert (answer.record.generation, answer.record.version, answer.record.record_sha256) == (1, A, "")
    assert control.ledger.head is None
    assert control.stage.residents().live is None


def test_a_draft_is_not_called_committed(call: SimpleNamespace) -> None:
    """The record in an answer to validate_only says DRAFT, that of an order COMMITTED."""
    draft = call.Deploy(DeployRequest(**order(version=A, validate_only=True)), timeout=RPC_S).record
    done = call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S).record
    assert (draft.status, draft.record_sha256) == ("DRAFT", "")
    assert (done.status, done.record_sha256[:7]) == ("COMMITTED", "sha256:")
    back = call.Rollback(RollbackRequest(**order(version=A, validate_only=True)), timeout=RPC_S).record
    assert (back.status, back.record_sha256) == ("DRAFT", "")


def test_nothing_is_loaded_for_a_validation_that_nobody_waits_for(
    control: Control, call: SimpleNamespace
) -> None:
    """A validate_only order whose caller gives up while it waits its turn is dropped, and says that nothing changed."""
    gate = control.shelf.hold(A)
    first = call.Deploy.future(DeployRequest(**order(version=A, validate_only=True)), timeout=RPC_S)
    assert control.shelf.begun[A].wait(WAIT_S)
    with pytest.raises(grpc.RpcError) as caught:
        call.Deploy(DeployRequest(**order(version=B, validate_only=True)), timeout=0.3)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    control.meters.wait_ended("/model_sidecar.v1.DeploymentService/Deploy", "DEADLINE_EXCEEDED", "CANCELLED")
    gate.set()
    assert first.result().record.version == A
    call.Deploy(DeployRequest(**order(version=C)), timeout=RPC_S)
    assert control.shelf.attempts[B] == 0


def test_a_stale_expectation_loses_and_learns_who_won(control: Control, call: SimpleNamespace) -> None:
    """Another head than expected is ABORTED with the winner's generation, version and actor; 0 means an empty ledger."""
    call.Deploy(DeployRequest(**order(version=A, expected_generation=0)), timeout=RPC_S)
    error = refused(call.Deploy, DeployRequest(**order(version=B, expected_generation=0)))
    assert (error.code(), error_info(error).reason) == (StatusCode.ABORTED, "GENERATION_MISMATCH")
    facts = dict(error_info(error).metadata)
    assert (facts["generation"], facts["version"]) == ("1", A)
    assert facts["actor"].startswith(getpass.getuser())


def test_a_version_that_fails_verification_says_so(control: Control, call: SimpleNamespace) -> None:
    """A candidate that may not answer is FAILED_PRECONDITION with the check's reason and the kind "verification"."""
    control.shelf.failures[A] = VerificationError("one byte is off", reason=Reason.DIGEST_MISMATCH)
    error = refused(call.Deploy, DeployRequest(**order(version=A)))
    info = error_info(error)
    assert (error.code(), info.reason, info.metadata["kind"]) == (
        StatusCode.FAILED_PRECONDITION,
        "DIGEST_MISMATCH",
        "verification",
    )


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model": "other"}, StatusCode.NOT_FOUND, "this sidecar serves adder"),
        ({"model": "../etc"}, StatusCode.INVALID_ARGUMENT, "'../etc'"),
        ({"environment": "staging"}, StatusCode.NOT_FOUND, "environment prod, not staging"),
        ({"environment": "Prod!"}, StatusCode.INVALID_ARGUMENT, "'Prod!'"),
        ({"version": "latest"}, StatusCode.INVALID_ARGUMENT, "'latest'"),
        ({"version": "2024.02.30.prod"}, StatusCode.INVALID_ARGUMENT, "2024.02.30.prod"),
        ({"version": "2020.01.01.prod"}, StatusCode.NOT_FOUND, "2020.01.01.prod"),
        ({"request_id": "two words"}, StatusCode.INVALID_ARGUMENT, "request_id"),
        ({"request_id": "x" * 65}, StatusCode.INVALID_ARGUMENT, "request_id"),
        ({"reason": "x" * 4097}, StatusCode.INVALID_ARGUMENT, "at most 4096"),
        ({"reason": "\N{ROCKET}" * 4096}, StatusCode.INVALID_ARGUMENT, "16384 bytes in UTF-8: at most 8192"),
        ({"on_behalf_of": "x" * 257}, StatusCode.INVALID_ARGUMENT, "on_behalf_of has 257"),
        ({"source_commit": "x" * 257}, StatusCode.INVALID_ARGUMENT, "source_commit has 257"),
        ({"shadow": shadow(0)}, StatusCode.INVALID_ARGUMENT, "a shadow of 0 s: expected 1 to 3600 s"),
        ({"shadow": shadow(3601)}, StatusCode.INVALID_ARGUMENT, "a shadow of 3601 s"),
        ({"shadow": shadow(5, max_disagreement=1.5)}, StatusCode.INVALID_ARGUMENT, "max_disagreement is 1.5"),
        (
            {"shadow": shadow(5, max_slowdown=float("nan"))},
            StatusCode.INVALID_ARGUMENT,
            "max_slowdown is nan",
        ),
        ({"shadow": shadow(5, min_predictions=0)}, StatusCode.INVALID_ARGUMENT, "min_predictions is 0"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    control: Control, call: SimpleNamespace, fields: dict[str, Any], code: StatusCode, words: str
) -> None:
    """Names off the grammar and texts over their length are INVALID_ARGUMENT, what is not here is NOT_FOUND."""
    error = refused(call.Deploy, DeployRequest(**order(**{"version": A, **fields})))
    assert error.code() is code
    assert words in error.details()
    assert control.ledger.head is None
    assert not control.shelf.loaded


def test_an_empty_environment_means_this_ones(call: SimpleNamespace) -> None:
    """A sidecar has one environment per model, so that need not be named."""
    answer = call.Deploy(DeployRequest(model="adder", version=A, reason="x"), timeout=RPC_S)
    assert answer.record.environment == "prod"


def test_terminal_escapes_never_reach_the_ledger(control: Control, call: SimpleNamespace) -> None:
    """Control characters in a reason are recorded as their escapes."""
    answer = call.Deploy(DeployRequest(**order(version=A, reason="a\x1b[31m\u202eb\ttab")), timeout=RPC_S)
    assert answer.record.reason == "a\\x1b[31m\\u202eb tab"


def test_control_characters_make_no_text_too_long(call: SimpleNamespace) -> None:
    """A character that is escaped counts as one; where its escape would find no room, a question mark stands for it."""
    texts = {"reason": "x" * 4095 + "\x1b", "on_behalf_of": "y" * 255 + "\u202e"}
    record = call.Deploy(DeployRequest(**order(version=A, **texts)), timeout=RPC_S).record
    assert record.reason == "x" * 4095 + "?"
    assert record.actor.on_behalf_of == "y" * 255 + "?"


def test_a_caller_that_gives_up_ends_its_wait_and_not_the_order(
    control: Control, call: SimpleNamespace
) -> None:
    """After the caller's deadline the order is carried out all the same, and the same id again gives its record."""
    gate = control.shelf.hold(A)
    request = DeployRequest(**order(version=A, request_id="patience"))
    with pytest.raises(grpc.RpcError) as caught:
        call.Deploy(request, timeout=0.3)
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert control.shelf.begun[A].wait(WAIT_S)
    gate.set()
    again = call.Deploy(request, timeout=RPC_S)
    assert (again.record.version, again.record.generation) == (A, 1)


def test_statuses_tell_what_should_be_from_what_is(control: Control, call: SimpleNamespace) -> None:
    """Before the first deployment a site is NOT_SERVING; then desired and observed name the same record."""
    (before,) = call.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses
    assert (before.model, before.state) == ("adder", STATE_NOT_SERVING)
    assert not before.HasField("observed")

    record = call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S).record
    call.Deploy(DeployRequest(**order(version=B)), timeout=RPC_S)

    (status,) = call.GetStatus(GetStatusRequest(model="adder"), timeout=RPC_S).statuses
    assert (status.state, status.observed.version, status.observed.generation) == (STATE_READY, B, 2)
    assert (status.desired.version, status.sidecar) == (B, "one")
    assert [(each.version, each.role) for each in status.resident] == [(B, "live"), (A, "standby")]
    assert status.resident[1].manifest_sha256 == record.manifest_sha256
    assert status.loaded_at.seconds > 0
    assert not call.GetStatus(GetStatusRequest(environment="staging"), timeout=RPC_S).statuses


def test_a_status_says_since_when_the_live_version_answers(control: Control, call: SimpleNamespace) -> None:
    """A version that comes back from standby answers since then, however long ago it was loaded."""

    def status() -> Any:
        (found,) = call.GetStatus(GetStatusRequest(), timeout=RPC_S).statuses
        return found

    assert not status().HasField("live_since")
    for version in (A, B):
        call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S)
    second = status().live_since.ToDatetime()
    call.Rollback(RollbackRequest(**order()), timeout=RPC_S)
    back = status()
    assert back.observed.version == A
    assert back.loaded_at.ToDatetime() < second < back.live_since.ToDatetime()


def test_a_watch_shows_each_change_until_it_is_ended(control: Control, call: SimpleNamespace) -> None:
    """A watch begins with the status now, follows deployments, and gives its thread back when it is cancelled."""
    watch = call.WatchStatus(WatchStatusRequest(model="adder"), timeout=RPC_S)
    assert next(watch).status.state == STATE_NOT_SERVING
    call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S)
    seen = next(each.status for each in watch if each.status.state == STATE_READY)
    assert seen.observed.version == A
    watch.cancel()
    control.meters.wait_ended("/model_sidecar.v1.DeploymentService/WatchStatus", "CANCELLED")


def test_a_watch_ends_with_its_site(control: Control, call: SimpleNamespace) -> None:
    """When the site is closed, watches end by themselves and well."""
    watch = call.WatchStatus(WatchStatusRequest(model="adder"), timeout=RPC_S)
    next(watch)
    control.board.close()
    assert list(watch) == []
    assert watch.code() is StatusCode.OK


def test_watches_are_bounded_and_never_in_the_way_of_a_rollback(
    control: Control, call: SimpleNamespace
) -> None:
    """The ninth watch is refused with the limit named, and orders are answered beside eight of them."""
    for version in (A, B):
        call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S)
    watches = [call.WatchStatus(WatchStatusRequest(model="adder"), timeout=RPC_S) for _ in range(8)]
    for watch in watches:
        next(watch)

    with pytest.raises(grpc.RpcError) as caught:
        next(call.WatchStatus(WatchStatusRequest(model="adder"), timeout=RPC_S))
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "8 watches" in str(caught.value.details())
    assert call.Rollback(RollbackRequest(**order()), timeout=RPC_S).record.version == A

    for watch in watches:
        watch.cancel()
    for _ in range(8):
        control.meters.wait_ended("/model_sidecar.v1.DeploymentService/WatchStatus", "CANCELLED")


def test_waiting_deploys_are_bounded_and_never_in_the_way_of_a_rollback(
    control: Control, call: SimpleNamespace
) -> None:
    """However many deploys wait for one slow load, a rollback to the standby and probes are answered."""
    for version in (A, B):
        call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S)
    gate = control.shelf.hold(C)
    waiting = [call.Deploy.future(DeployRequest(**order(version=C)), timeout=RPC_S) for _ in range(20)]
    assert control.shelf.begun[C].wait(WAIT_S)

    assert call.Rollback(RollbackRequest(**order(version=A)), timeout=RPC_S).record.version == A
    with control.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (
            health.Check(health_pb2.HealthCheckRequest(), timeout=RPC_S).status
            == health_pb2.HealthCheckResponse.SERVING
        )

    refusals = [each for each in waiting if each.done() and each.code() is StatusCode.RESOURCE_EXHAUSTED]
    assert len(refusals) >= 14
    gate.set()
    for each in waiting:
        each.exception(timeout=WAIT_S)


def test_rollbacks_that_wait_are_never_in_the_way_of_one_to_the_standby(
    control: Control, call: SimpleNamespace
) -> None:
    """Twenty rollbacks wait for a slow load; a plain one, whose target is in memory, is answered at once."""
    for version in (A, B):
        call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S)
    gate = control.shelf.hold(C)
    waiting = [call.Rollback.future(RollbackRequest(**order(version=C)), timeout=RPC_S) for _ in range(20)]
    assert control.shelf.begun[C].wait(WAIT_S)

    assert call.Rollback(RollbackRequest(**order()), timeout=RPC_S).record.version == A

    gate.set()
    for each in waiting:
        each.exception(timeout=WAIT_S)
    assert not [each for each in waiting if each.code() is StatusCode.RESOURCE_EXHAUSTED]


def test_the_ledger_is_read_page_by_page(control: Control, call: SimpleNamespace) -> None:
    """Pages hold the newest records first, follow each other by token, and end without one."""
    for number in range(7):
        call.Deploy(DeployRequest(**order(version=(A, B)[number % 2])), timeout=RPC_S)

    pages, token = [], ""
    while True:
        page = call.ListDeployments(
            ListDeploymentsRequest(model="adder", page_size=3, page_token=token), timeout=RPC_S
        )
        pages.append([each.generation for each in page.records])
        token = page.next_page_token
        if not token:
            break
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    everything = call.ListDeployments(ListDeploymentsRequest(model="adder"), timeout=RPC_S)
    assert (len(everything.records), everything.next_page_token) == (7, "")


def test_before_the_ledger_was_read_there_is_no_history_and_not_an_empty_one(call: SimpleNamespace) -> None:
    """A sidecar that has just been started does not say that nothing was ever deployed: it says that it does not know."""
    error = refused(call.ListDeployments, ListDeploymentsRequest(model="adder"))
    assert error.code() is StatusCode.UNAVAILABLE


def test_a_page_of_long_records_stays_below_the_message_limit(
    control: Control, call: SimpleNamespace
) -> None:
    """Records with the longest reasons come in pages that fit into a default client's 4 MiB, without one missing."""
    for number in range(260):
        reason = f"{number} " + "é" * 4080
        call.Deploy(DeployRequest(**order(version=(A, B)[number % 2], reason=reason)), timeout=RPC_S)
    seen, token = [], ""
    while True:
        request = ListDeploymentsRequest(model="adder", page_size=1000, page_token=token)
        page = call.ListDeployments(request, timeout=RPC_S)
        assert page.ByteSize() < (2 << 20) + 4096
        seen += [each.generation for each in page.records]
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(260, 0, -1))


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_token": "garbage"}, {"page_token": "////"}])
def test_a_page_that_makes_no_sense_is_refused(call: SimpleNamespace, fields: dict[str, Any]) -> None:
    """Negative sizes and tokens of other makers are INVALID_ARGUMENT."""
    error = refused(call.ListDeployments, ListDeploymentsRequest(model="adder", **fields))
    assert error.code() is StatusCode.INVALID_ARGUMENT


def shelve(control: Control, version: str, *, content: bytes = b"model", promised: bytes = b"model") -> None:
    folder = control.store / "adder" / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    manifest = {
        "version": version,
        "model_hash": f"sha256:{hashlib.sha256(promised).hexdigest()}",
        "training_date": "2024-01-09",
        "metrics": {"accuracy": 0.98},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_versions_are_listed_with_what_their_manifests_say(control: Control, call: SimpleNamespace) -> None:
    """Every version of the store is listed, newest first, with its state; an unreadable manifest is shown as such."""
    shelve(control, A)
    shelve(control, C)
    (control.store / "adder" / B).mkdir()
    call.Deploy(DeployRequest(**order(version=C)), timeout=RPC_S)

    found = call.ListVersions(ListVersionsRequest(model="adder"), timeout=RPC_S).versions

    assert [(each.version, each.state) for each in found] == [
        (C, "live"),
        (B, "unreadable"),
        (A, "available"),
    ]
    assert "manifest.json" in found[1].problem
    assert (found[2].training_date, dict(found[2].metrics)) == ("2024-01-09", {"accuracy": 0.98})


def test_a_version_is_verified_without_being_loaded(control: Control, call: SimpleNamespace) -> None:
    """Verification reports its files, or which check failed; a version that is not there is NOT_FOUND."""
    shelve(control, A)
    shelve(control, B, content=b"molel")

    good = call.VerifyVersion(VerifyVersionRequest(model="adder", version=A), timeout=RPC_S)
    assert (good.verified, list(good.files)) == (True, ["model.onnx"])
    assert good.manifest_sha256.startswith("sha256:")
    bad = call.VerifyVersion(VerifyVersionRequest(model="adder", version=B), timeout=RPC_S)
    assert (bad.verified, bad.reason) == (False, "MODEL_HASH_MISMATCH")
    assert "model.onnx" in bad.problem
    error = refused(call.VerifyVersion, VerifyVersionRequest(model="adder", version=C))
    assert (error.code(), error_info(error).reason) == (StatusCode.NOT_FOUND, "VERSION_NOT_FOUND")


def test_a_version_that_was_replaced_does_not_verify(control: Control, call: SimpleNamespace) -> None:
    """A directory that is in order, and is not what was deployed under its name, is MANIFEST_CHANGED."""
    call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S)
    shelve(control, A)
    answer = call.VerifyVersion(VerifyVersionRequest(model="adder", version=A), timeout=RPC_S)
    assert (answer.verified, answer.reason) == (False, "MANIFEST_CHANGED")


def test_what_is_in_memory_is_listed_as_it_is_there(control: Control, call: SimpleNamespace) -> None:
    """The live version and the standby are shown with the manifests that they were loaded with, not those on disk now."""
    loaded = {}
    for version in (A, C):
        loaded[version] = call.Deploy(DeployRequest(**order(version=version)), timeout=RPC_S).record
        shelve(control, version)
    (control.store / "adder" / A / "manifest.json").write_text("damaged")

    found = call.ListVersions(ListVersionsRequest(model="adder"), timeout=RPC_S).versions

    assert [(each.version, each.state, each.manifest_sha256) for each in found] == [
        (C, "live", loaded[C].manifest_sha256),
        (A, "standby", loaded[A].manifest_sha256),
    ]


def test_over_tcp_the_actor_is_only_an_address(tmp_path: Path) -> None:
    """A loopback caller is recorded by its address: nothing says who it is."""
    with Control(tmp_path, addresses=(Address(host="127.0.0.1", port=0),)).running() as control:
        control.shelf.put(A)
        with control.calling() as call:
            actor = call.Deploy(DeployRequest(**order(version=A)), timeout=RPC_S).record.actor
    assert (actor.id, actor.method) == ("127.0.0.1", "tcp-loopback")

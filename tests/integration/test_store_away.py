"""The store goes away, in every way that stores do: what is live answers on, says what is wrong, and finds back."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.mounts import Hanging, hanging, mounted_over, needs_fuse, needs_mounts, read_only
from support.ports import free_port
from support.sidecars import READY_S, RunningSidecar
from support.traffic import Traffic
from support.yard import MODEL, PROD, Yard

from model_sidecar.serving.patience import LIMIT_S
from model_sidecar_client import Deployed, SidecarError

A, B, C = "2024.01.10.prod", "2024.01.12.prod", "2024.01.15.prod"


@contextmanager
def two_deployed(yard: Yard, state: Path, *options: str) -> Iterator[RunningSidecar]:
    """A sidecar with B live, A standing by, and copies of both in its own directory."""
    for version in (A, B, C):
        yard.publish(version)
    with RunningSidecar(yard, "--state-dir", str(state), *options) as sidecar:
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            for version in (A, B):
                operator.deploy(MODEL, version, environment=PROD, reason="before the store goes")
        wait(lambda: {each.name for each in (state / "kept" / MODEL).glob("[0-9]*")} == {A, B})
        yield sidecar


def behind(yard: Yard) -> Path:
    """The real store, where the yard's is a mount of it."""
    return yard.root / "behind"


@contextmanager
def on_a_store_that_may_hang(yard: Yard, state: Path) -> Iterator[tuple[RunningSidecar, Hanging]]:
    """A sidecar with B live and A standing by, on a mount whose server can stop answering."""
    for version in (A, B):
        yard.publish(version)
    yard.store.rename(behind(yard))
    yard.store.mkdir()
    with (
        hanging(behind(yard), yard.store) as hang,
        RunningSidecar(yard, "--state-dir", str(state)) as sidecar,
    ):
        sidecar.wait_answering()
        with sidecar.operator() as operator:
            for version in (A, B):
                operator.deploy(MODEL, version, environment=PROD)
        yield sidecar, hang


def wait(condition: Callable[[], object], *, timeout_s: float = READY_S) -> None:
    """Until it holds; for what has no event to wait for."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.02)


def status(sidecar: RunningSidecar) -> Any:
    with sidecar.operator() as operator:
        (one,) = operator.status(MODEL, environment=PROD)
        return one


def roll_back(sidecar: RunningSidecar, **how: Any) -> Deployed:
    with sidecar.operator() as operator:
        return operator.rollback(MODEL, environment=PROD, reason="it is 3 AM", timeout_s=20, **how)


def recorded(yard: Yard) -> list[tuple[str, str]]:
    """The ledger, oldest first, by somebody who has never looked before."""
    return [(record.action.value, record.version) for record in reversed(yard.ledger().records(limit=100))]


def aside(yard: Yard) -> Path:
    return yard.store.with_name("elsewhere")


@contextmanager
def moved_away(yard: Yard) -> Iterator[None]:
    """The store is unmounted: its directory is there, and empty."""
    yard.store.rename(aside(yard))
    yard.store.mkdir()
    try:
        yield
    finally:
        yard.store.rmdir()
        aside(yard).rename(yard.store)


@contextmanager
def deleted(yard: Yard) -> Iterator[None]:
    """Not even the directory is there."""
    yard.store.rename(aside(yard))
    try:
        yield
    finally:
        aside(yard).rename(yard.store)


@contextmanager
def remounted_read_only(yard: Yard) -> Iterator[None]:
    with read_only(yard.store):
        yield


@contextmanager
def under_an_empty_mount(yard: Yard) -> Iterator[None]:
    """Another file system, an empty one, was mounted over it."""
    with mounted_over(yard.store):
        yield


AWAY = [
    pytest.param(moved_away, id="unmounted, an empty directory in its place"),
    pytest.param(deleted, id="not even a directory"),
    pytest.param(under_an_empty_mount, id="something else mounted over it", marks=needs_mounts),
]


@pytest.mark.parametrize("away", AWAY)
def test_what_is_live_answers_on_without_the_store(
    yard: Yard, tmp_path: Path, away: Callable[[Yard], Any]
) -> None:
    """No answer fails, Status and metrics say what is wrong, a deploy is refused; back again, all goes on."""
    port = free_port()
    with (
        two_deployed(yard, tmp_path / "state", "--http", f"127.0.0.1:{port}") as sidecar,
        Traffic(sidecar, callers=2) as traffic,
    ):
        with away(yard):
            sidecar.wait_error("STORE_UNAVAILABLE")
            assert sidecar.predict() == (yard.expected(B, 0.0), B)
            with sidecar.operator() as operator, pytest.raises(SidecarError) as refused:
                operator.deploy(MODEL, C, environment=PROD, timeout_s=20)
            assert refused.value.reason == "STORE_UNAVAILABLE"
            metrics = sidecar.http("/metrics", port=port)
            unreachable = metrics.split(
                'model_sidecar_store_unreachable_seconds{environment="prod",model="adder"} '
            )
            assert float(unreachable[1].split()[0]) > 0
        wait(lambda: status(sidecar).last_error is None)
        with sidecar.operator() as operator:
            assert operator.deploy(MODEL, C, environment=PROD).generation == 3
        sidecar.wait_version(C)
    assert (traffic.failures, traffic.mistagged) == ([], [])


@pytest.mark.parametrize(
    "away", [*AWAY, pytest.param(remounted_read_only, id="read-only", marks=needs_mounts)]
)
def test_an_emergency_rollback_needs_no_store(
    yard: Yard, tmp_path: Path, away: Callable[[Yard], Any]
) -> None:
    """It takes effect at once, is told apart from a recorded one, and is recorded once when the store is back."""
    with two_deployed(yard, tmp_path / "state") as sidecar, Traffic(sidecar, callers=2) as traffic:
        with away(yard):
            with pytest.raises(SidecarError, match="--emergency"):
                roll_back(sidecar)
            done = roll_back(sidecar, emergency=True, request_id="at-3-am")
            assert (done.version, done.record.status, done.record.record_sha256) == (A, "PENDING", "")
            assert sidecar.predict() == (yard.expected(A, 0.0), A)
            assert status(sidecar).unrecorded_version == A
            again = roll_back(sidecar, emergency=True, request_id="at-3-am")
            assert (again.version, again.record.status, again.replayed) == (A, "PENDING", True)
        wait(lambda: not status(sidecar).unrecorded_version)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ROLLBACK", A)]
        assert yard.ledger().records()[0].request_id == "at-3-am"
        later = roll_back(sidecar, request_id="at-3-am")
        assert (later.generation, later.record.status, later.replayed) == (3, "COMMITTED", True)
        assert json.loads(yard.pointer.read_text())["version"] == A
    assert (traffic.failures, traffic.mistagged) == ([], [])


@needs_mounts
def test_only_one_emergency_rollback_waits(yard: Yard, tmp_path: Path) -> None:
    """A second one is refused, where the store can be read and not written, too; the first one is recorded."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        with remounted_read_only(yard):
            assert roll_back(sidecar, emergency=True, request_id="first").version == A
            with pytest.raises(SidecarError, match="until then no other"):
                roll_back(sidecar, emergency=True, version=B, request_id="second")
            assert sidecar.predict()[1] == A
        wait(lambda: not status(sidecar).unrecorded_version)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ROLLBACK", A)]
        assert yard.ledger().records()[0].request_id == "first"


def test_an_emergency_keeps_to_what_its_request_id_stands_for(yard: Yard, tmp_path: Path) -> None:
    """An id that is in the ledger is answered from there, or refused where it stands for something else."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        roll_back(sidecar, request_id="done")
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, request_id="another")
        with moved_away(yard):
            again = roll_back(sidecar, emergency=True, request_id="done")
            assert (again.generation, again.record.status, again.replayed) == (3, "COMMITTED", True)
            with pytest.raises(SidecarError) as refused:
                roll_back(sidecar, emergency=True, request_id="another")
            assert refused.value.reason == "REQUEST_ID_REUSED"
            assert sidecar.predict()[1] == B
        assert len(recorded(yard)) == 4


def test_what_waits_is_recorded_only_where_it_belongs(yard: Yard, tmp_path: Path) -> None:
    """A pending record of another model is left alone and told, and the ledger stays whole."""
    state = tmp_path / "state"
    with two_deployed(yard, state) as sidecar:
        with moved_away(yard):
            roll_back(sidecar, emergency=True)
            sidecar.kill()
        pending = state / "sites" / MODEL / PROD / "pending.json"
        pending.write_bytes(pending.read_bytes().replace(b'"model":"adder"', b'"model":"other"'))
        sidecar.start().wait_ready()
        sidecar.wait_logged("none of this ledger")
        assert sidecar.predict()[1] == B
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B)]
        assert pending.exists()


def test_a_ledger_that_was_deleted_is_put_back_after_a_restart_too(yard: Yard, tmp_path: Path) -> None:
    """Somebody made the environment anew while no sidecar ran: what is remembered is put back, and the edit adopted."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        sidecar.stop()
        shutil.rmtree(yard.pointer.parent)
        yard.edit_pointer(C)
        sidecar.start().wait_answering()
        sidecar.wait_version(C)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ADOPT", C)]


def test_an_edit_that_is_newer_than_an_emergency_is_adopted(yard: Yard, tmp_path: Path) -> None:
    """Somebody who could reach the store wrote the pointer meanwhile: the rollback is recorded, and then the edit."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        with moved_away(yard):
            roll_back(sidecar, emergency=True)
            (aside(yard) / MODEL / "environments" / PROD / "active.json").write_text(
                json.dumps({"version": C})
            )
        sidecar.wait_version(C)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ROLLBACK", A), ("ADOPT", C)]


@needs_fuse
def test_orders_that_wait_for_a_store_that_hangs_hold_no_emergency_up(yard: Yard, tmp_path: Path) -> None:
    """Five deploys wait for it, for as long as anybody waits for a store; the rollback that came last does not."""
    with on_a_store_that_may_hang(yard, tmp_path / "state") as (sidecar, hang):
        hang.begin()

        def deploy() -> None:
            with sidecar.operator() as operator, contextlib.suppress(SidecarError):
                operator.deploy(MODEL, A, environment=PROD, timeout_s=20)

        deploys = [threading.Thread(target=deploy) for _ in range(5)]
        for each in deploys:
            each.start()
        time.sleep(0.3)
        done = roll_back(sidecar, emergency=True)
        hang.end()
        for each in deploys:
            each.join()
        assert (done.version, done.record.status) == (A, "PENDING")
        assert done.took_ms < LIMIT_S * 1000 / 2


def test_an_emergency_rollback_outlives_the_sidecar(yard: Yard, tmp_path: Path) -> None:
    """Killed before it was recorded, the sidecar starts with the version rolled back to, and records it in the end."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        with moved_away(yard):
            roll_back(sidecar, emergency=True)
            sidecar.kill()
            sidecar.start().wait_answering()
            sidecar.wait_version(A)
            assert sidecar.predict() == (yard.expected(A, 0.0), A)
            assert status(sidecar).unrecorded_version == A
        wait(lambda: not status(sidecar).unrecorded_version)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ROLLBACK", A)]
        assert sidecar.predict()[1] == A


def test_an_emergency_rollback_that_others_overtook_is_recorded_and_moves_nothing(
    yard: Yard, tmp_path: Path
) -> None:
    """The other sidecar could reach the store and deployed: that stands, and the ledger tells of the rollback too."""
    with ExitStack() as running:
        sidecar = running.enter_context(two_deployed(yard, tmp_path / "state"))
        with moved_away(yard):
            roll_back(sidecar, emergency=True)
            # Somebody else still has the store, under another path.
            elsewhere = Yard(yard.root / "other", yard.constants)
            elsewhere.root.mkdir()
            elsewhere.store.symlink_to(aside(yard))
            other = running.enter_context(RunningSidecar(elsewhere))
            other.wait_ready()
            with other.operator() as operator:
                operator.deploy(MODEL, C, environment=PROD, reason="the mended one")
            other.stop()
        sidecar.wait_version(C)
        wait(lambda: not status(sidecar).unrecorded_version)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("DEPLOY", C), ("ROLLBACK", C)]
        late = yard.ledger().records()[0]
        assert A in late.reason
        assert "overtaken by generation 3" in late.reason
        assert sidecar.predict() == (yard.expected(C, 0.0), C)


@pytest.mark.parametrize("away", AWAY)
def test_a_sidecar_starts_without_the_store(yard: Yard, tmp_path: Path, away: Callable[[Yard], Any]) -> None:
    """From its own verified copies: the live version, the standby and the history; and it converges later."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        sidecar.kill()
        with away(yard):
            sidecar.start().wait_answering()
            sidecar.wait_version(B)
            now = sidecar.wait_error("STORE_UNAVAILABLE")
            assert (now.observed.generation, now.observed.version) == (2, B)
            assert sidecar.predict() == (yard.expected(B, 0.0), B)
            with sidecar.operator() as operator:
                assert [each.version for each in operator.history(MODEL, environment=PROD)] == [B, A]
            wait(lambda: any(each.role == "standby" for each in status(sidecar).resident))
            assert roll_back(sidecar, emergency=True).version == A
        wait(lambda: not status(sidecar).unrecorded_version)
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B), ("ROLLBACK", A)]


def test_a_kept_copy_with_other_bytes_never_answers(yard: Yard, tmp_path: Path) -> None:
    """Somebody changed the copy: it is not believed, and with the store away nothing answers; back again, B does."""
    state = tmp_path / "state"
    with two_deployed(yard, state) as sidecar:
        sidecar.kill()
        copy = state / "kept" / MODEL / B
        (copy / "model.onnx").write_bytes((state / "kept" / MODEL / A / "model.onnx").read_bytes())
        with moved_away(yard):
            sidecar.start().wait_answering()
            sidecar.wait_logged("is ignored")
            assert status(sidecar).observed is None
        sidecar.wait_version(B)
        assert sidecar.predict() == (yard.expected(B, 0.0), B)


def test_a_snapshot_of_yesterday_is_told_and_not_followed(yard: Yard, tmp_path: Path) -> None:
    """The ledger went back: what is live stays, nothing is recorded, also after a restart; its return mends it all."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        environment = yard.pointer.parent
        yesterday = tmp_path / "yesterday"
        shutil.copytree(environment, yesterday)
        with sidecar.operator() as operator:
            operator.deploy(MODEL, C, environment=PROD, reason="today")
        today = tmp_path / "today"
        environment.rename(today)
        shutil.copytree(yesterday, environment)

        assert "went back" in sidecar.wait_error("LEDGER_INVALID").last_error.message
        assert sidecar.predict() == (yard.expected(C, 0.0), C)
        with pytest.raises(SidecarError) as refused:
            roll_back(sidecar)
        assert refused.value.reason == "LEDGER_INVALID"
        assert recorded(yard) == [("DEPLOY", A), ("DEPLOY", B)]

        sidecar.kill()
        sidecar.start().wait_answering()
        sidecar.wait_version(C)
        assert sidecar.wait_error("LEDGER_INVALID").observed.generation == 3

        # The real one is back, and others have gone on in it.
        environment.rename(tmp_path / "of no use")
        today.rename(environment)
        with RunningSidecar(yard) as other:
            other.wait_ready()
            with other.operator() as operator:
                operator.deploy(MODEL, A, environment=PROD, reason="elsewhere")
        sidecar.wait_version(A)
        assert recorded(yard)[-1] == ("DEPLOY", A)
        wait(lambda: status(sidecar).last_error is None)


@needs_mounts
def test_a_read_only_store_is_followed(yard: Yard, tmp_path: Path) -> None:
    """Its head is served under its generation, orders fail for what is wrong, and no pointer passes for a ConfigMap."""
    with two_deployed(yard, tmp_path / "state") as sidecar, remounted_read_only(yard):
        with pytest.raises(SidecarError, match="Read-only") as refused:
            roll_back(sidecar)
        assert refused.value.reason == "STORE_UNAVAILABLE"
        now = sidecar.wait_error("STORE_UNAVAILABLE")
        assert "read-only" in now.last_error.message
        assert (now.observed.generation, now.pointer_externally_managed) == (2, False)
        assert sidecar.predict()[1] == B


@needs_fuse
def test_a_store_that_hangs_holds_up_nothing_but_itself(yard: Yard, tmp_path: Path) -> None:
    """Its server stops answering: predictions, status, an emergency rollback and the way out do not wait for it."""
    with on_a_store_that_may_hang(yard, tmp_path / "state") as (sidecar, hang):
        with Traffic(sidecar, callers=2) as traffic:
            hang.begin()
            sidecar.wait_error("STORE_UNAVAILABLE")
            done = roll_back(sidecar, emergency=True)
            assert (done.version, done.record.status) == (A, "PENDING")
            assert sidecar.predict() == (yard.expected(A, 0.0), A)
            hang.end()
            wait(lambda: not status(sidecar).unrecorded_version)
            hang.begin()
            sidecar.wait_error("STORE_UNAVAILABLE")
        assert (traffic.failures, traffic.mistagged) == ([], [])
        sidecar.signal(signal.SIGTERM)
        # Drained and taken down, while the store hangs still. The kernel ends no process as long as one of its requests
        # is with the FUSE server, though.
        wait(lambda: not Path(sidecar.data.removeprefix("unix:")).exists())
        hang.end()
        assert sidecar.process is not None
        assert sidecar.process.wait(timeout=READY_S) == 0
        assert len([*(behind(yard) / MODEL / "environments" / PROD / "ledger").iterdir()]) == 3


def test_two_sidecars_cannot_share_a_state_directory(yard: Yard, tmp_path: Path) -> None:
    """The second one says so and ends; the first one serves on."""
    with two_deployed(yard, tmp_path / "state") as sidecar:
        with RunningSidecar(yard, "--state-dir", str(tmp_path / "state")) as second:
            assert second.process is not None
            assert second.process.wait(timeout=READY_S) == 2
            assert "used by another sidecar" in second.log.read_text()
        assert sidecar.predict()[1] == B

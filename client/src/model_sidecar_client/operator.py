"""`Operator`: deploy, roll back, and look, for those who run the models."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from types import TracebackType
from typing import Self

from model_sidecar_client import deployment, monitoring
from model_sidecar_client.channels import ChannelOptions, Metadata
from model_sidecar_client.monitoring_records import ModelDrift, ModelQuality
from model_sidecar_client.records import Deployed, Record, Shadow, Status, Verification, VersionSummary
from model_sidecar_client.transport import Connection
from model_sidecar_client.wire.services import DEPLOYMENT, FEEDBACK

ACTION_TIMEOUT_S = 60.0


class Operator:
    """Speaks to one sidecar's control plane. Any thread may use it; a forked child must make its own.

        with Operator("unix:/run/sidecar/control.sock") as operator:
            operator.deploy("recommendation-v1", "2024.01.15.prod", environment="prod", reason="Q1 retrain")
            operator.rollback("recommendation-v1", environment="prod", reason="precision alert")

    Every method raises SidecarError and nothing else, save RuntimeError once the operator is closed.
    """

    def __init__(
        self, target: str, *, timeout_s: float = 5.0, metadata: Metadata = (), options: ChannelOptions = ()
    ) -> None:
        """Nothing is sent yet, so a sidecar that is not there shows at the first call.

        Args:
            target: `unix:/path/of.sock`, `unix:///path/of.sock` or `host:port`.
            timeout_s: the deadline of each call that names none; deploy, rollback and verify have 60 s of their own.
            metadata: gRPC metadata sent with every call.
            options: further gRPC channel options; they win over ours.
        """
        self._connection = Connection(
            target,
            DEPLOYMENT,
            FEEDBACK,
            timeout_s=timeout_s,
            metadata=metadata,
            options=options,
        )

    def deploy(
        self,
        model: str,
        version: str,
        *,
        environment: str,
        reason: str = "",
        expected_generation: int | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        allow_schema_change: bool = False,
        on_behalf_of: str = "",
        source_commit: str = "",
        shadow: Shadow | None = None,
        timeout_s: float = ACTION_TIMEOUT_S,
    ) -> Deployed:
        """Make a version live: it is verified, loaded and warmed first, recorded, and then it answers.

        Args:
            model: its name.
            version: the one to make live.
            environment: whose pointer moves.
            reason: why, for the ledger.
            expected_generation: refuse unless the ledger's head is this one; 0 stands for an empty ledger.
            request_id: under which it is never done twice; made up if not given, so that retries are safe.
            validate_only: do every check, move nothing.
            allow_schema_change: accept inputs or outputs that differ from the live version's.
            on_behalf_of: for whom, a claim for the ledger.
            source_commit: from which commit, a claim for the ledger.
            shadow: let it run on the live version's requests first, and go on only within its limits.
            timeout_s: how long to wait, besides the shadow's duration. The deploy goes on in the sidecar after that.

        Raises:
            VerificationFailedError: the version may not answer; the live one answers on.
            NotFoundError: no such model or version.
            ConflictError: `expected_generation` is not the head; the error says what is.
            RefusedError: the state of things forbids it, for instance a pointer that is managed elsewhere; or the shadow
                went beyond its limits (reason SHADOW_FAILED, with the figures).
            CommitStateUnknownError: recorded, but perhaps not durably. Ask again with the error's `request_id`.
            DeadlineError: it goes on; ask `status`, or again with the error's `request_id`.
        """
        exchange = deployment.deploy(
            model,
            version,
            environment=environment,
            reason=reason,
            expected_generation=expected_generation,
            request_id=request_id,
            validate_only=validate_only,
            allow_schema_change=allow_schema_change,
            on_behalf_of=on_behalf_of,
            source_commit=source_commit,
            shadow=shadow,
        )
        return self._connection.run(exchange, timeout_s=deployment.with_shadow(timeout_s, shadow))

    def rollback(
        self,
        model: str,
        *,
        environment: str,
        reason: str = "",
        version: str | None = None,
        generation: int | None = None,
        expected_generation: int | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        on_behalf_of: str = "",
        source_commit: str = "",
        emergency: bool = False,
        timeout_s: float = ACTION_TIMEOUT_S,
    ) -> Deployed:
        """Make an earlier version live again: the last good one that differs from the live one, unless told otherwise.

        Args:
            model: its name.
            environment: whose pointer moves.
            reason: why, for the ledger.
            version: roll back to this one.
            generation: roll back to the version of this record; not together with `version`.
            expected_generation: as for `deploy`.
            request_id: as for `deploy`.
            validate_only: as for `deploy`.
            on_behalf_of: as for `deploy`.
            source_commit: as for `deploy`.
            emergency: where the store fails, and the target is in memory: roll back at once, and record it when the
                store is back. The record's status is then "PENDING".
            timeout_s: as for `deploy`. To a resident standby it takes milliseconds.

        Raises:
            RefusedError: there is no earlier version to go back to (reason NO_PREVIOUS_VERSION).
            SidecarError: and whatever `deploy` raises.
        """
        exchange = deployment.rollback(
            model,
            environment=environment,
            reason=reason,
            version=version,
            generation=generation,
            expected_generation=expected_generation,
            request_id=request_id,
            validate_only=validate_only,
            on_behalf_of=on_behalf_of,
            source_commit=source_commit,
            emergency=emergency,
        )
        return self._connection.run(exchange, timeout_s=timeout_s)

    def status(
        self, model: str = "", *, environment: str = "", timeout_s: float | None = None
    ) -> list[Status]:
        """What should answer and what does, for one model or for all of this sidecar's."""
        return self._connection.run(deployment.status(model, environment), timeout_s=timeout_s)

    def watch(
        self, model: str, *, environment: str, timeout_s: float | None = None
    ) -> Generator[Status, None, None]:
        """The status now, and again after every change of it, until the iterator is closed. It never ends by itself.

        Raises:
            DeadlineError: `timeout_s` is over; without one it never is.
            NotReachableError: the sidecar went away.
        """
        replies = self._connection.stream(deployment.watch(model, environment), timeout_s=timeout_s)
        with closing(replies):
            for reply in replies:
                yield deployment.watched(reply)
        raise deployment.watch_ended(self._connection.target)

    def history(
        self, model: str, *, environment: str, limit: int | None = None, timeout_s: float | None = None
    ) -> list[Record]:
        """The ledger, newest record first: the last `limit` ones, or all."""
        return self._connection.run(deployment.history(model, environment, limit), timeout_s=timeout_s)

    def versions(
        self, model: str, *, environment: str, timeout_s: float | None = None
    ) -> list[VersionSummary]:
        """The versions that the store holds, newest name first."""
        return self._connection.run(deployment.versions(model, environment), timeout_s=timeout_s)

    def verify(self, model: str, version: str, *, timeout_s: float = ACTION_TIMEOUT_S) -> Verification:
        """Check a version's bytes against its manifest, without loading it. A bad verdict is returned, not raised."""
        return self._connection.run(deployment.verify(model, version), timeout_s=timeout_s)

    def quality(
        self,
        model: str = "",
        *,
        environment: str = "",
        version: str = "",
        window_s: float | None = None,
        timeout_s: float | None = None,
    ) -> list[ModelQuality]:
        """How well versions predict, by the labels so far, beside what they were published with.

        Args:
            model: its name; "" for every model of this sidecar.
            environment: "" for the one that is served.
            version: only this one; "" for every version that is watched.
            window_s: only predictions made so long ago or later; 24 hours if not given, and of more than 24 hours
                everything since the sidecar's start.
            timeout_s: as for every call.
        """
        exchange = monitoring.quality(model, environment, version, window_s)
        return self._connection.run(exchange, timeout_s=timeout_s)

    def drift(
        self, model: str = "", *, environment: str = "", version: str = "", timeout_s: float | None = None
    ) -> list[ModelDrift]:
        """How far what versions see and say has moved from what they were published with, and what the guard decided."""
        exchange = monitoring.drift(model, environment, version)
        return self._connection.run(exchange, timeout_s=timeout_s)

    def close(self) -> None:
        """End the connection. Closing twice is fine; one that is never closed warns with ResourceWarning."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

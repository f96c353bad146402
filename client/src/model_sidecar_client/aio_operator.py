"""`AsyncOperator`: deploy, roll back, and look, awaited. What each method does is said once, in `Operator`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self

from model_sidecar_client import deployment, monitoring
from model_sidecar_client.channels import ChannelOptions, Metadata
from model_sidecar_client.monitoring_records import ModelDrift, ModelQuality
from model_sidecar_client.operator import ACTION_TIMEOUT_S
from model_sidecar_client.records import Deployed, Record, Shadow, Status, Verification, VersionSummary
from model_sidecar_client.transport import AsyncConnection
from model_sidecar_client.wire.services import DEPLOYMENT, FEEDBACK


class AsyncOperator:
    """`Operator` with every method awaited. It belongs to the event loop of its first call.

    async with AsyncOperator("unix:/run/sidecar/control.sock") as operator:
        await operator.rollback("recommendation-v1", environment="prod", reason="precision alert")
    """

    def __init__(
        self, target: str, *, timeout_s: float = 5.0, metadata: Metadata = (), options: ChannelOptions = ()
    ) -> None:
        """The arguments are those of `Operator`. It may be made outside of an event loop."""
        self._connection = AsyncConnection(
            target,
            DEPLOYMENT,
            FEEDBACK,
            timeout_s=timeout_s,
            metadata=metadata,
            options=options,
        )

    async def deploy(
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
        """See `Operator.deploy`."""
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
        return await self._connection.run(exchange, timeout_s=deployment.with_shadow(timeout_s, shadow))

    async def rollback(
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
        """See `Operator.rollback`."""
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
        return await self._connection.run(exchange, timeout_s=timeout_s)

    async def status(
        self, model: str = "", *, environment: str = "", timeout_s: float | None = None
    ) -> list[Status]:
        """See `Operator.status`."""
        return await self._connection.run(deployment.status(model, environment), timeout_s=timeout_s)

    async def watch(
        self, model: str, *, environment: str, timeout_s: float | None = None
    ) -> AsyncGenerator[Status, None]:
        """See `Operator.watch`; for `async for`."""
        replies = self._connection.stream(deployment.watch(model, environment), timeout_s=timeout_s)
        # An abandoned inner generator would only be closed by the garbage collector, some time later.
        async with aclosing(replies):
            async for reply in replies:
                yield deployment.watched(reply)
        raise deployment.watch_ended(self._connection.target)

    async def history(
        self, model: str, *, environment: str, limit: int | None = None, timeout_s: float | None = None
    ) -> list[Record]:
        """See `Operator.history`."""
        return await self._connection.run(deployment.history(model, environment, limit), timeout_s=timeout_s)

    async def versions(
        self, model: str, *, environment: str, timeout_s: float | None = None
    ) -> list[VersionSummary]:
        """See `Operator.versions`."""
        return await self._connection.run(deployment.versions(model, environment), timeout_s=timeout_s)

    async def verify(self, model: str, version: str, *, timeout_s: float = ACTION_TIMEOUT_S) -> Verification:
        """See `Operator.verify`."""
        return await self._connection.run(deployment.verify(model, version), timeout_s=timeout_s)

    async def quality(
        self,
        model: str = "",
        *,
        environment: str = "",
        version: str = "",
        window_s: float | None = None,
        timeout_s: float | None = None,
    ) -> list[ModelQuality]:
        """See `Operator.quality`."""
        exchange = monitoring.quality(model, environment, version, window_s)
        return await self._connection.run(exchange, timeout_s=timeout_s)

    async def drift(
        self, model: str = "", *, environment: str = "", version: str = "", timeout_s: float | None = None
    ) -> list[ModelDrift]:
        """See `Operator.drift`."""
        exchange = monitoring.drift(model, environment, version)
        return await self._connection.run(exchange, timeout_s=timeout_s)

    async def close(self) -> None:
        """See `Operator.close`."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

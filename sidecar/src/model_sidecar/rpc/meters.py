"""What this room counts and times, as a Protocol: telemetry implements it, `app` hands it in."""

from __future__ import annotations

import logging
from typing import Protocol

from model_sidecar.events import Site
from model_sidecar.release.names import Version

log = logging.getLogger(__name__)


class Meters(Protocol):
    """Where calls and predictions are counted. Called on the request's path, from several threads: be quick.

    A method is its full path, such as `/inference.GRPCInferenceService/ModelInfer`; a code is gRPC's name of it, such
    as `RESOURCE_EXHAUSTED`.
    """

    def started(self, method: str) -> None:
        """A call has arrived."""
        ...

    def handled(self, method: str, code: str, seconds: float) -> None:
        """A call has been answered, or given up by its caller."""
        ...

    def predicted(
        self,
        site: Site,
        version: Version | None,
        *,
        code: str,
        total_s: float,
        inference_s: float | None,
        queue_s: float | None,
        rows: int,
        slowed: float,
    ) -> None:
        """A prediction has ended.

        Args:
            site: whose model was asked for.
            version: the one that served; None where it did not get so far.
            code: how it ended.
            total_s: from the request's arrival to its answer.
            inference_s: inside the model; None where it did not run.
            queue_s: waiting for a lane; None where it did not get so far.
            rows: how many rows its run had, 1 where the model does not take rows; 0 where it was not read, and where the
                run is told of with another prediction that it was made for.
            slowed: how many times as long as by itself the run is taken to have been, as others were in it.
        """
        ...

    def inflight(self, site: Site, delta: int) -> None:
        """One prediction more (+1) or less (-1) is being worked on."""
        ...


class GuardedMeters:
    """Meters that may fail without failing the request that they measure."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._complained = False

    def started(self, method: str) -> None:
        """As `Meters.started`."""
        try:
            self._meters.started(method)
        except Exception as error:  # noqa: BLE001 - whatever a meter does, the request goes on
            self._complain(error)

    def handled(self, method: str, code: str, seconds: float) -> None:
        """As `Meters.handled`."""
        try:
            self._meters.handled(method, code, seconds)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)

    def predicted(
        self,
        site: Site,
        version: Version | None,
        *,
        code: str,
        total_s: float,
        inference_s: float | None,
        queue_s: float | None,
        rows: int,
        slowed: float,
    ) -> None:
        """As `Meters.predicted`."""
        try:
            self._meters.predicted(
                site,
                version,
                code=code,
                total_s=total_s,
                inference_s=inference_s,
                queue_s=queue_s,
                rows=rows,
                slowed=slowed,
            )
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)

    def inflight(self, site: Site, delta: int) -> None:
        """As `Meters.inflight`."""
        try:
            self._meters.inflight(site, delta)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        # Once: a broken meter fails on every request.
        if not self._complained:
            self._complained = True
            log.error("a meter failed; requests go on, but are not all counted from here on", exc_info=error)

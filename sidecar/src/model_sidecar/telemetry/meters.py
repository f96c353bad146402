"""What requests leave behind: counts and durations per version that served, and per RPC.

The request's side takes a few microseconds; everything else is done when somebody scrapes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from model_sidecar.events import Event, Published, Released, Site, StandbyReady
from model_sidecar.monitor.guard.case import Ended
from model_sidecar.telemetry.cells import LATENCY_S, ROWS, RPC_S, Tally
from model_sidecar.telemetry.rpcs import CODES

Residents = Callable[[], Collection[str]]
"""The versions that are live or standby at a site now."""

_UNKNOWN = "UNKNOWN"
_FAILED = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
"""What a version is to blame for, besides runs that had to be stopped although somebody was patient."""
_PATIENT_S = 1.0
"""Of a deadline that leaves a run less than this, the caller may be to blame."""
_SITE = ("model", "environment")
_RPC = ("grpc_type", "grpc_service", "grpc_method")
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a version has answered since it became resident; None where there is nothing to measure."""

    answered: int
    failed: int
    p50_s: float | None
    p99_s: float | None


class _Inflight:
    __slots__ = ("lock", "residents", "value")

    def __init__(self, residents: Residents) -> None:
        self.lock = threading.Lock()  # guards value
        self.value = 0
        self.residents = residents


class _Served:
    """One version's cells, or with the empty version those of requests that no version served."""

    __slots__ = ("codes", "failed", "inference", "lock", "queue", "rows", "slow", "total")

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards everything else here
        self.codes: dict[str, int] = {}
        self.failed = 0
        self.slow = 0
        self.total = Tally(LATENCY_S)
        self.inference = Tally(LATENCY_S)
        self.queue = Tally(LATENCY_S)
        self.rows = Tally(ROWS)

    def copy(self) -> _Served:
        made = _Served()
        with self.lock:
            made.codes = self.codes.copy()
            for name in ("total", "inference", "queue", "rows"):
                setattr(made, name, getattr(self, name).copy())
        return made


class _Rpc:
    __slots__ = ("codes", "handling", "labels", "lock", "started")

    def __init__(self, kind: str, method: str) -> None:
        service, _, name = method.removeprefix("/").rpartition("/")
        self.labels = (kind, service or name, name)
        self.lock = threading.Lock()  # guards everything below
        self.started = 0
        self.codes: dict[str, int] = {}
        self.handling = Tally(RPC_S)


class Meters:
    """Where the rpc room notes its requests. Any thread may call anything here; nothing here raises.

    Only versions that are resident have cells, so that a request that outlives its version's release leaves no label
    set behind for ever.
    """

    def __init__(self, *, rpcs: Mapping[str, str], slow_s: float | None = None) -> None:
        """Begin at zero.

        Args:
            rpcs: full method names and their `grpc_type`. A method that is not among them came from somebody's wire
                and is counted as "unknown".
            slow_s: runs of a model that take longer count as slow; None: none does.
        """
        self._slow_s = float("inf") if slow_s is None else slow_s
        self._rpcs = {method: _Rpc(kind, method) for method, kind in rpcs.items()}
        self._unknown_rpc = _Rpc("unary", "unknown")
        self._sites: dict[tuple[str, str], _Inflight] = {}
        self._lock = (
            threading.Lock()
        )  # makes adding to and removing from _served one decision with asking who is resident
        self._served: dict[_Key, _Served] = {}

    def watch(self, site: Site, residents: Residents) -> None:
        """Take notes for this site, before its first request. Requests for other sites are not noted."""
        self._sites[site.model, site.environment] = _Inflight(residents)
        self._served[site.model, site.environment, ""] = _Served()

    # The request's side.

    def started(self, method: str) -> None:
        """A call came in. `method` is its full name, such as "/inference.GRPCInferenceService/ModelInfer"."""
        rpc = self._rpcs.get(method, self._unknown_rpc)
        with rpc.lock:
            rpc.started += 1

    def handled(self, method: str, code: str, seconds: float) -> None:
        """A call is over. `code` is the name of a gRPC code, such as "INVALID_ARGUMENT"."""
        rpc = self._rpcs.get(method, self._unknown_rpc)
        if code not in CODES:
            code = _UNKNOWN
        with rpc.lock:
            rpc.codes[code] = rpc.codes.get(code, 0) + 1
            rpc.handling.observe(seconds)

    def inflight(self, site: Site, delta: int) -> None:
        """A prediction began (1) or is over (-1)."""
        cell = self._sites.get((site.model, site.environment))
        if cell is not None:
            with cell.lock:
                cell.value += delta

    def predicted(
        self,
        site: Site,
        version: str | None,
        *,
        code: str,
        total_s: float,
        inference_s: float | None = None,
        queue_s: float | None = None,
        rows: int = 0,
        slowed: float = 1.0,
    ) -> None:
        """A prediction was answered, or failed.

        Args:
            site: whose prediction.
            version: the version that served it; None or "" when none did, and then only `code` is counted.
            code: the name of the gRPC code it was answered with.
            total_s: from the request's arrival to its answer.
            inference_s: the model's own part of that; None when it did not run, as with the next two.
            queue_s: the part spent waiting for a free lane.
            rows: how many rows the model was given at once; 0 when it did not run, or that run is told of already.
            slowed: how many times as long as by itself the run is taken to have been, as others were in it.
        """
        served = self._served.get((site.model, site.environment, version or ""))
        if served is None:
            served = self._open(site, version or "")
            if served is None:
                return
        if code not in CODES:
            code = _UNKNOWN
        with served.lock:
            served.codes[code] = served.codes.get(code, 0) + 1
            if not version:
                return
            served.total.observe(total_s)
            # The version's own part, not what was spent waiting: too much traffic is not its fault.
            ran_s = (
                inference_s if inference_s is not None else total_s - queue_s if queue_s is not None else 0.0
            )
            if code in _FAILED or (code == "DEADLINE_EXCEEDED" and ran_s >= _PATIENT_S):
                served.failed += 1
            # Nor is the company that it was run in.
            if ran_s > self._slow_s * slowed:
                served.slow += 1
            if inference_s is not None:
                served.inference.observe(inference_s)
            if queue_s is not None:
                served.queue.observe(queue_s)
            if rows:
                served.rows.observe(rows)

    # Versions come and go.

    def on_event(self, event: Event) -> None:
        """Begin to take notes of a version that became resident; forget one that no longer is."""
        match event:
            case Published(site=site, version=version) | StandbyReady(site=site, version=version):
                self._open(site, version)
            case Released(site=site, version=version):
                self._forget(site, version)
            case _:
                pass

    def _open(self, site: Site, version: str) -> _Served | None:
        cell = self._sites.get((site.model, site.environment))
        with self._lock:
            if cell is None or version not in cell.residents():
                return None
            return self._served.setdefault((site.model, site.environment, version), _Served())

    def _forget(self, site: Site, version: str) -> None:
        cell = self._sites.get((site.model, site.environment))
        with self._lock:
            # The same version may have been loaded again before its first loading was released.
            if cell is not None and version not in cell.residents():
                self._served.pop((site.model, site.environment, version), None)

    # Those who read.

    def traffic(self, site: Site, version: str) -> Traffic | None:
        """What a resident version has answered; None if no notes are taken of it."""
        served = self._served.get((site.model, site.environment, version))
        if served is None:
            return None
        served = served.copy()
        total = sum(served.codes.values())
        return Traffic(
            answered=total,
            failed=total - served.codes.get("OK", 0),
            p50_s=served.total.quantile(0.5),
            p99_s=served.total.quantile(0.99),
        )

    def ended(self, site: Site, version: str) -> Ended | None:
        """What the guard judges a resident version by; None if no notes are taken of it."""
        served = self._served.get((site.model, site.environment, version))
        if served is None:
            return None
        with served.lock:
            return Ended(served.codes.get("OK", 0) + served.failed, served.failed, served.slow)

    def collect(self) -> Iterator[Metric]:
        """The metrics, for a registry."""
        inflight = GaugeMetricFamily(
            "model_sidecar_inflight_requests",
            "Predictions that wait for a thread or are in one.",
            labels=_SITE,
        )
        for key, cell in list(self._sites.items()):
            inflight.add_metric(key, cell.value)
        yield inflight
        with self._lock:
            served = sorted(self._served.items())
        yield from _predictions([(key, each.copy()) for key, each in served])
        yield from _rpcs(
            [rpc for rpc in (*self._rpcs.values(), self._unknown_rpc) if rpc.started or rpc.codes]
        )


def _predictions(served: list[tuple[_Key, _Served]]) -> Iterator[Metric]:
    labels = (*_SITE, "version")
    total = CounterMetricFamily(
        "model_sidecar_predictions",
        "Predictions by the version that served them (empty: none did) and the gRPC code they were answered with.",
        labels=(*labels, "code"),
    )
    for key, each in served:
        for code, count in sorted(each.codes.items()):
            total.add_metric((*key, code), count)
        if key[2] and "OK" not in each.codes:
            total.add_metric((*key, "OK"), 0)  # so that rate() sees a version's first prediction
    yield total
    for name, help_text, pick in _HISTOGRAMS:
        family = HistogramMetricFamily(f"model_sidecar_{name}", help_text, labels=labels)
        for key, each in served:
            if key[2]:
                tally: Tally = getattr(each, pick)
                family.add_metric(key, tally.cumulative(), tally.sum)
        yield family


_HISTOGRAMS = (
    (
        "prediction_duration_seconds",
        "From a request's arrival to its answer, where a version served it.",
        "total",
    ),
    (
        "inference_duration_seconds",
        "The model's own part of a prediction, preprocessing included.",
        "inference",
    ),
    ("queue_duration_seconds", "The part of a prediction spent waiting for a free lane.", "queue"),
    ("batch_rows", "Rows that the model was given at once.", "rows"),
)


def _rpcs(rpcs: list[_Rpc]) -> Iterator[Metric]:
    started = CounterMetricFamily("grpc_server_started", "RPCs that came in.", labels=_RPC)
    handled = CounterMetricFamily(
        "grpc_server_handled", "RPCs that are over, whatever came of them.", labels=(*_RPC, "grpc_code")
    )
    handling = HistogramMetricFamily("grpc_server_handling_seconds", "How long RPCs took.", labels=_RPC)
    for rpc in rpcs:
        with rpc.lock:
            begun, codes, seconds = rpc.started, rpc.codes.copy(), rpc.handling.copy()
        started.add_metric(rpc.labels, begun)
        for code, count in sorted(codes.items()):
            handled.add_metric((*rpc.labels, CODES[code]), count)
        if codes:
            handling.add_metric(rpc.labels, seconds.cumulative(), seconds.sum)
    yield from (started, handled, handling)

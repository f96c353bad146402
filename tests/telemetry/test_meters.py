"""What requests leave behind, and what becomes of it when versions come and go."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.served import SITE, A, B, Bench, C, StillModel

from model_sidecar.events import Released
from model_sidecar.telemetry.cells import LATENCY_S, Tally
from model_sidecar.telemetry.metrics import Metrics

INFER = "/inference.GRPCInferenceService/ModelInfer"
RPC = {"grpc_type": "unary", "grpc_service": "inference.GRPCInferenceService", "grpc_method": "ModelInfer"}
LABELS = {"model": SITE.model, "environment": SITE.environment}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, software="0.1.0")


@pytest.fixture
def bench(tmp_path: Path, metrics: Metrics) -> Bench:
    made = Bench(tmp_path)
    metrics.watch(made.served)
    return made


def predict(metrics: Metrics, version: str | None, *, code: str = "OK", total_s: float = 0.0007) -> None:
    ran = bool(version)
    metrics.meters.predicted(
        SITE,
        version,
        code=code,
        total_s=total_s,
        inference_s=0.0003 if ran else None,
        queue_s=0.00005 if ran else None,
        rows=4 if ran else 0,
    )


def predictions(registry: CollectorRegistry, version: str, code: str = "OK") -> float | None:
    return registry.get_sample_value(
        "model_sidecar_predictions_total", {**LABELS, "version": version, "code": code}
    )


def versions_shown(registry: CollectorRegistry) -> set[str]:
    return {
        sample.labels["version"]
        for family in registry.collect()
        if family.name.startswith("model_sidecar_") and family.name != "model_sidecar_build"
        for sample in family.samples
        if "version" in sample.labels
    }


def test_a_prediction_is_counted_under_the_version_that_served_it(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Count, code, duration, the model's part, the wait and the rows all stand under the version that served."""
    metrics.on_event(bench.publish(StillModel(A)))
    predict(metrics, A)
    predict(metrics, A, code="INTERNAL", total_s=0.02)

    labels = {**LABELS, "version": A}
    assert predictions(registry, A) == 1
    assert predictions(registry, A, "INTERNAL") == 1
    for name, total, count in (
        ("prediction_duration_seconds", 0.0207, 2),
        ("inference_duration_seconds", 0.0006, 2),
        ("queue_duration_seconds", 0.0001, 2),
        ("batch_rows", 8, 2),
    ):
        assert registry.get_sample_value(f"model_sidecar_{name}_count", labels) == count
        assert registry.get_sample_value(f"model_sidecar_{name}_sum", labels) == pytest.approx(total)
    bucket = "model_sidecar_prediction_duration_seconds_bucket"
    assert registry.get_sample_value(bucket, {**labels, "le": "0.0005"}) == 0
    assert registry.get_sample_value(bucket, {**labels, "le": "0.001"}) == 1
    assert registry.get_sample_value(bucket, {**labels, "le": "+Inf"}) == 2


def test_a_request_that_no_version_served_is_counted_without_one(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A refused request counts under the empty version, and in no version's durations."""
    predict(metrics, None, code="UNAVAILABLE")

    assert predictions(registry, "", "UNAVAILABLE") == 1
    assert versions_shown(registry) == {""}
    assert not [
        sample
        for family in registry.collect()
        if family.name == "model_sidecar_prediction_duration_seconds"
        for sample in family.samples
    ]


def test_a_version_is_shown_at_zero_before_its_first_prediction(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """rate() needs a zero to begin from, or a version's first predictions are lost."""
    metrics.on_event(bench.publish(StillModel(A)))

    assert predictions(registry, A) == 0


def test_a_released_version_vanishes(registry: CollectorRegistry, metrics: Metrics, bench: Bench) -> None:
    """Every label set of a version goes with its memory; those of resident versions stay."""
    for version in (A, B, C):
        metrics.on_event(bench.publish(StillModel(version)))
        predict(metrics, version)
    assert versions_shown(registry) == {A, B, C}

    [released] = bench.released
    metrics.on_event(released)

    assert versions_shown(registry) == {B, C}


def test_a_late_prediction_does_not_bring_a_released_version_back(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A request that notes its end after its version was released leaves no label set behind."""
    for version in (A, B, C):
        metrics.on_event(bench.publish(StillModel(version)))
    metrics.on_event(bench.released[0])

    predict(metrics, A)

    assert versions_shown(registry) == {B, C}


def test_a_refused_candidate_leaves_nothing(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A version that was loaded, refused and released was never on the stage, and is in no metric."""
    metrics.on_event(bench.publish(StillModel(A)))
    metrics.on_event(Released(SITE, C, StillModel(C).manifest.digest))

    assert versions_shown(registry) == {A}


def test_a_version_that_came_back_before_it_was_released_keeps_its_label_sets(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """The release of an older loading of a version that is live again takes nothing away from it."""
    for version in (A, B, C, A):
        metrics.on_event(bench.publish(StillModel(version)))
    predict(metrics, A)
    assert [event.version for event in bench.released if isinstance(event, Released)] == [A, B]

    for event in bench.released:
        metrics.on_event(event)
    predict(metrics, A)

    assert predictions(registry, A) == 2
    assert versions_shown(registry) == {A, C}


def test_label_sets_stay_bounded_while_versions_flip_under_traffic(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Threads that note predictions through 200 flips leave exactly the resident versions behind."""
    names = [f"2024.01.15.{number}.prod" for number in range(1, 201)]
    over = threading.Event()

    def traffic() -> None:
        while not over.is_set():
            with bench.stage.lease() as lease:
                version = lease.model.version
            predict(metrics, version)  # after the lease, as late as can be

    metrics.on_event(bench.publish(StillModel(A)))
    threads = [threading.Thread(target=traffic) for _ in range(3)]
    for thread in threads:
        thread.start()
    told = 0
    for name in names:
        metrics.on_event(bench.publish(StillModel(type(A)(name))))
        while told < len(bench.released):
            metrics.on_event(bench.released[told])
            told += 1
    over.set()
    for thread in threads:
        thread.join()
    for event in bench.released[told:]:
        metrics.on_event(event)

    assert versions_shown(registry) == set(names[-2:])


def test_rpcs_are_counted_as_the_grpc_ecosystem_does(registry: CollectorRegistry, metrics: Metrics) -> None:
    """Names, labels and the spelling of codes are those of go-grpc-prometheus."""
    metrics.meters.started(INFER)
    metrics.meters.handled(INFER, "INVALID_ARGUMENT", 0.004)

    assert registry.get_sample_value("grpc_server_started_total", RPC) == 1
    assert (
        registry.get_sample_value("grpc_server_handled_total", {**RPC, "grpc_code": "InvalidArgument"}) == 1
    )
    assert registry.get_sample_value("grpc_server_handling_seconds_sum", RPC) == 0.004
    watch = "/grpc.health.v1.Health/Watch"
    metrics.meters.started(watch)
    labels = {"grpc_type": "server_stream", "grpc_service": "grpc.health.v1.Health", "grpc_method": "Watch"}
    assert registry.get_sample_value("grpc_server_started_total", labels) == 1


def test_methods_and_codes_from_the_wire_make_no_label_sets(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """A thousand invented methods and codes are one "unknown" method and one "Unknown" code."""
    for number in range(1000):
        metrics.meters.started(f"/made.Up/Method{number}")
        metrics.meters.handled(f"/made.Up/Method{number}", f"CODE_{number}", 0.001)
        predict(metrics, None, code=f"CODE_{number}")

    unknown = {"grpc_type": "unary", "grpc_service": "unknown", "grpc_method": "unknown"}
    assert registry.get_sample_value("grpc_server_started_total", unknown) == 1000
    assert registry.get_sample_value("grpc_server_handled_total", {**unknown, "grpc_code": "Unknown"}) == 1000
    assert predictions(registry, "", "UNKNOWN") == 1000


def test_predictions_in_flight_are_a_gauge(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """What began and is not over shows; when all is over, nothing is left."""
    metrics.meters.inflight(SITE, 1)
    metrics.meters.inflight(SITE, 1)
    metrics.meters.inflight(SITE, -1)
    assert registry.get_sample_value("model_sidecar_inflight_requests", LABELS) == 1
    metrics.meters.inflight(SITE, -1)
    assert registry.get_sample_value("model_sidecar_inflight_requests", LABELS) == 0


def test_no_count_is_lost_between_threads(
    registry: CollectorRegistry, metrics: Metrics, bench: Bench
) -> None:
    """Four threads' notes all arrive."""
    metrics.on_event(bench.publish(StillModel(A)))

    def traffic() -> None:
        for _ in range(2000):
            metrics.meters.inflight(SITE, 1)
            predict(metrics, A)
            metrics.meters.inflight(SITE, -1)

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert predictions(registry, A) == 8000
    assert registry.get_sample_value("model_sidecar_inflight_requests", LABELS) == 0


def test_a_quantile_lies_in_its_bucket() -> None:
    """Quantiles are interpolated within a bucket, and beyond the last bound that bound is what is said."""
    tally = Tally(LATENCY_S)
    assert tally.quantile(0.5) is None
    for _ in range(98):
        tally.observe(0.0007)
    tally.observe(7.0)
    tally.observe(9.0)

    assert tally.quantile(0.5) == pytest.approx(0.0005 + 0.0005 * 50 / 98)
    assert tally.quantile(0.99) == LATENCY_S[-1]


def test_noting_a_request_takes_microseconds(metrics: Metrics, bench: Bench) -> None:
    """All five notes of a request together cost a few microseconds (a loose bound: machines are shared)."""
    import timeit

    metrics.on_event(bench.publish(StillModel(A)))
    meters = metrics.meters

    def request() -> None:
        meters.started(INFER)
        meters.inflight(SITE, 1)
        predict(metrics, A)
        meters.inflight(SITE, -1)
        meters.handled(INFER, "OK", 0.0008)

    best_us = min(timeit.repeat(request, number=2000, repeat=5)) / 2000 * 1e6
    print(f"\nfive notes of one request: {best_us:.1f} us")
    assert best_us < 50


@pytest.mark.parametrize(("ran_s", "slow"), [(0.35, 0), (0.45, 1)])
def test_a_run_that_was_shared_is_not_slow_for_that(tmp_path: Path, ran_s: float, slow: int) -> None:
    """What counts for the guard is what the run would have taken without the others' rows in it."""
    metrics = Metrics(CollectorRegistry(), software="0.1.0", slow_s=0.1)
    bench = Bench(tmp_path)
    metrics.watch(bench.served)
    metrics.on_event(bench.publish(StillModel(A)))
    metrics.meters.predicted(
        SITE, A, code="OK", total_s=1.0, inference_s=ran_s, queue_s=0.0, rows=32, slowed=4.0
    )
    ended = metrics.meters.ended(SITE, A)
    assert ended is not None
    assert ended.slow == slow

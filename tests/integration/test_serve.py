"""A `serve` process as an operator meets it: several models, HTTP, health, starting wrong, and going down."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import models
from support.ports import free_port
from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.traffic import Traffic
from support.yard import MODEL, PROD, Yard

from model_sidecar.app.publish import PublishFacts, publish
from model_sidecar.release.names import ModelName, parse_version
from model_sidecar_client import SidecarError, UnavailableError

A, B = "2024.01.10.prod", "2024.01.12.prod"
OTHER = ModelName("other")


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_sidecar", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def publish_other(yard: Yard, tmp_path: Path) -> None:
    build = tmp_path / "other-build"
    build.mkdir()
    (build / "model.onnx").write_bytes(models.add_constant(5.0))
    publish(build, yard.versions, model=OTHER, version=parse_version(A), facts=PublishFacts())


def test_several_models_have_pointers_of_their_own(yard: Yard, tmp_path: Path) -> None:
    """One process serves two models; a flip of the one leaves the other alone."""
    for version in (A, B):
        yard.publish(version)
    publish_other(yard, tmp_path)
    with (
        serving(yard, A, "--model", OTHER) as sidecar,
        sidecar.operator() as operator,
        sidecar.client() as client,
    ):
        assert not client.is_ready()
        operator.deploy(OTHER, A, environment=PROD)
        client.wait_ready()
        operator.deploy(MODEL, B, environment=PROD)

        assert client.predict(OTHER, {"x": [[1.0, 0.0]]}).outputs["y"][0][0] == 6.0
        assert client.predict(MODEL, {"raw": [[1.0, 0.0]]}).version == B
        assert {(each.model, each.observed and each.observed.version) for each in operator.status()} == {
            (MODEL, B),
            (OTHER, A),
        }


def test_http_tells_what_is_live(yard: Yard) -> None:
    """The pointer with an absolute model path, readiness, metrics of the version that served, and a page."""
    for version in (A, B):
        yard.publish(version)
    port = free_port()
    with serving(yard, A, "--http", f"127.0.0.1:{port}") as sidecar:
        with sidecar.operator() as operator:
            operator.deploy(MODEL, B, environment=PROD, reason="Q1 <retrain>")
        sidecar.predict()
        pointer = sidecar.http("/api/model-registry/prod/active", port=port)
        same = sidecar.http(f"/api/model-registry/{MODEL}/prod/active", port=port)
        metrics = sidecar.http("/metrics", port=port)
        page = sidecar.http("/statusz", port=port)

        assert (pointer["version"], pointer["generation"]) == (B, 2)
        assert json.loads((Path(pointer["model_path"]) / "manifest.json").read_text())["version"] == B
        assert same == pointer
        assert (
            f'model_sidecar_predictions_total{{code="OK",environment="prod",model="{MODEL}",version="{B}"}} 1'
            in metrics
        )
        assert f'version="{B}"}} 1.0' in next(
            line for line in metrics.splitlines() if "active_version_info{" in line
        )
        assert (
            'model_sidecar_flips_total{environment="prod",model="adder",outcome="published"} 2.0' in metrics
        )
        assert "Q1 &lt;retrain&gt;" in page
        for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
            sidecar.http(path, port=port)


def test_health_is_watched_from_nothing_to_serving_to_going_down(yard: Yard) -> None:
    """`grpc.health.v1` Watch tells NOT_SERVING, SERVING after the first version, and NOT_SERVING when it goes down."""
    yard.publish(A)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        with grpc.insecure_channel(sidecar.control) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=MODEL), timeout=30
            )
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with sidecar.operator() as operator:
                operator.deploy(MODEL, A, environment=PROD)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            sidecar.signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_before_the_first_version_predictions_say_so(yard: Yard) -> None:
    """Nothing deployed is UNAVAILABLE with what to do, not an error of the process."""
    yard.publish(A)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        with sidecar.client() as client, pytest.raises(UnavailableError) as nothing:
            client.predict(MODEL, {"raw": [[0.0, 0.0]]}, timeout_s=5)

        assert nothing.value.reason == "NOTHING_LIVE"


def test_going_down_answers_what_is_in_flight(yard: Yard) -> None:
    """SIGTERM under traffic: callers get answers or UNAVAILABLE, never another failure, and the exit code is 0."""
    yard.publish(A)
    with serving(yard, A) as sidecar, Traffic(sidecar) as traffic:
        assert sidecar.stop() == 0

    assert traffic.mistagged == []
    assert all(isinstance(error, UnavailableError) for error in traffic.failures), traffic.failures


def test_several_signals_at_once_end_it_in_order(yard: Yard) -> None:
    """SIGTERM and SIGINT together, as a process group gets them: exit code 0, and no socket is left."""
    yard.publish(A)
    running = RunningSidecar(yard)
    for _ in range(5):
        with running as sidecar:
            sidecar.wait_answering()
            sidecar.signal(signal.SIGINT)
            sidecar.signal(signal.SIGTERM)
            assert sidecar.process is not None
            assert sidecar.process.wait(timeout=20) == 0
            assert not list(sidecar.run_dir.glob("*.sock"))


@pytest.mark.parametrize("signals", [1, 2])
def test_going_down_does_not_wait_for_a_run_that_never_ends(yard: Yard, signals: int) -> None:
    """A model that hangs ends with the drain timeout, or with a second signal; the exit code is 0."""
    yard.publish(A, model=counted_loop())
    timeout = "1s" if signals == 1 else "60s"
    port = free_port()
    with serving(yard, A, "--drain-timeout", timeout, "--http", f"127.0.0.1:{port}") as sidecar:
        for_ever = threading.Thread(target=_ask_for_ever, args=(sidecar,))
        for_ever.start()
        in_flight = f'model_sidecar_inflight_requests{{environment="prod",model="{MODEL}"}} 1'
        while in_flight not in sidecar.http("/metrics", port=port):
            assert for_ever.is_alive()
        for _ in range(signals):
            sidecar.signal(signal.SIGTERM)
            # Two signals at once are one to the kernel: the second counts once the first was taken.
            sidecar.wait_logged("received: draining")
        assert sidecar.process is not None
        assert sidecar.process.wait(timeout=20) == 0
        for_ever.join()


def _ask_for_ever(sidecar: RunningSidecar) -> None:
    with sidecar.client() as client, suppress(SidecarError):
        client.predict(MODEL, {"x": [[0.0, 0.0]], "turns": 2**62}, timeout_s=60)


def test_a_second_sidecar_on_the_same_addresses_fails_loudly(yard: Yard) -> None:
    """It neither steals the socket nor takes half of the calls: it exits with what is taken, and the first lives."""
    yard.publish(A)
    with serving(yard, A) as sidecar:
        done = cli(
            *(
                "serve",
                "--store",
                str(yard.store),
                "--model",
                MODEL,
                "--environment",
                PROD,
                "--data",
                sidecar.data,
            )
        )

        assert done.returncode == 2
        assert "another sidecar listens" in done.stderr
        assert "MODEL_SIDECAR_CONTROL" in done.stderr, "it may have come from there, unseen"
        assert sidecar.predict()[1] == A


def test_sockets_have_the_mode_that_was_asked_for_and_vanish_at_the_end(yard: Yard) -> None:
    """Unix sockets are 0660 unless told otherwise, whatever the umask, and are removed when the process ends."""
    yard.publish(A)
    with serving(yard, A) as sidecar:
        for name in ("data.sock", "control.sock"):
            assert stat.S_IMODE((sidecar.run_dir / name).stat().st_mode) == 0o660
        sidecar.stop()
        assert not (sidecar.run_dir / "data.sock").exists()
        assert not (sidecar.run_dir / "control.sock").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "Adder!"], "model name 'Adder!' is not valid"),
        (["--environment", "PROD"], "environment name 'PROD' is not valid"),
        (["--data", "nowhere"], "'nowhere' is not an address"),
        (["--poll-interval", "soon"], "'soon' is not a duration"),
        (["--max-message", "many"], "'many' is not a size"),
        (["--control", "0.0.0.0:9001"], "only a Unix socket or a loopback address"),
        (["--shared-memory", "--data", "0.0.0.0:9001"], "only a Unix socket or a loopback address"),
        (["--store", "/nonexistent"], "is not a directory"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(yard: Yard, options: list[str], words: str) -> None:
    """What was found, what was expected, and exit code 2."""
    good = ["--store", str(yard.store), "--model", MODEL, "--environment", PROD, "--data", "127.0.0.1:0"]
    done = cli("serve", *good, *options)

    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_probe_answers_for_exec_probes(yard: Yard) -> None:
    """0 when ready, 1 when alive but not ready, 7 when nobody answers."""
    yard.publish(A)
    with RunningSidecar(yard) as sidecar:
        sidecar.wait_answering()
        assert cli("probe", "liveness", "--control", sidecar.control).returncode == 0
        assert cli("probe", "--control", sidecar.control).returncode == 1
        with sidecar.operator() as operator:
            operator.deploy(MODEL, A, environment=PROD)
        assert cli("probe", "readiness", "--control", sidecar.control).returncode == 0
    assert cli("probe", "--control", sidecar.control, "--timeout", "500ms").returncode == 7

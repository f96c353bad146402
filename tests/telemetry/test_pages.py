"""The pages that people, probes and programs read, over real HTTP."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support.ledgers import PROD
from support.served import SITE, A, B, Bench, C, StillModel

from model_sidecar.config import Address
from model_sidecar.errors import Reason
from model_sidecar.events import Draining, Site
from model_sidecar.ledger.record import Action
from model_sidecar.release.names import ModelName
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.status import Standing, Trouble
from model_sidecar.telemetry.http import HttpServer
from model_sidecar.telemetry.metrics import Metrics
from model_sidecar.telemetry.pages import Pages
from model_sidecar.telemetry.readiness import Readiness
from model_sidecar.telemetry.statusz import StatusPage

CONTROL = "unix:/run/sidecar/control.sock"
ACTIVE = f"/api/model-registry/{SITE.model}/{SITE.environment}/active"


@dataclass
class Desk:
    """A running server over one or two sites."""

    bench: Bench
    metrics: Metrics
    readiness: Readiness
    server: HttpServer

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.address.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return (
                answer.status,
                answer.read().decode(),
                {key.lower(): each for key, each in answer.getheaders()},
            )
        finally:
            connection.close()

    def json(self, path: str = ACTIVE) -> dict[str, Any]:
        status, body, headers = self.get(path)
        assert (status, headers["content-type"]) == (200, "application/json")
        document: dict[str, Any] = json.loads(body)
        return document


def desk(bench: Bench, *others: ServedSite) -> Desk:
    registry = CollectorRegistry()
    metrics = Metrics(registry, software="0.1.0")
    sites = (bench.served, *others)
    for served in sites:
        metrics.watch(served)
    readiness = Readiness(sites)
    page = StatusPage(sites, meters=metrics.meters, readiness=readiness, software="0.1.0", control=CONTROL)
    pages = Pages(sites, registry=registry, readiness=readiness, status_page=page)
    return Desk(bench, metrics, readiness, HttpServer(Address(host="127.0.0.1", port=0), pages))


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Desk]:
    made = desk(Bench(tmp_path / "ml-models"))
    made.server.start()
    yield made
    made.server.stop(timeout_s=1)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Desk]:
    other = Bench(tmp_path / "others", site=Site(ModelName("ranking"), PROD))
    made = desk(Bench(tmp_path / "ml-models"), other.served)
    made.server.start()
    yield made
    made.server.stop(timeout_s=1)


def deploy(desk: Desk, version: Any, *, action: Action = Action.DEPLOY, reason: str = "retrain") -> None:
    generation = desk.bench.record(version, action=action, reason=reason)
    standby = desk.bench.stage.residents().standby
    model = standby if isinstance(standby, StillModel) and standby.version == version else StillModel(version)
    desk.metrics.on_event(desk.bench.publish(model, generation=generation))


def roll_back_unrecorded(desk: Desk, version: Any) -> None:
    """An emergency rollback, as the manager shows it until the store is back."""
    desk.bench.publish(StillModel(version), generation=None)
    desk.bench.post(desired=Standing(version, None, None, ""), unrecorded=version)


# Probes.


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live"])
def test_a_process_that_answers_is_live(one: Desk, path: str) -> None:
    """Liveness needs no model, and survives draining: restarting would not help."""
    one.readiness.on_event(Draining(SITE))
    assert one.get(path)[0] == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_ready_from_the_first_live_version_until_draining(one: Desk, path: str) -> None:
    """Not ready without a version, ready with one, not ready while going down; each with its reason."""
    status, body, _ = one.get(path)
    assert (status, body) == (503, f"not ready\n{SITE}: no version is live\n")
    deploy(one, A)
    assert one.get(path)[:2] == (200, "ready\n")
    one.readiness.on_event(Draining(SITE))
    status, body, _ = one.get(path)
    assert status == 503
    assert "draining" in body


def test_ready_means_every_model(two: Desk) -> None:
    """One model without a version is enough not to be ready, and it is named."""
    deploy(two, A)
    status, body, _ = two.get("/readyz")
    assert status == 503
    assert body == "not ready\nranking/prod: no version is live\n"


# Metrics.


def test_a_scrape_gets_the_format_it_asks_for(one: Desk) -> None:
    """Prometheus gets OpenMetrics, a person with curl plain text."""
    deploy(one, A)
    status, body, headers = one.get(
        "/metrics", accept="application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"
    )
    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    _, body, headers = one.get("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (
        f'model_sidecar_active_version_info{{environment="prod",generation="1",manifest_sha256="{StillModel(A).manifest.digest}"'
        in body
    )


# The pointer.


def test_the_active_pointer_is_the_heads_record(one: Desk, tmp_path: Path) -> None:
    """Its fields are those of the record, with a path that a loader elsewhere can open."""
    deploy(one, A)
    deploy(one, B, reason="weekly")
    pointer = one.json()
    head = one.bench.ledger.head

    assert head is not None
    expected = {
        "model": SITE.model,
        "environment": SITE.environment,
        "version": B,
        "generation": 2,
        "record_sha256": head.sha256,
        "manifest_sha256": head.manifest_sha256,
        "previous_version": A,
        "action": "DEPLOY",
        "actor": {"id": "uid:1000", "method": "unix-peer", "on_behalf_of": "alice"},
        "reason": "weekly",
        "externally_managed": False,
        "observed_version": B,
        "observed_generation": 2,
        "state": "READY",
        "model_path": str(tmp_path / "ml-models" / SITE.model / B),
    }
    assert expected.items() <= pointer.items()
    assert datetime.fromisoformat(pointer["timestamp"]).tzinfo is not None
    assert one.json(f"/api/model-registry/{SITE.environment}/active") == pointer


def test_the_pointer_says_what_is_wanted_and_what_is_served(one: Desk) -> None:
    """While a wanted version is not live, the two differ, and the state says so."""
    deploy(one, A)
    one.bench.record(B)
    one.bench.post()

    pointer = one.json()
    assert (pointer["version"], pointer["observed_version"], pointer["state"]) == (B, A, "DEGRADED")


def test_no_pointer_is_a_404_that_says_what_to_do(one: Desk) -> None:
    """Before the first deployment there is nothing to point at."""
    status, body, _ = one.get(ACTIVE)
    assert status == 404
    assert "sidecarctl deploy" in json.loads(body)["error"]


def test_an_external_pointer_needs_no_records(one: Desk, tmp_path: Path) -> None:
    """Under an externally managed pointer, its version is what is said, without a generation."""
    one.bench.publish(StillModel(A), generation=None)
    one.bench.post(desired=Standing(A, None, None, ""), externally_managed=True)

    pointer = one.json()
    assert (pointer["version"], pointer["generation"], pointer["externally_managed"]) == (A, None, True)
    assert pointer["manifest_sha256"] == StillModel(A).manifest.digest
    assert pointer["model_path"] == str(tmp_path / "ml-models" / SITE.model / A)
    one.bench.post(desired=None)
    assert one.get(ACTIVE)[0] == 404


def test_an_edit_that_is_not_recorded_is_not_the_pointer(one: Desk) -> None:
    """What somebody wrote by hand is said once it is verified and recorded; until then the head stands."""
    deploy(one, A)
    one.bench.post(desired=Standing(C, None, None, ""))
    pointer = one.json()
    assert pointer["version"] == A
    assert pointer["model_path"].endswith(A)


def test_an_emergency_rollback_is_told_beside_the_head(one: Desk) -> None:
    """The head stays the version rolled away from until the rollback is recorded; a field of its own says which it was."""
    deploy(one, A)
    deploy(one, B)
    assert one.json()["unrecorded_version"] == ""

    roll_back_unrecorded(one, A)
    pointer = one.json()
    assert (pointer["version"], pointer["unrecorded_version"], pointer["observed_version"]) == (B, A, A)


def test_with_several_models_one_has_to_be_named(two: Desk) -> None:
    """The short path is a 404 that lists the long ones; each of these is its model's own."""
    deploy(two, A)
    status, body, _ = two.get("/api/model-registry/prod/active")
    assert status == 404
    assert ACTIVE in json.loads(body)["try"]
    assert two.json()["model"] == SITE.model
    assert two.get("/api/model-registry/ranking/prod/active")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/model-registry/staging/active",
        f"/api/model-registry/{SITE.model}/staging/active",
        "/api/model-registry/../../etc/passwd",
        "/api/model-registry/%2e%2e/prod/active",
        "/nowhere",
    ],
)
def test_what_is_not_served_is_a_404(one: Desk, path: str) -> None:
    """Unknown models, environments and pages, however they are written."""
    deploy(one, A)
    assert one.get(path)[0] == 404


# The page for people.


class Reading(HTMLParser):
    """What a browser would show of a page, and what it would fetch or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._style = tag == "style"
        self.fetched += [value or "" for name, value in attrs if name in ("src", "data", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style and data.strip():
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_page_shows_what_somebody_on_call_needs(one: Desk) -> None:
    """What answers, what is wanted, what stands by, facts of both, the timeline, the last error, how to go back."""
    for version in (A, B, C):
        deploy(one, version)
    deploy(one, B, action=Action.ROLLBACK, reason="precision alert")
    for code in ("OK", "OK", "INTERNAL"):
        one.metrics.meters.predicted(
            SITE, B, code=code, total_s=0.0007, inference_s=0.0003, queue_s=0.0, rows=1
        )
    one.bench.record(C, reason="second try")
    trouble = Trouble(
        Reason.GOLDEN_MISMATCH, "y differs by 0.3", C, 5, datetime.now(UTC) - timedelta(minutes=3)
    )
    one.bench.post(last_error=trouble, last_look=time.monotonic() - 100)

    status, page, headers = one.get("/statusz")
    reading = Reading(page)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    for words in (
        f"{B} answers · generation 4",
        f"{C} is wanted by generation 5, and is not live",
        "GOLDEN_MISMATCH (3 min 0 s ago, 2024.01.15.prod): y differs by 0.3",
        "The store has not been read for 1 min 40 s",
        f"live · {B} standby · {C}",
        "data snapshot digits-2024.01.12 digits-2024.01.15",
        "accuracy 0.9811",
        "predictions 3",
        "runs inline; 0.1 ms inline; 0.1 ms",
        "of them failed 1",
        "Last 5 deployments",
        "precision alert",
        "uid:1000 for alice",
        f"sidecarctl --control {CONTROL} rollback {SITE.model} --emergency --environment prod",
        ACTIVE,
    ):
        assert words in reading.text, words


def test_the_page_says_where_a_rollback_would_go(one: Desk) -> None:
    """To the last good version, which after a rollback is not the one that stands by."""
    for version in (A, B):
        deploy(one, version)
    assert f"To go back to {A}, which stands by" in Reading(one.get("/statusz")[1]).text
    deploy(one, C)
    deploy(one, B, action=Action.ROLLBACK)
    assert f"To go back to {A}, which has to be loaded from the store" in Reading(one.get("/statusz")[1]).text
    one.bench.record(C)
    assert f"To go back to {B}, which still answers" in Reading(one.get("/statusz")[1]).text


@pytest.mark.parametrize(
    "away",
    [
        {"last_look": time.monotonic() - 31},
        {"last_look": None},
        {"last_error": Trouble(Reason.STORE_UNAVAILABLE, "it hangs", None, None, datetime.now(UTC))},
        {"last_error": Trouble(Reason.STORE_FULL, "no space is left", C, None, datetime.now(UTC))},
        {"last_error": Trouble(Reason.LEDGER_INVALID, "record 2 is damaged", None, None, datetime.now(UTC))},
    ],
    ids=["stale", "never-read", "unavailable", "full", "invalid"],
)
def test_without_the_store_the_page_advises_an_emergency_rollback(one: Desk, away: dict[str, Any]) -> None:
    """The command is one that works as things are: with the option while the store fails, and plain when it does not."""
    deploy(one, A)
    deploy(one, B)
    urgent = f"sidecarctl --control {CONTROL} rollback {SITE.model} --emergency --environment prod"
    refused = Trouble(Reason.GOLDEN_MISMATCH, "y differs by 0.3", C, None, datetime.now(UTC))
    one.bench.post(last_error=refused)
    assert "--emergency" not in Reading(one.get("/statusz")[1]).text
    one.bench.post(**away)
    assert urgent in Reading(one.get("/statusz")[1]).text


def test_the_page_advises_no_rollback_while_one_waits_to_be_recorded(one: Desk) -> None:
    """The ledger would still have it go where it has gone; the page says instead that it did, and what it waits for."""
    deploy(one, A)
    deploy(one, B)
    roll_back_unrecorded(one, A)
    page = Reading(one.get("/statusz")[1]).text
    assert f"The emergency rollback to {A} is in effect, and not recorded yet: that is done when" in page
    assert "To go back to" not in page


def test_the_page_says_who_wants_a_version_that_is_not_live(one: Desk) -> None:
    """A generation, the pointer, or an emergency rollback that a restarted sidecar still has to load."""
    deploy(one, A)
    one.bench.post(desired=Standing(B, 2, None, ""))
    assert f"{B} is wanted by generation 2, and" in Reading(one.get("/statusz")[1]).text
    one.bench.post(desired=Standing(B, None, None, ""))
    assert f"{B} is wanted by the pointer, and" in Reading(one.get("/statusz")[1]).text
    one.bench.post(desired=Standing(B, None, None, ""), unrecorded=B)
    page = Reading(one.get("/statusz")[1]).text
    assert f"{B} is wanted by the emergency rollback, and" in page
    assert f"The emergency rollback to {B} is not recorded yet" in page


def test_an_error_of_no_version_names_no_culprit(one: Desk) -> None:
    """What went wrong with an order or the store is told as it is, and not laid to the pointer."""
    deploy(one, A)
    since = datetime.now(UTC) - timedelta(minutes=3)
    one.bench.post(last_error=Trouble(Reason.NO_PREVIOUS_VERSION, "there is none", None, None, since))
    assert "NO_PREVIOUS_VERSION (3 min 0 s ago): there is none" in Reading(one.get("/statusz")[1]).text


def test_the_page_keeps_to_the_last_twenty_deployments(one: Desk) -> None:
    """A long ledger does not make a long page."""
    for number in range(25):
        one.bench.record((A, B)[number % 2], reason=f"reason {number}.")
    page = Reading(one.get("/statusz")[1]).text
    assert "Last 20 deployments" in page
    assert "reason 24." in page
    assert "reason 5." in page
    assert "reason 4." not in page


def test_the_page_is_there_before_anything_is_deployed(one: Desk) -> None:
    """A new sidecar says what to do next."""
    page = Reading(one.get("/statusz")[1]).text
    assert "not serving" in page
    assert f"sidecarctl --control {CONTROL} deploy {SITE.model} VERSION --environment prod" in page


def test_nothing_on_the_page_can_be_injected(one: Desk) -> None:
    """What a caller or a store wrote is text: no tag, no control character; and nothing is fetched or run."""
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202e\"'&"
    model = StillModel(A, metrics={evil: 0.5})
    generation = one.bench.record(A, reason=evil)
    one.bench.publish(model, generation=generation)
    one.bench.post(last_error=Trouble(Reason.INTERNAL, evil, A, 1, datetime.now(UTC)))

    _, page, headers = one.get("/statusz")
    reading = Reading(page)
    assert not {"script", "img", "iframe", "link", "form", "object"} & set(reading.tags)
    assert reading.fetched == []
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert reading.text.count("<script>alert(1)</script>") == 3
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert headers["x-content-type-options"] == "nosniff"


def test_the_root_leads_to_the_page(one: Desk) -> None:
    """Whoever opens the port in a browser lands where they want to be, and a wrong path says what there is."""
    status, _, headers = one.get("/")
    assert (status, headers["location"]) == (302, "/statusz")
    assert "/statusz" in one.get("/metricz")[1]

"""Which path shows what. Everything here is read from memory, so that a store that hangs holds up no probe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry

from model_sidecar.ledger.face import document
from model_sidecar.release.names import Environment, ModelName
from model_sidecar.serving.site import ServedSite
from model_sidecar.telemetry.exposition import expose
from model_sidecar.telemetry.http_messages import Request, Response, text
from model_sidecar.telemetry.readiness import Readiness
from model_sidecar.telemetry.statusz import StatusPage

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Pages:
    """The application behind the HTTP server."""

    def __init__(
        self,
        sites: Sequence[ServedSite],
        *,
        registry: CollectorRegistry,
        readiness: Readiness,
        status_page: StatusPage,
    ) -> None:
        self._sites = {(served.site.model, served.site.environment): served for served in sites}
        self._registry = registry
        self._readiness = readiness
        self._status_page = status_page

    def __call__(self, request: Request) -> Response:
        """Answer."""
        match request.path.strip("/").split("/"):
            case [""]:
                return Response(
                    HTTPStatus.FOUND, "text/plain; charset=utf-8", b"see /statusz\n", {"Location": "/statusz"}
                )
            case ["metrics"]:
                scrape = expose(self._registry, request.headers.get("accept", ""))
                return Response(HTTPStatus.OK, scrape.content_type, scrape.body)
            case ["livez"] | ["v2", "health", "live"]:
                return text(HTTPStatus.OK, "live")
            case ["readyz"] | ["v2", "health", "ready"]:
                obstacles = self._readiness.obstacles()
                if obstacles:
                    return text(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(("not ready", *obstacles)))
                return text(HTTPStatus.OK, "ready")
            case ["statusz"]:
                page = self._status_page.render()
                return Response(
                    HTTPStatus.OK, "text/html; charset=utf-8", page, {"Content-Security-Policy": _POLICY}
                )
            case ["api", "model-registry", model, environment, "active"]:
                return self._active(model, environment)
            case ["api", "model-registry", environment, "active"]:
                models = [model for model, its in self._sites if its == environment]
                if len(models) == 1:
                    return self._active(models[0], environment)
                if models:
                    return self._nothing(
                        f"{len(models)} models are served in {environment}: name one of them"
                    )
                return self._nothing(f"no model is served in the environment {environment[:64]!r}")
            case _:
                return text(HTTPStatus.NOT_FOUND, f"no such page. There are: {', '.join(self._paths())}")

    def _active(self, model: str, environment: str) -> Response:
        served = self._sites.get((ModelName(model), Environment(environment)))
        if served is None:
            return self._nothing(
                f"model {model[:64]!r} in environment {environment[:64]!r} is not served here"
            )
        pointer = active_pointer(served)
        if pointer is None:
            return self._nothing(
                f"{served.site} has no active pointer yet: deploy a version with `sidecarctl deploy`"
            )
        return _json(HTTPStatus.OK, pointer)

    def _nothing(self, problem: str) -> Response:
        return _json(HTTPStatus.NOT_FOUND, {"error": problem, "try": self._active_paths()})

    def _active_paths(self) -> list[str]:
        return [f"/api/model-registry/{model}/{environment}/active" for model, environment in self._sites]

    def _paths(self) -> list[str]:
        return ["/statusz", "/metrics", "/livez", "/readyz", *self._active_paths()]


def active_pointer(served: ServedSite) -> dict[str, object] | None:
    """The active pointer as JSON shows it; None when there is none.

    The pointer's own fields say what should answer: the head's record or, under an externally managed pointer, what
    that names. An edit by hand counts once it is verified and recorded, not before. `observed_version` says what
    this sidecar answers with, and differs while a version is being loaded or was refused, and while an emergency
    rollback waits to be recorded: `unrecorded_version` is then what that has made live, and else "".
    """
    status, record, residents = served.board.current(), served.ledger.head, served.stage.residents()
    if status.externally_managed:
        if status.desired is None:
            return None
        version, live = status.desired.version, residents.live
        served_manifest = live.manifest.digest if live is not None and live.version == version else None
        pointer: dict[str, object] = {
            "model": served.site.model,
            "environment": served.site.environment,
            "version": version,
            "generation": None,
            "manifest_sha256": status.desired.manifest or served_manifest,
        }
    elif record is not None:
        version = record.version
        pointer = document(record)
    else:
        return None
    return {
        **pointer,
        "model_path": str(served.versions.layout.version(served.site.model, version).absolute()),
        "externally_managed": status.externally_managed,
        "observed_version": residents.live.version if residents.live else None,
        "observed_generation": residents.generation,
        "unrecorded_version": status.unrecorded or "",
        "state": status.state.value,
        "sidecar": status.sidecar,
    }


def _json(status: HTTPStatus, body: object) -> Response:
    return Response(
        status, "application/json", json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n"
    )

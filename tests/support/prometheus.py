"""A real Prometheus that scrapes one target each second, with the rules that we ship."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.ports import free_port

PROMETHEUS = shutil.which("prometheus")
RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "model-sidecar.rules.yml"
SOON_S = 60.0


class Prometheus:
    """One that runs, asked over its HTTP API."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query: "metric" has the labels, "value" the time and the number as text."""
        found: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")[
            "result"
        ]
        return found

    def firing(self, alert: str) -> list[dict[str, Any]]:
        """The alerts of this name that fire now."""
        return [
            each
            for each in self._get("alerts")["alerts"]
            if (each["labels"]["alertname"], each["state"]) == (alert, "firing")
        ]

    def wait(self, look: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """What `look` finds, once it finds something."""
        ends = time.monotonic() + SOON_S
        while not (found := look()):
            assert time.monotonic() < ends, "Prometheus has not seen it"
            time.sleep(0.2)
        return found

    def ready(self) -> bool:
        """Whether it answers yet."""
        try:
            self._get("alerts")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def scraping(target: str, directory: Path) -> Iterator[Prometheus]:
    """A Prometheus in this directory that scrapes `target` (host:port) and evaluates our rules, each second."""
    assert PROMETHEUS is not None
    directory.mkdir()
    port = free_port()
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "model-sidecar", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(port)
        ends = time.monotonic() + SOON_S
        while not prometheus.ready():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < ends, (directory / "log").read_text()
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait(SOON_S)

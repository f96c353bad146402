"""Copies of what is on the stage: made in time, and dropped no sooner than others are there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.resident import Adder
from support.versions import write_version

from model_sidecar.errors import StoreError
from model_sidecar.events import Published, Site
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest_reading import parse_manifest
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.serving import keeper
from model_sidecar.serving.keeper import Keeper
from model_sidecar.serving.stage import Stage
from model_sidecar.store.kept import KeptVersions
from model_sidecar.store.versions import VersionStore

SITE = Site(ModelName("adder"), Environment("prod"))
A, B = Version("2024.01.10.prod"), Version("2024.01.12.prod")
WAIT_S = 20.0


class Copies(KeptVersions):
    """Real copies of a real store, made only while there is room, that tell of every attempt."""

    def __init__(self, root: Path) -> None:
        (root / "kept").mkdir()
        super().__init__(VersionStore(root / "store"), root / "kept")
        self.kept_in = root / "kept" / SITE.model
        self.full = threading.Event()
        self.tried = threading.Semaphore(0)

    def keep(self, model: ModelName, version: Version, manifest: Digest) -> None:
        try:
            if self.full.is_set():
                raise StoreError("there is no room")
            super().keep(model, version, manifest)
        finally:
            self.tried.release()

    def wait(self, *versions: Version) -> None:
        """Until the copies are those."""
        end = threading.Event()
        for _ in range(int(WAIT_S / 0.02)):
            there = sorted(path.name for path in self.kept_in.iterdir()) if self.kept_in.exists() else []
            if there == sorted(versions):
                return
            end.wait(0.02)
        pytest.fail(f"never had copies of {versions}, but of {there}")


@pytest.fixture
def stage() -> Stage:
    return Stage(keep_standby=False, on_idle=lambda _: None)


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    for version in (A, B):
        write_version(tmp_path / "store", model=SITE.model, version=version)
    return Copies(tmp_path)


@pytest.fixture
def running(copies: Copies, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(keeper, "_RETRY_S", 0.02)
    running = Keeper(copies, keep_standby=False)
    running.watch(SITE, stage)
    running.start()
    yield running
    running.stop(timeout_s=WAIT_S)


def publish(version: Version, *, stage: Stage, to: Keeper, copies: Copies) -> None:
    content = (copies.kept_in.parents[1] / "store" / SITE.model / version / "manifest.json").read_bytes()
    model = Adder(version, manifest=parse_manifest(content))
    stage.publish(model, generation=None)
    to.on_event(
        Published(
            SITE,
            version,
            model.manifest.digest,
            None,
            previous=None,
            standby=None,
            from_standby=False,
            took_s=0.0,
            phases_s={},
        )
    )


def test_old_copies_go_when_the_new_ones_are_safe(running: Keeper, copies: Copies, stage: Stage) -> None:
    """While the new version cannot be copied the old one's copy stays; it is tried again until it can."""
    publish(A, stage=stage, to=running, copies=copies)
    copies.wait(A)
    copies.full.set()
    publish(B, stage=stage, to=running, copies=copies)
    for _ in range(3):
        assert copies.tried.acquire(timeout=WAIT_S)
    copies.wait(A)
    copies.full.clear()
    copies.wait(B)

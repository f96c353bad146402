"""The demo's versions, trained and published, as tests pass them around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_sidecar.demo.digits import Digits
from model_sidecar.demo.place import Place
from model_sidecar.demo.versions import Built
from model_sidecar.store.versions import VersionStore


@dataclass(frozen=True)
class Published:
    place: Place
    store: VersionStore
    built: Sequence[Built]
    pool: Digits
    stream: Digits

"""Where things are below the store's root. Whoever has one of these paths still has to open it safely (`opening`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.release.pointer import POINTER

ENVIRONMENTS = "environments"
LEDGER = "ledger"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one store's root."""

    root: Path

    def model(self, model: ModelName) -> Path:
        """The directory that holds a model's versions."""
        return self.root / model

    def version(self, model: ModelName, version: Version) -> Path:
        """The directory of one version."""
        return self.model(model) / version

    def environments(self, model: ModelName) -> Path:
        """The directory that holds a folder for each of a model's environments."""
        return self.model(model) / ENVIRONMENTS

    def environment(self, model: ModelName, environment: Environment) -> Path:
        """The directory of a model's pointer and ledger in one environment."""
        return self.environments(model) / environment

    def ledger(self, model: ModelName, environment: Environment) -> Path:
        """The directory of the records."""
        return self.environment(model, environment) / LEDGER

    def pointer(self, model: ModelName, environment: Environment) -> Path:
        """The active pointer's file."""
        return self.environment(model, environment) / POINTER

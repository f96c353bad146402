"""Versions on their way to being loaded: written to a real store, verified by the real store, loaded for real."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.versions import NAME, write_version

from model_sidecar.model.golden import Example, write_examples
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.loader import load
from model_sidecar.release.manifest import GOLDEN, MODEL, PREPROCESSING
from model_sidecar.release.names import Version
from model_sidecar.store.sealing import SealedFile
from model_sidecar.store.verifying import VerifiedVersion
from model_sidecar.store.versions import VersionStore


class Candidates:
    """A store of versions, each of its own files; closes what it opened."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._numbers = itertools.count(1)
        self._opened = ExitStack()

    def verify(
        self,
        model: bytes,
        *,
        preprocessing: bytes | None = None,
        examples: Sequence[Example] | bytes | None = None,
        others: Mapping[str, bytes] | None = None,
        **fields: Any,
    ) -> VerifiedVersion:
        """A verified version of these files; `fields` are those of its manifest, in which no signature is promised."""
        files = {MODEL: model, **(others or {})}
        if preprocessing is not None:
            files[PREPROCESSING] = preprocessing
        if examples is not None:
            files[GOLDEN] = examples if isinstance(examples, bytes) else write_examples(examples)
        version = Version(f"2024.01.15.{next(self._numbers)}.prod")
        fields = {"schema_version": 0, "signature": None, **fields}
        write_version(self.store, version=version, files=files, **fields)
        store = VersionStore(self.store, allow_external_data=True)
        return self._opened.enter_context(store.verify(NAME, version))

    def seal(self, content: bytes) -> SealedFile:
        """These bytes, sealed, under a model's name."""
        return self.verify(content).files[MODEL]

    def load(self, model: bytes, *, allow_external_data: bool = False, **arguments: Any) -> LoadedModel:
        """Such a version, loaded."""
        loaded = load(self.verify(model, **arguments), allow_external_data=allow_external_data)
        self._opened.callback(loaded.close)
        return loaded

    def close(self) -> None:
        """Close all of them."""
        self._opened.close()

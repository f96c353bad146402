"""Models for tests of what surrounds a model: they answer at once, and remember whether they were released."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import NotFoundError, Reason, RefusedError, SidecarError, VerificationError
from model_sidecar.model.brake import Brake
from model_sidecar.model.execution import Batching
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.digests import Digest, digest_of
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.manifest_reading import parse_manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec
from model_sidecar.serving.loading import MakeRoom, Preparation, ShadowWish
from model_sidecar.serving.orders import ShadowPlan, ShadowReport

VECTOR = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


def manifest_of(version: str, *, salt: str = "", rollback_target: str = "") -> Manifest:
    """A manifest of the nine-field form; another salt gives another identity."""
    model_hash = digest_of(f"{version}{salt}".encode())
    target = f',"rollback_target":"{rollback_target}"' if rollback_target else ""
    return parse_manifest(f'{{"version":"{version}","model_hash":"{model_hash}"{target}}}'.encode())


class Adder:
    """Answers x + constant. `closed` is set once its memory was given back."""

    def __init__(
        self,
        version: str,
        constant: float = 0.0,
        *,
        signature: Signature = VECTOR,
        manifest: Manifest | None = None,
    ) -> None:
        self.model = ModelName("adder")
        self.manifest = manifest or manifest_of(version)
        self.version = self.manifest.version
        self.signature = signature
        self.loaded_at = datetime.now(UTC)
        self.cost_s = 1e-6
        self.warm_bytes = 8
        self.batching: Batching | None = None
        self.baseline: Baseline | None = None
        self.constant = constant
        self.closed = threading.Event()

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]:
        """One answer; a released model must never be asked."""
        assert not self.closed.is_set(), f"{self.version} was run after its release"
        del outputs
        return {"y": np.asarray(inputs["x"] + np.float32(self.constant))}

    def close(self) -> None:
        """Give the memory back."""
        self.closed.set()


class Shelf:
    """Prepares adders by version, as the store, the model room and the golden examples would; slowly where told to."""

    def __init__(self) -> None:
        self.signatures: dict[str, Signature] = {}
        self.failures: dict[str, SidecarError] = {}
        self.gates: dict[str, threading.Event] = {}
        self.begun: dict[str, threading.Event] = {}
        self.loaded: list[Adder] = []
        self.attempts: Counter[str] = Counter()
        self.shadowed: dict[str, ShadowPlan] = {}
        self.shadow_begun, self.shadow_ends = threading.Event(), threading.Event()
        self._known: dict[str, Manifest] = {}

    def put(
        self, version: str, *, signature: Signature = VECTOR, rollback_target: str = "", salt: str = ""
    ) -> Version:
        """Make a version known; with another salt, replace it by one of other bytes."""
        self._known[version] = manifest_of(version, rollback_target=rollback_target, salt=salt)
        self.signatures[version] = signature
        return Version(version)

    def hold(self, version: str) -> threading.Event:
        """Let loads of this version wait until the event that is returned is set."""
        self.begun[version] = threading.Event()
        self.gates[version] = threading.Event()
        return self.gates[version]

    def prepare(
        self,
        version: Version,
        manifest: Digest | None,
        *,
        ordered: bool = False,
        make_room: MakeRoom | None = None,
        shadow: ShadowWish | None = None,
    ) -> Preparation:
        """A loaded model, or the failure that was arranged."""
        del ordered, make_room
        self.attempts[version] += 1
        if version in self.gates:
            self.begun[version].set()
            assert self.gates[version].wait(30)
        if version in self.failures:
            raise self.failures[version]
        if version not in self._known:
            raise NotFoundError(f"no version {version}")
        if manifest not in (None, self._known[version].digest):
            raise VerificationError(f"{version} was replaced", reason=Reason.MANIFEST_CHANGED)
        model = Adder(version, signature=self.signatures[version], manifest=self._known[version])
        self.loaded.append(model)
        report = self._shadowed(model, shadow) if shadow is not None else None
        return Preparation(model, {"verify": 0.0, "load": 0.0, "warm": 0.0}, 1, report)

    def _shadowed(self, model: Adder, shadow: ShadowWish) -> ShadowReport:
        """What a shadow would show; it takes until `shadow_ends`, or until something else is wanted."""
        self.shadowed[model.version] = shadow.plan
        self.shadow_begun.set()
        while not self.shadow_ends.wait(0.005):
            if shadow.is_over():
                model.close()
                raise RefusedError("ended by another order", reason=Reason.SHADOW_FAILED)
        return ShadowReport(
            against=Version("2024.01.10.prod"),
            compared=200,
            disagreed=3,
            failed=0,
            median_ms=0.5,
            against_median_ms=0.25,
            mean_confidence=float("nan"),
            against_mean_confidence=float("nan"),
            seconds=shadow.plan.duration_s,
        )

    def fingerprint(self, version: Version) -> object:
        """Changes when a version appears, or its failure does."""
        return (version in self._known, str(self.failures.get(version)))

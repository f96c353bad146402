"""The models that are resident: the live one, the standby to roll back to, and the requests that hold them.

A request takes a lease on one model and answers with that model's version, so an answer's tag can never be torn from
its numbers. Publishing swaps two references under one short lock; requests in flight keep the model they hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from model_sidecar.errors import NotFoundError, Reason, RefusedError, UnavailableError
from model_sidecar.model.brake import Brake
from model_sidecar.model.execution import Batching
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Arrays, Signature

PREVIOUS = "@previous"
"""What a request puts in place of a version to be answered by the standby."""


class Model(Protocol):
    """A verified, loaded and warmed version, preprocessing included; `run` may be called from any thread."""

    @property
    def model(self) -> ModelName: ...
    @property
    def version(self) -> Version: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def baseline(self) -> Baseline | None: ...
    @property
    def loaded_at(self) -> datetime: ...
    @property
    def cost_s(self) -> float: ...
    @property
    def warm_bytes(self) -> int: ...
    @property
    def batching(self) -> Batching | None: ...
    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None, *, brake: Brake | None = None
    ) -> dict[str, NDArray[Any]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Residents:
    """Who is on the stage at one moment."""

    live: Model | None
    generation: int | None
    live_since: datetime | None
    standby: Model | None


class _Slot:
    """A resident model, the generation it answers under, and how many requests hold it."""

    __slots__ = ("generation", "leases", "model", "retired")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.generation: int | None = None
        self.leases = 0
        self.retired = False


class Lease:
    """A request's hold on one model. While it lasts, the model is not released."""

    __slots__ = ("_let_go", "_slot", "generation", "model")

    def __init__(self, slot: _Slot, *, let_go: Callable[[_Slot], None]) -> None:
        self._slot = slot
        self._let_go = let_go
        self.model = slot.model
        self.generation = slot.generation

    def release(self) -> None:
        """Let go; once per lease."""
        self._let_go(self._slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()


class Stage:
    """The resident models of one site. Any thread may lease; only the manager's thread changes who is on it."""

    def __init__(self, *, keep_standby: bool, on_idle: Callable[[Model], None]) -> None:
        """Begin empty.

        Args:
            keep_standby: whether the model that was live stays resident when another takes its place.
            on_idle: told of a model that is off the stage once no request holds it. Called on whatever thread let go
                last, so it must only hand the model on.
        """
        self._keep_standby = keep_standby
        self._on_idle = on_idle
        self._lock = threading.Lock()  # guards the four below and the fields of every slot
        self._live: _Slot | None = None
        self._live_since: datetime | None = None
        self._standby: _Slot | None = None
        self._gave_way = False

    def lease(self, version: str = "") -> Lease:
        """Hold the live model, or the resident one that is asked for by its exact version or as `@previous`.

        Raises:
            UnavailableError: nothing is live.
            RefusedError: `@previous`, and there is no standby.
            NotFoundError: that version is not resident; whether the store has it, the stage cannot know.
        """
        with self._lock:
            slot = self._live if not version else self._find(version)
            if slot is None:
                raise UnavailableError(
                    "no version is live at the moment: another is being loaded in its place"
                    if self._gave_way
                    else "no version is live yet: deploy one with `sidecarctl deploy`"
                )
            slot.leases += 1
            return Lease(slot, let_go=self._release)

    def residents(self) -> Residents:
        """Who is on the stage now."""
        with self._lock:
            live, standby = self._live, self._standby
            return Residents(
                live=live.model if live else None,
                generation=live.generation if live else None,
                live_since=self._live_since,
                standby=standby.model if standby else None,
            )

    def publish(self, model: Model, *, generation: int | None) -> None:
        """Make this model the live one; every lease from now on is on it.

        The model that was live becomes the standby, and the one that was standby leaves.
        """
        with self._lock:
            before = self._live
            slot = (
                self._standby if self._standby is not None and self._standby.model is model else _Slot(model)
            )
            slot.generation = generation
            leaving = [each for each in (self._standby,) if each is not None and each is not slot]
            self._live = slot
            self._live_since = datetime.now(UTC)
            self._standby = before if self._keep_standby else None
            if before is not None and not self._keep_standby:
                leaving.append(before)
            idle = self._retire(leaving)
        for each in idle:
            self._on_idle(each)

    def restate(self, *, generation: int | None) -> None:
        """Let the live model answer under another generation."""
        with self._lock:
            if self._live is not None:
                self._live.generation = generation

    def stand_by(self, model: Model, *, generation: int | None) -> None:
        """Keep this model as the standby, in place of the present one; `generation` is the one it was live under."""
        slot = _Slot(model)
        slot.generation = generation
        with self._lock:
            before, self._standby = self._standby, slot
            idle = self._retire([before] if before is not None else [])
        for each in idle:
            self._on_idle(each)

    def give_up_standby(self) -> None:
        """Take the standby off the stage."""
        self._take_off(live=False)

    def give_way(self) -> None:
        """Take every model off the stage for another that is to come: until it does, there is no lease to be had."""
        with self._lock:
            self._gave_way = True
        self._take_off(live=True)

    def clear(self) -> None:
        """Take every model off the stage, at shutdown."""
        self._take_off(live=True)

    def _take_off(self, *, live: bool) -> None:
        with self._lock:
            leaving = [self._standby, self._live if live else None]
            idle = self._retire([slot for slot in leaving if slot is not None])
            self._standby = None
            if live:
                self._live = self._live_since = None
        for each in idle:
            self._on_idle(each)

    def _find(self, version: str) -> _Slot:
        if version == PREVIOUS:
            if self._standby is None:
                raise RefusedError(
                    f"{PREVIOUS} is not resident: this sidecar holds no version before the live one",
                    reason=Reason.VERSION_NOT_RESIDENT,
                )
            return self._standby
        for slot in (self._live, self._standby):
            if slot is not None and slot.model.version == version:
                return slot
        raise NotFoundError(f"version {version[:200]!r} is not resident", version=version[:200])

    def _retire(self, leaving: list[_Slot]) -> list[Model]:
        for slot in leaving:
            slot.retired = True
        return [slot.model for slot in leaving if slot.leases == 0]

    def _release(self, slot: _Slot) -> None:
        with self._lock:
            slot.leases -= 1
            idle = slot.retired and slot.leases == 0
        if idle:
            self._on_idle(slot.model)

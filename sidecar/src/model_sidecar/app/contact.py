"""What stands between a version and this process: it is tried elsewhere first, and loaded only where there is room."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from model_sidecar.app.headroom import Left, memory_left
from model_sidecar.errors import Reason, ShortageError, VerificationError
from model_sidecar.model.execution import Batching
from model_sidecar.model.session import RUNTIME
from model_sidecar.model.trial import Limits, Trials
from model_sidecar.release.manifest import MODEL, PREPROCESSING, FileEntry, Manifest, Role
from model_sidecar.release.names import ModelName, Version
from model_sidecar.serving.loading import MakeRoom
from model_sidecar.serving.quarantine import Quarantine, Subject
from model_sidecar.store.verifying import VerifiedVersion

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 120.0
_RESERVE = 32 << 20
"""What is left for the requests that are answered meanwhile."""
_CHILD = 32 << 20
"""A child's own memory: interpreter, numpy, onnxruntime (measured: 22 MiB of it private)."""
_ONNX_FACTOR = 2
"""Loading takes at its peak 1.5 times a file of two large tensors and 2.2 times one of 2,000 small ones (measured)."""
_ESTIMATED = f"an estimate, {_ONNX_FACTOR} times its ONNX files"
_SETTLE_S, _SETTLE_LOOK_S = 10.0, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One model's way into this process.

    Attributes:
        trials: where versions are tried.
        quarantine: what is known of them.
        timeout_s: how long loading and rehearsing may take.
        memory_bytes: how much memory they may take; None: what is left.
        left: says how much that is.
    """

    trials: Trials
    quarantine: Quarantine
    timeout_s: float = DEFAULT_TIMEOUT_S
    memory_bytes: int | None = None
    left: Callable[[], Left | None] = memory_left

    def admit(self, model: ModelName, manifest: Manifest, *, ordered: bool, room_can_be_made: bool) -> None:
        """Refuse a version before anything of it is copied into memory.

        Where room can be made for it, only its bytes must fit: nothing gives way to what is not verified.

        Raises:
            QuarantinedError: it did harm before.
            ShortageError: MEMORY_SHORT.
        """
        subject = Subject(model=model, version=manifest.version, identity=manifest.digest)
        self.quarantine.check(subject, self._limits(), ordered=ordered)
        known = self.quarantine.passed(subject)
        sealed = sum(entry.size or 0 for entry in manifest.files.values())
        if room_can_be_made:
            self._check_room(subject.version, sealed, "its bytes")
        elif known is not None:
            self._check_room(subject.version, sealed + known.took_bytes, "its bytes, and what its trial took")
        else:
            self._check_room(subject.version, sealed + _estimate(manifest), f"its bytes, and {_ESTIMATED}")

    def try_out(self, verified: VerifiedVersion, *, make_room: MakeRoom | None = None) -> float | None:
        """Have a version tried that was not before, and see that there is room to load it.

        Returns the seconds that its trial took; None where it needed none.

        Raises:
            VerificationError, ShortageError, StoreError, UnavailableError: as `Trials.hold` does; MEMORY_SHORT.
        """
        subject = _subject(verified)
        passed, took_s = self.quarantine.passed(subject), None
        if passed is None or passed.tried_rows < self.trials.max_batch_rows:
            self._check_room(verified.version, _estimate(verified.manifest), _ESTIMATED, make_room)
            began, limits = time.monotonic(), self._limits()
            try:
                passed = self.trials.hold(verified, limits)
            except VerificationError as error:
                self.quarantine.refuses(subject, error, limits)
                raise
            self.quarantine.passes(subject, passed)
            took_s = time.monotonic() - began
            took = _mib(passed.took_bytes)
            log.info("%s passed its trial in %.3f s; it took %s of memory", verified.version, took_s, took)
        self._check_room(verified.version, passed.took_bytes, "what its trial took", make_room)
        return took_s

    def batching(self, verified: VerifiedVersion) -> Batching | None:
        """What runs of several rows of a version that was tried cost; None where each is to be run by itself."""
        passed = self.quarantine.passed(_subject(verified))
        found = passed.batching if passed is not None else None
        return found.within(self.trials.max_batch_rows) if found is not None else None

    @contextmanager
    def touching(self, verified: VerifiedVersion) -> Iterator[None]:
        """Around what this process does with a version that passed: should it die of it, the next one will know."""
        subject = _subject(verified)
        try:
            with self.quarantine.loading(subject):
                yield
        except VerificationError as error:
            self.quarantine.refuses(subject, error, self._limits())
            raise

    def _limits(self) -> Limits:
        if self.memory_bytes is not None:
            return Limits(self.timeout_s, self.memory_bytes)
        left = self.left()
        return Limits(self.timeout_s, None if left is None else max(0, left.bytes - _RESERVE - _CHILD))

    def _check_room(self, version: Version, need: int, why: str, make_room: MakeRoom | None = None) -> None:
        """Have room made as long as memory is short; MEMORY_SHORT where that is not enough."""
        while (left := self.left()) is not None and left.bytes - _RESERVE < need:
            if make_room is not None and make_room():
                self._wait_for(need)
                continue
            raise ShortageError(
                f"loading version {version} takes about {_mib(need)} ({why}), and {_mib(left.bytes)} is left "
                f"({left.source}; {_mib(_RESERVE)} of it is kept for requests). Give the sidecar more memory, keep fewer "
                "models in it (--standby none), or let the live one leave first (--swap-mode unload-first)",
                reason=Reason.MEMORY_SHORT,
                version=version,
                needed_bytes=need,
                left_bytes=left.bytes,
            )

    def _wait_for(self, need: int) -> None:
        """Until what gave way has given its memory back: its last requests are answered first."""
        end = time.monotonic() + _SETTLE_S
        while time.monotonic() < end:
            left = self.left()
            if left is None or left.bytes - _RESERVE >= need:
                return
            time.sleep(_SETTLE_LOOK_S)


def first_contact(*, allow_external_data: bool) -> Contact:
    """For a command that has met no version before: a killer is refused with a message, and does not end the command."""
    return Contact(
        trials=Trials(allow_external_data=allow_external_data), quarantine=Quarantine(None, runtime=RUNTIME)
    )


def _subject(verified: VerifiedVersion) -> Subject:
    return Subject(model=verified.model, version=verified.version, identity=verified.manifest.digest)


def _estimate(manifest: Manifest) -> int:
    """What a version takes that nobody has measured yet."""
    onnx = sum(entry.size or 0 for name, entry in manifest.files.items() if _is_loaded(name, entry))
    return _CHILD + onnx * _ONNX_FACTOR


def _is_loaded(name: str, listed: FileEntry) -> bool:
    return name in (MODEL, PREPROCESSING) or listed.role is Role.EXTERNAL_DATA


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"

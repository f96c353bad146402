"""What versions have done to the processes that ran them, by identity: who need not be tried again, and who must not be.

    unknown ── trial ──> passed: loaded without another trial
                └──────> refused: crashed, ate memory or never ended. Not tried again, but by an operator's order
    a death of this very process while it loaded the version, or by a native crash in it
                1 ─────> unknown again
                2 ─────> quarantined: not even an order loads it, or the sidecar would do nothing but start

What is known holds for one onnxruntime, and a refusal only while the limits it met are as they were. With a directory it
outlives this process; the files are small, one for each identity, and removing one forgets all that it says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from model_sidecar.disk.calls import Disk
from model_sidecar.disk.steps import replace_file
from model_sidecar.errors import QuarantinedError, Reason, VerificationError
from model_sidecar.model.trial import Limits, Passed
from model_sidecar.release.digests import Digest
from model_sidecar.release.names import ModelName, Version

log = logging.getLogger(__name__)

KILLING = frozenset({Reason.MODEL_CRASHED, Reason.MODEL_OUT_OF_MEMORY, Reason.MODEL_TIMED_OUT})
"""Refusals for what a version did to the process that tried it, rather than for what it is."""
DEATHS = 2
"""So many deaths of this process are a version's doing, one may be anybody's."""
_MORE = 1.5
"""A memory limit has to be so much larger to be worth another try: what is left on a machine varies."""
_KEPT = 1000
_SUFFIX, _MARK = ".json", ".loading"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The version that something is known of."""

    model: ModelName
    version: Version
    identity: Digest


class _Refused(msgspec.Struct, frozen=True):
    reason: Reason
    message: str
    timeout_s: float
    memory_bytes: int | None

    def stands(self, limits: Limits) -> bool:
        """Whether it would be met again within these limits."""
        match self.reason:
            case Reason.MODEL_TIMED_OUT:
                return limits.timeout_s <= self.timeout_s
            case Reason.MODEL_OUT_OF_MEMORY if self.memory_bytes is not None:
                return limits.memory_bytes is not None and limits.memory_bytes < self.memory_bytes * _MORE
            case _:
                return True


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an identity. `at` is in seconds since 1970."""

    subject: Subject
    runtime: str
    passed: Passed | None = None
    refused: _Refused | None = None
    died_loading: int = 0
    died_running: int = 0
    at: float = 0.0


class _Mark(msgspec.Struct, frozen=True):
    """What is being loaded, and in which life of the machine."""

    subject: Subject
    boot: str


class Quarantine:
    """The memory of all trials and deaths of one sidecar. Any thread may call anything."""

    def __init__(self, directory: Path | None, *, runtime: str) -> None:
        """Remember what is in the directory, made if it is not there; None: this process's life is all there is.

        `runtime` is what runs the models; what is known under another counts for nothing.
        """
        self._directory = directory
        self._runtime = runtime
        self._disk = Disk()
        self._boot = _text(_BOOT).strip()
        self._lock = threading.Lock()  # guards the one below, and the files
        self._cases: dict[Digest, _Case] = {}
        if directory is not None:
            try:
                directory.mkdir(mode=0o700, exist_ok=True)
                self._read(directory)
            except OSError as error:
                log.warning("what is known of versions cannot be read from %s: %s", directory, error.strerror)

    # Before a version is touched.

    def check(self, subject: Subject, limits: Limits, *, ordered: bool) -> None:
        """Refuse a version that is not to be tried. `ordered`: an operator asks for it, nobody's automatism.

        Raises:
            QuarantinedError: it is not.
        """
        case = self._case(subject)
        deaths = max(case.died_loading, case.died_running)
        if deaths >= DEATHS:
            when = "being loaded" if case.died_loading >= DEATHS else "answering"
            raise _quarantined(
                subject,
                f"it ended this sidecar {deaths} times while {when}. To have it tried again, remove {self._path(subject)}",
            )
        if case.refused is not None and not ordered and case.refused.stands(limits):
            raise _quarantined(
                subject,
                f"it was refused before, and that is not tried again by itself ({case.refused.reason}: "
                f"{case.refused.message}). Deploy it by order to have it tried again, or another version",
            )

    def passed(self, subject: Subject) -> Passed | None:
        """What its trial found; None where it has none behind it, or has killed since."""
        return self._case(subject).passed

    # What came of it.

    def passes(self, subject: Subject, passed: Passed) -> None:
        """It passed its trial: what it was refused for is forgotten."""
        case = self._case(subject)
        self._keep(msgspec.structs.replace(case, passed=passed, refused=None))

    def refuses(self, subject: Subject, error: VerificationError, limits: Limits) -> None:
        """It was refused, within these limits; remembered only of one that kills."""
        if error.reason in KILLING:
            refused = _Refused(error.reason, str(error), limits.timeout_s, limits.memory_bytes)
            self._keep(msgspec.structs.replace(self._case(subject), passed=None, refused=refused))

    @contextmanager
    def loading(self, subject: Subject) -> Iterator[None]:
        """While this lasts, a death of this process is taken to be the version's doing.

        The mark has to outlive the process and not the machine (one of another boot counts for nothing), so no disk
        is waited for.
        """
        mark = self._path(subject).with_suffix(_MARK) if self._directory is not None else None
        if mark is not None:
            with suppress(OSError):
                mark.write_bytes(msgspec.json.encode(_Mark(subject, self._boot)))
        try:
            yield
        finally:
            if mark is not None:
                with suppress(OSError):
                    mark.unlink(missing_ok=True)
        case = self._case(subject)
        if case.died_loading:
            self._keep(msgspec.structs.replace(case, died_loading=0))

    def close(self) -> None:
        """This process ends in good order: a load that is under way is not what ends it."""
        for mark in self._marks():
            with suppress(OSError):
                mark.unlink()

    # After a death.

    def count_deaths(self, running: Iterable[Digest]) -> list[Subject]:
        """Count the deaths that the last process left evidence of; whose they were.

        Args:
            running: the identities that it crashed in, by its last words. Only of one that had passed a trial.
        """
        died: list[Subject] = []
        for mark in self._marks():
            subject = _marked(mark, self._boot)
            with suppress(OSError):
                mark.unlink()
            if subject is not None:
                case = self._case(subject)
                died.append(subject)
                self._keep(msgspec.structs.replace(case, passed=None, died_loading=case.died_loading + 1))
        for identity in set(running) - {each.identity for each in died}:
            with self._lock:
                known = self._cases.get(identity)
            if known is not None:
                died.append(known.subject)
                self._keep(msgspec.structs.replace(known, passed=None, died_running=known.died_running + 1))
        return died

    # Cases and their files.

    def _case(self, subject: Subject) -> _Case:
        with self._lock:
            case = self._cases.get(subject.identity)
        return case or _Case(subject=subject, runtime=self._runtime)

    def _keep(self, case: _Case) -> None:
        case = msgspec.structs.replace(case, at=time.time())
        with self._lock:
            self._cases.pop(case.subject.identity, None)
            self._cases[case.subject.identity] = case
            self._forget_the_oldest()
            if self._directory is None:
                return
            path = self._path(case.subject)
            try:
                replace_file(self._disk, path, msgspec.json.encode(case) + b"\n")
            except OSError as error:
                log.warning(
                    "%s cannot be written (%s): after a restart, nothing is known of %s",
                    path, error.strerror, case.subject.version,
                )  # fmt: skip

    def _read(self, directory: Path) -> None:
        found = []
        for path in directory.glob(f"*{_SUFFIX}"):
            try:
                case = msgspec.json.decode(path.read_bytes(), type=_Case)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("%s cannot be read and counts for nothing: %s", path, error)
                continue
            if case.runtime == self._runtime and path.name == self._path(case.subject).name:
                found.append(case)
        self._cases = {case.subject.identity: case for case in sorted(found, key=lambda case: case.at)}
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        """Without end, versions would come and go and leave their files."""
        while len(self._cases) > _KEPT:
            oldest = self._cases.pop(next(iter(self._cases)))
            if self._directory is not None:
                with suppress(OSError):
                    self._path(oldest.subject).unlink()

    def _path(self, subject: Subject) -> Path:
        name = subject.identity.removeprefix("sha256:") + _SUFFIX
        return self._directory / name if self._directory is not None else Path(name)

    def _marks(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*{_MARK}")) if self._directory is not None else []
        except OSError:
            return []


def _quarantined(subject: Subject, why: str) -> QuarantinedError:
    return QuarantinedError(
        f"version {subject.version} is in quarantine: {why}",
        version=subject.version,
        manifest=subject.identity,
    )


def _marked(path: Path, boot: str) -> Subject | None:
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=_Mark)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return mark.subject if mark.boot == boot else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""

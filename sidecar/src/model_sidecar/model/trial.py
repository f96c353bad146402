"""First contact: a version is loaded and rehearsed in a child process before this process touches it.

A model is a program for onnxruntime, and a bad one can end the process that runs it (one integer division is enough),
never return, or ask for more memory than there is. The child has limits and is expendable. It gets the sealed bytes
themselves, as descriptors: what was verified is what is tried, and what is tried is what is loaded afterwards.

It is no sandbox: the child is the same user and sees the same files.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from model_sidecar.errors import Reason, ShortageError, StoreError, UnavailableError, VerificationError
from model_sidecar.model.execution import Batching
from model_sidecar.model.trial_words import Job, JobFile, Line
from model_sidecar.store.verifying import VerifiedVersion

log = logging.getLogger(__name__)

_CHILD = ("-P", "-m", "model_sidecar.model.trial_child")
_START_S = 60.0
"""How long an interpreter may take to start and to import onnxruntime: a fifth of a second, on a machine that is not busy."""
_SAID = 64 << 10
_LAST_WORDS = 4 << 10
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """What a version may take to be loaded and rehearsed: seconds, and bytes of memory (None: no limit)."""

    timeout_s: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Passed:
    """What a trial found.

    Attributes:
        examples: golden examples answered.
        took_bytes: what loading and rehearsing took at most.
        batching: what runs of several rows cost; None where it gains nothing by them, must not be batched, or was not tried.
        tried_rows: with up to how many rows that was tried; 0 where it was not.
    """

    examples: int
    took_bytes: int
    batching: Batching | None = None
    tried_rows: int = 0


class Trials:
    """Tries versions, each in a child process of its own. Any thread may call; `stop` ends what is under way."""

    def __init__(
        self, *, allow_external_data: bool = False, scratch: Path | None = None, max_batch_rows: int = 0
    ) -> None:
        """`scratch` is where a child may lay out external data; None: the system's place for temporary files.

        With `max_batch_rows` of more than 1 it is also found out what runs of up to so many rows cost.
        """
        self.max_batch_rows = max_batch_rows
        self._allow_external_data = allow_external_data
        self._scratch = scratch
        self._lock = threading.Lock()  # guards the two below
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def hold(self, verified: VerifiedVersion, limits: Limits) -> Passed:
        """Load and rehearse this version in a child process; takes a fifth of a second more than to do so here.

        Raises:
            VerificationError: what `load` and `rehearse` refuse it for; or MODEL_CRASHED, MODEL_OUT_OF_MEMORY,
                MODEL_TIMED_OUT.
            ShortageError: TRIAL_IMPOSSIBLE; no child could be started. Not the version's fault.
            StoreError: its external data cannot be laid out.
            UnavailableError: DRAINING; `stop` was called.
        """
        child = self._started(verified, limits)
        try:
            heard = _Heard(child, timeout_s=limits.timeout_s)
        finally:
            # Also where this thread is thrown out of its wait: nothing is left behind, not even a zombie.
            child.kill()
            child.wait()
            with self._lock:
                self._children.discard(child)
                stopped = self._stopped
            for pipe in (child.stdout, child.stderr):
                assert pipe is not None
                pipe.close()
        if stopped:
            raise _going_down()
        return _outcome(heard, verified, limits, tried_rows=self.max_batch_rows)

    def stop(self) -> None:
        """End every trial that is under way; from now on none is begun."""
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.kill()

    def _started(self, verified: VerifiedVersion, limits: Limits) -> subprocess.Popen[bytes]:
        job = Job(
            parent=os.getpid(),
            model=verified.model,
            version=verified.version,
            manifest=verified.manifest,
            files={name: JobFile(file.fd, file.digest, file.size) for name, file in verified.files.items()},
            allow_external_data=self._allow_external_data,
            scratch=str(self._scratch.absolute()) if self._scratch is not None else None,
            timeout_s=limits.timeout_s,
            memory_bytes=limits.memory_bytes,
            max_batch_rows=self.max_batch_rows,
        )
        with self._lock:
            if self._stopped:
                raise _going_down()
            try:
                with _file_of(msgspec.json.encode(job)) as stdin:
                    child = subprocess.Popen(
                        [sys.executable, *_CHILD],
                        stdin=stdin,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        pass_fds=[file.fd for file in verified.files.values()],
                        cwd="/",
                        # numpy's own threads are no use to it, and each costs memory that counts as the model's.
                        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""},
                        start_new_session=True,
                    )
            except OSError as error:
                raise _impossible(verified, f"no process could be started: {error}") from error
            self._children.add(child)
        log.info("%s is tried in process %d", verified.version, child.pid)
        return child


class _Heard:
    """All that a child said, until it ended or its time was over: that begins when it begins with the version.

    Attributes:
        lines: what it wrote to its standard output.
        last_words: the end of what it wrote to its standard error.
        status: how it ended, as Popen.returncode; None where its time was over first.
    """

    def __init__(self, child: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        said, errors = b"", b""
        end, begun = time.monotonic() + _START_S, False
        with selectors.DefaultSelector() as selector:
            for pipe in (child.stdout, child.stderr):
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map() and (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    part = os.read(key.fd, _SAID)
                    if not part:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is child.stderr:
                        errors = (errors + part)[-_LAST_WORDS:]
                    else:
                        said = (said + part)[:_SAID]
                        if not begun:
                            end, begun = time.monotonic() + timeout_s, True
        self.lines = _lines(said)
        self.last_words = _printable(errors)
        try:
            self.status: int | None = child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.status = None

    @property
    def doing(self) -> str:
        """What it was at when it was last heard of."""
        return next((line.doing for line in reversed(self.lines) if line.doing), "")


def _outcome(heard: _Heard, verified: VerifiedVersion, limits: Limits, *, tried_rows: int) -> Passed:
    version, status = verified.version, heard.status
    if not heard.doing:
        ended = (
            f"did not begin within {_START_S:g} s" if status is None else f"ended before it began ({status})"
        )
        raise _impossible(verified, f"its process {ended}: {heard.last_words or 'no words'}")
    end = heard.lines[-1]
    if status == 0 and end.passed is not None:
        if end.passed.not_batched:
            log.info("%s is not batched: %s", version, _printable(end.passed.not_batched.encode()))
        return Passed(end.passed.examples, end.passed.took_bytes, end.passed.batching, tried_rows)
    rehearsed = next((line.rehearsed for line in heard.lines if line.rehearsed is not None), None)
    if rehearsed is not None and tried_rows > 1:
        log.info("%s is not batched: its process ended (%s) while it was %s", version, status, heard.doing)
        return Passed(rehearsed.examples, rehearsed.took_bytes, None, tried_rows)
    if status is None or status == -signal.SIGXCPU:
        raise VerificationError(
            f"version {version} was still {heard.doing} when its {limits.timeout_s:g} s were over: "
            "export a model that ends (`serve --load-timeout` allows more)",
            reason=Reason.MODEL_TIMED_OUT,
        )
    if status == -signal.SIGKILL or (status == -signal.SIGABRT and "bad_alloc" in heard.last_words):
        raise VerificationError(
            f"version {version} was killed for want of memory while it was {heard.doing}{_allowed(limits)}",
            reason=Reason.MODEL_OUT_OF_MEMORY,
        )
    if status == 0 and end.refused is not None:
        message = end.refused.message
        if end.refused.reason is Reason.MODEL_OUT_OF_MEMORY:
            message += _allowed(limits)
        raise VerificationError(message, reason=end.refused.reason, **_facts(end.refused.facts))
    if status == 0 and end.unable:
        raise StoreError(end.unable)
    ended = _signal_name(-status) if status < 0 else f"exit status {status}"
    raise VerificationError(
        f"version {version} crashed the process that tried it ({ended}) while it was {heard.doing}"
        f"{f': {heard.last_words}' if heard.last_words else ''}. Export the model anew; a sidecar "
        "tries this one again only on an operator's order",
        reason=Reason.MODEL_CRASHED,
        ended=ended,
    )


def _facts(told: dict[str, str]) -> dict[str, str]:
    # `message` and `reason` are VerificationError's own parameters.
    return {
        name: value
        for name, value in told.items()
        if name.isidentifier() and name not in ("message", "reason")
    }


def _allowed(limits: Limits) -> str:
    if limits.memory_bytes is None:
        return ""
    return (
        f". It was allowed {limits.memory_bytes >> 20} MiB (`serve --load-memory`, or a larger limit of the container, "
        "allows more)"
    )


def _lines(said: bytes) -> list[Line]:
    lines = []
    for text in said.splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            lines.append(Line())  # no words of ours, so that it is not taken to have ended well
    return lines


def _printable(said: bytes) -> str:
    words = " ".join(said.decode(errors="replace").split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words)[-_SHOWN:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _file_of(content: bytes) -> IO[bytes]:
    """An open file that holds this and stands at its beginning: a pipe's writer could be kept waiting."""
    try:
        file: IO[bytes] = os.fdopen(os.memfd_create("job", os.MFD_CLOEXEC), "w+b", buffering=0)
    except (AttributeError, OSError):
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
    file.seek(0)
    return file


def _impossible(verified: VerifiedVersion, why: str) -> ShortageError:
    return ShortageError(
        f"version {verified.version} cannot be tried before it is loaded: {why}. It needs one more process and some 20 "
        "descriptors",
        reason=Reason.TRIAL_IMPOSSIBLE,
    )


def _going_down() -> UnavailableError:
    return UnavailableError("the sidecar is going down", reason=Reason.DRAINING)

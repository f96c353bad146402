"""The child of a trial: `python -m model_sidecar.model.trial_child`, with the job on its standard input.

It confines itself before it imports what reads models, says what it does in lines of JSON, and exits with 0 whenever
it could say how the trial ended.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from model_sidecar.errors import Reason, StoreError, VerificationError
from model_sidecar.model.trial_words import Job, Line, PassedWord, RefusedWord
from model_sidecar.store.sealing import SealedFile
from model_sidecar.store.verifying import VerifiedVersion

_NICE = 5
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_TEXT = 4000


def main() -> None:
    """Try what the job says."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    confine(job)
    # Only now: these read what may be hostile.
    from model_sidecar.model import batching, golden, loader, rehearsal, session

    say(Line(doing="being loaded"))
    before = _memory("VmRSS")
    if job.memory_bytes is not None:
        # Over what the imports took. Of private memory only (RLIMIT_DATA): mapped files cost nobody anything, and a
        # limit on addresses (RLIMIT_AS) would count them.
        limit = _memory("VmData") + job.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    verified = VerifiedVersion(
        job.model,
        job.version,
        job.manifest,
        {name: SealedFile(name, file.digest, file.size, file.fd) for name, file in job.files.items()},
    )
    try:
        scratch = Path(job.scratch) if job.scratch is not None else None
        loaded = loader.load(verified, allow_external_data=job.allow_external_data, scratch=scratch)
        say(Line(doing="being rehearsed"))
        rehearsed = rehearsal.rehearse(loaded, verified, timeout_s=job.timeout_s)
    except VerificationError as error:
        facts = {name: value[:_TEXT] for name, value in list(error.facts.items())[:16]}
        say(Line(refused=RefusedWord(error.reason, str(error)[:_TEXT], facts)))
    except StoreError as error:
        say(Line(unable=str(error)[:_TEXT]))
    except Exception as error:
        if not session.is_out_of_memory(error):
            raise
        words = f"it takes more memory than there is: {session.shortened(error) or 'MemoryError'}"
        say(Line(refused=RefusedWord(Reason.MODEL_OUT_OF_MEMORY, words)))
    else:
        # The peak: what loading takes for a moment, the sidecar needs for that moment too.
        passed = PassedWord(rehearsed.examples, max(0, _memory("VmHWM") - before))
        if job.max_batch_rows > 1:
            # It passed already: what it does from here on speaks against batching only.
            say(Line(doing="being tried with several rows at once", rehearsed=passed))
            told = rehearsal.golden_of(verified)
            examples = golden.read_examples(verified.files[told.path]) if told is not None else ()
            found = batching.probe(loaded, examples, max_rows=job.max_batch_rows)
            passed = PassedWord(
                rehearsed.examples, max(0, _memory("VmHWM") - before), found.batching, found.why[:_TEXT]
            )
        say(Line(passed=passed))


def confine(job: Job) -> None:
    """Give up what a model that is being tried must not have: the parent's priority, time, room on the disk, its life.

    Best effort where the system refuses; the parent watches the clock in any case.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != job.parent:  # it died before the first of these could help
        os._exit(0)
    with suppress(OSError):
        os.nice(_NICE)  # traffic goes first
    with suppress(OSError):
        # Where the machine's memory ends all the same, this process is to be killed, and not the one that answers.
        Path("/proc/self/oom_score_adj").write_text("1000")
    seconds = math.ceil(job.timeout_s) + 1
    written = sum(file.size for file in job.files.values()) if job.allow_external_data else 0
    for what, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, written),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(what, (limit, limit + 1 if what == resource.RLIMIT_CPU else limit))


def say(line: Line) -> None:
    """One line to the parent."""
    os.write(1, msgspec.json.encode(line) + b"\n")


def _memory(field: str) -> int:
    """Bytes, from a field of /proc/self/status; 0 where there is none."""
    with suppress(OSError), Path("/proc/self/status").open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main()

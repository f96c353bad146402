"""First contact: what a child process finds out about a version, and what of it reaches the process that sent it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import killers, models
from support.candidates import Candidates
from support.descriptors import open_descriptors, open_files
from support.trials import children_of, cpu_s, limits_of, trial_of

from model_sidecar.errors import Reason, ShortageError, SidecarError, UnavailableError, VerificationError
from model_sidecar.model.golden import Example
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.model.trial import Limits, Passed, Trials
from model_sidecar.store.verifying import VerifiedVersion

AMPLE = Limits(timeout_s=60.0, memory_bytes=1 << 30)
ROW = np.array([[1, 2]], np.float32)


def refused(verified: VerifiedVersion, limits: Limits = AMPLE, trials: Trials | None = None) -> SidecarError:
    with pytest.raises(SidecarError) as error:
        (trials or Trials()).hold(verified, limits)
    return error.value


def test_a_version_that_answers_its_examples_passes(candidates: Candidates) -> None:
    """Through preprocessing and model; the memory that it took is that of its weights at least, and of few times them."""
    examples = [Example({"raw": ROW}, {"y": ROW * 10 + 1}), Example({"raw": -ROW}, {"y": ROW * -10 + 1})]
    small = candidates.verify(models.add_constant(1), preprocessing=models.scale(10), examples=examples)
    large = candidates.verify(models.large(32))

    assert Trials().hold(small, AMPLE).examples == 2
    passed = Trials().hold(large, AMPLE)
    assert (passed.examples, 32 << 20 <= passed.took_bytes <= 160 << 20) == (0, True), passed


def test_external_data_is_tried_where_it_is_allowed(candidates: Candidates, tmp_path: Path) -> None:
    """Weights in a file of their own reach the child as a descriptor, like everything else."""
    model = models.external_data(tmp_path)
    others = {"weights.bin": (tmp_path / "weights.bin").read_bytes()}
    verified = candidates.verify(model, others=others)

    assert refused(verified).reason is Reason.EXTERNAL_DATA_REFUSED
    assert Trials(allow_external_data=True, scratch=tmp_path).hold(verified, AMPLE).examples == 0


REFUSED: dict[str, tuple[Callable[[], bytes], bytes | list[Example] | None]] = {
    "no model": (lambda: b"this is no model", None),
    "an unknown operator": (models.unknown_domain, None),
    "a wrong answer": (lambda: models.add_constant(1), [Example({"x": ROW}, {"y": ROW})]),
    "not a number": (models.nan_model, [Example({"x": ROW}, {"y": ROW})]),
    "no examples": (lambda: models.add_constant(1), b"\x80\x04."),
}


@pytest.mark.parametrize(("model", "examples"), REFUSED.values(), ids=REFUSED.keys())
def test_a_trial_refuses_in_the_same_words_as_the_sidecar_would(
    candidates: Candidates, model: Callable[[], bytes], examples: bytes | list[Example] | None
) -> None:
    """Reason, message and facts of what is wrong with a version do not depend on which process found it."""
    verified = candidates.verify(model(), examples=examples)
    with pytest.raises(VerificationError) as here:
        rehearse(load(verified), verified)

    there = refused(verified)

    assert (there.reason, str(there), there.facts) == (here.value.reason, str(here.value), here.value.facts)
    assert isinstance(there, VerificationError)


@pytest.mark.parametrize(("build", "reason"), killers.KILLERS.values(), ids=killers.KILLERS.keys())
def test_a_model_that_kills_kills_a_child(
    candidates: Candidates, build: Callable[[], bytes], reason: str
) -> None:
    """A crash, an endless load or run, and hunger for memory each end a child, and are told apart; no child is left."""
    open_before = open_descriptors()
    verified = candidates.verify(build())
    files = open_descriptors() - open_before

    error = refused(verified, Limits(1.0 if reason == "MODEL_TIMED_OUT" else 60.0, 512 << 20))

    assert (type(error), error.reason) == (VerificationError, reason), str(error)
    assert children_of(os.getpid()) == []
    assert open_descriptors() == open_before + files


def test_a_crash_is_told_with_its_signal_and_where_it_came(candidates: Candidates) -> None:
    """Who reads the message knows what happened and when."""
    when_loaded = refused(candidates.verify(killers.crashes_when_loaded()))
    when_run = refused(candidates.verify(killers.crashes_when_run()))

    assert "(SIGFPE) while it was being loaded" in str(when_loaded)
    assert "(SIGFPE) while it was being rehearsed" in str(when_run)


def test_a_refusal_advises_nothing_that_only_one_command_can_do(candidates: Candidates) -> None:
    """`publish` refuses in these words too: the options are named as those of `serve`, and orders as a sidecar's."""
    crashed = refused(candidates.verify(killers.crashes_when_loaded()))
    endless = refused(candidates.verify(models.endless()), Limits(1.0, None))
    grown = refused(candidates.verify(killers.grows_when_loaded()), Limits(60.0, 512 << 20))

    assert str(crashed).endswith("a sidecar tries this one again only on an operator's order")
    assert str(endless).endswith("(`serve --load-timeout` allows more)")
    assert "512 MiB (`serve --load-memory`, or a larger limit of the container, allows more)" in str(grown)


def test_a_child_that_the_kernel_kills_had_no_memory(candidates: Candidates) -> None:
    """SIGKILL comes from nobody else: the kernel, when memory ends, takes the child first."""
    killer = threading.Thread(target=lambda: os.kill(trial_of(), signal.SIGKILL))
    killer.start()

    error = refused(candidates.verify(models.endless()))

    killer.join()
    assert error.reason is Reason.MODEL_OUT_OF_MEMORY


def test_a_child_has_given_up_what_could_harm_others(candidates: Candidates) -> None:
    """It runs at lower priority, dies first when memory ends, and has limits on time, memory, files and core dumps."""
    trials = Trials()
    holding = threading.Thread(
        target=lambda: refused(candidates.verify(models.endless()), Limits(50, 512 << 20), trials)
    )
    holding.start()
    try:
        pid = trial_of()
        child = Path(f"/proc/{pid}")
        limits = limits_of(pid)
        assert int(limits["Max data size"]) < 640 << 20
        assert limits["Max cpu time"] == "51"
        assert limits["Max core file size"] == limits["Max file size"] == "0"
        assert (child / "oom_score_adj").read_text() == "1000\n"
        nice = int((child / "stat").read_text().rpartition(")")[2].split()[16])
        assert nice == min(os.nice(0) + 5, 19)
        assert "NoNewPrivs:\t1" in (child / "status").read_text()
        inherited = open_files(pid)
        assert {each for each in inherited if "memfd:" in each} == {
            "/memfd:job (deleted)", "/memfd:model.onnx (deleted)",
        }  # fmt: skip
    finally:
        trials.stop()
        holding.join()


def test_stopping_ends_a_trial_at_once(candidates: Candidates) -> None:
    """A sidecar that goes down waits for no trial, leaves no child behind, and begins no other."""
    trials = Trials()
    verified = candidates.verify(models.endless())

    def stop() -> None:
        trial_of()
        trials.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()

    error = refused(verified, AMPLE, trials)

    stopper.join()
    assert (type(error), error.reason) == (UnavailableError, Reason.DRAINING)
    assert children_of(os.getpid()) == []
    assert refused(verified, AMPLE, trials).reason is Reason.DRAINING


def test_a_child_does_not_outlive_its_parent(candidates: Candidates) -> None:
    """After kill -9 of the process that holds a trial, the trial is gone too."""
    candidates.verify(models.endless())
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from model_sidecar.model.trial import Limits, Trials\n"
        "from model_sidecar.store.versions import VersionStore\n"
        "with VersionStore(Path(sys.argv[1])).verify('recommendation-v1', '2024.01.15.1.prod') as verified:\n"
        "    Trials().hold(verified, Limits(60.0, 1 << 30))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(candidates.store)]) as parent:
        child = trial_of(parent.pid)
        while cpu_s(child) < 1.0:  # it has nothing more to say, so that no broken pipe ends it
            time.sleep(0.01)
        parent.kill()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.01)

    assert not Path(f"/proc/{child}").exists()


def _interpreter(directory: Path, script: str) -> str:
    """What is started in place of Python: this shell script."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script", [None, "exit 1", "echo 'No module named onnxruntime' >&2; exit 1", "true"])
def test_where_no_child_can_be_had_nobody_blames_the_version(
    candidates: Candidates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """No interpreter, or one that ends before it has begun, is this machine's trouble: worth another try."""
    verified = candidates.verify(models.add_constant(1))
    instead = str(tmp_path / "nothing") if script is None else _interpreter(tmp_path, script)
    monkeypatch.setattr(sys, "executable", instead)

    error = refused(verified)

    assert (type(error), error.reason) == (ShortageError, Reason.TRIAL_IMPOSSIBLE)


PASSED = '{"passed":{"examples":1,"took_bytes":1}}'
LIES = {
    "no end": ("", "MODEL_CRASHED"),
    "no JSON": ("echo nonsense", "MODEL_CRASHED"),
    "a negative count": ('echo \'{"passed":{"examples":-1,"took_bytes":1}}\'', "MODEL_CRASHED"),
    "an unheard-of reason": ('echo \'{"refused":{"reason":"BECAUSE","message":""}}\'', "MODEL_CRASHED"),
    "nonsense after the end": (f"echo '{PASSED}'; echo more", "MODEL_CRASHED"),
    "a crash after the end": (f"echo '{PASSED}'; kill -SEGV $$", "MODEL_CRASHED"),
    "an exit status after the end": (f"echo '{PASSED}'; exit 3", "MODEL_CRASHED"),
    "words without end": ("yes nonsense", "MODEL_TIMED_OUT"),
    "an end and then none": (f"echo '{PASSED}'; exec >&- 2>&-; sleep 60", "MODEL_TIMED_OUT"),
}


@pytest.mark.parametrize(("script", "reason"), LIES.values(), ids=LIES.keys())
def test_nothing_that_a_child_says_is_taken_on_trust(
    candidates: Candidates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    reason: str,
) -> None:
    """A child that a model has taken over can refuse the model or claim that it passed, and nothing besides."""
    verified = candidates.verify(models.add_constant(1))
    instead = _interpreter(tmp_path, f'echo \'{{"doing":"being loaded"}}\'\n{script}')
    monkeypatch.setattr(sys, "executable", instead)

    began = time.monotonic()
    assert refused(verified, Limits(1.0, None)).reason == reason
    assert time.monotonic() - began < 45, "its time is counted from when it begins with the version"


def test_a_trial_changes_nothing_for_the_load_that_follows(candidates: Candidates) -> None:
    """The sealed bytes are the same ones, and are read from their beginning by both."""
    verified = candidates.verify(models.add_constant(1), examples=[Example({"x": ROW}, {"y": ROW + 1})])

    assert isinstance(Trials().hold(verified, AMPLE), Passed)
    loaded = load(verified)
    assert rehearse(loaded, verified).examples == 1
    loaded.close()

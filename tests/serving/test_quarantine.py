"""What is remembered of versions that did harm, and what comes of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.resident import manifest_of

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.model.execution import Batching
from model_sidecar.model.trial import Limits, Passed
from model_sidecar.release.names import ModelName
from model_sidecar.serving.quarantine import Quarantine, Subject

ORT = "onnxruntime 1.32.0"
LIMITS = Limits(timeout_s=120.0, memory_bytes=1000)
PASSED = Passed(examples=2, took_bytes=4096)


def subject(version: str = "2024.01.15.prod") -> Subject:
    manifest = manifest_of(version)
    return Subject(model=ModelName("adder"), version=manifest.version, identity=manifest.digest)


BATCHED = replace(PASSED, batching=Batching(((1, 1.0), (8, 2.5))), tried_rows=64)
A, B = subject("2024.01.10.prod"), subject("2024.01.15.prod")


def refusal(reason: Reason = Reason.MODEL_CRASHED) -> VerificationError:
    return VerificationError("it did harm", reason=reason)


def bars(
    quarantine: Quarantine, who: Subject = A, limits: Limits = LIMITS, *, ordered: bool = False
) -> str | None:
    """Why this version may not be tried; None where it may."""
    try:
        quarantine.check(who, limits, ordered=ordered)
    except VerificationError as error:
        return str(error) if error.reason is Reason.MODEL_QUARANTINED else repr(error)
    return None


@pytest.fixture(params=[True, False], ids=["durable", "in memory"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "trials" if request.param else None, runtime=ORT)


def test_who_passed_needs_no_other_trial(known: Quarantine) -> None:
    """An identity is unknown until it passes, and another is unknown all the same."""
    assert known.passed(A) is None
    known.passes(A, PASSED)

    assert known.passed(A) == PASSED
    assert known.passed(B) is None
    assert bars(known) is None


@pytest.mark.parametrize("reason", [Reason.MODEL_CRASHED, Reason.MODEL_OUT_OF_MEMORY, Reason.MODEL_TIMED_OUT])
def test_who_kills_is_not_tried_again_by_itself(known: Quarantine, reason: Reason) -> None:
    """What follows the pointer is refused at once, an operator's order is not, and its success lifts the quarantine."""
    known.passes(A, PASSED)
    known.refuses(A, refusal(reason), LIMITS)

    assert "it did harm" in (bars(known) or "")
    assert bars(known, ordered=True) is None
    assert bars(known, B) is None
    assert known.passed(A) is None
    known.passes(A, PASSED)
    assert bars(known) is None


def test_who_is_only_wrong_is_no_killer(known: Quarantine) -> None:
    """A version that answers wrongly is refused anew each time: its directory may be mended."""
    known.refuses(A, refusal(Reason.GOLDEN_MISMATCH), LIMITS)

    assert bars(known) is None


@pytest.mark.parametrize(
    ("reason", "limits", "barred"),
    [
        (Reason.MODEL_TIMED_OUT, Limits(120.0, 1000), True),
        (Reason.MODEL_TIMED_OUT, Limits(60.0, 9000), True),
        (Reason.MODEL_TIMED_OUT, Limits(121.0, 1000), False),
        (Reason.MODEL_OUT_OF_MEMORY, Limits(999.0, 1499), True),
        (Reason.MODEL_OUT_OF_MEMORY, Limits(120.0, 1500), False),
        (Reason.MODEL_OUT_OF_MEMORY, Limits(120.0, None), False),
        (Reason.MODEL_CRASHED, Limits(999.0, None), True),
    ],
)
def test_larger_limits_are_worth_another_try(
    known: Quarantine, reason: Reason, limits: Limits, barred: bool
) -> None:
    """Who gives the sidecar more time or memory need not order anything besides."""
    known.refuses(A, refusal(reason), LIMITS)

    assert (bars(known, limits=limits) is not None) == barred


def test_what_is_known_survives_a_restart_but_not_another_runtime(tmp_path: Path) -> None:
    """Passes and refusals are read again; of another onnxruntime, nothing is known."""
    before = Quarantine(tmp_path / "trials", runtime=ORT)
    before.passes(A, PASSED)
    before.refuses(B, refusal(), LIMITS)

    after = Quarantine(tmp_path / "trials", runtime=ORT)
    other = Quarantine(tmp_path / "trials", runtime="onnxruntime 1.33.0")

    assert after.passed(A) == PASSED
    assert bars(after, B)
    assert other.passed(A) is None
    assert bars(other, B) is None


def die_loading(directory: Path, who: Subject) -> Quarantine:
    """A process that is killed while it loads; what the next one remembers."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from model_sidecar.serving.quarantine import Quarantine, Subject\n"
        "directory, runtime, model, version, identity = sys.argv[1:]\n"
        "subject = Subject(model=model, version=version, identity=identity)\n"
        "with Quarantine(Path(directory), runtime=runtime).loading(subject):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    words = [str(directory), ORT, who.model, who.version, who.identity]
    killed = subprocess.run([sys.executable, "-c", code, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    return Quarantine(directory, runtime=ORT)


def test_two_deaths_during_loads_are_enough(tmp_path: Path) -> None:
    """After one, the version is tried in a child again; after two, not even an order loads it, until a file is removed."""
    directory = tmp_path / "trials"
    Quarantine(directory, runtime=ORT).passes(A, PASSED)
    once = die_loading(directory, A)

    assert once.count_deaths([]) == [A]
    assert once.count_deaths([]) == []
    assert (once.passed(A), bars(once)) == (None, None)
    once.passes(A, PASSED)
    twice = die_loading(directory, A)
    assert twice.count_deaths([]) == [A]
    assert bars(twice) == bars(twice, ordered=True)
    named = (bars(twice) or "").rpartition("remove ")[2]
    Path(named).unlink()
    assert bars(Quarantine(directory, runtime=ORT)) is None


def test_two_deaths_of_a_version_that_loads_well_count_only_if_it_crashed(tmp_path: Path) -> None:
    """A load that ends well forgives a death during an earlier one, not a crash while it answered."""
    directory = tmp_path / "trials"
    for deaths in (1, 2):
        quarantine = die_loading(directory, A)
        quarantine.passes(B, PASSED)
        assert quarantine.count_deaths([B.identity]) in ([A, B], [B, A])
        with quarantine.loading(A), quarantine.loading(B):
            pass
        assert bars(quarantine, A, ordered=True) is None
        assert (bars(quarantine, B, ordered=True) is not None) == (deaths == 2)


def test_an_end_in_good_order_is_no_death(tmp_path: Path) -> None:
    """A sidecar that is told to stop while it loads, or whose machine was started anew since, blames nobody."""
    directory = tmp_path / "trials"
    stopped = Quarantine(directory, runtime=ORT)
    with stopped.loading(A):
        assert len(list(directory.glob("*.loading"))) == 1
        stopped.close()
        assert Quarantine(directory, runtime=ORT).count_deaths([]) == []

    before = die_loading(directory, A)
    mark = next(directory.glob("*.loading"))
    mark.write_text(mark.read_text().replace(before._boot, "another boot"))
    assert before.count_deaths([]) == []
    assert list(directory.glob("*.loading")) == []


def test_a_failed_load_leaves_no_mark(tmp_path: Path) -> None:
    """What raises has not killed."""
    quarantine = Quarantine(tmp_path / "trials", runtime=ORT)
    with pytest.raises(VerificationError), quarantine.loading(A):
        raise refusal()

    assert Quarantine(tmp_path / "trials", runtime=ORT).count_deaths([]) == []


def test_a_crash_in_a_version_that_nobody_knows_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever writes to the directory can invent no victim."""
    assert Quarantine(tmp_path / "trials", runtime=ORT).count_deaths([A.identity]) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"subject": 1}', bytes(range(256))])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read, whatever is in it, costs another trial and nothing else."""
    directory = tmp_path / "trials"
    Quarantine(directory, runtime=ORT).refuses(A, refusal(), LIMITS)
    file = next(directory.glob("*.json"))
    file.write_bytes(content)
    file.with_suffix(".loading").write_bytes(content)

    again = Quarantine(directory, runtime=ORT)

    assert bars(again) is None
    assert again.count_deaths([]) == []


def test_where_nothing_can_be_written_it_goes_on_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full or missing state directory is said in the log, and refuses no version."""
    directory = tmp_path / "trials"
    quarantine = Quarantine(directory, runtime=ORT)
    directory.rmdir()

    with quarantine.loading(A):
        quarantine.passes(A, PASSED)

    assert quarantine.passed(A) == PASSED
    assert "cannot be written" in caplog.text


def test_the_files_do_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more versions than anybody needs, the oldest are forgotten, on the disk as in memory."""
    monkeypatch.setattr("model_sidecar.serving.quarantine._KEPT", 3)
    quarantine = Quarantine(tmp_path / "trials", runtime=ORT)
    many = [subject(f"2024.01.{day:02}.prod") for day in range(1, 7)]
    for each in many:
        quarantine.passes(each, PASSED)

    assert [each for each in many if quarantine.passed(each)] == many[3:]
    assert len(list((tmp_path / "trials").iterdir())) == 3


def test_what_rows_cost_together_is_remembered(tmp_path: Path) -> None:
    """What a trial found of batches is known after a restart; of one from before there were any, that it was not tried."""
    Quarantine(tmp_path, runtime=ORT).passes(A, BATCHED)
    assert Quarantine(tmp_path, runtime=ORT).passed(A) == BATCHED

    (file,) = tmp_path.glob("*.json")
    found = json.loads(file.read_text())
    del found["passed"]["batching"], found["passed"]["tried_rows"]
    file.write_text(json.dumps(found))
    assert Quarantine(tmp_path, runtime=ORT).passed(A) == PASSED

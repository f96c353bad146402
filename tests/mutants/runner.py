"""Makes each bug in a copy of the tree, and demands that the tests named for it fail there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mutants.mutant import ROOT, Mutant

COPIED = ("client", "docs", "proto", "scripts", "sidecar", "tests", "README.md", "pyproject.toml")
TEST_S = 60
"""Time for one test. A bug that makes it wait for ever is caught by that, as in every run of the tests."""
LIMIT_S = 300.0
"""Time for one run of pytest. A bug that leaves the process hanging behind its tests is not caught, but in the way."""


class BrokenTestsError(Exception):
    """The tests do not all pass without any bug, so that they could tell nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run of pytest.

    Attributes:
        code: its exit code; None where it had to be killed.
        failed: the tests that failed by what they found, not by what they needed to begin.
        skipped: the tests that were not run.
        said: the end of its output.
        took_s: seconds.
    """

    code: int | None
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    said: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a mutant was caught: `problem` is "" if it was, else what happened instead."""

    mutant: Mutant
    run: Run
    problem: str

    @property
    def killed(self) -> bool:
        """Whether a test noticed."""
        return not self.problem


def verdicts(mutants: Sequence[Mutant], *, jobs: int = 1) -> Iterator[Verdict]:
    """What becomes of each mutant, in their order; first all of their tests are run without any of them.

    Raises:
        BrokenTestsError: a test fails, or is skipped, as it is.
        ValueError: a mutant cannot be made.
    """
    for mutant in mutants:
        mutant.applied(mutant.source(ROOT).read_text())
    with copied(ROOT) as healthy:
        check_tests(healthy, mutants)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(lambda mutant: verdict(mutant, healthy), mutants)


def check_tests(healthy: Path, mutants: Iterable[Mutant]) -> None:
    """Run all tests of these mutants in an unchanged tree; BrokenTestsError unless all of them pass."""
    run = run_tests(healthy, sorted({test for mutant in mutants for test in mutant.tests}), to_the_end=True)
    if run.code != 0 or run.skipped:
        raise BrokenTestsError(
            f"without any bug pytest ended with {run.code}; failed: {', '.join(run.failed) or 'none'}; skipped: "
            f"{', '.join(run.skipped) or 'none'}\n{run.said}"
        )


def verdict(mutant: Mutant, healthy: Path) -> Verdict:
    """Make the bug in a copy of a tree whose tests pass, and run its tests there."""
    with copied(healthy) as tree:
        mutant.apply(tree)
        run = run_tests(tree, mutant.tests)
    return Verdict(mutant, run, _problem(run))


def _problem(run: Run) -> str:
    match run.code:
        case 1 if run.failed:
            return ""
        case 0:
            return "survived"
        case None:
            return f"pytest did not end within {LIMIT_S:g} s"
        case 1:
            return "no test failed, but one could not begin or end"
        case code:
            return f"pytest ended with {code}: the tests could not be run"


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of what tests need of the tree at `root`, as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        for name in COPIED:
            if (root / name).is_dir():
                # With the compiled files of a copy that was run, which hold for all files but the one that is changed.
                left_out = shutil.ignore_patterns(*(("__pycache__",) if root == ROOT else ()))
                shutil.copytree(root / name, Path(directory, name), ignore=left_out)
            else:
                shutil.copy2(root / name, directory)
        yield Path(directory)


def run_tests(tree: Path, tests: Iterable[str], *, to_the_end: bool = False) -> Run:
    """Run these tests of the tree, on the tree's own sources, in this process's environment otherwise.

    Stops at the first failure unless it is to go `to_the_end`.
    """
    sources = [str(tree / "client/src"), str(tree / "sidecar/src")]
    report = tree / "report.xml"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"),
        *("-o", f"timeout={TEST_S}", "-o", f"faulthandler_timeout={TEST_S - 10}"),
        *(() if to_the_end else ("-x",)),
        *(f"tests/{test}" for test in tests),
    ]
    began = time.monotonic()
    with (tree / "output").open("w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=tree,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sources), "PYTEST_ADDOPTS": ""},
            start_new_session=True,
        )
        code: int | None
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Its children too: a test that was cut off may have left a sidecar.
            _kill_session(process)
        took_s = time.monotonic() - began
        output.seek(0)
        said = output.read().decode(errors="replace")[-4000:]
    failed, skipped = _outcomes(report)
    return Run(code, failed, skipped, said, took_s)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcomes(report: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the tests that failed, and of those that were skipped."""
    if not report.exists():
        return (), ()
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))  # noqa: S314 - pytest's own report

    def named(outcome: str) -> tuple[str, ...]:
        return tuple(case.get("name", "") for case in cases if case.find(outcome) is not None)

    return named("failure"), named("skipped")

"""The bank of known bugs is in order, and its runner tells a bug that is caught from one that is not."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from mutants.catalogue import MUTANTS
from mutants.mutant import ROOT, Mutant
from mutants.runner import BrokenTestsError, verdicts

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_can_still_be_made(mutant: Mutant) -> None:
    """Its text stands once in the file, what is made of it is Python, and the tests that must notice are there."""
    source = mutant.source(ROOT).read_text()
    assert mutant.applied(source) != source
    for test in mutant.tests:
        file, _, function = test.partition("::")
        assert function in functions_in(file), test


def test_no_two_known_bugs_are_one() -> None:
    """Names and changes are told apart, and each says in one sentence what a user would lose."""
    assert len(BY_NAME) == len(MUTANTS)
    changes = Counter((mutant.file, mutant.find, mutant.replace) for mutant in MUTANTS)
    assert [change for change, times in changes.items() if times > 1] == []
    assert [mutant.name for mutant in MUTANTS if not mutant.why.endswith(".") or ". " in mutant.why] == []


@pytest.mark.timeout(300)
def test_the_runner_tells_a_bug_that_is_caught_from_others() -> None:
    """A bug is killed by its test; what is no bug survives; one that keeps tests from being run at all is not caught."""
    real = BY_NAME["digits-of-every-script"]
    harmless = replace(real, name="harmless", find='"""The model\'s name, or', replace='"""A name, or')
    fatal = replace(real, name="fatal", find="import re\n", replace="import no_such_module\n")
    killed, survived, broken = verdicts((real, harmless, fatal))
    assert killed.killed
    assert {name.partition("[")[0] for name in killed.run.failed} == {
        "test_a_version_name_off_the_grammar_is_refused"
    }
    assert survived.problem == "survived"
    assert "could not be run" in broken.problem


def test_tests_that_fail_anyway_kill_nothing() -> None:
    """A test that fails without any bug, or is not there, is told before anything else is tried."""
    real = BY_NAME["digits-of-every-script"]
    with pytest.raises(BrokenTestsError, match="pytest ended with 4"):
        list(verdicts([replace(real, tests=("release/test_names.py::test_that_nobody_wrote",))]))

"""Bugs in the first contact with a version: its trial in a child process, and what is remembered of it."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        name="trial-without-a-memory-limit",
        why="A model that asks for all memory has the sidecar killed beside its own trial.",
        file="model/trial_child.py",
        find="        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n",
        replace="        del limit\n",
        tests=("model/test_trial.py::test_a_child_has_given_up_what_could_harm_others",),
    ),
    Mutant(
        name="trial-dies-last",
        why="Where the machine's memory ends, the kernel ends the sidecar that answers instead of the trial.",
        file="model/trial_child.py",
        find='write_text("1000")',
        replace='write_text("0")',
        tests=("model/test_trial.py::test_a_child_has_given_up_what_could_harm_others",),
    ),
    Mutant(
        name="trial-outlives-its-sidecar",
        why="After kill -9, a model that never ends keeps a core of the machine for ever.",
        file="model/trial_child.py",
        find="    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)\n",
        replace="",
        tests=("model/test_trial.py::test_a_child_does_not_outlive_its_parent",),
    ),
    Mutant(
        name="crash-after-a-good-word-passes",
        why="A version that says it passed and then crashes goes into service, and crashes the sidecar.",
        file="model/trial.py",
        find="    if status == 0 and end.passed is not None:",
        replace="    if end.passed is not None:",
        tests=("model/test_trial.py::test_nothing_that_a_child_says_is_taken_on_trust",),
    ),
    Mutant(
        name="killers-not-remembered",
        why="A pointer to a model that crashes has it tried at every look, all day long.",
        file="serving/quarantine.py",
        find="if error.reason in KILLING:",
        replace="if False:",
        tests=("serving/test_quarantine.py::test_who_kills_is_not_tried_again_by_itself",),
    ),
    Mutant(
        name="quarantine-forgotten-by-a-restart",
        why="A version that ends the sidecar does so again after every restart: a crash loop.",
        file="serving/quarantine.py",
        find='                replace_file(self._disk, path, msgspec.json.encode(case) + b"\\n")',
        replace="                pass",
        tests=("serving/test_quarantine.py::test_what_is_known_survives_a_restart_but_not_another_runtime",),
    ),
    Mutant(
        name="deaths-while-loading-not-counted",
        why="A version that ends the sidecar while it is loaded does so at every start.",
        file="serving/quarantine.py",
        find="                mark.write_bytes(msgspec.json.encode(_Mark(subject, self._boot)))",
        replace="                pass",
        tests=("serving/test_quarantine.py::test_two_deaths_during_loads_are_enough",),
    ),
    Mutant(
        name="mark-of-a-refused-load-stays",
        why="A version that was merely refused is blamed for the next restart, and is barred after two.",
        file="serving/quarantine.py",
        find="                    mark.unlink(missing_ok=True)",
        replace="                    pass",
        tests=("serving/test_quarantine.py::test_a_failed_load_leaves_no_mark",),
    ),
    Mutant(
        name="order-cannot-lift-the-quarantine",
        why="A version whose trial was killed by chance can never be deployed again.",
        file="serving/quarantine.py",
        find="if case.refused is not None and not ordered and case.refused.stands(limits):",
        replace="if case.refused is not None and case.refused.stands(limits):",
        tests=("serving/test_quarantine.py::test_who_kills_is_not_tried_again_by_itself",),
    ),
    Mutant(
        name="larger-limits-change-nothing",
        why="A version that lacked memory is refused for ever, also on a machine that has it.",
        file="serving/quarantine.py",
        find="limits.memory_bytes < self.memory_bytes * _MORE",
        replace="limits.memory_bytes > 0",
        tests=("serving/test_quarantine.py::test_larger_limits_are_worth_another_try",),
    ),
    Mutant(
        name="page-cache-taken-for-memory-in-use",
        why="On a machine that has read large files no version can be deployed for want of memory.",
        file="app/headroom.py",
        find="limits[name] - int(used) + reclaimable",
        replace="limits[name] - int(used)",
        tests=("app/test_headroom.py::test_the_tightest_group_decides",),
    ),
)

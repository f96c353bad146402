"""Bugs in what is watched: alarms that come for nothing, or not at all."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        name="evidence-against-the-baseline-itself",
        why="The baseline is a sample: without its margin, and without a band, healthy traffic alarms.",
        file="monitor/drift/bands.py",
        find="    near = band + margin(rows)\n",
        replace="    near = 0.0 * band\n",
        tests=("monitor/test_bands.py::test_the_fewer_rows_the_wider_the_band",),
    ),
    Mutant(
        name="a-tick-for-every-part",
        why="Busy services have more ticks a second than were promised for, and more false alarms.",
        file="monitor/detectors/evidence.py",
        find="if new_tick else self._logs",
        replace="if new_tick or True else self._logs",
        tests=("monitor/test_evidence.py::test_a_tick_in_parts_is_one_tick",),
    ),
    Mutant(
        name="waiting-is-evidence",
        why="A stream without rows gains evidence by the second, and alarms after the budget for sure.",
        file="monitor/detectors/evidence.py",
        find="(n > 0)[:, None, None]",
        replace="(n >= 0)[:, None, None]",
        tests=("monitor/test_evidence.py::test_without_rows_there_is_no_evidence",),
    ),
    Mutant(
        name="nan-below-every-cut",
        why="Holes look like small values: the wrong column's drift is told, and the hole is not.",
        file="monitor/drift/streams.py",
        find="return [bins[finite], ",
        replace="return [bins[there], ",
        tests=("monitor/test_streams.py::test_what_is_not_finite_is_counted_for_itself",),
    ),
    Mutant(
        name="probes-are-constant-answers",
        why="One request that is sent all day makes an alarm, and a guard that is on rolls back for it.",
        file="monitor/drift/drift_watch.py",
        find="return self._asked.take(inputs_hash(readings.features[:, self._asks]), now_s)",
        replace="return np.ones(rows, dtype=np.bool_)",
        tests=("monitor/test_drift.py::test_one_question_asked_over_and_over_is_no_constant_answer",),
    ),
    Mutant(
        name="an-alarm-of-one-tick",
        why="Drift that goes on is an alarm that comes and goes, and nobody sees when it began.",
        file="monitor/drift/drift_watch.py",
        find="        if self._calm_rows < _CALM_ROWS or now_s < self._calm_from + _CALM_S:\n            return\n",
        replace="",
        tests=("monitor/test_drift.py::test_an_alarm_stays_until_enough_rows_are_back_within_the_band",),
    ),
    Mutant(
        name="every-row-of-a-session",
        why="Sessions of rows that are alike alarm falsely though their key says what they are.",
        file="monitor/drift/thinning.py",
        find="taken[keyed[first[free]]] = True",
        replace="taken[keyed] = True",
        tests=(
            "monitor/test_thinning.py::test_a_key_counts_once_in_a_while",
            "monitor/test_drift.py::test_rows_that_depend_on_one_another_are_thinned_by_their_key",
        ),
    ),
)

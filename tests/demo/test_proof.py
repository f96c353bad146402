from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from support.digits import Published

from model_sidecar.demo.proof import _SAME, Expected, Said, mistagged, recompute
from model_sidecar.demo.traffic import Answer
from model_sidecar.demo.versions import FIRST, SECOND, WORSE


@pytest.fixture(scope="module")
def expected(published: Published) -> dict[Said, Expected]:
    return recompute(
        published.store, (FIRST.version, SECOND.version, WORSE.version), published.stream, lights=(1.0, 0.5)
    )


def ambiguous_rows(expected: Mapping[Said, Expected]) -> int:
    """Digits to which two versions say the same, so that a wrong tag on them would not show."""
    said: Sequence[Expected] = [each for (_, light), each in expected.items() if light == 1.0]
    alike = np.zeros(len(said[0].labels), dtype=bool)
    for at, one in enumerate(said):
        for other in said[at + 1 :]:
            alike |= np.abs(one.probabilities - other.probabilities).max(axis=1) <= 2 * _SAME
    return int(alike.sum())


def answered(expected: dict[Said, Expected], row: int, version: str) -> Answer:
    said = expected[version, 1.0]
    return Answer(0.0, 0.1, row, version, int(said.labels[row]), said.probabilities[row].copy())


def test_the_loaded_versions_say_what_scikit_learn_says(
    published: Published, expected: dict[Said, Expected]
) -> None:
    """The recomputed labels are those of the pipelines that were trained."""
    for each in published.built:
        labels, probabilities = each.trained.predict(published.stream.pixels)
        assert np.array_equal(expected[each.release.version, 1.0].labels, labels)
        assert np.allclose(expected[each.release.version, 1.0].probabilities, probabilities, atol=1e-5)


def test_an_answer_under_another_versions_name_is_found(expected: dict[Said, Expected]) -> None:
    """Every digit tells the three versions apart, so no wrong tag can hide."""
    right = [
        answered(expected, row, SECOND.version) for row in range(len(expected[SECOND.version, 1.0].labels))
    ]
    wrong = [dataclasses.replace(each, version=FIRST.version) for each in right]

    assert mistagged(right, expected) == []
    assert mistagged(wrong, expected) == wrong
    assert ambiguous_rows(expected) == 0


def test_an_answer_of_no_published_version_is_found(expected: dict[Said, Expected]) -> None:
    """A tag that names none of the versions is wrong whatever the numbers are."""
    unknown = dataclasses.replace(answered(expected, 0, SECOND.version), version="2024.01.16.prod")

    assert mistagged([unknown], expected) == [unknown]


def test_an_answer_to_another_scan_is_found(expected: dict[Said, Expected]) -> None:
    """What is right for a pale digit is wrong for the one that was asked for."""
    pale = expected[SECOND.version, 0.5]
    right = dataclasses.replace(
        answered(expected, 0, SECOND.version),
        label=int(pale.labels[0]),
        probabilities=pale.probabilities[0],
        light=0.5,
    )
    wrong = dataclasses.replace(right, light=1.0)

    assert mistagged([right, wrong], expected) == [wrong]

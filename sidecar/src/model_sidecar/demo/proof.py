"""Was every answer really computed by the version that it names? Found out by computing it again, without a sidecar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_sidecar.app.preparing import preparer
from model_sidecar.demo.digits import Digits, faded
from model_sidecar.demo.traffic import Answer
from model_sidecar.demo.versions import DIGITS, INPUT, LABEL, PROBABILITIES
from model_sidecar.release.names import Version
from model_sidecar.store.versions import VersionStore

_SAME = 1e-5
"""Probabilities this close are the same: float32 sums in batches of another size differ by some 1e-7."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one version says to every digit of the stream: labels (rows,), probabilities (rows, 10)."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def agrees(self, answer: Answer) -> bool:
        """Whether these are the answer's numbers."""
        apart = np.abs(self.probabilities[answer.row] - answer.probabilities).max()
        return bool(apart <= _SAME) and int(self.labels[answer.row]) == answer.label


Said = tuple[str, float]
"""A version, and the light in which it saw the stream."""


def recompute(
    store: VersionStore, versions: Iterable[Version], stream: Digits, *, lights: Iterable[float] = (1.0,)
) -> dict[Said, Expected]:
    """Each version's answers to the whole stream in each of these lights, from its verified files in the store.

    Raises:
        VerificationError, StoreError: a version cannot be loaded.
    """
    prepare = preparer(store, DIGITS, allow_external_data=False)
    expected: dict[Said, Expected] = {}
    for version in versions:
        model = prepare(version, None).model
        try:
            for light in lights:
                outputs = model.run({INPUT: faded(stream.pixels, light)})
                expected[version, light] = Expected(outputs[LABEL], outputs[PROBABILITIES])
        finally:
            model.close()
    return expected


def mistagged(answers: Iterable[Answer], expected: Mapping[Said, Expected]) -> list[Answer]:
    """The answers whose numbers are not those of the version that they name."""

    def right(answer: Answer) -> bool:
        said = expected.get((answer.version, answer.light))
        return said is not None and said.agrees(answer)

    return [each for each in answers if not right(each)]

"""What the monitor knows of answers: one version's, row by row, as columns. Made once a tick, off the request's path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model_sidecar.events import Site
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Version

NOWHERE = Digest("")
"""In place of a manifest's digest: the version is not in memory here, and its predictions are told by somebody else."""


@dataclass(frozen=True, slots=True)
class WatchedKey:
    """Which version is meant, also where nothing else is known of it any more."""

    site: Site
    version: Version
    manifest: Digest


@dataclass(frozen=True, slots=True)
class Watched:
    """A version that is being watched.

    Attributes:
        site: where it answers.
        manifest: its identity; two of the same name in one process are two versions. NOWHERE for a version that only
            answers elsewhere.
        roles: which outputs are its prediction and its confidence, declared or inferred.
        features: the names of the columns of its input that are watched, in the order of `Readings.features`.
        metrics: what it was published with, such as {"accuracy": 0.98}.
        baseline: what it was published with; None: there is nothing to compare with.
    """

    site: Site
    version: Version
    manifest: Digest
    roles: OutputRoles
    features: tuple[str, ...]
    metrics: Mapping[str, float]
    baseline: Baseline | None

    @property
    def key(self) -> WatchedKey:
        """Which version this is."""
        return WatchedKey(self.site, self.version, self.manifest)


@dataclass(frozen=True, slots=True)
class Readings:
    """Rows that one version answered, in the order of their arrival; every column has a value for each of the n rows.

    Rows of predictions that were made elsewhere come by themselves, with `features` of shape (n, 0).

    Attributes:
        ids: (n,) int64, the first part of the prediction id: milliseconds and a counter, growing.
        rows: (n,) int32, which row of its request each is.
        process: the second part of the prediction ids: whose process made them.
        features: (n, k) float64; NaN and infinities as they came.
        prediction: (n,) float64 or object (strings): the class, or the value; None where the roles name none.
        score: (n,) float64: of two classes the second's probability, the value of a regression, else None.
        confidence: (n,) float64, of the predicted class; None where there is none.
        nonfinite: (n,) bool: an output of this row holds NaN or infinity.
        keys: (n,) int64, a hash of what the caller said the row depends on (`monitor_key`); 0: nothing.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int32]
    process: str
    features: NDArray[np.float64]
    prediction: NDArray[Any] | None
    score: NDArray[np.float64] | None
    confidence: NDArray[np.float64] | None
    nonfinite: NDArray[np.bool_]
    keys: NDArray[np.int64]


class Requests(NamedTuple):
    """The requests that rows came with; a value for each, and each once.

    Attributes:
        ids: (m,) int64, growing.
        nonfinite: (m,) bool: an output of one of its rows holds NaN or infinity.
    """

    ids: NDArray[np.int64]
    nonfinite: NDArray[np.bool_]


def requests_of(readings: Readings) -> Requests:
    """The rows put together by their requests."""
    ids, of_rows = np.unique(readings.ids, return_inverse=True)
    return Requests(ids, np.bincount(of_rows, weights=readings.nonfinite, minlength=len(ids)) > 0)


@dataclass(frozen=True, slots=True)
class Joined:
    """A prediction and what was true of it. `replaces` is the truth that was joined before, when that is corrected.

    Numbers and labels: a truth is a float or a string, as it was told; `same` in `monitor.quality` compares.
    """

    id: int
    row: int
    prediction: float | str
    score: float | None
    confidence: float | None
    truth: float | str
    replaces: float | str | None = None


class Observer(Protocol):
    """Who is shown the readings of each tick, on the monitor's thread; what it raises is logged, and the rest go on.

    The interpreter is shared with the data plane: whoever has more than a millisecond's work that does not let go of it
    takes the rows in pieces.
    """

    def observe(self, watched: Watched, readings: Readings) -> None:
        """Take in one tick's rows of one version: all of them, and at least one."""
        ...


class TruthObserver(Protocol):
    """Who is told what was true of predictions, on the log's thread; what it raises is logged, and the rest go on.

    At the start it is told again what was joined of the last 24 hours' predictions, before anything new.
    """

    def joined(self, key: WatchedKey, rows: Sequence[Joined]) -> None:
        """Take in predictions of one version and what was true of them, in the order of its arrival."""
        ...

"""The data and the training: handwritten digits, snapshots of them as a team would take them, a classifier on each.

scikit-learn ships 1,797 scanned digits (UCI ML, "Optical Recognition of Handwritten Digits"), so this needs no network.
The same numbers come out of every run on the same software: fixed order, one thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import ConfigurationError

PIXELS = 64
"""A digit is 8 rows of 8 pixels, each 0 (white) to 16 (black)."""
POOL_ROWS = 1200
"""Rows that snapshots are taken from; the 597 others are the labelled stream, which no version is trained on."""
VALIDATION_SHARE = 0.2
_ORDER = 7


@dataclass(frozen=True, slots=True)
class Digits:
    """Scanned digits with what they really are: pixels float32 (rows, 64), labels int64 (rows,)."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> Digits:
        return Digits(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the data team handed over on one day.

    Attributes:
        id: its name in manifests.
        rows: how many digits there were by then.
        cropped_too_low: the exporter of that day cut every scan one pixel row too low. Nothing in the file says so.
    """

    id: str
    rows: int
    cropped_too_low: bool = False

    def of(self, pool: Digits) -> Digits:
        """The rows of this snapshot."""
        rows = pool[: self.rows]
        return Digits(_one_row_up(rows.pixels), rows.labels) if self.cropped_too_low else rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A scaler and a classifier fitted on one snapshot.

    Attributes:
        accuracy: share of right answers on `validation`, measured.
        validation: rows of the same snapshot that neither was fitted on.
    """

    snapshot: Snapshot
    scaler: Any
    classifier: Any
    accuracy: float
    validation: Digits

    def predict(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels (rows,) and probabilities (rows, 10), as scikit-learn computes them."""
        scaled = self.scaler.transform(pixels)
        labels = self.classifier.predict(scaled).astype(np.int64)
        return labels, self.classifier.predict_proba(scaled).astype(np.float32)


def check_installed() -> None:
    """See that the extra is there, before anything is made.

    Raises:
        ConfigurationError: it is not; the message says what to install.
    """
    # Looked for, not imported: that takes seconds, in which the demo would say nothing.
    missing = [name for name in ("sklearn", "skl2onnx") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo trains with scikit-learn and exports with skl2onnx, and finds no {' and no '.join(missing)}: "
            "pip install 'model-sidecar[demo]'"
        )


def load() -> tuple[Digits, Digits]:
    """The pool that snapshots are taken from, and the labelled stream."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # Shuffled, so that pool and stream have the same writers: an honest model does as well on the one as on the other.
    order = np.random.default_rng(_ORDER).permutation(len(labels))
    every = Digits(pixels[order].astype(np.float32), labels[order].astype(np.int64))
    return every[:POOL_ROWS], every[POOL_ROWS:]


def train(snapshot: Snapshot, pool: Digits) -> Trained:
    """Fit on four fifths of the snapshot, measure on the last fifth: what a careful team does."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

    rows = snapshot.of(pool)
    fitted = round(len(rows) * (1 - VALIDATION_SHARE))
    known, validation = rows[:fitted], rows[fitted:]
    # One thread: BLAS threads sum in an order of their own, and so few rows do not need them.
    with threadpool_limits(1):
        scaler = StandardScaler().fit(known.pixels)
        classifier = LogisticRegression(C=0.1, max_iter=500).fit(scaler.transform(known.pixels), known.labels)
        accuracy = float(classifier.score(scaler.transform(validation.pixels), validation.labels))
    return Trained(
        snapshot=snapshot,
        scaler=scaler,
        classifier=classifier,
        accuracy=accuracy,
        validation=validation,
    )


def without_scaler(trained: Trained) -> Trained:
    """The same classifier behind a scaler that does nothing; `accuracy` is still what was measured before."""
    from sklearn.preprocessing import StandardScaler

    nothing = StandardScaler(with_mean=False, with_std=False).fit(trained.validation.pixels)
    return replace(trained, scaler=nothing)


def faded(pixels: NDArray[np.float32], light: float) -> NDArray[np.float32]:
    """What scans look like when the scanner's lamp gives only this share of its light: every pixel paler, still whole numbers."""
    return pixels if light == 1.0 else np.rint(pixels * np.float32(light))


def _one_row_up(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a scan looks like that was cut one pixel row too low: its top row is lost, an empty one is below."""
    scans = pixels.reshape(-1, 8, 8)
    moved = np.zeros_like(scans)
    moved[:, :-1] = scans[:, 1:]
    return moved.reshape(-1, PIXELS)

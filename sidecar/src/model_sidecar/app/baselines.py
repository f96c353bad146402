"""A baseline out of rows of inputs: the model answers them itself, and what it saw and said is counted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.app.golden_inputs import fitted
from model_sidecar.config import MonitorSettings
from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import (
    DeadlineOverError,
    InferenceFailedError,
    InvalidInputError,
    Reason,
    VerificationError,
)
from model_sidecar.events import Site
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.rehearsal import TIMEOUT_S
from model_sidecar.monitor.drift.bands import is_blind, margin, widened
from model_sidecar.monitor.drift.reference import baseline_of
from model_sidecar.monitor.intake import Note
from model_sidecar.monitor.pieces import joined_up
from model_sidecar.monitor.quality.judging import FEWEST_LABELS, judged
from model_sidecar.monitor.quality.measures import share
from model_sidecar.monitor.quality.quality_report import Verdict
from model_sidecar.monitor.quality.truths import name_of
from model_sidecar.monitor.reading import read, sheet_of
from model_sidecar.release.baseline import ENOUGH_ROWS, Baseline
from model_sidecar.release.names import Environment
from model_sidecar.release.tensors import Arrays, TensorSpec, described

_TRUTH = "truth"
_CALL_ROWS = 1024
_CALL_BYTES = 16 << 20
_BAND = MonitorSettings().drift_band  # which one `serve` will be given is not known here
_NOBODYS_ID = f"{0:016x}-{0:08x}"


def counted(loaded: LoadedModel, path: Path) -> Baseline:
    """The baseline that the rows in this file make.

    Args:
        loaded: the model, with its completed manifest.
        path: an `.npz` file with an array for each input, called as the input; the first dimension counts rows, and what
            has no such dimension in the signature is given to every call as it is. `truth`, unless an input is called
            so: what was true of each row, a class as the model calls it or a number, finite.

    Raises:
        VerificationError: BASELINE_INVALID; the file is none, lacks an array, has one too many, or the model does not
            take or cannot answer what it holds.
        StoreError: the file cannot be read.
    """
    specs = {spec.name: spec for spec in loaded.signature.inputs}
    arrays = {name: fitted(array, specs.get(name)) for name, array in _arrays(path).items()}
    truth = None if _TRUTH in specs else arrays.pop(_TRUTH, None)
    rows = _rows(arrays, specs, path)
    sheet = sheet_of(Site(loaded.model, Environment("publish")), loaded, None)
    pieces = []
    for inputs, count in _calls(arrays, specs, rows):
        try:
            outputs = loaded.run(inputs, timeout_s=TIMEOUT_S)
        except (InferenceFailedError, DeadlineOverError, InvalidInputError) as error:
            raise _invalid(
                f"the model cannot answer the rows of {path}: {error.__cause__ or error}"
            ) from error
        note = Note(sheet.watched.site, loaded, _NOBODYS_ID, inputs, outputs, count, None)
        pieces.append(read(sheet, [note]))
    readings = joined_up(pieces)
    if len(readings.ids) != rows:
        raise _invalid(f"{path} has {rows} rows, and the model took them for {len(readings.ids)}")
    task = sheet.watched.roles.task
    true = _truth(truth, rows, path)
    if task == "regression" and true is not None and true.dtype == object:
        raise _invalid(f"{path}: {_TRUTH!r} is text: expected numbers, as the model predicts")
    if task == "classification" and true is not None and readings.prediction is not None:
        _check_classes(readings.prediction, true, path)
    return baseline_of(readings, sheet.watched.features, task=task, truth=true)


def warnings_of(baseline: Baseline | None, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """What its publisher should know of a baseline, and of what the manifest's metrics promise beside it."""
    if baseline is None:
        return ()
    return (*_few_rows(baseline), *_empty_columns(baseline), *_worse_than_promised(baseline, metrics))


def _few_rows(baseline: Baseline) -> Iterator[str]:
    if is_blind(baseline.rows, band=_BAND):
        yield (
            f"drift cannot be noticed with {baseline.rows} rows, shares of so few being known to "
            f"{margin(baseline.rows):.3f} only: give at least {ENOUGH_ROWS} to --baseline-data"
        )
    elif baseline.rows < ENOUGH_ROWS:
        yield (
            f"the baseline has {baseline.rows} rows: shares of so few are known to {margin(baseline.rows):.3f} only, so the "
            f"band in which drift is no alarm is wider by {widened(baseline.rows):.3f} than with {ENOUGH_ROWS}; give more "
            "rows to --baseline-data"
        )


def _empty_columns(baseline: Baseline) -> Iterator[str]:
    """Columns in which the rows do not differ: a lost join, a default, or data of one day."""
    holes = [each.name for each in baseline.streams if not each.finite]
    if holes:
        yield f"no row of the baseline has a finite value in {_first(holes)}: a shift of it cannot be noticed"
    same = [
        f"{each.name} ({each.low:g})" for each in baseline.streams if each.finite and each.low == each.high
    ]
    if same:
        yield (
            f"all rows of the baseline have one value in {_first(same)}: see that it is so in production; any other value is "
            "drift there"
        )


def _worse_than_promised(baseline: Baseline, metrics: Mapping[str, float]) -> Iterator[str]:
    """By the rule of `GetQuality`: what is published would be judged so by its first labels in production."""
    if baseline.calibration is None:
        return
    rows = sum(baseline.calibration.rows)
    found = judged(
        share("accuracy", rows - sum(baseline.calibration.errors), rows),
        metrics,
        enough=rows >= FEWEST_LABELS,
    )
    if found is not None and found.verdict is Verdict.BELOW:
        yield (
            f"of the {rows} rows of the baseline whose truth is given this version has {found.value:.1%} right, and its "
            f"metrics promise an accuracy of {found.baseline:.1%}: see that what was measured is what is published here, "
            "preprocessing included"
        )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with store_faults(path), path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _invalid(f"{path} is one array: expected an .npz file with an array for each input")
            return {name: _as_ours(archive[name]) for name in archive.files}
    except (
        ValueError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        NotImplementedError,
        UnicodeDecodeError,
    ) as error:
        raise _invalid(f"{path} is not an .npz file that can be read: {error}") from error


def _as_ours(array: NDArray[Any]) -> NDArray[Any]:
    match array.dtype.kind:
        case "U":
            return array.astype(object)
        case "S":
            return np.char.decode(array, "utf-8").astype(object)
        case _:
            return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _rows(arrays: Arrays, specs: Mapping[str, TensorSpec], path: Path) -> int:
    """How many rows there are, the same in every array that has rows."""
    known = ", ".join(repr(each) for each in specs)
    for name in {**specs, **arrays}:
        if name not in arrays:
            raise _invalid(f"{path} has no array {name!r}: expected one for {specs[name]}")
        if name not in specs:
            raise _invalid(f"{path} has an array {name!r}: expected {known}, and perhaps {_TRUTH!r}")
    counts: dict[str, int] = {}
    for name, spec in specs.items():
        array, row = arrays[name], _row(spec, specs)
        wanted = spec.shape if row is None else (-1, *row)
        if array.dtype != spec.datatype.numpy or not TensorSpec(name, spec.datatype, wanted).admits(
            array.shape
        ):
            raise _invalid(f"{path}: {name!r} is {described(array)}: expected {spec.datatype}{list(wanted)}")
        if row is not None:
            counts[name] = len(array)
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise _invalid(f"{path}: expected as many rows in each array; {found}")
    rows = next(iter(counts.values()))
    if _BAND + margin(rows) >= 1.0:
        raise _invalid(
            f"{path} has {f'{rows} rows' if rows else 'no rows'}, of which nothing follows that traffic could be compared "
            f"with: expected {ENOUGH_ROWS} or more"
        )
    return rows


def _in_batches(specs: Mapping[str, TensorSpec]) -> bool:
    """Whether one call takes many rows: its first input's first dimension says so (`monitor.reading`)."""
    return next(iter(specs.values())).shape[:1] == (-1,)


def _row(spec: TensorSpec, specs: Mapping[str, TensorSpec]) -> tuple[int, ...] | None:
    """The shape of one row of this input in the file; None where it has no rows, but is the same in every call."""
    if _in_batches(specs):
        return spec.shape[1:] if spec.shape[:1] == (-1,) else None
    return spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape


def _calls(
    arrays: Arrays, specs: Mapping[str, TensorSpec], rows: int
) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
    """The inputs of each call, and how many rows they are."""
    if not _in_batches(specs):
        for at in range(rows):
            yield {name: _one(arrays[name], at, spec) for name, spec in specs.items()}, 1
        return
    by_row = {name for name, spec in specs.items() if _row(spec, specs) is not None}
    row_bytes = sum(arrays[name].nbytes for name in by_row) // rows
    step = max(1, min(_CALL_ROWS, _CALL_BYTES // max(row_bytes, 1)))
    for start in range(0, rows, step):
        end = min(start + step, rows)
        yield (
            {name: arrays[name][start:end] if name in by_row else arrays[name] for name in specs},
            end - start,
        )


def _one(array: NDArray[Any], at: int, spec: TensorSpec) -> NDArray[Any]:
    return np.asarray(array[at : at + 1]).reshape(*((1,) if spec.shape[:1] == (1,) else ()), *array.shape[1:])


def _truth(truth: NDArray[Any] | None, rows: int, path: Path) -> NDArray[Any] | None:
    if truth is None:
        return None
    if truth.size != rows or truth.shape[:1] != (rows,):
        raise _invalid(
            f"{path}: {_TRUTH!r} is {list(truth.shape)}: expected one value for each of the {rows} rows"
        )
    if truth.dtype.kind not in "biufO":
        raise _invalid(f"{path}: {_TRUTH!r} is of type {truth.dtype}: expected numbers or text")
    flat = truth.reshape(-1)
    if flat.dtype == object:
        return flat
    numbers = flat.astype(np.float64)
    unknown = np.flatnonzero(~np.isfinite(numbers))
    if len(unknown):
        raise _invalid(
            f"{path}: {_TRUTH!r} is NaN or infinite in {len(unknown)} of {rows} rows, the first of them row {unknown[0]}: "
            "expected what was true of each; leave out rows of which it is not known"
        )
    return numbers


def _check_classes(prediction: NDArray[Any], truth: NDArray[Any], path: Path) -> None:
    """Refuse a truth of which no class is one of the model's answers: it is not told wrong, but in other words."""
    said, true = ({name_of(each) for each in column.tolist()} for column in (prediction, truth))
    if not said & true:
        raise _invalid(
            f"{path}: {_TRUTH!r} is {_some(true)}, and the model answers {_some(said)}: expected classes as the model "
            "calls them"
        )


def _some(names: set[str]) -> str:
    return _first([repr(name[:40]) for name in sorted(names)])


def _first(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _invalid(words: str) -> VerificationError:
    return VerificationError(words, reason=Reason.BASELINE_INVALID)

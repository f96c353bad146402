"""Notes into `Readings`: the rows of one version as columns, vectorised, and what a version's outputs stand for."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.events import Site
from model_sidecar.monitor.intake import Note, Told
from model_sidecar.monitor.readings import NOWHERE, Readings, Watched
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.names import Version
from model_sidecar.release.roles import roles_of
from model_sidecar.release.tensors import Datatype, TensorSpec
from model_sidecar.serving.stage import Model

NOTES_AT_ONCE = 1024
"""So that no call into numpy holds the interpreter for long: the data plane shares it."""
COLUMNS = 256
"""Of wider inputs the first so many columns are watched."""


@dataclass(frozen=True, slots=True)
class _Column:
    """An input that is watched: its first `width` values of each row, all there are unless the columns ran out."""

    name: str
    datatype: Datatype
    by_row: bool
    width: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """How one loaded version's notes are read. `by_row`: its first dimension counts rows; else a request is one row."""

    watched: Watched
    columns: tuple[_Column, ...]
    by_row: bool


def sheet_of(site: Site, model: Model, baseline: Baseline | None) -> Sheet:
    """How the notes of this version are read.

    Watched are the numeric inputs, flattened behind the dimension that counts rows, wherever that makes the same number
    of values for each row. They are called as the manifest's `features`, where there are as many of them; else `x` for an
    input of one value, and `x[0]`, `x[1]`, … for one of several.
    """
    manifest, signature = model.manifest, model.signature
    first = signature.inputs[0].shape if signature.inputs else ()
    by_row = first[:1] == (-1,)
    columns: list[_Column] = []
    names: list[str] = []
    total = 0
    for spec in signature.inputs:
        rowed = by_row and spec.shape[:1] == (-1,)
        width = _width(spec, rowed=rowed)
        if width is None:
            continue
        total += width
        kept = min(width, COLUMNS - len(names))
        if kept:
            columns.append(_Column(spec.name, spec.datatype, rowed, kept))
            names += [spec.name] if width == 1 else [f"{spec.name}[{index}]" for index in range(kept)]
    if len(manifest.features) == total:
        names = [feature.name for feature in manifest.features[: len(names)]]
    watched = Watched(
        site=site,
        version=model.version,
        manifest=manifest.digest,
        roles=roles_of(manifest.outputs, signature),
        features=tuple(names),
        metrics=manifest.metrics,
        baseline=baseline,
    )
    return Sheet(watched, tuple(columns), by_row)


def told_of(site: Site, version: Version, *, of_numbers: bool) -> Watched:
    """A version of which nothing is known but what its predictions look like."""
    return Watched(
        site=site,
        version=version,
        manifest=NOWHERE,
        roles=OutputRoles("regression" if of_numbers else "classification", "prediction", "confidence"),
        features=(),
        metrics={},
        baseline=None,
    )


def shapes_of(sheet: Sheet, note: Note) -> Hashable:
    """What notes have in common that can be read together: the shapes of all that is watched, but for how many rows."""
    roles = sheet.watched.roles
    arrays = [note.inputs.get(column.name) for column in sheet.columns]
    arrays += [note.outputs.get(name) for name in (roles.prediction, roles.confidence) if name is not None]
    rowed = (note.rows,) if sheet.by_row else ()
    return tuple(
        None if each is None else (True, each.shape[1:]) if each.shape[:1] == rowed else (False, each.shape)
        for each in arrays
    )


def says_all(sheet: Sheet, readings: Readings) -> bool:
    """Whether the readings have a prediction and a confidence where the roles name one."""
    roles = sheet.watched.roles
    if roles.prediction is not None and readings.prediction is None:
        return False
    return roles.task == "regression" or roles.confidence is None or readings.confidence is not None


def read(sheet: Sheet, notes: Sequence[Note]) -> Readings:
    """At most `NOTES_AT_ONCE` notes of this version, at least one, each of a row or more, as columns.

    Raises:
        ValueError: a watched input does not have as many rows as its request, or values of a row, as others do.
    """
    # Columns at once: a third of the work here would be looking up attributes, note by note.
    _, _, names, inputs, outputs_of, rows_of, keys = zip(*notes, strict=True)
    alone = not sheet.by_row or rows_of.count(1) == len(rows_of)
    counts = np.ones(len(notes), np.int64) if alone else np.array(rows_of, np.int64)
    ids = _firsts(names)
    total = int(counts.sum())
    if alone:
        rows = np.zeros(total, np.int32)
    else:
        starts = np.cumsum(counts) - counts
        rows = (np.arange(total) - np.repeat(starts, counts)).astype(np.int32)
    outputs = _outputs(outputs_of, counts, alone=alone)
    prediction, score, confidence = _said(sheet.watched.roles, outputs, total)
    return Readings(
        ids=np.repeat(ids, counts),
        rows=rows,
        process=names[0][17:],
        features=_features(sheet, inputs, counts, total=total, alone=alone),
        prediction=prediction,
        score=score,
        confidence=confidence,
        nonfinite=_nonfinite(outputs_of, outputs, counts, total),
        keys=np.repeat(_hashes(keys), counts),
    )


def read_told(told: Sequence[Told], *, of_numbers: bool) -> Readings:
    """Predictions that were made elsewhere, all numbers or all labels, as columns."""
    count = len(told)
    ids = _firsts([each.prediction_id for each in told])
    values = [each.prediction for each in told]
    numbers = np.array(values, np.float64) if of_numbers else None
    confidence = np.array([each.confidence for each in told], np.float64)
    return Readings(
        ids=ids,
        rows=np.zeros(count, np.int32),
        process=told[0].prediction_id[17:],
        features=np.empty((count, 0)),
        prediction=numbers if numbers is not None else np.array(values, object),
        score=None,
        confidence=None if np.isnan(confidence).all() else confidence,
        nonfinite=np.zeros(count, np.bool_) if numbers is None else ~np.isfinite(numbers),
        keys=np.zeros(count, np.int64),
    )


def _firsts(names: Sequence[str]) -> NDArray[np.int64]:
    """The first parts of prediction ids, 16 hexadecimal digits each."""
    digits = np.frombuffer("".join(names).encode(), np.uint8).reshape(len(names), -1)[:, :16]
    return np.frombuffer(bytes.fromhex(digits.tobytes().decode()), ">i8").astype(np.int64)


def _width(spec: TensorSpec, *, rowed: bool) -> int | None:
    """How many values of this input belong to a row; None where it is not watched."""
    shape = spec.shape[1:] if rowed else spec.shape
    if spec.datatype is Datatype.BYTES or -1 in shape:
        return None
    return math.prod(shape)


def _hashes(keys: Sequence[str | int | None]) -> NDArray[np.int64]:
    if keys.count(None) == len(keys):
        return np.zeros(len(keys), np.int64)
    # Of one process only, and not to be guessed outside of it: nobody can choose keys that fall together.
    return np.array([0 if key is None else hash(("monitor_key", key)) or 1 for key in keys], np.int64)


def _features(
    sheet: Sheet,
    inputs: Sequence[Mapping[str, NDArray[Any]]],
    counts: NDArray[np.int64],
    *,
    total: int,
    alone: bool,
) -> NDArray[np.float64]:
    made = np.empty((total, len(sheet.watched.features)))
    at = 0
    for column in sheet.columns:
        arrays = list(map(itemgetter(column.name), inputs))
        if column.by_row:
            # Each, not only in sum: what one has too few of is not another's.
            lines = _lines_of_one(arrays) if alone else None
            if lines is None:
                if [len(each) for each in arrays] != counts.tolist():
                    raise ValueError(f"input {column.name!r} has other rows than its request")
                lines = np.concatenate(arrays)
            flat = lines.reshape(total, -1)[:, : column.width]
        else:
            flat = np.stack(arrays).reshape(len(inputs), -1)[:, : column.width]
        if column.datatype is Datatype.BF16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        made[:, at : at + column.width] = flat if column.by_row else np.repeat(flat, counts, axis=0)
        at += column.width
    return made


def _outputs(
    outputs: Sequence[Mapping[str, NDArray[Any]]], counts: NDArray[np.int64], *, alone: bool
) -> dict[str, NDArray[Any] | None]:
    """Each output of these notes, one line for each row; None where it is not there in all, or not a line for each."""
    return {
        name: None if arrays is None else _lines(arrays, counts.tolist(), alone=alone)
        for name, arrays in _columns(outputs).items()
    }


def _columns(outputs: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, list[NDArray[Any]] | None]:
    """The arrays of each output, note by note; None where some note lacks it: one caller asks for these, another for those."""
    if set(map(len, outputs)) == {len(outputs[0])}:
        with suppress(KeyError):  # as many, but others
            return {name: list(map(itemgetter(name), outputs)) for name in outputs[0]}
    return {
        name: [each[name] for each in outputs] if all(name in each for each in outputs) else None
        for name in dict.fromkeys(chain.from_iterable(outputs))
    }


def _lines(arrays: Sequence[NDArray[Any]], counts: Sequence[int], *, alone: bool) -> NDArray[Any] | None:
    if alone and (lines := _lines_of_one(arrays)) is not None:
        return lines
    if [len(array) if array.ndim else None for array in arrays] == counts:
        try:
            return np.concatenate(arrays)
        except ValueError:
            return None
    if sum(counts) != len(arrays) or len({array.shape for array in arrays}) != 1:
        return None
    return np.stack(arrays)  # a request is a row, whatever its shape


def _lines_of_one(arrays: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
    """One line of each, as numpy would put them together, in a quarter of the time; None where they are not so alike.

    All are of one tensor of one version, and so of one datatype.
    """
    first = arrays[0]
    try:
        if (
            first.dtype == object
            or set(map(len, arrays)) != {1}
            or len({each.nbytes for each in arrays}) != 1
        ):
            return None
        joined = b"".join(arrays)  # type: ignore[arg-type]  # an array is a buffer, where its bytes lie together
    except TypeError:  # they do not, or one has no dimension
        return None
    return np.frombuffer(joined, first.dtype).reshape(len(arrays), *first.shape[1:])


def _said(
    roles: OutputRoles, outputs: Mapping[str, NDArray[Any] | None], total: int
) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """The columns of prediction, score and confidence, by what the version's roles say."""
    said = None if roles.prediction is None else outputs.get(roles.prediction)
    scores = None if roles.confidence is None else outputs.get(roles.confidence)
    if said is None or total == 0:
        return None, None, None
    said = said.reshape(total, -1)
    shares = None
    if scores is not None and scores.dtype.kind == "f":
        shares = scores.reshape(total, -1).astype(np.float64)
        if shares.shape[1] > 1:
            shares = _as_shares(shares)
    prediction: NDArray[Any] | None
    if said.shape[1] == 1:
        prediction = said[:, 0] if said.dtype == object else said[:, 0].astype(np.float64)
    elif roles.task == "classification" and said.dtype.kind == "f":
        # NaN is no class: where one score is NaN, so is the prediction.
        prediction = said.argmax(axis=1).astype(np.float64)
        prediction[np.isnan(said).any(axis=1)] = np.nan
        shares = _as_shares(said.astype(np.float64)) if shares is None else shares
    else:
        prediction = None
    if prediction is None:
        return None, None, None
    if roles.task == "regression":
        return prediction, None if prediction.dtype == object else prediction, None
    score = shares[:, 1] if shares is not None and shares.shape[1] == 2 else None
    return prediction, score, None if shares is None else shares.max(axis=1)


def _as_shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of classes as shares of one: as they are where they are that, else their softmax (logits)."""
    with np.errstate(invalid="ignore", over="ignore"):
        fits = (scores >= 0).all(axis=1) & (np.abs(scores.sum(axis=1) - 1) <= 1e-3)
        if fits.all():
            return scores
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.where(fits[:, None], scores, powers / powers.sum(axis=1, keepdims=True))


def _nonfinite(
    noted: Sequence[Mapping[str, NDArray[Any]]],
    outputs: Mapping[str, NDArray[Any] | None],
    counts: NDArray[np.int64],
    total: int,
) -> NDArray[np.bool_]:
    found = np.zeros(total, np.bool_)
    for name, column in outputs.items():
        if column is None:
            # No line for each row, or not there in every note: of each note that says it, by row if it has rows.
            at = 0
            for each, rows in zip(noted, counts.tolist(), strict=True):
                found[at : at + rows] |= _spoiled(each.get(name), rows)
                at += rows
        elif column.dtype.kind == "f" and total:
            found |= ~np.isfinite(column).reshape(total, -1).all(axis=1)
    return found


def _spoiled(output: NDArray[Any] | None, rows: int) -> NDArray[np.bool_] | bool:
    """Which rows of one note this output has something in that is not finite; all where it has no line for each."""
    if output is None or output.dtype.kind != "f" or bool(np.isfinite(output).all()):
        return False
    return ~np.isfinite(output).reshape(rows, -1).all(axis=1) if output.shape[:1] == (rows,) else True

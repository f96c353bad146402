"""Whether a version gains by running several requests' rows at once, and may: found out by trying, in a trial's child.

It may where each row is answered bit for bit as by itself, whatever rows stand beside it. A graph does not say so (a
normalisation over the first axis looks like one over the second), so rows that differ are run alone and together. That
is evidence, not proof; what does not agree to the last bit is never batched, and neither is what looks at all rows by its
very definition.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import DeadlineOverError, InferenceFailedError, InvalidInputError
from model_sidecar.model.anatomy import Operator
from model_sidecar.model.execution import INLINE_S, Batching
from model_sidecar.model.golden import Example
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.rehearsal import synthetic
from model_sidecar.release.tensors import Arrays, Signature

_ROWS = 8
# A gain counts from here on, at eight rows; each doubling beyond must still make a row so much cheaper (ADR 10).
_PAYS = 0.6
_PAYS_ON = 0.9
# Two rows tell already that there is nothing to gain, at a quarter of the price.
_NO_GAIN = 0.9
_ODD = (2, 3, 5)
_RUNS = 3
_BUDGET_S = 3.0
"""What all of it may take: a start waits for it, once for each version."""
_SHARE = 4
# Where made-up rows lie: around so much of what they are made from, and how far. Few models are blind to all of these; to one
# that clips what it is given, small rows are the only ones that differ in how large they are.
_SPREADS = ((1.0, 1.0), (0.0, 0.01), (1.0, 10.0), (1.0, 100.0))
_SEED = 10
# What one caller's row may hold, and no other's answer may show.
_POISONS = (np.nan, np.inf, -np.inf)
# These take one scale from the largest and the smallest of all values, other callers' among them. Made-up rows may all be
# clipped to the same ones (onnx.ai, "DynamicQuantizeLinear"; onnxruntime's ContribOperators.md).
_SCALED_TOGETHER = frozenset(
    {
        Operator("", "DynamicQuantizeLinear"),
        Operator("com.microsoft", "DynamicQuantizeLSTM"),
        Operator("com.microsoft", "DynamicQuantizeMatMul"),
    }
)


class _UnfitError(Exception):
    """The version cannot be batched; the message says why."""


class Found(NamedTuple):
    """What a probe found: what runs of several rows cost, or else why there are to be none."""

    batching: Batching | None
    why: str = ""


def probe(model: LoadedModel, examples: Sequence[Example], *, max_rows: int) -> Found:
    """What a version gains by runs of up to `max_rows` rows, if it gains anything and may be batched.

    Takes at most some seconds, and runs the model on made-up values: for a process that may end of it.

    Args:
        model: loaded and rehearsed.
        examples: golden examples, which its rows are made from.
        max_rows: 1 or less: nothing is tried.
    """
    if max_rows <= 1:
        return Found(None, "nobody wants it")
    if model.cost_s <= INLINE_S:
        return Found(None, f"it takes {model.cost_s * 1e6:.0f} us, and is run inline")
    try:
        _check_operators(model.operators)
        _check_signature(model.signature)
        found = _Probe(model, examples).batching(max(max_rows, _ROWS))
    except _UnfitError as error:
        return Found(None, str(error))
    except (DeadlineOverError, InferenceFailedError, InvalidInputError) as error:
        return Found(None, f"several rows fail together: {error}")
    return Found(found.within(max_rows))


class _Probe:
    """Rows that differ, what each is answered alone, and how long that took."""

    def __init__(self, model: LoadedModel, examples: Sequence[Example]) -> None:
        self._model = model
        self._ends = time.monotonic() + _BUDGET_S
        count = _ROWS if model.cost_s * _ROWS * _SHARE < _BUDGET_S else _ROWS // 2
        if model.cost_s * count * 2 > _BUDGET_S:
            raise _UnfitError(f"it takes {model.cost_s:.3g} s for one row, which is too long to try")
        self._rows: list[Arrays] = []
        self._answers: list[Arrays] = []
        for row in _variations(_base(model, examples), model.signature):
            try:
                answer = self._run(row)
            except (InferenceFailedError, InvalidInputError):
                continue  # nobody said that it takes such values
            _check_rows(answer, 1)
            self._rows.append(row)
            self._answers.append(answer)
            if len(self._rows) == count:
                break
        # -0.0 is no other answer than 0.0.
        plain = [
            {name: array + 0 if array.dtype.kind == "f" else array for name, array in answer.items()}
            for answer in self._answers
        ]
        told_apart = {_content(answer) for answer in plain}
        if len(self._rows) < count or len(told_apart) < count // 2:
            raise _UnfitError(
                f"of {len(self._rows)} made-up rows it tells {len(told_apart)} apart, too few to see whether they mix"
            )
        for name in plain[0]:
            if len({_content({name: answer[name]}) for answer in plain}) < 2:
                # Whether it looks at other rows, nobody could see.
                raise _UnfitError(f"output {name!r} is the same for all {len(plain)} made-up rows")
        self._alone_s = min(self._timed(row) for row in self._rows[:_RUNS])

    def batching(self, max_rows: int) -> Batching:
        """The costs as far as they pay; `max_rows` as in `probe`."""
        costs = [(1, 1.0)]
        for rows in (*_ODD, *_doublings(max_rows)):
            if time.monotonic() + rows * self._alone_s > self._ends:
                break
            cost = self._together(rows)
            each = cost / rows
            if rows == _ODD[0] and each > _NO_GAIN:
                raise _UnfitError(f"a row takes {each:.2f} of its time where two are run at once")
            if rows == _ROWS and each > _PAYS:
                raise _UnfitError(f"a row takes {each:.2f} of its time where {rows} are run at once")
            best = min(have / count for count, have in costs)
            if rows > _ROWS and each > _PAYS_ON * best:
                break
            # A run of more rows is never taken to be cheaper than one of fewer.
            costs.append((rows, max(cost, costs[-1][1])))
        if costs[-1][0] < _ROWS:
            raise _UnfitError("there was no time to try it with enough rows")
        self._check_poisoned()
        return Batching(tuple(costs))

    def _check_poisoned(self) -> None:
        """Raise where one row that is not finite changes what others are answered."""
        for poison in _POISONS:
            rows = list(self._rows)
            rows[0] = {
                name: np.full_like(array, poison) if array.dtype.kind == "f" else array
                for name, array in rows[0].items()
            }
            batch = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
            try:
                answer = self._run(batch)
            except (InferenceFailedError, InvalidInputError):
                continue  # then each is run by itself
            _check_rows(answer, len(rows))
            for at in range(1, len(rows)):
                own = {name: array[at : at + 1] for name, array in answer.items()}
                if _content(own) != _content(self._answers[at]):
                    raise _UnfitError(f"beside a row of {poison}, a row is answered otherwise than alone")

    def _together(self, rows: int) -> float:
        """What a run of so many rows takes, in runs of one; raises where a row's answer is not its own."""
        # In another order each time; 3 has no factor in common with their number.
        order = [(rows + 3 * at) % len(self._rows) for at in range(rows)]
        batch = {name: np.concatenate([self._rows[at][name] for at in order]) for name in self._rows[0]}
        answer = self._run(batch)
        _check_rows(answer, rows)
        for place, at in enumerate(order):
            own = {name: array[place : place + 1] for name, array in answer.items()}
            if _content(own) != _content(self._answers[at]):
                raise _UnfitError(f"among {rows} rows, a row is answered otherwise than alone")
        runs = _RUNS if rows * self._alone_s * _RUNS * _SHARE < _BUDGET_S else 1
        return min(self._timed(batch) for _ in range(runs)) / self._alone_s

    def _run(self, inputs: Arrays) -> Arrays:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise _UnfitError(f"trying it took longer than {_BUDGET_S:g} s")
        return self._model.run(inputs, timeout_s=left)

    def _timed(self, inputs: Arrays) -> float:
        # The thread's own time, for onnxruntime works in it alone: a busy machine takes a gain for a loss otherwise.
        begun = time.thread_time()
        self._model.run(inputs)
        return time.thread_time() - begun


def _check_operators(operators: frozenset[Operator]) -> None:
    together = sorted(operator.name for operator in operators & _SCALED_TOGETHER)
    if together:
        raise _UnfitError(f"{' and '.join(together)} scales each row by what the others hold")


def _check_signature(signature: Signature) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if spec.shape[:1] != (-1,):
            raise _UnfitError(
                f"{spec} has no first dimension of any size, along which rows could be put together"
            )


def _check_rows(answer: Arrays, rows: int) -> None:
    for name, array in answer.items():
        if array.shape[:1] != (rows,):
            raise _UnfitError(f"for {rows} rows, output {name!r} has shape {list(array.shape)}")


def _doublings(most: int) -> Iterator[int]:
    rows = _ROWS
    while rows < most:
        yield rows
        rows *= 2
    yield most


def _base(model: LoadedModel, examples: Sequence[Example]) -> list[Arrays]:
    """Rows of one shape: those of the golden examples, or one that is made up."""
    rows: list[Arrays] = []
    for example in examples:
        counts = {array.shape[0] for array in example.inputs.values()}
        if len(counts) != 1:
            continue
        for at in range(min(counts.pop(), _ROWS)):
            row = {name: array[at : at + 1] for name, array in example.inputs.items()}
            if not rows or all(row[name].shape == rows[0][name].shape for name in row):
                rows.append(row)
    if rows:
        return rows[:_ROWS]
    made = synthetic(model.signature.inputs)
    if made is None:
        raise _UnfitError("there are no golden examples, and made-up rows would be very large")
    return [made]


def _variations(base: Sequence[Arrays], signature: Signature) -> Iterator[Arrays]:
    """Rows that differ: those that there are, then others around them, in pairs on either side.

    At last with floating-point numbers changed only, for whole numbers may be indices.
    """
    yield from base
    random = np.random.default_rng(_SEED)
    for numbers_only in (False, True):
        for number, (share, spread) in enumerate(_SPREADS * 2):
            around = base[number % len(base)]
            steps = {name: random.standard_normal(array.shape) for name, array in around.items()}
            for side in (1.0, -1.0):
                yield {
                    spec.name: _moved(
                        around[spec.name], share, side * spread * steps[spec.name], numbers_only=numbers_only
                    )
                    for spec in signature.inputs
                }


def _moved(array: NDArray[Any], share: float, by: NDArray[np.float64], *, numbers_only: bool) -> NDArray[Any]:
    if array.dtype.kind == "f":
        around = share * array.astype(np.float64)
        return np.asarray(around + by * np.maximum(1.0, np.abs(around))).astype(array.dtype)
    if numbers_only:
        return array
    chosen = by > 0
    match array.dtype.kind:
        case "b":
            return np.asarray(array ^ chosen)
        case "i" | "u":
            # A neighbour, never below zero, for most whole numbers are counts or indices.
            return np.asarray(
                np.where(chosen, np.where(array > 0, array - 1, array + 1), array), dtype=array.dtype
            )
        case _:
            texts = [
                f"{text}a" if moved else text for text, moved in zip(array.flat, chosen.flat, strict=True)
            ]
            return np.array(texts, dtype=object).reshape(array.shape)


def _content(answer: Arrays) -> tuple[object, ...]:
    """What is equal for answers that are equal to the last bit."""
    return tuple(
        tuple(array.flat) if array.dtype == object else (array.shape[1:], array.tobytes())
        for _, array in sorted(answer.items())
    )

"""The rehearsal: a candidate answers its golden examples before it may answer anybody else.

A file can be exactly what was published and still be a bad export; that a session loads says little (27 of 90 models
with one flipped bit loaded and ran). What it answers says more. The first calls are also the slow ones, so that no
caller has to wait for them.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.errors import (
    DeadlineOverError,
    InferenceFailedError,
    InvalidInputError,
    Reason,
    VerificationError,
)
from model_sidecar.model.golden import Example, check_examples, read_examples
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.session import is_out_of_memory, shortened
from model_sidecar.release.manifest import GOLDEN, Golden
from model_sidecar.release.tensors import Arrays, Datatype, TensorSpec
from model_sidecar.store.verifying import VerifiedVersion

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0
"""How long one rehearsal call may take: a model that never answers must not hold up the next one."""
_MEASURE_S = 0.05
_MEASURE_CALLS = 7
_LARGEST_SYNTHETIC = 1 << 26
_FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rehearsal found.

    Attributes:
        examples: how many golden examples were answered; 0 where the version has none, and was only warmed.
        worst: the largest absolute difference from an expected number.
        cost_s: seconds that one call takes, once warm.
        input_bytes: how much that call was given; 0 where none could be measured.
    """

    examples: int
    worst: float
    cost_s: float
    input_bytes: int


def rehearse(model: LoadedModel, verified: VerifiedVersion, *, timeout_s: float = TIMEOUT_S) -> Rehearsal:
    """Let a loaded version answer its golden examples, or where it has none warm it with zeros and empty texts.

    Sets the model's `cost_s` and `warm_bytes`. Costs one call per example, and some 50 ms.

    Args:
        model: the loaded version.
        verified: its files, still open.
        timeout_s: how long one call may take.

    Raises:
        VerificationError: GOLDEN_INVALID; the examples are none of this model. GOLDEN_MISMATCH; it answers otherwise.
            OUTPUT_NOT_FINITE; it answers NaN or infinity where the example does not. MODEL_TIMED_OUT, MODEL_OUT_OF_MEMORY;
            it takes too long, or too much.
    """
    golden = golden_of(verified)
    if golden is None:
        found = _warm(model, timeout_s)
    else:
        found = _answer(model, read_examples(verified.files[golden.path]), golden, timeout_s)
    model.cost_s = found.cost_s
    model.warm_bytes = found.input_bytes
    return found


def golden_of(verified: VerifiedVersion) -> Golden | None:
    """Where the version's golden examples are and how closely they must be met; None where it has none."""
    golden = verified.manifest.golden
    return Golden(GOLDEN) if golden is None and GOLDEN in verified.files else golden


def _answer(model: LoadedModel, examples: tuple[Example, ...], golden: Golden, timeout_s: float) -> Rehearsal:
    check_examples(examples, model.signature, name=golden.path)
    outputs = {spec.name: spec for spec in model.signature.outputs}
    worst, rehearsed = 0.0, []
    for number, example in enumerate(examples, start=1):
        where = f"{golden.path}, call {number}"
        try:
            answer, took_s = _call(model, example.inputs, timeout_s)
        except (InferenceFailedError, InvalidInputError) as error:
            _check_memory(error, where)
            why = str(error.__cause__ or error)
            raise VerificationError(
                f"{where}: the model fails where it should answer: {' '.join(why.split())[:300]}",
                reason=Reason.GOLDEN_MISMATCH,
            ) from error
        rehearsed.append(took_s)
        for name, spec in outputs.items():
            worst = max(worst, _compare(spec, answer[name], example.outputs.get(name), golden, where))
    inputs = examples[0].inputs
    return Rehearsal(len(examples), worst, _cost(model, inputs, rehearsed), _size(inputs))


def _warm(model: LoadedModel, timeout_s: float) -> Rehearsal:
    inputs = synthetic(model.signature.inputs)
    if inputs is None:
        return Rehearsal(0, 0.0, model.cost_s, 0)
    try:
        _, took_s = _call(model, inputs, timeout_s)
        return Rehearsal(0, 0.0, _cost(model, inputs, [took_s]), _size(inputs))
    except (InferenceFailedError, InvalidInputError) as error:
        _check_memory(error, "warm-up with zeros")
        # Nobody said that the model takes zeros.
        log.debug("warm-up with zeros failed: %s", error.__cause__ or error, extra={"version": model.version})
        return Rehearsal(0, 0.0, model.cost_s, 0)


def _call(model: LoadedModel, inputs: Arrays, timeout_s: float) -> tuple[dict[str, NDArray[Any]], float]:
    """The answer, and the seconds that it took."""
    begun = time.perf_counter()
    try:
        return model.run(inputs, timeout_s=timeout_s), time.perf_counter() - begun
    except DeadlineOverError as error:
        raise VerificationError(
            f"version {model.version} did not answer a rehearsal call within {timeout_s:g} s",
            reason=Reason.MODEL_TIMED_OUT,
        ) from error


def _check_memory(error: Exception, where: str) -> None:
    """Refuse a model whose call failed for want of memory: without a limit it would have taken the machine's."""
    if is_out_of_memory(error):
        raise VerificationError(
            f"{where}: the model takes more memory than there is: {shortened(error.__cause__ or error)}",
            reason=Reason.MODEL_OUT_OF_MEMORY,
        ) from error


def _size(inputs: Arrays) -> int:
    """About as many bytes as a request with these inputs has."""
    return sum(
        sum(4 + len(text) for text in array.flat) if array.dtype == object else array.nbytes
        for array in inputs.values()
    )


def _cost(model: LoadedModel, inputs: Arrays, rehearsed: list[float]) -> float:
    """The median of a few calls with inputs that the model just answered; of those it answered if it is slow."""
    if rehearsed[0] > _MEASURE_S:
        return statistics.median(rehearsed[1:] or rehearsed)
    took: list[float] = []
    while len(took) < _MEASURE_CALLS and sum(took) < _MEASURE_S:
        begun = time.perf_counter()
        # Without the limit, whose thread is most of what would be measured of a small model.
        model.run(inputs)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def synthetic(specs: tuple[TensorSpec, ...]) -> Arrays | None:
    """Zeros, False and empty texts, with 1 for every free dimension; None where that would be very large."""
    shapes = {spec.name: tuple(1 if size < 0 else size for size in spec.shape) for spec in specs}
    if sum(math.prod(shape) for shape in shapes.values()) > _LARGEST_SYNTHETIC:
        return None
    return {
        spec.name: np.full(shapes[spec.name], "", dtype=object)
        if spec.datatype is Datatype.BYTES
        else np.zeros(shapes[spec.name], spec.datatype.numpy)
        for spec in specs
    }


def _compare(
    spec: TensorSpec,
    found: NDArray[Any],
    expected: NDArray[Any] | None,
    golden: Golden,
    where: str,
) -> float:
    """The largest difference of one output from what is expected; `expected` is None where the example is silent."""
    if expected is not None and found.shape != expected.shape:
        raise _mismatch(
            f"{where}: output {spec.name!r} has shape {list(found.shape)}: expected {list(expected.shape)}"
        )
    if spec.datatype in _FLOATS:
        return _compare_floats(spec, found, expected, golden, where)
    if expected is None:
        return 0.0
    differ = np.asarray(found != expected, dtype=bool)
    if differ.any():
        index = _first(differ)
        raise _mismatch(
            f"{where}: output {spec.name!r}{list(index)} is {_shown(found[index])}: expected {_shown(expected[index])} "
            f"({int(differ.sum())} of {differ.size} differ)"
        )
    return 0.0


def _compare_floats(
    spec: TensorSpec, found: NDArray[Any], expected: NDArray[Any] | None, golden: Golden, where: str
) -> float:
    have = _as_doubles(spec, found)
    want = have if expected is None else _as_doubles(spec, expected)
    finite = np.isfinite(have)
    if expected is None:
        strange = ~finite
    else:
        same = (have == want) | (np.isnan(have) & np.isnan(want))
        strange = ~finite & ~same
    if strange.any():
        index = _first(strange)
        instead = "a finite number" if expected is None else f"{want[index]:.9g}"
        raise VerificationError(
            f"{where}: output {spec.name!r}{list(index)} is {have[index]:.9g}: expected {instead} "
            f"({int(strange.sum())} of {strange.size} are not finite). Where that is right, the golden outputs say so",
            reason=Reason.OUTPUT_NOT_FINITE,
        )
    if expected is None:
        return 0.0
    comparable = finite & np.isfinite(want)
    difference = np.abs(np.where(comparable, have, 0.0) - np.where(comparable, want, 0.0))
    beyond = (difference > golden.atol + golden.rtol * np.abs(np.where(comparable, want, 0.0))) | (
        finite & ~np.isfinite(want)
    )
    worst = float(difference.max(initial=0.0))
    if beyond.any():
        index = _first(beyond)
        raise _mismatch(
            f"{where}: output {spec.name!r}{list(index)} is {have[index]:.9g}: expected {want[index]:.9g} within "
            f"atol {golden.atol:g} and rtol {golden.rtol:g} ({int(beyond.sum())} of {beyond.size} differ, the worst by "
            f"{worst:.9g})"
        )
    return worst


def _as_doubles(spec: TensorSpec, array: NDArray[Any]) -> NDArray[np.float64]:
    if spec.datatype is Datatype.BF16:
        # A BF16 number is the upper half of an FP32 one.
        array = (array.astype("<u4") << 16).view("<f4")
    return array.astype(np.float64)


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(each) for each in np.unravel_index(int(mask.argmax()), mask.shape)) if mask.shape else ()


def _shown(value: object) -> str:
    return repr(value)[:80]


def _mismatch(words: str) -> VerificationError:
    return VerificationError(words, reason=Reason.GOLDEN_MISMATCH)

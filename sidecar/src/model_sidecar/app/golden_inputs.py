"""Golden examples out of golden inputs: what the model answers today is what it must answer tomorrow.

They show a damaged copy, another runtime's other numbers, a preprocessing that does not belong; not a model that was
wrong to begin with.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import DeadlineOverError, InferenceFailedError, Reason, VerificationError
from model_sidecar.model.golden import Example, check_examples, examples_in
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.rehearsal import TIMEOUT_S, Rehearsal, rehearse
from model_sidecar.release.tensors import Arrays, TensorSpec
from model_sidecar.store.verifying import VerifiedVersion


def answered(loaded: LoadedModel, golden_inputs: Path) -> list[Example]:
    """The calls in the file, with what the model answers to them.

    Args:
        loaded: the model.
        golden_inputs: an `.npz` file of arrays `<input>` or `input:<input>`; further calls end in `@2`, `@3`.

    Raises:
        VerificationError: GOLDEN_INVALID, the file is none, or the model does not take or cannot answer it;
            OUTPUT_NOT_FINITE, it answers NaN or infinity.
        StoreError: the file cannot be read.
    """
    specs = {spec.name: spec for spec in loaded.signature.inputs}
    examples = []
    for asked in examples_in(_prefixed(golden_inputs), name=golden_inputs.name, outputs=False):
        inputs = {name: fitted(array, specs.get(name)) for name, array in asked.inputs.items()}
        check_examples([Example(inputs, {})], loaded.signature, name=golden_inputs.name)
        try:
            outputs = loaded.run(inputs, timeout_s=TIMEOUT_S)
        except (InferenceFailedError, DeadlineOverError) as error:
            raise VerificationError(
                f"the model cannot answer the inputs of {golden_inputs}: {error.__cause__ or error}",
                reason=Reason.GOLDEN_INVALID,
            ) from error
        examples.append(Example(inputs, _finite(outputs, golden_inputs)))
    return examples


def rehearse_made(loaded: LoadedModel, verified: VerifiedVersion) -> Rehearsal:
    """Rehearse a version that has its own answers as examples, twice: they agree at once, unless it draws lots.

    Twice in one session, for onnxruntime has one seed per process, and every new session draws the same numbers from it.

    Raises:
        VerificationError: GOLDEN_MISMATCH, the model is not deterministic; and what else `rehearse` raises.
    """
    try:
        rehearse(loaded, verified)
        return rehearse(loaded, verified)
    except VerificationError as error:
        if error.reason is not Reason.GOLDEN_MISMATCH:
            raise
        raise VerificationError(
            f"the model is not deterministic: asked again, it answers otherwise ({error}); export it in inference mode, "
            "without dropout or sampling",
            reason=Reason.GOLDEN_MISMATCH,
        ) from error


def rows_of(examples: Sequence[Example]) -> int:
    """How many rows the calls have together: of each, those of the input that has most."""
    return sum(max(len(array) if array.ndim else 1 for array in each.inputs.values()) for each in examples)


def _prefixed(path: Path) -> io.BytesIO:
    """The `.npz` file with `input:` before the names that lack it."""
    prefixed = io.BytesIO()
    try:
        with store_faults(path), zipfile.ZipFile(path) as archive, zipfile.ZipFile(prefixed, "w") as written:
            for entry in archive.infolist():
                name = entry.filename if entry.filename.startswith("input:") else f"input:{entry.filename}"
                written.writestr(name, archive.read(entry))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise VerificationError(
            f"{path} is not an .npz file that can be read: {error}", reason=Reason.GOLDEN_INVALID
        ) from error
    return prefixed


def fitted(array: NDArray[Any], spec: TensorSpec | None) -> NDArray[Any]:
    """The array in the model's width of number: numpy makes 64-bit ones where nobody says otherwise."""
    if spec is None or array.dtype.kind != spec.datatype.numpy.kind or array.dtype.kind not in "fiu":
        return array
    narrow = array.astype(spec.datatype.numpy)
    return narrow if array.dtype.kind == "f" or np.array_equal(narrow, array) else array


def _finite(outputs: Arrays, golden_inputs: Path) -> Arrays:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise VerificationError(
                f"output {name!r} is not finite for the inputs of {golden_inputs}: no example can be made of that",
                reason=Reason.OUTPUT_NOT_FINITE,
            )
    return outputs

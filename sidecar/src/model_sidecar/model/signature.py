"""What a session takes and gives, in the Open Inference Protocol's words; and what two of them in a row do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.manifest import MODEL, PREPROCESSING
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

ANY_RANK = (-1,)
"""The shape told of an output that has no fixed number of dimensions: the protocol has no word for it."""

_DATATYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}


def read_signature(session: ort.InferenceSession, *, unshaped: frozenset[str], name: str) -> Signature:
    """A session's inputs that must be given, and its outputs. A symbolic dimension is -1.

    Args:
        session: of the model. Inputs that have a default in the file are none that must be given.
        unshaped: names of tensors whose file does not tell their number of dimensions; onnxruntime shows such a tensor
            like a scalar.
        name: the file's name for the error's words.

    Raises:
        VerificationError: OUTPUT_UNSUPPORTED; a tensor that the protocol cannot carry. MODEL_INVALID; no input at all.
    """
    made = Signature(
        inputs=tuple(_spec(each, "input", unshaped, name) for each in session.get_inputs()),
        outputs=tuple(_spec(each, "output", unshaped, name) for each in session.get_outputs()),
    )
    if not made.inputs or not made.outputs:
        raise VerificationError(
            f"{name} has {len(made.inputs)} inputs and {len(made.outputs)} outputs: expected one of each at least",
            reason=Reason.MODEL_INVALID,
            file=name,
        )
    if _has(made.inputs, Datatype.BYTES) and _has(made.outputs, Datatype.BF16):
        raise _unsupported(
            name,
            f"{name} takes BYTES and gives BF16, which onnxruntime's Python interface cannot do in one call: cast the "
            "output to FP32",
        )
    return made


def joined(
    preprocessing: Signature, model: Signature, *, unshaped: frozenset[str] = frozenset()
) -> Signature:
    """What a caller gives to, and gets from, preprocessing and model in a row.

    Every output of preprocessing is an input of the model. Inputs of the model that preprocessing does not make come
    from the caller, beside those of preprocessing. Where both have the same name, one tensor feeds both.

    Args:
        preprocessing: the first graph.
        model: the second.
        unshaped: outputs of preprocessing of which nobody can tell whether their shape fits.

    Raises:
        VerificationError: PREPROCESSING_MISMATCH; the two do not fit. Both tensors are named.
    """
    from_caller = {spec.name: spec for spec in model.inputs}
    for made in preprocessing.outputs:
        wanted = from_caller.pop(made.name, None)
        if wanted is None:
            names = ", ".join(repr(spec.name) for spec in model.inputs)
            raise _mismatch(
                f"{PREPROCESSING} makes {made}, which {MODEL} does not take: it takes {names}. Name the output so"
            )
        if made.datatype != wanted.datatype or not (made.name in unshaped or _fit(made.shape, wanted.shape)):
            raise _mismatch(f"{PREPROCESSING} makes {made}, but {MODEL} takes {wanted}")
    inputs = []
    for spec in preprocessing.inputs:
        other = from_caller.pop(spec.name, None)
        if other is not None and (spec.datatype != other.datatype or not _fit(spec.shape, other.shape)):
            raise _mismatch(
                f"{PREPROCESSING} takes {spec}, and {MODEL} takes {other} from the same request: one tensor cannot be "
                "both. Rename one of them"
            )
        shape = spec.shape if other is None else _narrower(spec.shape, other.shape)
        inputs.append(TensorSpec(spec.name, spec.datatype, shape))
    return Signature(inputs=(*inputs, *from_caller.values()), outputs=model.outputs)


def check_promise(promised: Signature | None, found: Signature) -> None:
    """Refuse a version that takes or gives something else than its manifest says; order is no difference.

    Raises:
        VerificationError: SIGNATURE_MISMATCH, naming the first difference.
    """
    if promised is None:
        return
    for side, said, are in (
        ("input", promised.inputs, found.inputs),
        ("output", promised.outputs, found.outputs),
    ):
        have = {spec.name: spec for spec in are}
        for spec in said:
            if have.pop(spec.name, None) != spec:
                actual = next((str(each) for each in are if each.name == spec.name), "none of that name")
                raise _broken_promise(f"the manifest promises {side} {spec}, the model has {actual}")
        for spec in have.values():
            raise _broken_promise(f"the model has {side} {spec}, which the manifest does not tell of")


def _spec(tensor: Any, side: str, unshaped: frozenset[str], file: str) -> TensorSpec:  # onnxruntime's NodeArg
    name: str = tensor.name
    datatype = _DATATYPES.get(tensor.type)
    if datatype is None:
        raise _unsupported(
            file,
            f"{file}: {side} {name!r} is {tensor.type}, which the Open Inference Protocol cannot carry: "
            f"{_advice(tensor.type)}",
        )
    shape = tuple(each if isinstance(each, int) else -1 for each in tensor.shape)
    if not shape and name in unshaped:
        if side == "input":
            raise _unsupported(
                file,
                f"{file}: input {name!r} does not tell its number of dimensions: export it with a shape, free axes "
                "given a name",
            )
        shape = ANY_RANK
    return TensorSpec(name, datatype, shape)


def _advice(kind: str) -> str:
    if "map(" in kind:
        return (
            "export the classifier with skl2onnx's options={'zipmap': False}, so that it gives plain tensors"
        )
    if kind.startswith("seq("):
        return "let the model give one tensor (ConcatFromSequence), or each under a name of its own"
    if kind.startswith("optional("):
        return "export it as a plain tensor that is always there"
    if kind.startswith("sparse_tensor("):
        return "export it as a dense tensor"
    return "cast it to a type of the protocol, such as FP32 or INT64, inside the model"


def _has(specs: Sequence[TensorSpec], datatype: Datatype) -> bool:
    return any(spec.datatype is datatype for spec in specs)


def _fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether some tensor is of both shapes."""
    return len(one) == len(other) and all(-1 in (a, b) or a == b for a, b in zip(one, other, strict=True))


def _narrower(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(a, b) for a, b in zip(one, other, strict=True))


def _unsupported(file: str, words: str) -> VerificationError:
    return VerificationError(words, reason=Reason.OUTPUT_UNSUPPORTED, file=file)


def _mismatch(words: str) -> VerificationError:
    return VerificationError(words, reason=Reason.PREPROCESSING_MISMATCH, file=PREPROCESSING)


def _broken_promise(words: str) -> VerificationError:
    return VerificationError(f"{words}: publish it anew", reason=Reason.SIGNATURE_MISMATCH, file=MODEL)

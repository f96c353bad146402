"""Which output of a model is its prediction and which its confidence: as the manifest says, else by the usual exports.

What the names stand for, for whoever reads outputs: a classification's `prediction` is a label per row, or the scores of
all classes per row, of which the greatest is the prediction (so where `prediction` and `confidence` are the same output).
Its `confidence` is one number per row, or the scores of all classes. A regression's `prediction` is one number per row.
"""

from __future__ import annotations

from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

_LABELS = ("label", "output_label")
_SCORES = ("probabilities", "output_probability", "probability", "scores")
"""What skl2onnx, onnxmltools (xgboost, lightgbm, catboost) and paddle call a classifier's outputs, in any pairing."""
_FLOATS = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})
_CLASSES = frozenset(
    {*(each for each in Datatype if each.name.startswith(("INT", "UINT"))), Datatype.BOOL, Datatype.BYTES}
)


def roles_of(declared: OutputRoles, signature: Signature) -> OutputRoles:
    """The roles that were declared; where none were, those that the signature lets one infer, or none.

    A declared role whose output the signature does not have is left out: a manifest by hand may be wrong, and no
    version is refused for what only watching needs.
    """
    names = {spec.name for spec in signature.outputs}
    if declared.task == "none" and declared.prediction is None:
        return inferred(signature)
    return OutputRoles(
        task=declared.task,
        prediction=declared.prediction if declared.prediction in names else None,
        confidence=declared.confidence if declared.confidence in names else None,
    )


def inferred(signature: Signature) -> OutputRoles:
    """The roles by the names and shapes of the outputs; of what is ambiguous, none.

    - a label with one value per row, and scores: a classifier of skl2onnx, onnxmltools and their kin;
    - one output alone, float, (rows, classes): a network's softmax or logits, of which the greatest counts;
    - one output alone, float, one value per row: a regression (skl2onnx calls it `variable`).
    """
    by_name = {spec.name: spec for spec in signature.outputs}
    label = next((by_name[name] for name in _LABELS if name in by_name), None)
    scores = next((by_name[name] for name in _SCORES if name in by_name), None)
    if label is not None and label.datatype in _CLASSES and _is_column(label):
        known = scores is not None and scores.datatype in _FLOATS
        return OutputRoles(
            "classification", label.name, scores.name if scores is not None and known else None
        )
    if len(signature.outputs) != 1:
        return OutputRoles()
    (only,) = signature.outputs
    if only.datatype not in _FLOATS:
        return OutputRoles()
    if _is_column(only):
        return OutputRoles("regression", only.name, None)
    if len(only.shape) == 2 and only.shape[0] in (-1, 1) and only.shape[1] > 1:
        return OutputRoles("classification", only.name, only.name)
    return OutputRoles()


def _is_column(spec: TensorSpec) -> bool:
    """Whether there is one value per row."""
    return spec.shape[:1] in ((-1,), (1,)) and spec.shape[1:] in ((), (1,))

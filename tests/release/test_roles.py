"""Roles of outputs: as declared, else by the usual exports."""

from __future__ import annotations

import pytest

from model_sidecar.release.manifest import OutputRoles
from model_sidecar.release.roles import inferred, roles_of
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

X = TensorSpec("x", Datatype.FP32, (-1, 2))
NONE = OutputRoles()


def outputs(*given: tuple[str, str, tuple[int, ...]]) -> Signature:
    return Signature((X,), tuple(TensorSpec(name, Datatype(kind), shape) for name, kind, shape in given))


@pytest.mark.parametrize(
    ("signature", "roles"),
    [
        (
            outputs(("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 2))),
            OutputRoles("classification", "label", "probabilities"),
        ),
        (
            outputs(("output_probability", "FP32", (-1, 3)), ("output_label", "BYTES", (-1,))),
            OutputRoles("classification", "output_label", "output_probability"),
        ),
        (outputs(("label", "INT64", (-1, 1))), OutputRoles("classification", "label", None)),
        (outputs(("logits", "FP16", (-1, 10))), OutputRoles("classification", "logits", "logits")),
        (outputs(("softmax", "FP32", (1, 10))), OutputRoles("classification", "softmax", "softmax")),
        (outputs(("variable", "FP32", (-1, 1))), OutputRoles("regression", "variable", None)),
        (outputs(("y", "FP64", (-1,))), OutputRoles("regression", "y", None)),
        (outputs(("scores", "FP32", (-1, -1))), NONE),
        (outputs(("image", "FP32", (-1, 3, 8, 8))), NONE),
        (outputs(("class", "INT64", (-1,))), NONE),
        (outputs(("a", "FP32", (-1,)), ("b", "FP32", (-1,))), NONE),
        (outputs(("label", "FP32", (-1, 4)), ("mask", "FP32", (-1,))), NONE),
    ],
)
def test_roles_are_inferred_from_the_usual_exports(signature: Signature, roles: OutputRoles) -> None:
    """Names of known exporters, or one float output alone; of what is ambiguous nothing is made."""
    assert inferred(signature) == roles


def test_what_the_manifest_declares_stands() -> None:
    """Declared roles come before inferred ones, without outputs that the version does not have."""
    signature = outputs(("label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 2)), ("p", "FP32", (-1,)))
    declared = OutputRoles("regression", "p", None)
    assert roles_of(declared, signature) == declared
    assert roles_of(NONE, signature) == OutputRoles("classification", "label", "probabilities")
    assert roles_of(OutputRoles("classification", "label", "gone"), signature) == OutputRoles(
        "classification", "label"
    )

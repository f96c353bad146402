"""Manifests in both forms, and what is none."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.manifests import ABSENT, DIGEST, content, full_form, nine_fields

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import (
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    Baseline,
    Feature,
    FileEntry,
    Golden,
    OutputRoles,
    Role,
)
from model_sidecar.release.manifest_reading import check_file_name, parse_manifest
from model_sidecar.release.tensors import Datatype, TensorSpec

FILE = {"digest": DIGEST, "size": 1}


def refusal(document: object) -> Reason:
    return refusal_of(document if isinstance(document, bytes) else content(document))


def refusal_of(written: bytes) -> Reason:
    with pytest.raises(VerificationError) as refused:
        parse_manifest(written)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000
    return refused.value.reason


def files(**more: Any) -> dict[str, Any]:
    return {**full_form()["files"], **{name.replace("__", "."): entry for name, entry in more.items()}}


def test_the_nine_fields_are_valid_as_they_stand() -> None:
    """The nine-field form lists one file, of the digest that model_hash says and of no known size."""
    written = content(nine_fields())
    manifest = parse_manifest(written)
    assert manifest.digest == digest_of(written)
    assert (manifest.version, manifest.model, manifest.schema_version) == ("2024.01.15.prod", None, 0)
    assert manifest.files == {"model.onnx": FileEntry(DIGEST, None, Role.MODEL)}
    assert (manifest.metrics, manifest.rollback_target) == ({"accuracy": 0.97, "auc": 1.0}, "2024.01.10.prod")
    assert (manifest.signature, manifest.golden, manifest.outputs) == (None, None, OutputRoles())


def test_the_full_form_says_everything() -> None:
    """Every field of the full form arrives as a value of ours."""
    manifest = parse_manifest(content(full_form()))
    assert manifest.model == "recommendation-v1"
    assert manifest.files["golden.npz"].role is Role.GOLDEN
    assert manifest.signature is not None
    assert manifest.signature.inputs == (TensorSpec("x", Datatype.FP32, (-1, 2)),)
    assert manifest.features == (Feature("age", "numeric"),)
    assert manifest.outputs == OutputRoles("classification", "y", None)
    assert manifest.golden == Golden("golden.npz", 1e-3, 0.0)
    assert manifest.baseline == Baseline("baseline.json", 1000)
    assert manifest.provenance["more"] == {"run": 7}


def test_unknown_fields_are_allowed_anywhere() -> None:
    """An older sidecar reads a newer manifest: fields that it does not know are no reason to refuse."""
    document = full_form(new_field={"x": [1]}, golden={"path": "golden.npz", "metric": "cosine"})
    document["files"]["model.onnx"]["url"] = "somewhere"
    document["signature"]["inputs"][0]["unit"] = "m"
    assert parse_manifest(content(document)).golden == Golden("golden.npz")


def test_the_identity_is_that_of_the_bytes() -> None:
    """Two spellings of one document are two manifests."""
    spellings = [json.dumps(nine_fields(), indent=indent).encode() for indent in (None, 2)]
    assert len({parse_manifest(spelling).digest for spelling in spellings}) == 2


@pytest.mark.parametrize(
    "version", ["2024.02.30.prod", "2024.01.15.prod\n", "latest", "", "２０２４.01.15.prod", None, 5]
)
def test_a_version_off_the_grammar_is_an_invalid_manifest(version: object) -> None:
    """What the manifest calls its version must be a version's name."""
    assert refusal(nine_fields(version=version)) is Reason.MANIFEST_INVALID


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        ".hidden",
        "-rf",
        "a:b",
        "a\0b",
        "a\n",
        "é",
        "x" * 129,
        "C:",
    ],
)
def test_a_file_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    """A listed name is one plain component: no folder, no parent, no root, no hidden file, ASCII."""
    assert refusal(full_form(files={**files(), name: FILE})) is Reason.FILE_NAME_UNSAFE
    with pytest.raises(VerificationError):
        check_file_name(name)


def test_names_that_differ_only_in_case_are_refused() -> None:
    """On a case-insensitive mount they would be one file."""
    assert refusal(full_form(files=files(Model__onnx=FILE))) is Reason.FILE_NAME_UNSAFE


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "Manifest.JSON"])
def test_a_manifest_cannot_list_itself(name: str) -> None:
    """The manifest and the signature over it are in no manifest, in whatever case."""
    assert refusal(full_form(files={**files(), name: FILE})) is Reason.MANIFEST_INVALID


@pytest.mark.parametrize(
    ("name", "role", "reason"),
    [
        ("preprocessing.pkl", "preprocessing", Reason.PREPROCESSING_MISMATCH),
        ("model.onnx", "preprocessing", Reason.PREPROCESSING_MISMATCH),
        ("other.onnx", "model", Reason.MANIFEST_INVALID),
    ],
)
def test_only_the_onnx_files_of_those_names_are_model_and_preprocessing(
    name: str, role: str, reason: Reason
) -> None:
    """A pickle offered as preprocessing is refused, whatever it is called."""
    assert refusal(full_form(files={**files(), name: {**FILE, "role": role}})) is reason


def test_the_model_is_listed_with_its_hash() -> None:
    """model.onnx is listed, and its digest is the model_hash."""
    assert refusal(full_form(files={"golden.npz": FILE})) is Reason.MANIFEST_INVALID
    other = digest_of(b"other")
    assert refusal(full_form(model_hash=other)) is Reason.MODEL_HASH_MISMATCH
    assert refusal(nine_fields(model_hash=DIGEST.upper())) is Reason.MANIFEST_INVALID


def test_a_version_has_a_bounded_number_of_files() -> None:
    """Loading a version cannot use up the process's descriptors."""
    many = {f"weights{number}": FILE for number in range(MAX_FILES)}
    assert refusal(full_form(files={**files(), **many})) is Reason.MANIFEST_INVALID


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", Reason.MANIFEST_INVALID),
        (b"[]", Reason.MANIFEST_INVALID),
        (b"null", Reason.MANIFEST_INVALID),
        (b"\x80\x04\x95", Reason.MANIFEST_INVALID),
        (b'{"version": "2024.01.15.prod", "version": "2024.01.16.prod"}', Reason.DUPLICATE_KEY),
        (content(nine_fields(metrics={"accuracy": float("nan")})), Reason.NOT_A_NUMBER),
        (content(nine_fields(metrics={"loss": float("inf")})), Reason.NOT_A_NUMBER),
        (content(nine_fields()).replace(b"0.97", b"1e999"), Reason.NOT_A_NUMBER),
        (content(nine_fields(note="\ud800")), Reason.MANIFEST_INVALID),
        (content(nine_fields()) + b" " * MAX_MANIFEST_BYTES, Reason.MANIFEST_TOO_LARGE),
        (b'{"a":' * 100_000, Reason.MANIFEST_INVALID),
        (content(nine_fields()) * 2, Reason.MANIFEST_INVALID),
        (content(full_form(files=files(x={**FILE, "role": "a\nb\x1b[31m"}))), Reason.MANIFEST_INVALID),
        (content(full_form(files=files(x={**FILE, "role": "r" * 5000}))), Reason.MANIFEST_INVALID),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_own_reason(written: bytes, reason: Reason) -> None:
    """Every way not to be a manifest has a reason, and a message of one line and a bounded length."""
    assert refusal_of(written) is reason


@pytest.mark.parametrize("missing", ["model", "files", "signature"])
def test_the_full_form_needs_what_the_nine_fields_lack(missing: str) -> None:
    """schema_version 1 without model, files or signature is refused, absent or null."""
    assert (
        refusal(full_form(**{missing: ABSENT, "golden": None, "baseline": None})) is Reason.MANIFEST_INVALID
    )
    assert refusal(full_form(**{missing: None, "golden": None, "baseline": None})) is Reason.MANIFEST_INVALID


@pytest.mark.parametrize("field", ["golden", "baseline"])
def test_a_named_file_is_listed(field: str) -> None:
    """Golden examples and baseline stand in files that are listed, so verified."""
    assert refusal(full_form(**{field: {"path": "elsewhere.npz"}})) is Reason.MANIFEST_INVALID
    assert refusal(nine_fields(**{field: {"path": "golden.npz"}})) is Reason.MANIFEST_INVALID


def test_a_tensor_is_named_once() -> None:
    """A signature that names a tensor twice is refused."""
    tensor = {"name": "x", "datatype": "FP32", "shape": []}
    assert (
        refusal(full_form(signature={"inputs": [tensor] * 2, "outputs": [tensor]})) is Reason.MANIFEST_INVALID
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(full_form())), JSON)
def test_no_value_of_any_field_is_more_than_refused(field: str, value: Any) -> None:
    """Whatever stands in a field, the manifest is read, or refused with an error of ours."""
    with suppress(VerificationError):
        parse_manifest(content(full_form(**{field: value})))


@given(st.data())
def test_a_manifest_cut_off_anywhere_is_refused(data: st.DataObject) -> None:
    """A manifest that is still being copied never passes for a shorter one."""
    written = content(full_form())
    cut = data.draw(st.integers(0, len(written) - 1))
    assert refusal_of(written[:cut]) is Reason.MANIFEST_INVALID

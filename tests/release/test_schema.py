"""The shipped JSON Schema and the parser say the same, but for the rules that no schema can express."""

import json
from importlib.resources import files as package_files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.manifests import ABSENT, DIGEST, content, full_form, nine_fields

from model_sidecar.errors import VerificationError
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest_reading import parse_manifest

SCHEMA = json.loads(package_files("model_sidecar.release").joinpath("manifest.schema.json").read_bytes())
VALIDATOR = Draft202012Validator(SCHEMA)
FILE = {"digest": DIGEST, "size": 1}
TENSOR = {"name": "t", "datatype": "FP32", "shape": []}


def listed(**more: Any) -> dict[str, Any]:
    return full_form(
        files={**full_form()["files"], **{name.replace("__", "."): entry for name, entry in more.items()}}
    )


def signed(**changes: Any) -> dict[str, Any]:
    return full_form(signature={"inputs": [TENSOR | changes], "outputs": [TENSOR]})


VALID = {
    "nine": nine_fields(),
    "nine, the least": {"version": "2024.01.15.prod", "model_hash": DIGEST},
    "nine, nulls": nine_fields(
        training_date=None, model=None, files=None, signature=None, golden=None, baseline=None
    ),
    "nine, said so": nine_fields(schema_version=0),
    "nine with files": nine_fields(files={"model.onnx": FILE}),
    "nine, empty words": nine_fields(deployed_by="", rollback_target=""),
    "nine, build number": nine_fields(version="2024.01.15.12.prod"),
    "nine, no metrics": nine_fields(metrics={}),
    "unknown field": nine_fields(owner="team", tags=[1, {"a": None}]),
    "full": full_form(),
    "full, the least": {
        name: full_form(files={"model.onnx": FILE})[name]
        for name in ("schema_version", "version", "model_hash", "model", "files", "signature")
    },
    "full, nulls": full_form(outputs=None, golden=None, baseline=None, rollback_target=None),
    "scalar": signed(shape=[]),
    "preprocessing": listed(preprocessing__onnx={**FILE, "role": "preprocessing"}),
    "preprocessing without role": listed(preprocessing__onnx=FILE),
    "external data": listed(weights__bin={**FILE, "role": "external-data"}),
    "unknown file field": listed(notes__txt={**FILE, "role": "doc", "mode": "0644"}),
    "baseline without rows": full_form(baseline={"path": "baseline.json", "rows": None}),
    "longest name": listed(**{"x" * 128: FILE}),
    "features": full_form(
        features=[{"name": "a", "type": kind} for kind in ("text", "boolean", "timestamp")]
    ),
    "no features": full_form(features=[]),
}
INVALID: dict[str, Any] = {
    "a list": [],
    "a string": "manifest",
    "null": None,
    "empty": {},
    "no version": nine_fields(version=ABSENT),
    "no hash": nine_fields(model_hash=ABSENT),
    "version off the grammar": nine_fields(version="v1"),
    "month 13": nine_fields(version="2024.13.01.prod"),
    "day 0": nine_fields(version="2024.01.00.prod"),
    "version with newline": nine_fields(version="2024.01.15.prod\n"),
    "other script's digits": nine_fields(version="٢٠٢٤.٠١.١٥.prod"),
    "build 0": nine_fields(version="2024.01.15.0.prod"),
    "hash without algorithm": nine_fields(model_hash=DIGEST[7:]),
    "hash upper case": nine_fields(model_hash="sha256:" + DIGEST[7:].upper()),
    "hash with newline": nine_fields(model_hash=DIGEST + "\n"),
    "hash a number": nine_fields(model_hash=7),
    "empty training date": nine_fields(training_date=""),
    "training date a number": nine_fields(training_date=20240114),
    "long framework": nine_fields(framework="x" * 4097),
    "metrics null": nine_fields(metrics=None),
    "metric a string": nine_fields(metrics={"accuracy": "0.9"}),
    "metric true": nine_fields(metrics={"accuracy": True}),
    "deployed_by a list": nine_fields(deployed_by=["a"]),
    "schema_version 2": full_form(schema_version=2),
    "schema_version true": full_form(schema_version=True),
    "schema_version text": full_form(schema_version="1"),
    "schema_version null": nine_fields(schema_version=None),
    "full without model": full_form(model=ABSENT),
    "full without files": full_form(files=ABSENT, golden=None, baseline=None),
    "full without signature": full_form(signature=ABSENT),
    "full, model null": full_form(model=None),
    "full, files null": full_form(files=None, golden=None, baseline=None),
    "full, signature null": full_form(signature=None),
    "model upper case": full_form(model="Recommendation"),
    "model parent": full_form(model=".."),
    "model with newline": full_form(model="recommendation-v1\n"),
    "model reserved": full_form(model="environments"),
    "model long": full_form(model="m" * 64),
    "files without model.onnx": full_form(files={"golden.npz": FILE, "baseline.json": FILE}),
    "files a list": full_form(files=[]),
    "file parent": listed(**{"../x": FILE}),
    "file absolute": listed(**{"/x": FILE}),
    "file hidden": listed(**{".x": FILE}),
    "file with newline": listed(**{"x\n": FILE}),
    "file long": listed(**{"x" * 129: FILE}),
    "file empty": listed(**{"": FILE}),
    "file manifest": listed(manifest__json=FILE),
    "file signature": listed(MANIFEST__sig=FILE),
    "file without digest": listed(x={"size": 1}),
    "file without size": listed(x={"digest": DIGEST}),
    "file size negative": listed(x={"digest": DIGEST, "size": -1}),
    "file size text": listed(x={"digest": DIGEST, "size": "1"}),
    "file size true": listed(x={"digest": DIGEST, "size": True}),
    "file role unknown": listed(x={**FILE, "role": "pickle"}),
    "file role null": listed(x={**FILE, "role": None}),
    "pickle as preprocessing": listed(preprocessing__pkl={**FILE, "role": "preprocessing"}),
    "second model": listed(other__onnx={**FILE, "role": "model"}),
    "model as preprocessing": full_form(
        files={"model.onnx": {**FILE, "role": "preprocessing"}}, golden=None, baseline=None
    ),
    "files too many": listed(**{f"f{number}": FILE for number in range(256)}),
    "no inputs": full_form(signature={"inputs": [], "outputs": [TENSOR]}),
    "inputs only": full_form(signature={"inputs": [TENSOR]}),
    "datatype unknown": signed(datatype="FLOAT"),
    "datatype lower case": signed(datatype="fp32"),
    "shape symbolic": signed(shape=["batch", 2]),
    "shape -2": signed(shape=[-2]),
    "shape null": signed(shape=None),
    "tensor without name": full_form(
        signature={"inputs": [{"datatype": "FP32", "shape": []}], "outputs": [TENSOR]}
    ),
    "features null": full_form(features=None),
    "feature type unknown": full_form(features=[{"name": "a", "type": "float"}]),
    "feature unnamed": full_form(features=[{"name": "", "type": "text"}]),
    "task unknown": full_form(outputs={"task": "ranking"}),
    "task null": full_form(outputs={"task": None}),
    "golden without path": full_form(golden={}),
    "golden negative": full_form(golden={"path": "golden.npz", "rtol": -0.1}),
    "golden atol text": full_form(golden={"path": "golden.npz", "atol": "0"}),
    "golden text": full_form(golden="golden.npz"),
    "baseline rows negative": full_form(baseline={"path": "baseline.json", "rows": -1}),
    "baseline rows text": full_form(baseline={"path": "baseline.json", "rows": "10"}),
    "provenance null": full_form(provenance=None),
    "provenance a list": full_form(provenance=[]),
}
BEYOND = {
    "day the month lacks": nine_fields(version="2023.02.29.prod"),
    "year 0": nine_fields(version="0000.01.01.prod"),
    "digest other than model_hash": full_form(model_hash=digest_of(b"other")),
    "names that differ in case": listed(Golden__npz=FILE),
    "golden not listed": full_form(golden={"path": "other.npz"}),
    "baseline not listed": full_form(baseline={"path": "other.json"}),
    "tensor named twice": full_form(signature={"inputs": [TENSOR, TENSOR], "outputs": [TENSOR]}),
    "integer with a fraction": listed(x={"digest": DIGEST, "size": 1.0}),
    "integer beyond 64 bits": listed(x={"digest": DIGEST, "size": 1 << 64}),
    "nested deeper than 32": nine_fields(x=json.loads("[" * 32 + "]" * 32)),
    "more than 1 MiB": nine_fields(x="x" * (1 << 20)),
    "half a surrogate pair": nine_fields(x="\ud800"),
}


def parses(document: object) -> bool:
    try:
        parse_manifest(content(document))
    except VerificationError:
        return False
    return True


def test_the_schema_is_one() -> None:
    """The shipped schema is itself valid, of draft 2020-12, and carries its name."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert SCHEMA["$id"] == "urn:model-sidecar:manifest:v1"


@pytest.mark.parametrize("case", VALID)
def test_schema_and_parser_accept(case: str) -> None:
    """What is a manifest is one to the schema and to the parser."""
    assert [error.message for error in VALIDATOR.iter_errors(VALID[case])] == []
    assert parses(VALID[case])


@pytest.mark.parametrize("case", INVALID)
def test_schema_and_parser_refuse(case: str) -> None:
    """What is no manifest is none to the schema, nor to the parser."""
    assert not VALIDATOR.is_valid(INVALID[case])
    assert not parses(INVALID[case])


@pytest.mark.parametrize("case", BEYOND)
def test_the_parser_refuses_what_no_schema_can(case: str) -> None:
    """The rules beyond the schema, which its description lists."""
    assert VALIDATOR.is_valid(BEYOND[case])
    assert not parses(BEYOND[case])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.just("")
    | st.just("model.onnx")
    | st.just("FP32")
    | st.just("1.5"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["path", "rtol", "rows", "task", "inputs", "name", "type"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(full_form())), VALUES)
def test_schema_and_parser_agree_on_every_field(field: str, value: Any) -> None:
    """Put any small value in any field: schema and parser agree, but for a file that is named and not listed."""
    document = full_form(**{field: value})
    named = value.get("path") if field in ("golden", "baseline") and isinstance(value, dict) else None
    if VALIDATOR.is_valid(document) and named not in (None, *full_form()["files"]):
        return
    assert VALIDATOR.is_valid(document) == parses(document)

"""How bytes become a manifest, or the one reason why they do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from model_sidecar.errors import InvalidNameError, Reason, VerificationError
from model_sidecar.release import strict_json
from model_sidecar.release.digests import Digest, digest_of, parse_digest
from model_sidecar.release.manifest import (
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    MODEL,
    PREPROCESSING,
    UNLISTED,
    Baseline,
    Feature,
    FileEntry,
    Golden,
    Manifest,
    OutputRoles,
    Role,
    Runtime,
)
from model_sidecar.release.names import parse_model, parse_version
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec

_SAID = 500
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


def parse_manifest(content: bytes) -> Manifest:
    """The manifest in these bytes.

    Raises:
        VerificationError: it is not one; `reason` is MANIFEST_TOO_LARGE, DUPLICATE_KEY, NOT_A_NUMBER,
            MODEL_HASH_MISMATCH, FILE_NAME_UNSAFE, PREPROCESSING_MISMATCH or MANIFEST_INVALID.
    """
    document = _document(content)
    files = _files(document)
    _check_paths(document, files)
    return Manifest(
        digest=digest_of(content),
        version=_named(parse_version, document.version),
        model_hash=_digest(document.model_hash, "model_hash"),
        schema_version=document.schema_version,
        model=_named(parse_model, document.model) if document.model is not None else None,
        training_date=document.training_date,
        data_snapshot_id=document.data_snapshot_id,
        preprocessing_version=document.preprocessing_version,
        framework=document.framework,
        metrics=document.metrics,
        deployed_by=document.deployed_by,
        rollback_target=document.rollback_target,
        files=files,
        signature=_signature(document),
        features=tuple(Feature(name=each.name, type=each.type) for each in document.features),
        outputs=document.outputs or OutputRoles(),
        golden=document.golden,
        baseline=document.baseline,
        runtime=document.runtime or Runtime(),
        provenance=document.provenance,
    )


def manifest_fields(content: bytes) -> dict[str, Any]:
    """The fields of the JSON object in these bytes, of which nothing is known but that it is strict JSON.

    Raises:
        VerificationError: MANIFEST_TOO_LARGE, DUPLICATE_KEY, NOT_A_NUMBER or MANIFEST_INVALID.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise VerificationError(
            f"{MANIFEST} has more than the {MAX_MANIFEST_BYTES} bytes that are read",
            reason=Reason.MANIFEST_TOO_LARGE,
        )
    try:
        fields = strict_json.loads(content)
    except strict_json.DuplicateKeyError as error:
        raise VerificationError(f"{MANIFEST}: {error}", reason=Reason.DUPLICATE_KEY) from None
    except strict_json.NotFiniteError as error:
        raise VerificationError(f"{MANIFEST}: {error}", reason=Reason.NOT_A_NUMBER) from None
    except strict_json.NotStrictJsonError as error:
        raise VerificationError(f"{MANIFEST}: {error}", reason=Reason.MANIFEST_INVALID) from None
    if not isinstance(fields, dict):
        raise VerificationError(f"{MANIFEST} holds {type(fields).__name__}: expected a JSON object")
    return fields


def check_file_name(name: str) -> None:
    """Refuse a file name that could lead anywhere but to a plain file of the version's directory.

    Raises:
        VerificationError: FILE_NAME_UNSAFE.
    """
    if not _FILE_NAME.fullmatch(name):
        raise VerificationError(
            f"file name {name[:200]!r} is not valid: expected A-Z, a-z, 0-9, '.', '_', '-', at most 128, no folder, "
            "not beginning with '.' or '-'",
            reason=Reason.FILE_NAME_UNSAFE,
            file=ascii(name[:200])[1:-1],
        )


# The document as it stands in the file, before it is one of our values.

_Name = TypeVar("_Name", bound=str)
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class _File(msgspec.Struct, frozen=True):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    role: Role = Role.OTHER


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: Datatype
    shape: tuple[Annotated[int, msgspec.Meta(ge=-1)], ...]


class _Signature(msgspec.Struct, frozen=True):
    inputs: Annotated[tuple[_Tensor, ...], msgspec.Meta(min_length=1)]
    outputs: Annotated[tuple[_Tensor, ...], msgspec.Meta(min_length=1)]


class _Feature(msgspec.Struct, frozen=True):
    name: _Text
    type: Literal["numeric", "categorical", "boolean", "text", "timestamp"]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    model_hash: str
    schema_version: Literal[0, 1] = 0
    model: str | None = None
    training_date: _Text | None = None
    data_snapshot_id: _Text | None = None
    preprocessing_version: _Text | None = None
    framework: _Text | None = None
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    deployed_by: str | None = None
    rollback_target: str | None = None
    files: dict[str, _File] | None = None
    signature: _Signature | None = None
    features: tuple[_Feature, ...] = ()
    outputs: OutputRoles | None = None
    golden: Golden | None = None
    baseline: Baseline | None = None
    runtime: Runtime | None = None
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)


_REQUIRED_IN_FULL_FORM = ("model", "files", "signature")


def _document(content: bytes) -> _Document:
    try:
        document = msgspec.convert(manifest_fields(content), _Document)
    except msgspec.ValidationError as error:
        said = str(error)  # it quotes the document, whatever that holds, and ends in where it stands
        said = said if len(said) <= _SAID else f"{said[: _SAID // 2]} … {said[-_SAID // 2 :]}"
        raise VerificationError(f"{MANIFEST}: {said}", reason=Reason.MANIFEST_INVALID) from None
    if document.schema_version == 1:
        missing = [name for name in _REQUIRED_IN_FULL_FORM if getattr(document, name) is None]
        if missing:
            raise VerificationError(f"{MANIFEST}: schema_version 1 needs {', '.join(missing)}")
    return document


def _files(document: _Document) -> dict[str, FileEntry]:
    model_hash = _digest(document.model_hash, "model_hash")
    if document.files is None:
        return {MODEL: FileEntry(digest=model_hash, size=None, role=Role.MODEL)}
    if len(document.files) > MAX_FILES:
        raise VerificationError(
            f"{MANIFEST}: files lists {len(document.files)}: at most {MAX_FILES} are allowed"
        )
    files = {}
    for name, entry in document.files.items():
        check_file_name(name)
        _check_role(name, entry.role)
        files[name] = FileEntry(_digest(entry.digest, f"files[{name!r}].digest"), entry.size, entry.role)
    _refuse_look_alikes(files)
    listed = files.get(MODEL)
    if listed is None:
        raise VerificationError(f"{MANIFEST}: files does not list {MODEL}")
    if listed.digest != model_hash:
        raise VerificationError(
            f"{MANIFEST}: model_hash is {model_hash}, but files[{MODEL!r}].digest is {listed.digest}: they must agree",
            reason=Reason.MODEL_HASH_MISMATCH,
        )
    return files


def _check_role(name: str, role: Role) -> None:
    # Nothing else would ever be loaded as either: no pickle, no script, whatever its name says.
    only = {Role.MODEL: MODEL, Role.PREPROCESSING: PREPROCESSING}.get(role, name)
    if name != only:
        raise VerificationError(
            f"{MANIFEST}: {name} has the role {role}, which only {only} can have: export it to ONNX (pickles and the "
            "like are never loaded)",
            reason=Reason.PREPROCESSING_MISMATCH if role is Role.PREPROCESSING else Reason.MANIFEST_INVALID,
            file=name,
        )


def _refuse_look_alikes(files: Mapping[str, FileEntry]) -> None:
    # On a case-insensitive mount two such names are one file, and which bytes were hashed is anybody's guess.
    folded: dict[str, str] = {}
    for name in files:
        if name.casefold() in UNLISTED:
            raise VerificationError(f"{MANIFEST}: files lists {name}, which no manifest can list")
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise VerificationError(
                f"{MANIFEST}: {other!r} and {name!r} differ only in case", reason=Reason.FILE_NAME_UNSAFE
            )


def _check_paths(document: _Document, files: Mapping[str, FileEntry]) -> None:
    for what, named in (("golden", document.golden), ("baseline", document.baseline)):
        if named is not None and named.path not in files:
            raise VerificationError(
                f"{MANIFEST}: {what}.path is {named.path[:200]!r}, which files does not list"
            )
    if document.golden is not None and not (document.golden.rtol >= 0 and document.golden.atol >= 0):
        raise VerificationError(f"{MANIFEST}: golden.rtol and golden.atol must not be negative")


def _signature(document: _Document) -> Signature | None:
    if document.signature is None:
        return None
    made = Signature(
        inputs=tuple(TensorSpec(each.name, each.datatype, each.shape) for each in document.signature.inputs),
        outputs=tuple(
            TensorSpec(each.name, each.datatype, each.shape) for each in document.signature.outputs
        ),
    )
    for side, specs in (("inputs", made.inputs), ("outputs", made.outputs)):
        if len({spec.name for spec in specs}) != len(specs):
            raise VerificationError(f"{MANIFEST}: signature.{side} names a tensor twice")
    return made


def _digest(text: str, where: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise VerificationError(f"{MANIFEST}: {where}: {error}") from None


def _named(parse: Callable[[str], _Name], text: str) -> _Name:
    try:
        return parse(text)
    except InvalidNameError as error:
        raise VerificationError(f"{MANIFEST}: {error}", reason=Reason.MANIFEST_INVALID) from None


# msgspec learns a type when it first meets it, and two threads that teach it the same one at once crash the process
# (0.22.0; several models start at the same time). So it meets all of them here, in the one thread that imports this.
_TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1]}
msgspec.convert(
    {
        "version": "",
        "model_hash": "",
        "files": {MODEL: {"digest": "", "size": 0}},
        "signature": {"inputs": [_TENSOR], "outputs": [_TENSOR]},
        "features": [{"name": "x", "type": "numeric"}],
        "outputs": {},
        "golden": {"path": ""},
        "baseline": {"path": ""},
        "runtime": {},
    },
    _Document,
)

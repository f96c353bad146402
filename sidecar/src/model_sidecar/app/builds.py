"""A build directory: what a training job left to publish. Which file is what, and what its own manifest says."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_sidecar.app.training_date import parse_training_date
from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import ConfigurationError, NotFoundError, Reason, VerificationError
from model_sidecar.model.anatomy import walk
from model_sidecar.release.manifest import (
    BASELINE,
    GOLDEN,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL,
    PREPROCESSING,
    FileEntry,
    Role,
)
from model_sidecar.release.manifest_reading import manifest_fields, parse_manifest
from model_sidecar.release.names import ModelName, Version

_ROLES = {
    MODEL: Role.MODEL,
    PREPROCESSING: Role.PREPROCESSING,
    GOLDEN: Role.GOLDEN,
    BASELINE: Role.BASELINE,
}


@dataclass(frozen=True, slots=True)
class Build:
    """What a build directory holds.

    Attributes:
        directory: where it is.
        roles: what each file is for that goes into the version.
        fields: its own manifest's, without nulls; empty where it has none.
        listed: the files that its own manifest lists; empty in the nine-field form.
    """

    directory: Path
    roles: Mapping[str, Role]
    fields: Mapping[str, Any]
    listed: Mapping[str, FileEntry]

    def check_names(self, model: ModelName, version: Version) -> None:
        """Refuse a build whose own manifest is of another model or version.

        Raises:
            VerificationError: MODEL_MISMATCH or VERSION_MISMATCH.
        """
        for field, wanted, reason in (
            ("model", model, Reason.MODEL_MISMATCH),
            ("version", version, Reason.VERSION_MISMATCH),
        ):
            said = self.fields.get(field, wanted)
            if said != wanted:
                raise VerificationError(
                    f"{self.directory / MANIFEST} says {field} {str(said)[:100]!r}, but it is to be published as "
                    f"{wanted!r}: publish it as what it says, or take {field} out of that file",
                    reason=reason,
                )

    def check_bytes(self, files: Mapping[str, FileEntry]) -> None:
        """Refuse a build whose own manifest is of other bytes than `files`, which are those that were copied.

        Raises:
            VerificationError: MODEL_HASH_MISMATCH, DIGEST_MISMATCH or FILE_MISSING.
        """
        said = self.fields.get("model_hash", files[MODEL].digest)
        if said != files[MODEL].digest:
            raise VerificationError(
                f"{self.directory / MANIFEST} says model_hash {str(said)[:100]!r}, but {MODEL} is "
                f"{files[MODEL].digest}: one of the two is of another build",
                reason=Reason.MODEL_HASH_MISMATCH,
            )
        for name, entry in self.listed.items():
            if name not in files:
                raise VerificationError(
                    f"{self.directory / MANIFEST} lists {name}, which is not there",
                    reason=Reason.FILE_MISSING,
                    file=name,
                )
            if files[name].digest != entry.digest:
                raise VerificationError(
                    f"{self.directory / name} is {files[name].digest}, but {MANIFEST} beside it lists {entry.digest}: "
                    "one of the two is of another build",
                    reason=Reason.DIGEST_MISMATCH,
                    file=name,
                )


def read_build(directory: Path, *, allow_external_data: bool) -> Build:
    """What the build directory holds.

    Raises:
        NotFoundError: there is no such directory, or no `model.onnx` in it.
        VerificationError: FILE_UNLISTED, a file that nobody would read; EXTERNAL_DATA_REFUSED; MODEL_INVALID, what is
            called ONNX is none; or its own manifest is none, with the reason that `parse_manifest` has for it.
        StoreError: it cannot be read.
    """
    with store_faults(directory):
        there = directory.is_dir()
    if not there:
        raise NotFoundError(
            f"{directory} is no directory: expected one with {MODEL} in it", reason=Reason.FILE_MISSING
        )
    with store_faults(directory):
        names = sorted(path.name for path in directory.iterdir())
    for name in names:
        # Before anything is opened: a FIFO would wait for its writer.
        with store_faults(directory / name):
            regular = (directory / name).is_file()
        if not regular:
            raise _unknown(directory / name)
    if MODEL not in names:
        raise NotFoundError(
            f"{directory} holds no {MODEL}: export the model to ONNX under that name",
            reason=Reason.FILE_MISSING,
        )
    fields, listed = _own_manifest(directory) if MANIFEST in names else ({}, {})
    external = {
        location
        for name in (MODEL, PREPROCESSING)
        if name in names
        for location in _external(directory / name)
    }
    roles = {}
    for name in names:
        if name in _ROLES:
            roles[name] = _ROLES[name]
        elif name in external:
            roles[name] = Role.EXTERNAL_DATA
        elif name in listed:
            roles[name] = listed[name].role
        elif name != MANIFEST:
            raise _unknown(directory / name)
    if Role.EXTERNAL_DATA in roles.values() and not allow_external_data:
        raise VerificationError(
            f"{directory} keeps weights outside the ONNX file ({', '.join(sorted(external & roles.keys()))}): save the "
            "model with its weights inside, or allow it here and for serve with --allow-external-data",
            reason=Reason.EXTERNAL_DATA_REFUSED,
        )
    return Build(directory, roles, fields, listed)


def _own_manifest(directory: Path) -> tuple[dict[str, Any], Mapping[str, FileEntry]]:
    with store_faults(directory / MANIFEST), (directory / MANIFEST).open("rb") as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    fields = {name: value for name, value in manifest_fields(content).items() if value is not None}
    trained = fields.get("training_date")
    if isinstance(trained, str):  # what is no text is refused with the other fields
        try:
            parse_training_date(trained)
        except ConfigurationError as error:
            raise VerificationError(
                f"{directory / MANIFEST}: training_date: {error}", reason=Reason.MANIFEST_INVALID
            ) from None
    return fields, parse_manifest(content).files if "files" in fields else {}


def _external(path: Path) -> frozenset[str]:
    with store_faults(path), path.open("rb") as file:
        if not path.stat().st_size:
            return walk(b"", name=path.name).external_locations
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            return walk(content, name=path.name).external_locations


def _unknown(path: Path) -> VerificationError:
    what = "a directory" if path.is_dir() else "a file" if path.is_file() else "no file"
    return VerificationError(
        f"{str(path)!r} is {what}, of which a version has no use: move it out of the build directory. A version holds "
        f"{', '.join(_ROLES)}, a {MANIFEST}, and the external data files that the model names",
        reason=Reason.FILE_UNLISTED,
        file=ascii(path.name)[1:-1],
    )

"""Ways to damage a published version, each with the reason for which it is then refused.

`CASES` is for whoever has a good version's directory, in a store of its own, and wants to see that it no longer
answers: `case.damage(directory)`, then `case.reason`. A case needs nothing of the version but the full form of the
manifest and `model.onnx`.
"""

from __future__ import annotations

import os
import pickle
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from support.versions import entry, read_manifest, write_manifest

from model_sidecar.errors import Reason
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import MANIFEST, MAX_MANIFEST_BYTES, MODEL

Damage = Callable[[Path], None]
PICKLE = pickle.dumps({"mean": 0.5, "scale": 2.0})
OTHER_DIGEST = digest_of(b"other bytes")


class Case(NamedTuple):
    """One way to damage a version; it unpacks as (id, damage, reason)."""

    id: str
    damage: Damage
    reason: Reason


def fields(**changes: Any) -> Damage:
    """Change fields of the manifest; None removes one."""

    def damage(directory: Path) -> None:
        changed = {**read_manifest(directory), **changes}
        write_manifest(directory, {name: value for name, value in changed.items() if value is not None})

    return damage


def listed(name: str, **changes: Any) -> Damage:
    """Change what the manifest lists of a file, or list one that is not there."""

    def damage(directory: Path) -> None:
        changed = read_manifest(directory)
        changed["files"][name] = {**changed["files"].get(name, entry(name, b"")), **changes}
        write_manifest(directory, changed)

    return damage


def added(name: str, content: bytes, *, role: str | None = None) -> Damage:
    """Add a file; listed with its right digest and size where it is given a role."""

    def damage(directory: Path) -> None:
        (directory / name).write_bytes(content)
        if role is not None:
            listed(name, **entry(name, content, role))(directory)

    return damage


def removed(name: str) -> Damage:
    """Remove a file."""
    return lambda directory: (directory / name).unlink()


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file's bytes."""

    def damage(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).unlink()
        (directory / name).write_bytes(change(content))

    return damage


def replaced(name: str, make: Callable[[Path], object]) -> Damage:
    """Put something else, which `make` makes, in a file's place."""

    def damage(directory: Path) -> None:
        (directory / name).unlink()
        make(directory / name)

    return damage


def linked(name: str, *, to: str) -> Damage:
    """Put a symlink in a file's place that leads to those very bytes. `to` is relative to the directory."""

    def damage(directory: Path) -> None:
        target = directory / to
        target.parent.mkdir(parents=True, exist_ok=True)
        (directory / name).rename(target)
        (directory / name).symlink_to(to)

    return damage


def nine_field_form_of_other_bytes(directory: Path) -> None:
    """A manifest in the nine-field form whose model_hash is that of another file."""
    for each in directory.iterdir():
        if each.name not in (MANIFEST, MODEL):
            each.unlink()
    write_manifest(directory, {"version": read_manifest(directory)["version"], "model_hash": OTHER_DIGEST})


def both_digests_of_other_bytes(directory: Path) -> None:
    """The manifest agrees with itself, but not with the file."""
    fields(model_hash=OTHER_DIGEST)(directory)
    listed(MODEL, digest=OTHER_DIGEST)(directory)


def flipped_beside_the_model(directory: Path) -> None:
    """A listed file that is not the model has other bytes than were published."""
    added("beside.txt", b"abc", role="doc")(directory)
    rewritten("beside.txt", _flip_a_bit)(directory)


def directory_behind_a_symlink(directory: Path) -> None:
    """The version's directory is a symlink to the real one, out of the store."""
    outside = directory.parent.parent.with_name("outside-of-the-store")
    outside.mkdir()
    shutil.move(directory, outside / directory.name)
    directory.symlink_to(outside / directory.name)


def hard_linked(directory: Path) -> None:
    """No damage: the model is a hard link, as stores that keep equal files once make them."""
    (directory / MODEL).rename(directory.parent / "blob")
    os.link(directory.parent / "blob", directory / MODEL)


def _flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _manifest(change: Callable[[bytes], bytes]) -> Damage:
    return rewritten(MANIFEST, change)


def _spliced(text: bytes) -> Damage:
    """Put text behind the manifest's opening brace."""
    return _manifest(lambda content: b"{" + text + b", " + content[1:])


def _named(name: str) -> Damage:
    return listed(name, role="other")


CASES: tuple[Case, ...] = (
    # what is there, and what is listed
    Case("missing-model", removed(MODEL), Reason.FILE_MISSING),
    Case("missing-listed-file", listed("weights.txt"), Reason.FILE_MISSING),
    Case("missing-manifest", removed(MANIFEST), Reason.MANIFEST_MISSING),
    Case("unlisted-file", added("extra.bin", b"x"), Reason.FILE_UNLISTED),
    Case("unlisted-hidden-file", added(".model.onnx.Xy12", b"x"), Reason.FILE_UNLISTED),
    Case("unlisted-empty-file", added("empty", b""), Reason.FILE_UNLISTED),
    Case("unlisted-name-of-many-lines", added("a\nb\x1b[31m", b""), Reason.FILE_UNLISTED),
    Case("unlisted-directory", lambda directory: (directory / "sub").mkdir(), Reason.FILE_UNLISTED),
    Case("unlisted-custom-op-library", added("ops.so", b"\x7fELF"), Reason.FILE_UNLISTED),
    Case("unlisted-pickle", added("preprocessing.pkl", PICKLE), Reason.FILE_UNLISTED),
    Case("unlisted-case-twin", added("Model.onnx", b"x"), Reason.FILE_UNLISTED),
    # sizes and digests
    Case("one-flipped-bit", rewritten(MODEL, _flip_a_bit), Reason.DIGEST_MISMATCH),
    Case(
        "other-bytes-of-that-size",
        rewritten(MODEL, lambda content: bytes(len(content))),
        Reason.DIGEST_MISMATCH,
    ),
    Case("flipped-bit-beside-the-model", flipped_beside_the_model, Reason.DIGEST_MISMATCH),
    Case("truncated", rewritten(MODEL, lambda content: content[:-1]), Reason.SIZE_MISMATCH),
    Case("emptied", rewritten(MODEL, lambda _: b""), Reason.SIZE_MISMATCH),
    Case("one-byte-more", rewritten(MODEL, lambda content: content + b"\0"), Reason.SIZE_MISMATCH),
    Case("twice-as-long", rewritten(MODEL, lambda content: content * 2), Reason.SIZE_MISMATCH),
    Case("listed-size-too-large", listed(MODEL, size=1 << 40), Reason.SIZE_MISMATCH),
    Case("listed-size-too-small", listed(MODEL, size=1), Reason.SIZE_MISMATCH),
    Case("listed-size-zero", listed(MODEL, size=0), Reason.SIZE_MISMATCH),
    Case("model-hash-of-other-bytes", fields(model_hash=OTHER_DIGEST), Reason.MODEL_HASH_MISMATCH),
    Case("nine-field-hash-of-other-bytes", nine_field_form_of_other_bytes, Reason.MODEL_HASH_MISMATCH),
    Case("both-digests-of-other-bytes", both_digests_of_other_bytes, Reason.DIGEST_MISMATCH),
    # names
    Case("version-of-another-directory", fields(version="2024.01.16.prod"), Reason.VERSION_MISMATCH),
    Case("version-of-another-stage", fields(version="2024.01.15.staging"), Reason.VERSION_MISMATCH),
    Case("model-of-another-directory", fields(model="other-model"), Reason.MODEL_MISMATCH),
    Case("version-of-a-day-that-is-none", fields(version="2024.02.30.prod"), Reason.MANIFEST_INVALID),
    Case("version-with-a-newline", fields(version="2024.01.15.prod\n"), Reason.MANIFEST_INVALID),
    Case("version-in-other-digits", fields(version="٢٠٢٤.٠١.١٥.prod"), Reason.MANIFEST_INVALID),
    Case("file-in-the-parent", _named("../model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-of-another-version", _named("../2024.01.10.prod/model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-of-an-absolute-name", _named("/etc/passwd"), Reason.FILE_NAME_UNSAFE),
    Case("file-in-a-folder", _named("sub/model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-of-a-windows-name", _named("..\\model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-named-dot-dot", _named(".."), Reason.FILE_NAME_UNSAFE),
    Case("file-of-no-name", _named(""), Reason.FILE_NAME_UNSAFE),
    Case("file-with-a-nul", _named("model.onnx\0.txt"), Reason.FILE_NAME_UNSAFE),
    Case("file-with-a-newline", _named("notes.txt\n"), Reason.FILE_NAME_UNSAFE),
    Case("file-of-a-url", _named("https://example.org/model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-hidden", _named(".model.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("file-in-other-letters", _named("mödel.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("files-that-differ-in-case", _named("MODEL.onnx"), Reason.FILE_NAME_UNSAFE),
    Case("manifest-lists-itself", _named(MANIFEST), Reason.MANIFEST_INVALID),
    # what is no regular file
    Case("symlink-out-of-the-store", linked(MODEL, to="../../../outside/model.onnx"), Reason.SYMLINK_REFUSED),
    Case("symlink-within-the-store", linked(MODEL, to="../blob"), Reason.SYMLINK_REFUSED),
    Case(
        "symlink-to-nothing", replaced(MODEL, lambda path: path.symlink_to("absent")), Reason.SYMLINK_REFUSED
    ),
    Case(
        "symlink-to-itself", replaced(MODEL, lambda path: path.symlink_to(path.name)), Reason.SYMLINK_REFUSED
    ),
    Case(
        "symlink-to-a-device",
        replaced(MODEL, lambda path: path.symlink_to("/dev/zero")),
        Reason.SYMLINK_REFUSED,
    ),
    Case("symlinked-manifest", linked(MANIFEST, to="../blob.json"), Reason.SYMLINK_REFUSED),
    Case("symlinked-version-directory", directory_behind_a_symlink, Reason.SYMLINK_REFUSED),
    Case("fifo-as-model", replaced(MODEL, os.mkfifo), Reason.NOT_A_REGULAR_FILE),
    Case("fifo-as-manifest", replaced(MANIFEST, os.mkfifo), Reason.NOT_A_REGULAR_FILE),
    Case(
        "socket-as-model",
        replaced(MODEL, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)),
        Reason.NOT_A_REGULAR_FILE,
    ),
    Case("directory-as-model", replaced(MODEL, Path.mkdir), Reason.NOT_A_REGULAR_FILE),
    Case("directory-as-manifest", replaced(MANIFEST, Path.mkdir), Reason.NOT_A_REGULAR_FILE),
    # what is no manifest
    Case("duplicate-key", _spliced(b'"version": "2024.01.14.prod"'), Reason.DUPLICATE_KEY),
    Case("duplicate-key-spelled-otherwise", _spliced(b'"\\u0076ersion": 1'), Reason.DUPLICATE_KEY),
    Case("nan-literal", _spliced(b'"note": NaN'), Reason.NOT_A_NUMBER),
    Case("infinity-literal", _spliced(b'"note": -Infinity'), Reason.NOT_A_NUMBER),
    Case("number-beyond-a-double", _spliced(b'"note": 1e999'), Reason.NOT_A_NUMBER),
    Case("number-beyond-64-bits", _spliced(b'"note": 1' + b"0" * 5000), Reason.NOT_A_NUMBER),
    Case(
        "huge-manifest",
        _manifest(lambda content: content + b" " * MAX_MANIFEST_BYTES),
        Reason.MANIFEST_TOO_LARGE,
    ),
    Case("deep-manifest", _spliced(b'"note": ' + b"[" * 5000 + b"]" * 5000), Reason.MANIFEST_INVALID),
    Case("half-a-surrogate-pair", _spliced(b'"note": "\\ud800"'), Reason.MANIFEST_INVALID),
    Case("manifest-not-json", _manifest(lambda _: b"version: 2024.01.15.prod\n"), Reason.MANIFEST_INVALID),
    Case("manifest-empty", _manifest(lambda _: b""), Reason.MANIFEST_INVALID),
    Case(
        "manifest-truncated", _manifest(lambda content: content[: len(content) // 2]), Reason.MANIFEST_INVALID
    ),
    Case("manifest-twice", _manifest(lambda content: content * 2), Reason.MANIFEST_INVALID),
    Case("manifest-a-list", _manifest(lambda content: b"[" + content + b"]"), Reason.MANIFEST_INVALID),
    Case("manifest-a-pickle", _manifest(lambda _: PICKLE), Reason.MANIFEST_INVALID),
    Case(
        "manifest-in-utf-16",
        _manifest(lambda content: content.decode().encode("utf-16")),
        Reason.MANIFEST_INVALID,
    ),
    Case("manifest-of-the-future", fields(schema_version=2), Reason.MANIFEST_INVALID),
    Case("manifest-without-signature", fields(signature=None), Reason.MANIFEST_INVALID),
    Case("manifest-without-files", fields(files=None), Reason.MANIFEST_INVALID),
    Case("digest-of-another-algorithm", listed(MODEL, digest="md5:" + "0" * 32), Reason.MANIFEST_INVALID),
    Case("golden-not-listed", fields(golden={"path": "elsewhere.npz"}), Reason.MANIFEST_INVALID),
    # what is never loaded
    Case(
        "pickle-as-preprocessing",
        added("preprocessing.pkl", PICKLE, role="preprocessing"),
        Reason.PREPROCESSING_MISMATCH,
    ),
    Case("second-model", added("other.onnx", b"x", role="model"), Reason.MANIFEST_INVALID),
    Case("external-data", added("model.onnx.data", b"x", role="external-data"), Reason.EXTERNAL_DATA_REFUSED),
)

INCOMPLETE = frozenset(
    {
        *("missing-model", "missing-listed-file", "missing-manifest"),
        *("truncated", "emptied", "listed-size-too-large"),
    }
)
"""The cases of which a copy that is not finished yet could be the cause."""

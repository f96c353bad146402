"""Whether a mount keeps the promises that the ledger relies on, and whether what lies in the store is sound."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.app.contact import first_contact
from model_sidecar.app.counting import agreeing, counted
from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.preparing import preparer
from model_sidecar.errors import NotFoundError, Reason, SidecarError
from model_sidecar.release.names import ModelName, parse_environment, parse_model
from model_sidecar.serving.watch import Watch
from model_sidecar.store.versions import VersionStore

_EVENT_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None where the answer is no fault, only good to know."""

    what: str
    ok: bool | None
    detail: str = ""
    of_version: bool = False


def check_mount(store: Path) -> Iterator[Finding]:
    """Try on this mount what the ledger does, in a directory that is removed again."""
    if not os.access(store, os.W_OK):
        yield Finding("writable", None, "no: the pointer is followed, and deployments are refused here")
        return
    scratch = Path(tempfile.mkdtemp(prefix=".store-check-", dir=store))
    try:
        yield _tried("exclusive link (two operators, one winner)", lambda: _link(scratch))
        yield _tried("rename replaces a file at once (the pointer)", lambda: _rename(scratch))
        yield _tried("a directory is not replaced by rename (publish)", lambda: _rename_directory(scratch))
        yield _tried("fsync of files and directories", lambda: _fsync(scratch))
        yield _events(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def models_to_check(store: Path, named: Sequence[ModelName]) -> list[ModelName]:
    """The models that are named, each once; all that the store has when none is.

    Raises:
        NotFoundError: MODEL_NOT_FOUND, the store has no model of a name.
    """
    there = _models_of(store)
    missing = sorted(set(named) - set(there))
    if missing:
        raise NotFoundError(
            f"{store} has no model {', '.join(missing)}: it has {', '.join(there) or 'no models'}",
            reason=Reason.MODEL_NOT_FOUND,
        )
    return [model for model in there if model in named] if named else there


def check_models(store: Path, models: Sequence[ModelName], *, allow_external_data: bool) -> Iterator[Finding]:
    """Read every ledger and prepare every version of these models."""
    versions = VersionStore(store, allow_external_data=allow_external_data)
    if not models:
        yield Finding("no models", ok=None, detail="the store is empty")
    for model in models:
        yield from _check_ledgers(versions, model)
        if not versions.versions(model):
            yield Finding(model, ok=None, detail="no versions")
        contact = first_contact(allow_external_data=allow_external_data)
        prepare = preparer(versions, model, allow_external_data=allow_external_data, contact=contact)
        for version in versions.versions(model):
            try:
                ready = prepare(version, None)
            except SidecarError as error:
                yield Finding(
                    f"{model} {version}", ok=False, detail=f"{error} [{error.reason}]", of_version=True
                )
                continue
            examples = (
                f"golden: {agreeing(ready.golden_examples)}"
                if ready.golden_examples
                else "no golden examples"
            )
            yield Finding(f"{model} {version}", ok=True, detail=f"{ready.model.manifest.digest}, {examples}")
            ready.model.close()


def _check_ledgers(versions: VersionStore, model: ModelName) -> Iterator[Finding]:
    for folder in sorted(versions.layout.environments(model).glob("*/")):
        what = f"{model} ledger of {folder.name}"
        try:
            ledger = open_ledger(versions.layout, model, parse_environment(folder.name))
            head = ledger.refresh()
            pointer = ledger.read_face().pointer
        except SidecarError as error:
            yield Finding(what, ok=False, detail=f"{error} [{error.reason}]")
            continue
        generations = counted(head.generation if head else 0, "generation")
        yield Finding(what, ok=True, detail=f"{generations}, every link holds")
        if head is not None and (pointer is None or pointer.version != head.version):
            told = pointer.version if pointer else "nothing"
            yield Finding(
                what,
                ok=None,
                detail=f"the pointer says {told}, the head {head.version}: a sidecar settles it",
            )


def _models_of(store: Path) -> list[ModelName]:
    found = []
    for folder in sorted(store.glob("*/")):
        try:
            found.append(parse_model(folder.name))
        except SidecarError:
            continue
    return found


def _tried(what: str, attempt: Callable[[], None]) -> Finding:
    try:
        attempt()
    except OSError as error:
        return Finding(
            what, ok=False, detail=f"{error.strerror or error}: the sidecar cannot record deployments here"
        )
    return Finding(what, ok=True)


def _link(scratch: Path) -> None:
    for name in ("one", "two"):
        (scratch / name).write_text(name)
    (scratch / "generation").hardlink_to(scratch / "one")
    try:
        (scratch / "generation").hardlink_to(scratch / "two")
    except FileExistsError:
        pass
    else:
        raise OSError(errno.EINVAL, "a second link to one name succeeded")
    if (scratch / "generation").read_text() != "one":
        raise OSError(errno.EINVAL, "the second link replaced the first")


def _rename(scratch: Path) -> None:
    (scratch / "pointer").write_text("old")
    (scratch / "pointer.new").write_text("new")
    (scratch / "pointer.new").replace(scratch / "pointer")
    if (scratch / "pointer").read_text() != "new":
        raise OSError(errno.EINVAL, "the old file is still there after a rename")


def _rename_directory(scratch: Path) -> None:
    for name in ("version", "other"):
        (scratch / name).mkdir()
        (scratch / name / "manifest.json").write_text(name)
    try:
        (scratch / "other").rename(scratch / "version")
    except OSError:
        return
    raise OSError(errno.EINVAL, "a directory that is not empty was replaced")


def _fsync(scratch: Path) -> None:
    for path in (scratch / "one", scratch):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _events(scratch: Path) -> Finding:
    what = "file events"
    folder = scratch / "model" / "environments" / "prod"
    folder.mkdir(parents=True)
    seen = threading.Event()
    watch = Watch(folder / "active.json", wake=seen.set)
    watch.renew()
    (folder / "active.json").write_text("")
    arrived = seen.wait(_EVENT_WAIT_S)
    watch.stop()
    return (
        Finding(what, ok=True)
        if arrived
        else Finding(what, ok=None, detail="none: changes are found by polling")
    )

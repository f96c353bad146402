"""Whether what lies in the store is sound: every ledger's chain, every version's bytes and golden examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model_sidecar.app.contact import first_contact
from model_sidecar.app.counting import agreeing, counted
from model_sidecar.app.ledgers import open_ledger
from model_sidecar.app.mount_check import Finding
from model_sidecar.app.preparing import preparer
from model_sidecar.errors import NotFoundError, Reason, SidecarError
from model_sidecar.release.names import ModelName, parse_environment, parse_model
from model_sidecar.store.versions import VersionStore


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

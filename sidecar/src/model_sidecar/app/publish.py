"""From a build directory to a version in the store: described, rehearsed as `serve` would, and only then in place."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model_sidecar.app.baselines import counted, warnings_of
from model_sidecar.app.builds import Build, read_build
from model_sidecar.app.contact import Contact
from model_sidecar.app.golden_inputs import answered, rehearse_made, rows_of
from model_sidecar.app.weights import weights_apart
from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import InvalidRequestError, Reason, VerificationError
from model_sidecar.model.baselines import baseline_in
from model_sidecar.model.golden import write_examples
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.release.baseline import Baseline as Reference
from model_sidecar.release.baseline_reading import write_baseline
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import (
    BASELINE,
    GOLDEN,
    MANIFEST,
    MODEL,
    FileEntry,
    Golden,
    Role,
)
from model_sidecar.release.names import ModelName, Version, parse_version
from model_sidecar.release.roles import inferred
from model_sidecar.release.tensors import Signature
from model_sidecar.serving.quarantine import KILLING
from model_sidecar.store.publishing import Staging, stage
from model_sidecar.store.verifying import VerifiedVersion
from model_sidecar.store.versions import VersionStore

_PROVISIONAL = frozenset({"model", "version", "model_hash", "files"})
_TOLD = ("training_date", "data_snapshot_id", "framework")
"""Facts that only the publisher knows, and that somebody will look for at 3 AM."""


_AS_FAST = 1.1
"""A call that takes longer than so many times the prepacked one's is slower, and not only measured so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFacts:
    """What the publisher says of a version; None leaves it to the build's own manifest."""

    training_date: str | None = None
    data_snapshot_id: str | None = None
    preprocessing_version: str | None = None
    framework: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    deployed_by: str | None = None
    rollback_target: Version | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version that is now in the store.

    Attributes:
        path: its directory.
        manifest: its identity.
        golden_examples: how many it reproduced; 0 where it has none.
        golden_rows: how many rows the calls of `golden_inputs` have; None where no examples were made of any.
        baseline: what later traffic is compared with; None where it has none.
        call_s: seconds of a call with external weights, as they are "mapped" and "prepacked"; empty where they are inside,
            and without "mapped" where its golden outputs are missed so.
        prepacked: whether its weights are laid out anew at each load.
    """

    model: ModelName
    version: Version
    path: Path
    manifest: Digest
    files: Mapping[str, FileEntry]
    signature: Signature
    golden_examples: int
    golden_rows: int | None
    baseline: Reference | None
    call_s: Mapping[str, float]
    prepacked: bool
    warnings: tuple[str, ...]


def publish(
    build_dir: Path,
    store: VersionStore,
    *,
    model: ModelName,
    version: Version,
    facts: PublishFacts,
    golden_inputs: Path | None = None,
    baseline_data: Path | None = None,
    allow_external_data: bool = False,
    external_weights: bool = False,
    contact: Contact | None = None,
) -> Published:
    """Publish what a build directory holds as a version that `serve` would take, or not at all.

    Args:
        build_dir: a build directory (docs/contract.md, section 2); it is left as it is.
        store: where to publish.
        model: whose version it is; its first one makes its directory.
        version: what it will be called.
        facts: what goes into the manifest, before what the build's own manifest says.
        golden_inputs: an `.npz` file of arrays `<input>` or `input:<input>`, further calls `@2`, `@3`; what the model
            answers to them becomes the golden examples.
        baseline_data: an `.npz` file of arrays named as the inputs, many rows each; with what the model answers to them
            they become the baseline. An array `truth` says what was true of each row.
        allow_external_data: whether weights may stand in files of their own.
        external_weights: whether to take large weights out of the model into a file of their own, which is mapped where the
            model is served; implies `allow_external_data`. Whether they are used as they are mapped, the manifest says: they
            are, unless the model answers its golden examples more slowly so.
        contact: has the model tried in a child process first; None for a model that is trusted not to end this one.

    Raises:
        NotFoundError: there is no build.
        InvalidRequestError: `golden_inputs` or `baseline_data` where the build has golden examples or a baseline; a `rollback_target` that is no name.
        VerificationError: `serve` would refuse it, or the build contradicts itself or `facts`. Nothing was published.
        RefusedError: VERSION_EXISTS.
        StoreError: the build cannot be read, or the store cannot be written. Nothing was published.
        CommitStateUnknownError: published, but perhaps not durable yet.
    """
    allow_external_data = allow_external_data or external_weights
    build = read_build(build_dir, allow_external_data=allow_external_data)
    build.check_names(model, version)
    if golden_inputs is not None and GOLDEN in build.roles:
        raise InvalidRequestError(
            f"{build_dir} holds {GOLDEN}, so {golden_inputs} is one too many: leave one of the two away"
        )
    if baseline_data is not None and BASELINE in build.roles:
        raise InvalidRequestError(
            f"{build_dir} holds {BASELINE}, so {baseline_data} is one too many: leave one of the two away"
        )
    with stage(store.layout, model=model, version=version) as staging:
        files = {
            name: staging.copy(build_dir / name, name=name, role=role) for name, role in build.roles.items()
        }
        build.check_bytes(files)
        if external_weights:
            files |= weights_apart(staging, taken=build.roles.keys())
        fields = _fields(build, facts, staging, files)
        # The signature is the loaded model's, and loading needs a manifest: so a first one without it.
        staging.write(
            MANIFEST, _json({name: value for name, value in fields.items() if name in _PROVISIONAL})
        )
        if contact is not None:
            _survived(staging, contact, allow_external_data=allow_external_data)
        with _loaded(staging, allow_external_data=allow_external_data) as (loaded, first):
            baseline = baseline_in(first.files[BASELINE]) if BASELINE in first.files else None
            made = None if golden_inputs is None else answered(loaded, golden_inputs)
            if made is not None:
                files[GOLDEN] = staging.write(GOLDEN, write_examples(made), role=Role.GOLDEN)
            completed = _completed(fields, files, loaded.signature, baseline)
        staging.write(MANIFEST, _json(completed))
        if baseline_data is not None:
            # Which output is the prediction, and what the columns are called, the completed manifest says.
            with _loaded(staging, allow_external_data=allow_external_data) as (loaded, _):
                baseline = counted(loaded, baseline_data)
            files[BASELINE] = staging.write(BASELINE, write_baseline(baseline), role=Role.BASELINE)
            completed = _completed(fields, files, loaded.signature, baseline)
            staging.write(MANIFEST, _json(completed))
        calls: dict[str, float] = {}
        if external_weights:
            completed, calls = _as_it_runs_best(staging, completed)
        # From here on exactly what serve does with it.
        with _loaded(staging, allow_external_data=allow_external_data) as (loaded, verified):
            rehearsal = rehearse(loaded, verified) if made is None else rehearse_made(loaded, verified)
        warnings = (
            *_warnings(completed, rehearsal.examples, store.versions(model)),
            *warnings_of(baseline, verified.manifest.metrics),
            *(_gained_nothing(calls) if external_weights and verified.manifest.runtime.prepack else ()),
        )
        staging.commit()
        return Published(
            model=model,
            version=version,
            path=staging.target,
            manifest=verified.manifest.digest,
            files=verified.manifest.files,
            signature=loaded.signature,
            golden_examples=rehearsal.examples,
            golden_rows=None if made is None else rows_of(made),
            baseline=baseline,
            call_s=calls,
            prepacked=verified.manifest.runtime.prepack,
            warnings=warnings,
        )


def _as_it_runs_best(staging: Staging, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The fields with the better `runtime` of the two, written; and what a call took with each."""
    call_s = {}
    for name, prepack in (("prepacked", True), ("mapped", False)):
        staging.write(MANIFEST, _json({**fields, "runtime": {"prepack": prepack}}))
        with _loaded(staging, allow_external_data=True) as (loaded, verified):
            try:
                call_s[name] = rehearse(loaded, verified).cost_s
            except VerificationError as error:
                if prepack or error.reason is not Reason.GOLDEN_MISMATCH:
                    raise
                # Summed in another order, its answers are further off than its golden outputs allow.
    slower = "mapped" not in call_s or call_s["mapped"] > _AS_FAST * call_s["prepacked"]
    chosen = {**fields, "runtime": {"prepack": slower}}
    staging.write(MANIFEST, _json(chosen))
    return chosen, call_s


def _survived(staging: Staging, contact: Contact, *, allow_external_data: bool) -> None:
    """Refuse what kills. Whatever else is wrong with it, the steps that follow say in better words."""
    with staging.verify(allow_external_data=allow_external_data) as verified:
        try:
            contact.try_out(verified)
        except VerificationError as error:
            if error.reason in KILLING:
                raise


@contextmanager
def _loaded(staging: Staging, *, allow_external_data: bool) -> Iterator[tuple[LoadedModel, VerifiedVersion]]:
    with (
        store_faults(staging.path),
        staging.verify(allow_external_data=allow_external_data) as verified,
        closing(load(verified, allow_external_data=allow_external_data)) as loaded,
    ):
        yield loaded, verified


def _fields(
    build: Build, facts: PublishFacts, staging: Staging, files: Mapping[str, FileEntry]
) -> dict[str, Any]:
    """The manifest's fields, but for what only the loaded model can tell."""
    own = build.fields
    told = {
        name: getattr(facts, name) if getattr(facts, name) is not None else own.get(name)
        for name in ("training_date", "data_snapshot_id", "preprocessing_version", "framework")
    }
    target = facts.rollback_target or own.get("rollback_target")
    fields = {
        "schema_version": 1,
        "model": staging.model,
        "version": staging.version,
        "model_hash": files[MODEL].digest,
        **{name: value for name, value in told.items() if value is not None},
        "metrics": _joined(own.get("metrics", {}), facts.metrics),
        "deployed_by": facts.deployed_by or own.get("deployed_by") or _user(),
        "rollback_target": None if target is None else parse_version(str(target)),
        "files": _listed(files),
        "provenance": _joined(own.get("provenance", {}), facts.provenance),
    }
    return {**fields, **{name: value for name, value in own.items() if name not in fields}}


def _completed(
    fields: Mapping[str, Any],
    files: Mapping[str, FileEntry],
    signature: Signature,
    baseline: Reference | None,
) -> dict[str, Any]:
    """The fields of the full form. What the build's own manifest says of these stands, and is verified like all else."""
    completed = {
        **fields,
        "files": _listed(files),
        "signature": fields.get("signature", asdict(signature)),
        "outputs": fields.get("outputs", asdict(inferred(signature))),
    }
    if GOLDEN in files:
        completed["golden"] = _joined(asdict(Golden(GOLDEN)), fields.get("golden", {}))
    if baseline is not None:
        completed["baseline"] = _joined({"path": BASELINE, "rows": baseline.rows}, fields.get("baseline", {}))
    return completed


def _joined(first: Any, second: Any) -> Any:
    """Both objects' fields, the second's first. What is no object stands, for the manifest's parser to refuse."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {**first, **second}
    return second if isinstance(first, Mapping) else first


def _listed(files: Mapping[str, FileEntry]) -> dict[str, Any]:
    return {name: asdict(entry) for name, entry in sorted(files.items())}


def _warnings(fields: Mapping[str, Any], examples: int, versions: list[Version]) -> tuple[str, ...]:
    warnings = []
    if not examples:
        warnings.append(
            f"no golden examples: the version will be warmed but not checked. Put {GOLDEN} into the build, or have it "
            "made with --golden-inputs"
        )
    untold = [name for name in _TOLD if name not in fields]
    if untold:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in untold)
        warnings.append(f"the manifest says nothing of {', '.join(untold)}: tell it with {flags}")
    target = fields["rollback_target"]
    if target is not None and target not in versions:
        warnings.append(
            f"rollback_target {target} is no version of the store: rolling back to it would be refused"
        )
    return tuple(warnings)


def _gained_nothing(call_s: Mapping[str, float]) -> tuple[str, ...]:
    why = "it is faster with copies of them" if "mapped" in call_s else "mapped, it misses its golden outputs"
    words = (
        f"weights in a file of their own gain nothing here, for {why}, and serve needs --allow-external-data: publish it "
        "without --external-weights"
    )
    return (words,)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a numeric user without an entry, as containers have
        return f"uid {os.getuid()}"


def _json(fields: Mapping[str, Any]) -> bytes:
    # What JSON cannot hold (NaN, half a surrogate pair) is written as Python does, for the manifest's parser to refuse.
    return json.dumps(fields, indent=2, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"

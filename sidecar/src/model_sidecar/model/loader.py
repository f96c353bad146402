"""From verified bytes to a loaded model. What is opened are the sealed bytes themselves, by their path."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from model_sidecar.errors import Reason, StoreError, VerificationError
from model_sidecar.model.anatomy import Anatomy, dissect
from model_sidecar.model.baselines import baseline_of_version
from model_sidecar.model.graph import Graph
from model_sidecar.model.loaded import LoadedModel
from model_sidecar.model.memory import MappedFiles, give_back
from model_sidecar.model.signature import check_promise, joined
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.manifest import MODEL, PREPROCESSING
from model_sidecar.store.verifying import VerifiedVersion

log = logging.getLogger(__name__)


def load(
    verified: VerifiedVersion, *, allow_external_data: bool = False, scratch: Path | None = None
) -> LoadedModel:
    """The version in memory, not yet rehearsed. The verified files may be closed afterwards.

    Takes as long as the model is large; for a thread that nobody waits for. The GIL is free nearly all the time.

    Args:
        verified: the version's files.
        allow_external_data: whether weights may stand in files beside the model.
        scratch: where such files are laid out while they are loaded; None: the system's place for temporary files.

    Raises:
        VerificationError: the bytes are those of the manifest, but no model that can answer; `reason` is
            MODEL_INVALID, OPERATOR_UNKNOWN, OUTPUT_UNSUPPORTED, EXTERNAL_DATA_REFUSED, PREPROCESSING_MISMATCH,
            SIGNATURE_MISMATCH or MODEL_OUT_OF_MEMORY.
        StoreError: external data needs a place on this machine's disk, and there is none.
    """
    anatomies = {
        name: dissect(verified.files[name]) for name in (MODEL, PREPROCESSING) if name in verified.files
    }
    graphs: dict[str, Graph] = {}
    mapped = MappedFiles()
    try:
        with _paths(verified, anatomies, allowed=allow_external_data, scratch=scratch) as (paths, data):
            for name, path in paths.items():
                graphs[name] = Graph(
                    path,
                    anatomies[name],
                    name=name,
                    identity=verified.manifest.digest,
                    prepack=verified.manifest.runtime.prepack,
                )
            mapped = MappedFiles(data)
        graph, preprocessing = graphs[MODEL], graphs.get(PREPROCESSING)
        signature = graph.signature
        if preprocessing is not None:
            unshaped = anatomies[PREPROCESSING].unshaped
            signature = joined(preprocessing.signature, graph.signature, unshaped=unshaped)
        check_promise(verified.manifest.signature, signature)
        return LoadedModel(
            model=verified.model,
            version=verified.version,
            manifest=verified.manifest,
            signature=signature,
            graph=graph,
            preprocessing=preprocessing,
            baseline=_baseline(verified),
            heaviest=max(anatomy.heaviest for anatomy in anatomies.values()),
            operators=frozenset().union(*(anatomy.operators for anatomy in anatomies.values())),
            mapped=mapped,
        )
    except BaseException:
        # The traceback keeps this frame, and so the sessions, for as long as somebody looks at the error.
        with mapped:
            for each in graphs.values():
                each.close()
        give_back()
        raise


def _baseline(verified: VerifiedVersion) -> Baseline | None:
    """What there is to compare with. One that cannot be read is no reason not to answer: `publish` refuses it."""
    try:
        return baseline_of_version(verified)
    except VerificationError as error:
        log.warning("version %s is watched without its baseline: %s", verified.version, error)
        return None


@contextmanager
def _paths(
    verified: VerifiedVersion, anatomies: Mapping[str, Anatomy], *, allowed: bool, scratch: Path | None
) -> Iterator[tuple[dict[str, str], list[Path]]]:
    """Where the ONNX files can be opened, and their external data beside them if they have any."""
    locations = {name: anatomy.external_locations for name, anatomy in anatomies.items()}
    for name, external in locations.items():
        _check_external(name, external, verified, allowed=allowed)
    if not any(locations.values()):
        yield {name: verified.files[name].path for name in anatomies}, []
        return
    try:
        # Only the owner can enter it (0700), and it is gone once the sessions have the files open.
        with tempfile.TemporaryDirectory(prefix="model-sidecar-", dir=scratch) as directory:
            data = {each for external in locations.values() for each in external}
            for name in {*anatomies, *data}:
                shutil.copyfile(verified.files[name].path, Path(directory, name))
            yield (
                {name: str(Path(directory, name)) for name in anatomies},
                [Path(directory, name) for name in data],
            )
    except OSError as error:
        raise StoreError(
            f"external data cannot be laid out in {scratch or tempfile.gettempdir()}: {error.strerror}. It needs room "
            "for the model and its data; --state-dir, or TMPDIR, names another place"
        ) from error


def _check_external(
    name: str, locations: frozenset[str], verified: VerifiedVersion, *, allowed: bool
) -> None:
    if not locations:
        return
    shown = ", ".join(ascii(each[:80]) for each in sorted(locations)[:3])
    if not allowed:
        raise VerificationError(
            f"{name} keeps tensors in other files ({shown}), which is refused without "
            "--allow-external-data (of `serve`, and of `publish`): give it, or save the model with its weights inside",
            reason=Reason.EXTERNAL_DATA_REFUSED,
            file=name,
        )
    for location in sorted(locations):
        if location not in verified.files or location in (MODEL, PREPROCESSING):
            raise VerificationError(
                f"{name} keeps tensors in {location[:80]!a}, which is none of the manifest's data files: list it "
                "there, as a plain name beside the model",
                reason=Reason.EXTERNAL_DATA_REFUSED,
                file=name,
            )

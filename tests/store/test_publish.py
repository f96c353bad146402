"""From a build directory to a version that serve would take: real models, real files."""

import json
import os
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from onnx import helper
from support import models
from support.hostile import PICKLE

from model_sidecar.app.preparing import preparer
from model_sidecar.app.publish import Published, PublishFacts, publish
from model_sidecar.errors import (
    InvalidNameError,
    InvalidRequestError,
    NotFoundError,
    Reason,
    RefusedError,
    SidecarError,
    VerificationError,
)
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.baseline_reading import write_baseline
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import OutputRoles, Role
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Datatype, TensorSpec
from model_sidecar.store.versions import VersionStore

NAME = ModelName("adder")
VERSION = Version("2024.01.15.prod")
FACTS = PublishFacts(
    training_date="2024-01-14", data_snapshot_id="snap-1", framework="onnx", deployed_by="tester"
)
X = np.array([[0.0, 1.0]], np.float32)
NINE = {
    "version": VERSION,
    "model_hash": digest_of(models.add_constant(2.0)),
    "training_date": "2024-01-13T10:00:00Z",
    "data_snapshot_id": "snap-of-the-build",
    "preprocessing_version": "3.2",
    "framework": "torch 2.5",
    "metrics": {"accuracy": 0.9, "auc": 0.95},
    "deployed_by": "the build",
    "rollback_target": "2024.01.10.prod",
}


class Bench:
    """A build directory and a store."""

    def __init__(self, root: Path) -> None:
        self.build = root / "build"
        self.build.mkdir()
        self.store = VersionStore(root / "ml-models", allow_external_data=True)
        self.store.layout.root.mkdir()
        self.put("model.onnx", models.add_constant(2.0))

    def put(self, name: str, content: bytes) -> None:
        (self.build / name).write_bytes(content)

    def manifest(self, fields: Mapping[str, Any]) -> None:
        self.put("manifest.json", json.dumps(fields).encode())

    def golden(self, **arrays: NDArray[Any]) -> None:
        self.npz(
            self.build / "golden.npz", {name.replace("__", ":"): array for name, array in arrays.items()}
        )

    def npz(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
        models.write_npz(path, arrays)
        return path

    def publish(self, facts: PublishFacts = FACTS, version: str = VERSION, **options: Any) -> Published:
        return publish(self.build, self.store, model=NAME, version=Version(version), facts=facts, **options)

    def refused(self, error: type[SidecarError] = VerificationError, **options: Any) -> SidecarError:
        """Publish, see it refused, and see that nothing of it is left."""
        with pytest.raises(error) as refused:
            self.publish(**options)
        assert self.store.versions(NAME) == []
        model = self.store.layout.model(NAME)
        assert not model.exists() or not list(model.iterdir())
        return refused.value

    def refused_at(self, store: VersionStore) -> Reason:
        """Why another store, with other settings, refuses the newest version."""
        with pytest.raises(VerificationError) as refused:
            store.verify(NAME, max(store.versions(NAME)))
        return refused.value.reason

    def written(self, published: Published) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads((published.path / "manifest.json").read_bytes())
        return fields


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_published_version_is_one_that_serve_takes(bench: Bench) -> None:
    """Nine fields, a model and golden examples become a full manifest, and a version that is prepared as serve does."""
    bench.manifest(NINE)
    bench.golden(input__x=X, output__y=X + 2)

    published = bench.publish(PublishFacts())

    manifest = bench.store.manifest(NAME, VERSION)
    assert published.manifest == manifest.digest
    assert (manifest.schema_version, manifest.model, manifest.version) == (1, NAME, VERSION)
    assert manifest.files == published.files
    assert {name: entry.role for name, entry in manifest.files.items()} == {
        "model.onnx": Role.MODEL,
        "golden.npz": Role.GOLDEN,
    }
    assert manifest.signature == published.signature
    assert published.signature.inputs == (TensorSpec("x", Datatype.FP32, (-1, 2)),)
    assert manifest.golden is not None
    assert (manifest.golden.path, published.golden_examples) == ("golden.npz", 1)
    assert {name: getattr(manifest, name) for name in NINE} == NINE
    ready = preparer(bench.store, NAME, allow_external_data=False)(VERSION, published.manifest)
    assert ready.golden_examples == 1
    assert (ready.model.run({"x": X})["y"] == X + 2).all()
    ready.model.close()


def test_what_is_published_satisfies_the_schema(bench: Bench) -> None:
    """The manifest that publish writes is one to the shipped JSON Schema."""
    bench.put("preprocessing.onnx", models.add_constant_before(1.0))
    bench.put("baseline.json", write_baseline(Baseline(1000)))
    schema = json.loads(package_files("model_sidecar.release").joinpath("manifest.schema.json").read_bytes())
    errors = [
        error.message for error in Draft202012Validator(schema).iter_errors(bench.written(bench.publish()))
    ]
    assert errors == []


def test_the_model_alone_is_enough_and_says_what_is_missing(bench: Bench) -> None:
    """A bare model is published with a warning that it is warmed but not checked, and which facts nobody told."""
    published = bench.publish(PublishFacts())
    assert published.golden_examples == 0
    unchecked, untold = published.warnings
    assert "warmed but not checked" in unchecked
    assert "training_date, data_snapshot_id, framework" in untold
    manifest = bench.store.manifest(NAME, VERSION)
    assert (manifest.training_date, manifest.golden) == (None, None)
    assert manifest.deployed_by


def test_flags_go_before_the_builds_own_manifest(bench: Bench) -> None:
    """What the publisher says overrides what the build says, metric by metric; the rest of the build's stands."""
    bench.manifest(
        {
            **NINE,
            "features": [{"name": "age", "type": "numeric"}],
            "owner": "team",
            "provenance": {"run": 7, "by": "a"},
        }
    )
    published = bench.publish(
        PublishFacts(
            training_date="2024-01-14",
            framework="jax",
            metrics={"accuracy": 0.98},
            rollback_target=Version("2024.01.11.prod"),
            provenance={"by": "b"},
        )
    )
    fields = bench.written(published)
    assert (fields["training_date"], fields["framework"], fields["data_snapshot_id"]) == (
        "2024-01-14",
        "jax",
        "snap-of-the-build",
    )
    assert fields["metrics"] == {"accuracy": 0.98, "auc": 0.95}
    assert fields["rollback_target"] == "2024.01.11.prod"
    assert (fields["owner"], fields["provenance"]) == ("team", {"run": 7, "by": "b"})
    assert fields["features"] == [{"name": "age", "type": "numeric"}]


def test_preprocessing_is_part_of_the_signature(bench: Bench) -> None:
    """With preprocessing, what the version takes is what preprocessing takes."""
    bench.put("preprocessing.onnx", models.add_constant_before(10.0))
    bench.golden(input__raw=X, output__y=X + 12)
    published = bench.publish()
    assert published.signature.inputs[0].name == "raw"
    assert published.golden_examples == 1
    assert published.files["preprocessing.onnx"].role is Role.PREPROCESSING


@pytest.mark.parametrize("prefix", ["", "input:"])
def test_golden_inputs_become_golden_examples(prefix: str, bench: Bench, tmp_path: Path) -> None:
    """What the model answers to golden inputs is what it must answer from then on; 64-bit numbers are fitted."""
    inputs = bench.npz(
        tmp_path / "x.npz",
        {f"{prefix}x": np.array([[0.0, 1.0]]), f"{prefix}x@2": np.array([[2, 3], [4, 5]], np.float32)},
    )
    published = bench.publish(golden_inputs=inputs)
    assert (published.golden_examples, published.warnings) == (2, ())
    with np.load(published.path / "golden.npz") as golden:
        assert sorted(golden) == ["input:x", "input:x@2", "output:y", "output:y@2"]
        assert golden["output:y@2"].tolist() == [[4, 5], [6, 7]]


def test_golden_inputs_that_the_model_does_not_take_are_refused(bench: Bench, tmp_path: Path) -> None:
    """A wrong name, a wrong shape, another kind of number, no .npz at all: each is GOLDEN_INVALID."""
    for arrays in ({"z": X}, {"x": X[0]}, {"x": X.astype(int)}, {"x": X, "input:z": X}, {"x@2": X}):
        error = bench.refused(golden_inputs=bench.npz(tmp_path / "x.npz", arrays))
        assert error.reason is Reason.GOLDEN_INVALID
    (tmp_path / "x.npz").write_bytes(PICKLE)
    assert bench.refused(golden_inputs=tmp_path / "x.npz").reason is Reason.GOLDEN_INVALID


def test_no_example_is_made_of_nan(bench: Bench, tmp_path: Path) -> None:
    """A model that answers NaN to its golden inputs is not published with NaN as the right answer."""
    bench.put("model.onnx", models.nan_model())
    inputs = bench.npz(tmp_path / "x.npz", {"x": X})
    assert bench.refused(golden_inputs=inputs).reason is Reason.OUTPUT_NOT_FINITE


def test_no_example_is_made_of_a_model_that_draws_lots(bench: Bench, tmp_path: Path) -> None:
    """A model that answers the same inputs otherwise the second time is not published for `verify` to refuse."""
    noise = helper.make_node("RandomNormalLike", ["x"], ["y"])
    bench.put("model.onnx", models.build([noise], [models.value("x")], [models.value("y")]))
    error = bench.refused(golden_inputs=bench.npz(tmp_path / "x.npz", {"x": X}))
    assert error.reason is Reason.GOLDEN_MISMATCH
    assert "the model is not deterministic" in str(error)
    assert "export it in inference mode" in str(error)


def test_the_rows_of_golden_inputs_are_counted(bench: Bench, tmp_path: Path) -> None:
    """Of how many calls and rows examples were made is told; of the build's own examples no rows are."""
    calls = {"x": X, "x@2": np.ones((3, 2), np.float32)}
    published = bench.publish(golden_inputs=bench.npz(tmp_path / "x.npz", calls))
    assert (published.golden_examples, published.golden_rows) == (2, 4)
    bench.golden(input__x=X, output__y=X + 2)
    assert bench.publish(version="2024.01.16.prod").golden_rows is None


@pytest.mark.parametrize(
    "date", ["2024-01-15", "2024-01-15T21:30:00Z", "2024-01-15T21:30:00.25+01:00", "2024-01-15t21:30:00z"]
)
def test_a_training_date_is_a_day_or_a_moment(date: str, bench: Bench) -> None:
    """ISO dates and date-times of RFC 3339 are published as they are written."""
    bench.manifest({"training_date": date})
    assert bench.written(bench.publish(PublishFacts()))["training_date"] == date


@pytest.mark.parametrize(
    "date", ["yesterday", "15.01.2024", "2024-02-30", "20240115", "2024-01-15T21:30:00", "2024-01-15\n", ""]
)
def test_what_is_no_training_date_is_refused(date: str, bench: Bench) -> None:
    """A date that people or programs would read differently, or not at all, names the build's file and the field."""
    bench.manifest({"training_date": date})
    error = bench.refused(facts=PublishFacts())
    assert error.reason is Reason.MANIFEST_INVALID
    assert "manifest.json: training_date: " in str(error)


def test_golden_inputs_beside_golden_examples_are_one_too_many(bench: Bench, tmp_path: Path) -> None:
    """Which of the two should count is for the publisher to say."""
    bench.golden(input__x=X, output__y=X + 2)
    bench.refused(InvalidRequestError, golden_inputs=bench.npz(tmp_path / "x.npz", {"x": X}))


def test_a_model_that_fails_its_golden_examples_is_not_published(bench: Bench) -> None:
    """What serve would refuse never comes to stand in the store; within the build's own tolerance, it does."""
    bench.golden(input__x=X, output__y=X + 2.5)
    assert bench.refused().reason is Reason.GOLDEN_MISMATCH
    bench.manifest({"golden": {"atol": 0.6}})
    assert bench.publish().golden_examples == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.onnx", PICKLE, Reason.MODEL_INVALID),
        ("model.onnx", b"", Reason.MODEL_INVALID),
        ("preprocessing.onnx", PICKLE, Reason.MODEL_INVALID),
        (
            "preprocessing.onnx",
            models.add_constant(1.0, takes="raw", makes="other"),
            Reason.PREPROCESSING_MISMATCH,
        ),
        ("model.onnx", models.unknown_domain(), Reason.OPERATOR_UNKNOWN),
        ("model.onnx", models.sequence_output(), Reason.OUTPUT_UNSUPPORTED),
        ("golden.npz", PICKLE, Reason.GOLDEN_INVALID),
        ("preprocessing.pkl", PICKLE, Reason.FILE_UNLISTED),
        ("README.md", b"x", Reason.FILE_UNLISTED),
        (".DS_Store", b"x", Reason.FILE_UNLISTED),
        ("manifest.sig", b"x", Reason.FILE_UNLISTED),
        ("weights.bin", b"x", Reason.FILE_UNLISTED),
        ("manifest.json", b"not json", Reason.MANIFEST_INVALID),
        ("manifest.json", b"[]", Reason.MANIFEST_INVALID),
        ("manifest.json", b'{"preprocessing_version": 5}', Reason.MANIFEST_INVALID),
        ("manifest.json", b'{"metrics": []}', Reason.MANIFEST_INVALID),
        ("manifest.json", b'{"metrics": {"a": NaN}}', Reason.NOT_A_NUMBER),
        ("manifest.json", b'{"framework": "a", "framework": "b"}', Reason.DUPLICATE_KEY),
        ("manifest.json", b'{"golden": {"path": "golden.npz"}}', Reason.MANIFEST_INVALID),
        ("manifest.json", b" " * (2 << 20), Reason.MANIFEST_TOO_LARGE),
        ("manifest.json", b'{"version": "2024.01.16.prod"}', Reason.VERSION_MISMATCH),
        ("manifest.json", b'{"model": "other"}', Reason.MODEL_MISMATCH),
        ("manifest.json", b'{"model_hash": "sha256:%s"}' % (b"0" * 64), Reason.MODEL_HASH_MISMATCH),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_a_build_that_serve_would_refuse_is_not_published(
    name: str, content: bytes, reason: Reason, bench: Bench
) -> None:
    """Whatever is wrong with a build, it is refused for its own reason, and the store stays as it was."""
    bench.put(name, content)
    assert bench.refused().reason is reason


def test_what_is_no_file_is_no_part_of_a_build(bench: Bench) -> None:
    """A folder, a FIFO, a dangling symlink are named and refused, and nothing waits."""
    os.mkfifo(bench.build / "preprocessing.onnx")
    assert "preprocessing.onnx' is no file" in str(bench.refused())
    (bench.build / "preprocessing.onnx").unlink()
    (bench.build / "checkpoints").mkdir()
    assert "checkpoints' is a directory" in str(bench.refused())
    (bench.build / "checkpoints").rmdir()
    (bench.build / "golden.npz").symlink_to("absent")
    assert bench.refused().reason is Reason.FILE_UNLISTED


def test_a_build_may_be_made_of_symlinks(bench: Bench, tmp_path: Path) -> None:
    """Build systems and model caches link to their files; what is published are the bytes."""
    (bench.build / "model.onnx").rename(tmp_path / "blob")
    (bench.build / "model.onnx").symlink_to(tmp_path / "blob")
    published = bench.publish()
    assert not (published.path / "model.onnx").is_symlink()
    assert published.files["model.onnx"].digest == digest_of((tmp_path / "blob").read_bytes())


def test_without_a_model_there_is_no_build(bench: Bench) -> None:
    """No directory, or one without model.onnx, is told plainly."""
    (bench.build / "model.onnx").unlink()
    assert "export the model to ONNX" in str(bench.refused(NotFoundError))
    bench.build.rmdir()
    assert "no directory" in str(bench.refused(NotFoundError))


def test_external_data_is_published_where_it_is_allowed(bench: Bench) -> None:
    """Files that the model itself names are external data; they go in when allowed, and nothing else does."""
    bench.put("model.onnx", models.external_data(bench.build, location="weights.bin"))
    assert bench.refused().reason is Reason.EXTERNAL_DATA_REFUSED
    bench.put("other.bin", b"x")
    assert bench.refused(allow_external_data=True).reason is Reason.FILE_UNLISTED
    (bench.build / "other.bin").unlink()
    published = bench.publish(allow_external_data=True)
    assert published.files["weights.bin"].role is Role.EXTERNAL_DATA
    bench.store.verify(NAME, VERSION).close()


def test_large_weights_are_published_apart_and_the_version_answers_the_same(bench: Bench) -> None:
    """Listed and verified as external data; the manifest says how they run best, as measured on the golden examples."""
    width = models.side_of_large(8)
    bench.put("model.onnx", models.large(8))
    rows = np.random.default_rng(0).random((4, width), np.float32)
    inside = bench.publish(golden_inputs=bench.npz(bench.build.parent / "rows.npz", {"x": rows}))
    for name in ("model.onnx", "golden.npz"):
        bench.put(name, (inside.path / name).read_bytes())

    apart = bench.publish(version="2024.01.16.prod", external_weights=True)

    assert apart.files["weights.bin"].role is Role.EXTERNAL_DATA
    assert (apart.files["weights.bin"].size or 0) >= 2 * width * width * 4
    assert (apart.files["model.onnx"].size or 0) < 4096
    assert apart.golden_examples == 1
    assert apart.call_s.keys() == {"mapped", "prepacked"}
    runtime = bench.written(apart)["runtime"]
    assert runtime == {"prepack": apart.call_s["mapped"] > 1.1 * apart.call_s["prepacked"]}
    assert any("gain nothing" in each for each in apart.warnings) == runtime["prepack"]
    with bench.store.verify(NAME, Version("2024.01.16.prod")) as verified:
        assert verified.manifest.runtime.prepack is runtime["prepack"]
    assert bench.refused_at(VersionStore(bench.store.layout.root)) is Reason.EXTERNAL_DATA_REFUSED


def test_a_build_that_names_its_data_file_as_ours_would_be_called_keeps_it(bench: Bench) -> None:
    """What is moved out goes into a file of another name."""
    model = onnx.load_model_from_string(models.external_data(bench.build, location="weights.bin"))
    width = models.side_of_large(8)
    more = onnx.load_model_from_string(models.large(8)).graph
    for each in more.node:
        for names in (each.input, each.output):
            names[:] = [f"more-{name}" for name in names]
    for weights in more.initializer:
        weights.name = f"more-{weights.name}"
    model.graph.node.extend(more.node)
    model.graph.initializer.extend(more.initializer)
    model.graph.input.append(models.value("more-x", shape=(-1, width)))
    model.graph.output.append(models.value("more-y", shape=(-1, width)))
    bench.put("model.onnx", models.content(model))

    published = bench.publish(external_weights=True)

    assert {"weights.bin", "weights-2.bin"} <= published.files.keys()


def test_a_name_that_two_weights_have_is_no_name_to_move_one_by(bench: Bench) -> None:
    """The runtime takes the last of them, and would take another once one has moved: refused, and published as it is."""
    model = onnx.load_model_from_string(models.large(8))
    twin = model.graph.initializer.add()
    twin.CopyFrom(model.graph.initializer[0])
    bench.put("model.onnx", models.content(model))

    refused = str(bench.refused(InvalidRequestError, external_weights=True))

    assert f"two weights named {twin.name!r}" in refused
    assert bench.publish().files.keys() == {"model.onnx"}


def test_a_data_file_never_differs_from_another_only_in_case(bench: Bench) -> None:
    """There are file systems on which the two would be one."""
    model = onnx.load_model_from_string(models.external_data(bench.build, location="Weights.bin"))
    more = onnx.load_model_from_string(models.large(8)).graph
    for weights in more.initializer:
        weights.name = f"more-{weights.name}"
    model.graph.initializer.extend(more.initializer)
    bench.put("model.onnx", models.content(model))

    published = bench.publish(external_weights=True)

    assert {"Weights.bin", "weights-2.bin"} <= published.files.keys()


def test_there_must_be_large_weights_to_publish_them_apart(bench: Bench) -> None:
    """Else the version would need --allow-external-data for nothing."""
    assert "without --external-weights" in str(bench.refused(InvalidRequestError, external_weights=True))


def test_a_full_manifest_in_the_build_is_held_to_its_word(bench: Bench) -> None:
    """What a build's own manifest lists, signs and promises must be so."""
    model = models.add_constant(2.0)
    listed = {"model.onnx": {"digest": digest_of(model), "size": len(model)}}
    note = {"digest": digest_of(b"note"), "size": 4, "role": "doc"}
    bench.manifest({**NINE, "files": {**listed, "note.txt": note}})
    assert bench.refused().reason is Reason.FILE_MISSING
    bench.put("note.txt", b"not!")
    assert bench.refused().reason is Reason.DIGEST_MISMATCH
    bench.put("note.txt", b"note")
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    bench.manifest(
        {
            **NINE,
            "files": {**listed, "note.txt": note},
            "signature": {"inputs": [tensor], "outputs": [tensor]},
        }
    )
    assert bench.refused().reason is Reason.SIGNATURE_MISMATCH
    bench.manifest({**NINE, "files": {**listed, "note.txt": note}})
    assert bench.publish().files["note.txt"].role is Role.DOC


def test_a_version_is_published_once(bench: Bench) -> None:
    """A second time is refused before anything is copied, and the first stays as it is."""
    published = bench.publish()
    bench.put("model.onnx", models.add_constant(3.0))
    with pytest.raises(RefusedError) as refused:
        bench.publish()
    assert refused.value.reason is Reason.VERSION_EXISTS
    assert bench.store.manifest(NAME, VERSION).digest == published.manifest


def test_a_rollback_target_is_a_version(bench: Bench) -> None:
    """A target that is no name is refused; one that the store lacks is published with a warning."""
    bench.manifest({"rollback_target": "the one before"})
    bench.refused(InvalidNameError)
    bench.manifest({"rollback_target": "2024.01.10.prod"})
    (warning,) = [each for each in bench.publish().warnings if "rollback_target" in each]
    assert "2024.01.10.prod is no version of the store" in warning
    (bench.build / "manifest.json").unlink()
    later = bench.publish(PublishFacts(rollback_target=VERSION), version="2024.01.16.prod")
    assert not [each for each in later.warnings if "rollback_target" in each]


def test_facts_that_json_cannot_hold_are_refused(bench: Bench) -> None:
    """NaN as a metric, and bytes that are no text on the command line, are refused like in any manifest."""
    assert bench.refused(facts=PublishFacts(metrics={"loss": float("nan")})).reason is Reason.NOT_A_NUMBER
    assert bench.refused(facts=PublishFacts(framework="\udcff")).reason is Reason.MANIFEST_INVALID


def test_a_classifiers_outputs_are_known_by_their_names(bench: Bench) -> None:
    """What scikit-learn's exports call label and probabilities are the prediction and the confidence."""
    bench.put("model.onnx", models.zipmap_classifier(zipmap=False))
    bench.publish()
    roles = bench.store.manifest(NAME, VERSION).outputs
    assert roles == OutputRoles("classification", "label", "probabilities")

    bench.put("model.onnx", models.zipmap_classifier(zipmap=True))
    with pytest.raises(VerificationError, match="zipmap") as refused:
        bench.publish(version="2024.01.16.prod")
    assert refused.value.reason is Reason.OUTPUT_UNSUPPORTED

"""Versions and pointers that may not answer: each is refused for its own reason, and the live version answers on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import hostile, models
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, PROD, Yard, write_golden

from model_sidecar.release.digests import digest_of
from model_sidecar_client import SidecarError, VerificationFailedError

GOOD, NEXT = "2024.01.10.prod", "2024.01.15.prod"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Yard, RunningSidecar]]:
    """One sidecar for all: if a refusal harmed it, every later test would show it."""
    yard = Yard(tmp_path_factory.mktemp("refusals"))
    yard.publish(GOOD)
    with serving(yard, GOOD) as sidecar:
        yield yard, sidecar


def fresh_version(yard: Yard, **settings: object) -> Path:
    """A good version under a name that no test has used, as a directory that a test may damage."""
    day = len(list((yard.store / MODEL).glob("2025.*"))) + 1
    name = f"2025.{1 + day // 28:02}.{1 + day % 28:02}.prod"
    yard.publish(name, **settings)  # type: ignore[arg-type]
    return yard.version_dir(name)


def put_by_hand(directory: Path, *, model: bytes, golden: dict[str, list[list[float]]] | None = None) -> None:
    """Replace what is in a version's directory, with a manifest of the full form that fits the bytes."""
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in ("preprocessing.onnx", "golden.npz"):
        (directory / name).unlink(missing_ok=True)
        manifest["files"].pop(name, None)
    manifest.pop("golden", None)
    manifest.pop("signature", None)
    (directory / "model.onnx").write_bytes(model)
    if golden is not None:
        write_golden(directory / "golden.npz", golden)
        manifest["golden"] = {"path": "golden.npz"}
    manifest["signature"] = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    for path in directory.iterdir():
        if path.name != "manifest.json":
            role = (
                manifest["files"]
                .get(path.name, {})
                .get("role", "golden" if "golden" in path.name else "other")
            )
            manifest["files"][path.name] = {
                "digest": digest_of(path.read_bytes()), "size": path.stat().st_size, "role": role,
            }  # fmt: skip
    manifest["model_hash"] = manifest["files"]["model.onnx"]["digest"]
    (directory / "manifest.json").write_text(json.dumps(manifest))


def assert_refused(yard: Yard, sidecar: RunningSidecar, version: str, reason: str) -> None:
    """Deploy is refused with this reason, nothing is recorded, and the live version answers."""
    before = len(yard.ledger().records())
    with sidecar.operator() as operator:
        with pytest.raises(SidecarError) as refused:
            operator.deploy(MODEL, version, environment=PROD, reason="it must not")
        assert refused.value.reason == reason, str(refused.value)
        assert operator.status(MODEL, environment=PROD)[0].last_error.reason == reason  # type: ignore[union-attr]
    assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)
    assert len(yard.ledger().records()) == before


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.id)
def test_a_damaged_version_never_answers(shared: tuple[Yard, RunningSidecar], case: hostile.Case) -> None:
    """Whatever is wrong with the bytes or names of a version, the deploy is refused for just that."""
    yard, sidecar = shared
    directory = fresh_version(yard)
    case.damage(directory)

    assert_refused(yard, sidecar, directory.name, case.reason)


WORDS = [[1.0, 2.0]]
BAD_MODELS: dict[str, tuple[Callable[[], bytes], dict[str, list[list[float]]] | None, str]] = {
    "not ONNX at all": (lambda: b"this is no model", None, "MODEL_INVALID"),
    "an operator of an unknown domain": (models.unknown_domain, None, "OPERATOR_UNKNOWN"),
    "a golden answer that does not agree": (
        lambda: models.add_constant(1.0), {"input:x": WORDS, "output:y": [[2.0, 3.5]]}, "GOLDEN_MISMATCH",
    ),
    "a golden answer that is not finite": (
        models.nan_model, {"input:x": WORDS, "output:y": [[2.0, 3.0]]}, "OUTPUT_NOT_FINITE",
    ),
    "another signature than its manifest's": (
        lambda: models.add_constant(1.0, width=3), None, "SIGNATURE_MISMATCH",
    ),
    "a sequence as output": (models.sequence_output, None, "OUTPUT_UNSUPPORTED"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "golden", "reason"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_right_bytes_of_a_wrong_model_never_answer(
    shared: tuple[Yard, RunningSidecar],
    model: Callable[[], bytes],
    golden: dict[str, list[list[float]]] | None,
    reason: str,
) -> None:
    """A version whose every digest is right but which is no model, or answers otherwise than promised, is refused."""
    yard, sidecar = shared
    directory = fresh_version(yard)
    put_by_hand(directory, model=model(), golden=golden)

    assert_refused(yard, sidecar, directory.name, reason)


def test_external_data_is_refused_unless_configured(shared: tuple[Yard, RunningSidecar]) -> None:
    """Weights beside the model are refused, listed or not, unless the sidecar was told to accept them."""
    yard, sidecar = shared
    directory = fresh_version(yard)
    put_by_hand(directory, model=models.external_data(directory))

    assert_refused(yard, sidecar, directory.name, "EXTERNAL_DATA_REFUSED")


def test_a_pickle_as_preprocessing_is_refused(shared: tuple[Yard, RunningSidecar]) -> None:
    """A pickle under the name of the preprocessing, with right digests, is no model."""
    yard, sidecar = shared
    directory = fresh_version(yard)
    (directory / "preprocessing.onnx").write_bytes(hostile.PICKLE)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["preprocessing.onnx"].update(digest=digest_of(hostile.PICKLE), size=len(hostile.PICKLE))
    (directory / "manifest.json").write_text(json.dumps(manifest))

    assert_refused(yard, sidecar, directory.name, "MODEL_INVALID")


def test_a_changed_signature_needs_a_word(shared: tuple[Yard, RunningSidecar]) -> None:
    """A version that takes other inputs is refused, and deployed when the operator says so."""
    yard, sidecar = shared
    name = fresh_version(yard, model=models.add_constant(5.0)).name

    assert_refused(yard, sidecar, name, "SCHEMA_CHANGED")
    with sidecar.operator() as operator:
        operator.deploy(MODEL, name, environment=PROD, reason="callers know", allow_schema_change=True)
        assert operator.rollback(MODEL, environment=PROD, reason="and back").version == GOOD
    assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)


def test_a_version_that_was_replaced_after_its_deployment_is_refused(
    shared: tuple[Yard, RunningSidecar],
) -> None:
    """The ledger names exact bytes: the same name with other bytes does not come back."""
    yard, sidecar = shared
    directory = fresh_version(yard)
    with sidecar.operator() as operator:
        operator.deploy(MODEL, directory.name, environment=PROD, reason="good")
        operator.rollback(MODEL, environment=PROD, version=GOOD, reason="back")
        other = fresh_version(yard)  # takes the place of the standby in memory
        operator.deploy(MODEL, other.name, environment=PROD, reason="another")
        operator.rollback(MODEL, environment=PROD, version=GOOD, reason="back")
    put_by_hand(directory, model=models.add_constant(9.0))

    assert_refused(yard, sidecar, directory.name, "MANIFEST_CHANGED")


def test_a_version_that_is_not_there_is_not_found(shared: tuple[Yard, RunningSidecar]) -> None:
    """Deploying an absent version, or a name that is none, says so."""
    yard, sidecar = shared

    assert_refused(yard, sidecar, "2023.12.31.prod", "VERSION_NOT_FOUND")
    with sidecar.operator() as operator, pytest.raises(SidecarError) as refused:
        operator.deploy(MODEL, "../2024.01.10.prod", environment=PROD)
    assert refused.value.reason == "INVALID_NAME"


POINTERS = {
    "to an absent version": (json.dumps({"version": "2023.12.31.prod"}).encode(), "VERSION_NOT_FOUND"),
    "empty": (b"", "POINTER_INVALID"),
    "binary": (bytes(range(256)), "POINTER_INVALID"),
    "cut short": (b'{"version": "2024.01.', "POINTER_INVALID"),
    "with a key twice": (b'{"version": "2024.01.15.prod", "version": "2024.01.10.prod"}', "POINTER_INVALID"),
    "out of the store": (b'{"version": "../../etc"}', "POINTER_INVALID"),
    "huge": (b" " * (1 << 20), "POINTER_INVALID"),
}


@pytest.mark.parametrize(("content", "reason"), POINTERS.values(), ids=POINTERS.keys())
def test_a_bad_pointer_moves_nothing(yard: Yard, content: bytes, reason: str) -> None:
    """A pointer that leads nowhere or is none is reported; the live version answers on, and a good one is followed."""
    for version in (GOOD, NEXT):
        yard.publish(version)
    with serving(yard, GOOD) as sidecar:
        yard.pointer.write_bytes(content)
        status = sidecar.wait_error(reason)

        assert status.observed.version == GOOD
        assert sidecar.predict(1.0) == (yard.expected(GOOD, 1.0), GOOD)
        assert yard.pointer.read_bytes() == content
        yard.edit_pointer(NEXT)
        sidecar.wait_version(NEXT)


def test_a_version_that_is_still_being_copied_is_taken_once_it_is_complete(yard: Yard) -> None:
    """A hand-edited pointer to a half-copied directory is refused as incomplete, then followed without another word."""
    for version in (GOOD, NEXT):
        yard.publish(version)
    directory = yard.version_dir(NEXT)
    whole = (directory / "model.onnx").read_bytes()
    (directory / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with serving(yard, GOOD) as sidecar:
        yard.edit_pointer(NEXT)
        sidecar.wait_error("SIZE_MISMATCH")
        assert sidecar.predict(1.0)[1] == GOOD
        (directory / "model.onnx").write_bytes(whole)
        status = sidecar.wait_version(NEXT)

        assert status.last_error is None or status.state.value == "LOADING"
        assert sidecar.predict(1.0) == (yard.expected(NEXT, 1.0), NEXT)


def test_verification_failures_are_told_apart_and_exit_with_4(yard: Yard) -> None:
    """The client's error says that it was the bytes, and names the reason."""
    yard.publish(GOOD)
    directory = fresh_version(yard)
    content = bytearray((directory / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (directory / "model.onnx").write_bytes(content)
    with serving(yard, GOOD) as sidecar, sidecar.operator() as operator:
        with pytest.raises(VerificationFailedError) as refused:
            operator.deploy(MODEL, directory.name, environment=PROD)
        report = operator.verify(MODEL, directory.name)

    assert refused.value.reason == "DIGEST_MISMATCH"
    assert (report.verified, report.reason) == (False, "DIGEST_MISMATCH")

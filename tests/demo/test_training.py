from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.digits import Published
from support.shell import as_started

from model_sidecar.demo.digits import Digits, Trained, faded
from model_sidecar.demo.versions import (
    DAMAGED,
    DIGITS,
    FIRST,
    MENDED,
    NIGHT,
    SECOND,
    UNSCALED,
    WORSE,
    build_all,
    flip_one_byte,
    publish_as,
)
from model_sidecar.errors import Reason, VerificationError
from model_sidecar.store.versions import VersionStore


def share_right(trained: Trained, stream: Digits) -> float:
    return float(np.mean(trained.predict(stream.pixels)[0] == stream.labels))


def test_only_the_stream_shows_that_the_third_version_is_worse(published: Published) -> None:
    """Its own validation rows, cropped alike, promise more than the second version's; the stream says otherwise."""
    first, second, worse = (each.trained for each in published.built)

    assert first.accuracy < second.accuracy < worse.accuracy
    assert 0.80 < share_right(first, published.stream) < share_right(second, published.stream) < 0.99
    assert share_right(second, published.stream) == pytest.approx(second.accuracy, abs=0.02)
    assert 0.40 < share_right(worse, published.stream) < 0.65


def test_no_version_has_seen_the_stream(published: Published) -> None:
    """The digits of the traffic are other ones than those that snapshots are taken from."""
    assert len(published.pool) + len(published.stream) == 1797
    assert max(each.release.snapshot.rows for each in published.built) <= len(published.pool)


def test_training_again_gives_the_same_bytes(published: Published, tmp_path: Path) -> None:
    """What is trained and exported does not depend on the run."""
    again = build_all(tmp_path, published.pool)

    for old, new in zip(published.built, again, strict=True):
        names = sorted(path.name for path in old.build.iterdir())
        assert names == ["golden.npz", "manifest.json", "model.onnx", "preprocessing.onnx"]
        for name in names:
            assert (old.build / name).read_bytes() == (new.build / name).read_bytes(), name


def test_the_manifest_tells_what_was_trained_on_what(published: Published) -> None:
    """Date, snapshot, preprocessing, framework and the measured accuracy stand in the published manifest."""
    manifest = published.store.manifest(DIGITS, SECOND.version)

    assert manifest.training_date == "2024-01-14T21:30:00Z"
    assert manifest.data_snapshot_id == "digits-2024-01-14"
    assert manifest.preprocessing_version == "scaler-2"
    assert manifest.framework is not None
    assert manifest.framework.startswith("scikit-learn ")
    assert manifest.metrics == {"accuracy": 0.955, "validation_rows": 200}
    assert manifest.deployed_by == "model-sidecar demo"
    assert manifest.rollback_target == FIRST.version
    assert manifest.outputs.task == "classification"
    assert set(manifest.files) == {"baseline.json", "golden.npz", "model.onnx", "preprocessing.onnx"}
    assert manifest.baseline is not None
    assert manifest.baseline.rows == 200


def test_an_export_that_differs_from_scikit_learn_is_not_published(
    published: Published, tmp_path: Path
) -> None:
    """The golden examples are scikit-learn's own answers, so another version's model does not pass with them."""
    first, second, _ = published.built
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name, build in (
        ("model.onnx", first.build),
        ("preprocessing.onnx", second.build),
        ("golden.npz", second.build),
    ):
        (mixed / name).write_bytes((build / name).read_bytes())
    (tmp_path / "store").mkdir()
    store = VersionStore(tmp_path / "store")

    with pytest.raises(VerificationError) as refused:
        publish_as(DAMAGED, mixed, store)

    assert refused.value.reason is Reason.GOLDEN_MISMATCH
    assert store.versions(DIGITS) == []


def test_one_flipped_bit_is_a_digest_mismatch(published: Published, tmp_path: Path) -> None:
    """The damage that the demo does leaves the size as it is, and only the digest tells."""
    (tmp_path / "store").mkdir()
    store = VersionStore(tmp_path / "store")
    publish_as(DAMAGED, published.built[1].build, store)
    model = store.layout.version(DIGITS, DAMAGED) / "model.onnx"
    before = model.read_bytes()

    at = flip_one_byte(model)

    after = model.read_bytes()
    assert [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [at]
    with pytest.raises(VerificationError) as refused:
        store.verify(DIGITS, DAMAGED)
    assert refused.value.reason is Reason.DIGEST_MISMATCH


def test_the_example_is_a_digit_of_the_stream(published: Published) -> None:
    """x.json holds what `sidecarctl predict --input` takes, and the demo says which digit it is."""
    truth = published.place.write_example(published.stream)

    pixels = json.loads(published.place.example.read_text())["pixels"]
    assert np.array_equal(np.array(pixels, np.float32), published.stream.pixels[:1])
    assert truth == published.stream.labels[0]


def test_cropping_loses_the_top_row_of_every_scan(published: Published) -> None:
    """The exporter of the third snapshot cut one row too low: everything moves up, and the bottom row is empty."""
    cropped = WORSE.snapshot.of(published.pool).pixels.reshape(-1, 8, 8)
    whole = (
        dataclasses.replace(WORSE.snapshot, cropped_too_low=False).of(published.pool).pixels.reshape(-1, 8, 8)
    )

    assert np.array_equal(cropped[:, :-1], whole[:, 1:])
    assert not cropped[:, -1].any()


def test_the_version_without_its_scaler_passes_every_check(published: Published, tmp_path: Path) -> None:
    """Its model and its promises are those of the one with a scaler, its golden examples its own; publishing warns."""
    (tmp_path / "ml-models").mkdir()
    store = VersionStore(tmp_path / "ml-models")
    unscaled, mended = build_all(tmp_path / "builds", published.pool, NIGHT)

    warned = publish_as(UNSCALED.version, unscaled.build, store, rows=unscaled.rows).warnings
    fine = publish_as(MENDED.version, mended.build, store, rows=mended.rows).warnings

    one, other = (store.manifest(DIGITS, each.version) for each in NIGHT)
    assert one.metrics == other.metrics == {"accuracy": 0.9545, "validation_rows": 198}
    assert one.files["model.onnx"].digest == other.files["model.onnx"].digest
    assert one.files["preprocessing.onnx"].digest != other.files["preprocessing.onnx"].digest
    assert [each for each in warned if "promise" in each]
    assert not [each for each in fine if "promise" in each]


def test_paler_and_paler_scans_are_read_by_nobody_in_the_end(published: Published) -> None:
    """With the light, contrast goes, and with it what any version sees; the full light changes nothing."""
    stream, second = published.stream, published.built[1].trained
    assert faded(stream.pixels, 1.0) is stream.pixels
    half = faded(stream.pixels, 0.5)
    assert np.array_equal(half, np.rint(half))
    assert half.max() == 8

    shares = [
        share_right(second, dataclasses.replace(stream, pixels=faded(stream.pixels, light)))
        for light in (1.0, 0.7, 0.6, 0.5, 0.4)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.65


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    """Where skl2onnx is missing, the demo makes nothing and names the extra."""
    code = "import sys; sys.modules['skl2onnx'] = None; from model_sidecar.cli import main; main(['demo'])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=as_started(),
    )

    assert done.returncode == 2
    assert "pip install 'model-sidecar[demo]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

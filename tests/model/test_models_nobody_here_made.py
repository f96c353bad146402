"""Two real models of others, as they ship: Google's magika (Apache-2.0) and silero-vad (MIT)."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import magika
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from support.candidates import Candidates
from support.packaged import MAGIKA, MAGIKA_CONFIG, SILERO, packaged

from model_sidecar.model.golden import Example
from model_sidecar.model.loader import load
from model_sidecar.model.rehearsal import rehearse
from model_sidecar.release.tensors import Arrays, Datatype, Signature, TensorSpec

ROOT = Path(__file__).parents[2]
RATE = 16_000
CHUNK, CONTEXT = 512, 64


def png() -> bytes:
    """A picture of noise."""
    rows = np.random.default_rng(0).integers(0, 256, (64, 1 + 64 * 3), dtype=np.uint8)
    rows[:, 0] = 0

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    pixels = zlib.compress(rows.tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zip_archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"notes/{number}.txt", f"note {number}\n" * 50)
    return content.getvalue()


MARKDOWN = b"""# How to roll back

1. Look at `sidecarctl status` to see which version answers.
2. Run the command below, and give a reason.

```sh
sidecarctl rollback recommendation-v1 --environment prod --reason "precision alert"
```

- **Live** is the version that answers.
- **Standby** is the one to go back to, see [the contract](docs/contract.md).
"""
FILES = {
    "python": Path(__file__).read_bytes(),
    "toml": (ROOT / "pyproject.toml").read_bytes(),
    "markdown": MARKDOWN * 3,
    "json": json.dumps(
        [{"version": f"2024.01.{day:02}.prod", "accuracy": day / 31} for day in range(1, 29)]
    ).encode(),
    "png": png(),
    "zip": zip_archive(),
}


def features(content: bytes, config: dict[str, Any]) -> list[int]:
    """What magika sends its model, by its published configuration: the two ends of a file without their white space."""
    begin = content[: config["block_size"]].lstrip()[: config["beg_size"]]
    end = content[-config["block_size"] :].rstrip()[-config["end_size"] :]
    padding = config["padding_token"]
    return [
        *begin,
        *[padding] * (config["beg_size"] - len(begin)),
        *[padding] * (config["end_size"] - len(end)),
        *end,
    ]


def test_magika_tells_files_apart_as_its_own_interface_does(candidates: Candidates) -> None:
    """Real files, all in one call and one by one, get the label and score that magika's Python API gives them."""
    config = json.loads(packaged(*MAGIKA_CONFIG))
    labels: list[str] = config["target_labels_space"]
    verified = candidates.verify(packaged(*MAGIKA))
    loaded = load(verified)
    rows = np.array([features(content, config) for content in FILES.values()], dtype=np.int32)

    rehearsed = rehearse(loaded, verified)
    together = loaded.run({"bytes": rows})["target_label"]
    apart = np.concatenate([loaded.run({"bytes": rows[i : i + 1]})["target_label"] for i in range(len(rows))])

    assert loaded.signature == Signature(
        (TensorSpec("bytes", Datatype.INT32, (-1, 2048)),),
        (TensorSpec("target_label", Datatype.FP32, (-1, len(labels))),),
    )
    assert rehearsed.examples == 0
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-6)
    oracle = magika.Magika()
    for kind, content, scores in zip(FILES, FILES.values(), together, strict=True):
        said = oracle.identify_bytes(content).prediction
        assert (kind, labels[scores.argmax()]) == (str(said.dl.label), kind)
        assert scores.max() == pytest.approx(said.score, abs=1e-5)
    loaded.close()


def test_magika_reproduces_its_own_answers_as_golden_examples(candidates: Candidates) -> None:
    """A real model's real answers make golden examples, and another answer is refused."""
    config = json.loads(packaged(*MAGIKA_CONFIG))
    rows = np.array([features(content, config) for content in FILES.values()], dtype=np.int32)
    first = candidates.load(packaged(*MAGIKA))
    examples = [Example({"bytes": row[np.newaxis]}, first.run({"bytes": row[np.newaxis]})) for row in rows]
    verified = candidates.verify(packaged(*MAGIKA), examples=examples)
    loaded = load(verified)

    found = rehearse(loaded, verified)

    assert found.examples == len(FILES)
    assert found.worst <= 1e-5
    loaded.close()


def speech_like() -> NDArray[np.float32]:
    """Two seconds: silence, a tone with overtones that rises and falls, noise, silence."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    tone = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 12))
    tone = tone * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time))
    noise = rng.normal(0, 0.3, RATE // 2)
    silence = np.zeros(RATE // 2)
    return np.concatenate([silence, tone, noise, silence]).astype(np.float32) * np.float32(0.3)


def chunks() -> list[NDArray[np.float32]]:
    """What silero-vad's own wrapper sends: 512 samples behind the 64 before them."""
    sound = np.concatenate([np.zeros(CONTEXT, np.float32), speech_like()])
    return [
        sound[np.newaxis, start : start + CONTEXT + CHUNK]
        for start in range(0, len(sound) - CONTEXT - CHUNK + 1, CHUNK)
    ]


def test_silero_answers_a_stream_whose_state_the_caller_holds(candidates: Candidates) -> None:
    """Many chunks in a row, each with the state that the last one left, answer as in plain onnxruntime."""
    content = packaged(*SILERO)
    loaded = candidates.load(content)
    plain = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    rate = np.array(RATE, dtype=np.int64)
    state = reference = np.zeros((2, 1, 128), dtype=np.float32)
    heard, forgetful = [], []

    for chunk in chunks():
        found = loaded.run({"input": chunk, "state": state, "sr": rate})
        output, reference = plain.run(["output", "stateN"], {"input": chunk, "state": reference, "sr": rate})
        np.testing.assert_allclose(found["output"], output, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["stateN"], reference, rtol=1e-4, atol=1e-5)
        state = found["stateN"]
        heard.append(float(found["output"][0, 0]))
        fresh: Arrays = {"input": chunk, "state": np.zeros_like(state), "sr": rate}
        forgetful.append(float(loaded.run(fresh, ["output"])["output"][0, 0]))

    assert loaded.signature.inputs == (
        TensorSpec("input", Datatype.FP32, (-1, -1)),
        TensorSpec("state", Datatype.FP32, (2, -1, 128)),
        TensorSpec("sr", Datatype.INT64, ()),
    )
    assert len(heard) == len(speech_like()) // CHUNK
    assert max(heard[:10]) < 0.2  # silence
    # The state is worth something: without it the same chunks sound different.
    assert max(abs(a - b) for a, b in zip(heard, forgetful, strict=True)) > 0.05


def test_silero_is_warmed_although_nobody_sent_it_sound(candidates: Candidates) -> None:
    """Three inputs, one of them a scalar, are made up for the warm-up; whether it answers them is its own business."""
    verified = candidates.verify(packaged(*SILERO))
    loaded = load(verified)

    assert rehearse(loaded, verified).examples == 0
    loaded.close()

"""What people send to the models that nobody here made: files of many kinds to magika, sound to silero-vad."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

"""Where the search for a breaking input begins: for each parser inputs that are right, and ways to spoil them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from support import manifests, models
from support.ledgers import A, B, chain
from support.streams import classification_baseline

from model_sidecar.ledger.face import render
from model_sidecar.ledger.record import encode
from model_sidecar.model.golden import Example, write_examples
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.baseline_reading import write_baseline
from model_sidecar.release.digests import digest_of
from model_sidecar.release.tensors import Datatype
from model_sidecar.rpc.elements import TYPED_LIST
from model_sidecar_client.wire.inference import ModelInferRequest

TOKENS: tuple[bytes, ...] = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    ),
    *(b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
    *(
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-0",
        b"1" * 400,
        b'"\\ud800"',
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
    ),
    *(
        b"x=" + b"[" * 2000,
        b"[" * 2000,
        b'{"a":' * 500,
        b"a." * 900,
        b"\n",
        b"\r",
        b"=",
        b"[[",
        b"inf",
        b"nan",
        b"0x",
        b"0o660",
        b"1979-05-27",
    ),
    *(
        b"\xd9\xa3",
        b"\xe2\x80\xae",
        b"\xc3\xa9",
        b"../",
        b"unix:",
        b"[::1]:",
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"\x93NUMPY",
    ),
)
"""What breaks parsers: edges of numbers and lengths, depth, words of the formats."""


def seeds() -> Mapping[str, Sequence[bytes]]:
    """By parser (see `support.parsers`)."""
    return {
        "baseline": [write_baseline(classification_baseline()), write_baseline(Baseline(1))],
        "manifest": [manifests.content(manifests.nine_fields()), manifests.content(manifests.full_form())],
        "record": (records := [encode(each) for each in chain(A, B, A)]),
        "remembered": [b"".join(digest_of(each).encode() + b" " + each for each in records), b""],
        "pointer": [render(chain(A, B)[1]), b'{"version": "2024.01.15.prod", "allow_schema_change": true}'],
        "canonical_json": [b'{"a":[1,-2.5,"\\u00e9",null,true,{}]}', b"[]"],
        "tensors": [*_requests()],
        "golden": _golden(),
        "anatomy": [*_models()],
        "setting": [
            b"250ms",
            b"64MiB",
            b"unix:/run/a.sock",
            b"[::1]:8001",
            b"2024.01.15.3.prod",
            b"recommendation-v1",
        ],
        "order_fields": [b"precision alert\nat night", b"YmVmb3JlOjQy", b"5f1d"],
        "settings_file": [
            b'[serve]\nmodel = ["a", "b"]\npoll-interval = "1s"\nallow-external-data = true\nthreads = 2\n'
        ],
        "operators_settings_file": [
            b'control = "unix:/a.sock"\nenvironment = "prod"\n[deploy]\ntimeout = "2m"\nyes = true\n'
        ],
        "predict_input": [b'{"x": [[1.0, 2], [3, -4e3]], "s": ["a", "b"], "e": [], "t": true}'],
        "received": [bytes([kind, 2, 2, 0, 0, 3, 0, 0]) + bytes(range(48)) for kind in range(len(Datatype))],
    }


def spoiled(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """The content with a few changes: bits, bytes, lengths, tokens, pieces of other inputs."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at, length = chance.randint(0, len(made)), chance.randint(1, 40)
        other = chance.choice(others)
        cut = chance.randint(0, len(other))
        piece: bytes = chance.choice(
            (
                chance.choice(TOKENS),
                chance.randbytes(chance.randint(1, 8)),
                other[cut : cut + length],
                bytes(made[at : at + length]) * 2,
            )
        )
        replaced = chance.choice((0, 0, len(piece), length))
        made[at : at + replaced] = piece
        if made and chance.random() < 0.3:
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def _requests() -> list[bytes]:
    made = []
    for datatype in Datatype:
        raw = b"\x01\0\0\0a" * 2 if datatype is Datatype.BYTES else b"\0" * 2 * datatype.numpy.itemsize
        request = ModelInferRequest(
            model_name="adder", id="7", raw_input_contents=[raw, raw[: len(raw) // 2]]
        )
        request.inputs.add(name="x", datatype=datatype.value, shape=[1, 2])
        request.inputs.add(name="s", datatype=datatype.value, shape=[])
        request.outputs.add(name="y")
        request.parameters["a"].string_param = "b"
        made.append(request.SerializeToString())
        if datatype in TYPED_LIST:
            del request.raw_input_contents[:]
            value: object = b"a" if datatype is Datatype.BYTES else 1
            getattr(request.inputs[0].contents, TYPED_LIST[datatype]).extend([value, value])
            getattr(request.inputs[1].contents, TYPED_LIST[datatype]).extend([value])
            made.append(request.SerializeToString())
    return made


def _golden() -> list[bytes]:
    one = np.ones((2, 2), np.float32)
    return [
        write_examples([Example({"x": one}, {"y": one}), Example({"x": one[:1]}, {"y": one[:1]})]),
        write_examples(
            [Example({"t": np.array(["a", "é"], dtype=object)}, {"n": np.arange(3), "b": np.array(True)})]
        ),
    ]


def _models() -> list[bytes]:
    with TemporaryDirectory() as directory:
        outside = models.external_data(Path(directory))
    makers: list[Callable[[], bytes]] = [
        models.two_inputs,
        models.string_identity,
        models.endless,
        models.bf16_cast,
    ]
    return [outside, *(make() for make in makers)]


def write_seeds(directory: Path) -> None:
    """A folder of seed files for each parser, and a dictionary of tokens as libFuzzer reads it."""
    for parser, contents in seeds().items():
        folder = directory / parser / "seeds"
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / f"seed-{number}").write_bytes(content)
    lines = [f't{number}="{_escaped(token)}"' for number, token in enumerate(TOKENS) if 0 < len(token) < 100]
    (directory / "tokens").write_text("\n".join(lines) + "\n")


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)

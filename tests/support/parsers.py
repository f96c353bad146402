"""Everything of ours that reads what others wrote, each as a function of bytes that may raise one kind of error only.

Both hypothesis (`tests/fuzz`) and atheris (`scripts/fuzz.py`) call these. A reader that has an inverse is held against
it. What is raised beside the named errors, and any AssertionError, is a find.
"""

from __future__ import annotations

import io
import math
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from model_sidecar.cli import config_file as server_file
from model_sidecar.cli.serve import command as serve
from model_sidecar.config import parse_address, parse_duration, parse_size
from model_sidecar.errors import (
    ConfigurationError,
    InvalidNameError,
    InvalidRequestError,
    Reason,
    StoreError,
    VerificationError,
)
from model_sidecar.ledger.memory import Memory
from model_sidecar.ledger.record import decode, encode
from model_sidecar.model.anatomy import walk
from model_sidecar.model.golden import examples_in, write_examples
from model_sidecar.release import strict_json
from model_sidecar.release.baseline_reading import parse_baseline, write_baseline
from model_sidecar.release.manifest_reading import parse_manifest
from model_sidecar.release.names import parse_environment, parse_model, parse_version
from model_sidecar.release.pointer import parse_pointer
from model_sidecar.release.strict_json import NotStrictJsonError
from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.convert import parse_request
from model_sidecar.rpc.elements import strings_to_raw
from model_sidecar.rpc.order_fields import page_token, read_page_token, recorded_text, request_id
from model_sidecar.rpc.plan import Plan, plan_of
from model_sidecar.rpc.tensors_in import take
from model_sidecar_client import errors as told
from model_sidecar_client.cli import config_file as operators_file
from model_sidecar_client.cli.group import main as sidecarctl
from model_sidecar_client.cli.options import duration
from model_sidecar_client.cli.predicting import _from_json
from model_sidecar_client.tensors import Tensor, decode_elements
from model_sidecar_client.tensors import decode as decode_values
from model_sidecar_client.tensors import encode as encode_values

REFUSED, TAKEN = "refused", "taken"


def manifest(content: bytes) -> None:
    """manifest.json."""
    parse_manifest(content)


def baseline(content: bytes) -> None:
    """baseline.json; what was read is read again after it was written."""
    found = parse_baseline(content)
    assert parse_baseline(write_baseline(found)) == found


def record(content: bytes) -> None:
    """A record of the ledger; what it says is what is read again after it was written."""
    found = decode(content)
    with suppress(InvalidRequestError):  # newer software may write longer ones than we do
        again = decode(encode(found))
        assert again == type(found)(
            **{name: getattr(found, name) for name in type(found).__slots__ if name != "sha256"}
        )


def remembered(content: bytes) -> None:
    """What a sidecar remembers of a ledger: of any bytes, what is as it was written, and the next is read behind that."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        memory = Memory(Path(file.name))
        records = memory.read()
        memory.append(len(records) + 1, [b"next\n"])
        assert memory.read() == [*records, b"next\n"]


def pointer(content: bytes) -> None:
    """active.json."""
    found = parse_pointer(content)
    assert parse_version(found.version) == found.version


def canonical_json(content: bytes) -> None:
    """Strict JSON; written canonically and read again it is the same."""
    document = strict_json.loads(content)
    assert strict_json.loads(strict_json.dumps(document)) == document


_PLANS: Mapping[str, Plan] = {
    datatype.value: plan_of(
        Signature(
            (TensorSpec("x", datatype, (-1, 2)), TensorSpec("s", datatype, ())),
            (TensorSpec("y", datatype, (-1,)),),
        )
    )
    for datatype in Datatype
}


def tensors(content: bytes) -> None:
    """A ModelInferRequest, for a model of whatever datatype it names; what is taken is what was sent."""
    request = parse_request(content)
    named = [each.datatype for each in request.inputs if each.datatype in _PLANS]
    plan = _PLANS[named[0] if named else "FP32"]
    taken = take(request, plan)
    for index, tensor in enumerate(request.inputs):
        array = taken.arrays[tensor.name]
        assert array.shape == tuple(tensor.shape)
        assert array.dtype == plan.inputs[tensor.name].dtype
        if request.raw_input_contents:
            back = strings_to_raw(array) if array.dtype == object else array.tobytes()
            assert back == request.raw_input_contents[index]


def golden(content: bytes) -> None:
    """golden.npz; what was read is read again after it was written."""
    examples = examples_in(io.BytesIO(content))
    with suppress(VerificationError):  # text that ends in NUL
        again = examples_in(io.BytesIO(write_examples(examples)))
        for left, right in zip(examples, again, strict=True):
            for one, other in ((left.inputs, right.inputs), (left.outputs, right.outputs)):
                assert one.keys() == other.keys()
                for name, array in one.items():
                    assert array.shape == other[name].shape
                    assert array.tolist() == other[name].tolist() or array.tobytes() == other[name].tobytes()


def anatomy(content: bytes) -> None:
    """An ONNX file."""
    walk(content, name="model.onnx")


def setting(content: bytes) -> None:
    """A duration, a size, an address, a name, as somebody types it."""
    text = content.decode(errors="surrogateescape")
    with suppress(ConfigurationError):
        assert parse_duration(text) < threading.TIMEOUT_MAX
    with suppress(click.BadParameter):
        assert 0 < duration(text) < math.inf
    for parse in (parse_size, parse_model, parse_version, parse_environment):
        with suppress(ConfigurationError, InvalidNameError):
            parse(text)
    address = parse_address(text)
    assert parse_address(str(address)) == address


def order_fields(content: bytes) -> None:
    """The texts of an order: what is recorded is one line that can be printed, and never too long."""
    text = content.decode(errors="replace")
    with suppress(InvalidRequestError):
        recorded = recorded_text("reason", text, limit=4096)
        assert recorded.isprintable()
        assert len(recorded) <= 4096
    with suppress(InvalidRequestError):
        request_id(text)
    before = read_page_token(text)
    assert before is None or read_page_token(page_token(before)) == before


def settings_file(content: bytes) -> None:
    """The TOML file of --config, as `serve` reads it."""
    _config(server_file.take_config_file, click.Context(serve, info_name="serve"), content)


def operators_settings_file(content: bytes) -> None:
    """The same file, as `sidecarctl` reads it."""
    _config(operators_file.take_config_file, click.Context(sidecarctl, info_name="sidecarctl"), content)


def _config(take_file: Callable[..., None], context: click.Context, content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        option = context.command.params[0]
        path: Any = Path(file.name) if take_file is server_file.take_config_file else file.name
        take_file(context, option, path)


def predict_input(content: bytes) -> None:
    """The JSON of `sidecarctl predict --input`, as whatever datatype; what was packed is unpacked the same."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        inputs = _from_json(file.name)
    for name, values in inputs.items():
        for datatype in (None, "FP32", "INT8", "BYTES", "BF16", "BOOL"):
            with suppress(told.InvalidRequestError):
                packed = encode_values(name, values, datatype)
                assert np.shape(decode_values(packed)) == packed.shape


def received(content: bytes) -> None:
    """A tensor that a server sent: any datatype, shape and bytes."""
    kinds = [*(each.value for each in Datatype), "COMPLEX", ""]
    kind, rank, rest = kinds[content[0] % len(kinds)] if content else "", content[1:2], content[2:]
    dimensions = rank[0] % 4 if rank else 0
    shape = tuple(
        int.from_bytes(rest[at : at + 3], "little", signed=True) for at in range(0, 3 * dimensions, 3)
    )
    raw = rest[3 * dimensions :]
    with suppress(told.InternalError):
        decode_elements("y", kind, shape, list(raw))
    values = decode_values(Tensor("y", kind, shape, raw))
    assert np.size(values) == math.prod(shape)


@dataclass(frozen=True, slots=True)
class Parser:
    """A reader, and what it may raise.

    Attributes:
        errors: the kinds.
        reason: the only reason that an error of ours may give; None where there are several.
    """

    read: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    reason: Reason | None = None

    def __call__(self, content: bytes) -> str:
        """Whether it was taken or refused; anything else comes out as it is."""
        try:
            self.read(content)
        except self.errors as error:
            refusal = error
        else:
            return TAKEN
        assert str(refusal), "a refusal without a word"
        assert self.reason is None or getattr(refusal, "reason", None) is self.reason, refusal
        return REFUSED


PARSERS: Mapping[str, Parser] = {
    each.read.__name__: each
    for each in (
        Parser(manifest, (VerificationError,)),
        Parser(baseline, (VerificationError,), Reason.BASELINE_INVALID),
        Parser(record, (StoreError,), Reason.LEDGER_INVALID),
        Parser(remembered, ()),
        Parser(pointer, (VerificationError,), Reason.POINTER_INVALID),
        Parser(canonical_json, (NotStrictJsonError,)),
        Parser(tensors, (InvalidRequestError,)),
        Parser(golden, (VerificationError,), Reason.GOLDEN_INVALID),
        Parser(anatomy, (VerificationError,), Reason.MODEL_INVALID),
        Parser(setting, (ConfigurationError,)),
        Parser(order_fields, (InvalidRequestError,)),
        Parser(settings_file, (click.UsageError,)),
        Parser(operators_settings_file, (click.UsageError,)),
        Parser(predict_input, (click.UsageError,)),
        Parser(received, (told.InternalError,)),
    )
}

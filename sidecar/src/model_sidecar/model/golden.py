"""Golden examples: inputs exactly as a caller would send them, and the outputs that a candidate must reproduce.

They stand in an `.npz` file (a zip archive of arrays, without pickles), one array per tensor: `input:<name>` and
`output:<name>` are the first call, `input:<name>@2` and `output:<name>@2` the second, and so on without gaps. What
stands behind the last `@` is the call's number if it is a whole number from 1 on without leading zeros; a tensor whose
own name ends like that is written with a number always, `input:<name>@1`. All else belongs to the tensor's name, colons
and slashes too.

Datatypes that numpy lacks are written as what numpy has: BYTES as its fixed-width text, BF16 as uint16 bit patterns (or
as the two-byte blocks that `ml_dtypes` arrays become in a file).
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.manifest import GOLDEN
from model_sidecar.release.tensors import Arrays, Signature, TensorSpec, described
from model_sidecar.store.sealing import SealedFile

MAX_BYTES = 256 << 20
"""All arrays together, unpacked."""
MAX_ENTRIES = 10_000

_KEY = re.compile(
    r"(?P<side>input|output):(?P<name>.*?)(?:@(?P<call>[1-9][0-9]{0,5}))?", re.ASCII | re.DOTALL
)
_NUMBERED = re.compile(r".*@[1-9][0-9]{0,5}", re.ASCII | re.DOTALL)
_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# The earliest that a zip archive can tell: the same examples are the same bytes, whenever they are written.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Example:
    """One call: what is sent, and what must come back. Outputs that are not named are not compared."""

    inputs: Arrays
    outputs: Arrays


def read_examples(sealed: SealedFile) -> tuple[Example, ...]:
    """The golden examples of a verified version.

    Raises:
        VerificationError: GOLDEN_INVALID; it is no such file, or an example lacks inputs or outputs.
    """
    with open(sealed.path, "rb") as file:  # noqa: PTH123 - the descriptor's own path, opened anew: an offset of its own
        return examples_in(file, name=sealed.name)


def examples_in(file: IO[bytes], *, name: str = GOLDEN, outputs: bool = True) -> tuple[Example, ...]:
    """The examples in an `.npz` file that is open for reading.

    Args:
        file: seekable.
        name: the file's name for the error's words.
        outputs: whether every example must have some; a file of golden inputs has none yet.

    Raises:
        VerificationError: GOLDEN_INVALID.
    """
    calls: dict[int, dict[str, dict[str, NDArray[Any]]]] = defaultdict(lambda: {"input": {}, "output": {}})
    try:
        with zipfile.ZipFile(file) as archive:
            _bound(archive, name)
            for entry in archive.infolist():
                side, tensor, call = _parse(entry.filename, name)
                if tensor in calls[call][side]:
                    raise _invalid(f"{name} holds {side} {tensor!r} of call {call} twice")
                calls[call][side][tensor] = _array(_unpacked(archive, entry), entry.filename, name)
    except VerificationError:
        raise
    except Exception as error:  # zipfile and zlib raise a dozen kinds over damaged archives
        raise _invalid(f"{name} is not an .npz file that can be read: {error}") from error
    if not calls:
        raise _invalid(f"{name} holds no arrays: expected input:<name> and output:<name>")
    if max(calls) != len(calls):
        missing = next(number for number in range(1, len(calls) + 1) if number not in calls)
        raise _invalid(
            f"{name} holds call {max(calls)}, but no call {missing}: number them 1, 2, 3 without gaps"
        )
    examples = []
    for number in sorted(calls):
        sides = calls[number]
        for side in ("input", "output") if outputs else ("input",):
            if not sides[side]:
                raise _invalid(
                    f"{name} holds no {side} of call {number}: expected {side}:<name>{_suffix(number)}"
                )
        examples.append(Example(sides["input"], sides["output"]))
    return tuple(examples)


def write_examples(examples: Iterable[Example]) -> bytes:
    """The bytes of an `.npz` file with these examples; the same examples give the same bytes.

    Raises:
        VerificationError: GOLDEN_INVALID; text that ends in NUL, which numpy's fixed-width text cannot hold.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, example in enumerate(examples, start=1):
            for side, arrays in (("input", example.inputs), ("output", example.outputs)):
                for tensor, array in arrays.items():
                    entry = zipfile.ZipInfo(f"{_key(side, tensor, number)}.npy", _EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    packed = io.BytesIO()
                    npy.write_array(packed, _writable(array, tensor), allow_pickle=False)
                    archive.writestr(entry, packed.getvalue())
    return content.getvalue()


def check_examples(examples: Iterable[Example], signature: Signature, *, name: str = GOLDEN) -> None:
    """Refuse examples that are none of this signature: other names, datatypes or shapes.

    Raises:
        VerificationError: GOLDEN_INVALID, naming the tensor.
    """
    inputs = {spec.name: spec for spec in signature.inputs}
    outputs = {spec.name: spec for spec in signature.outputs}
    for number, example in enumerate(examples, start=1):
        for tensor, spec in inputs.items():
            if tensor not in example.inputs:
                found = ", ".join(repr(_key("input", each, number)) for each in example.inputs) or "none"
                raise _invalid(
                    f"{name}, call {number}: no array {_key('input', tensor, number)!r}, but {found}: expected {spec}"
                )
        _check_side("input", example.inputs, inputs, number, name)
        _check_side("output", example.outputs, outputs, number, name)


def _check_side(side: str, arrays: Arrays, specs: Mapping[str, TensorSpec], number: int, name: str) -> None:
    for tensor, array in arrays.items():
        spec = specs.get(tensor)
        if spec is None:
            known = ", ".join(repr(each) for each in specs)
            raise _invalid(f"{name}, call {number}: the model has no {side} {tensor!r}: expected {known}")
        # The shape of an output is what it really is, and compared as such.
        fits = side == "output" or spec.admits(array.shape)
        if array.dtype != spec.datatype.numpy or not fits:
            raise _invalid(f"{name}, call {number}: {side} {tensor!r} is {described(array)}: expected {spec}")


def _bound(archive: zipfile.ZipFile, name: str) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise _invalid(f"{name} holds {len(entries)} arrays: at most {MAX_ENTRIES} are read")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_BYTES:
        raise _invalid(f"{name} unpacks to {unpacked} bytes: at most {MAX_BYTES} are read")
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _invalid(
                f"{name} holds {entry.filename[:200]!r} in a compression that numpy does not write"
            )


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        # Never read() to the end: that unpacks all there is, and only then cuts it to the size that was claimed.
        return file.read(entry.file_size)


def _parse(filename: str, name: str) -> tuple[str, str, int]:
    match = _KEY.fullmatch(filename.removesuffix(".npy"))
    if match is None or not match["name"] or not filename.endswith(".npy"):
        raise _invalid(
            f"{name} holds {filename[:200]!r}: expected arrays called input:<name> and output:<name>"
        )
    return match["side"], match["name"], int(match["call"] or 1)


def _key(side: str, tensor: str, number: int) -> str:
    if number == 1 and _NUMBERED.fullmatch(tensor):
        return f"{side}:{tensor}@1"
    return f"{side}:{tensor}{_suffix(number)}"


def _suffix(number: int) -> str:
    return "" if number == 1 else f"@{number}"


def _array(content: bytes, filename: str, name: str) -> NDArray[Any]:
    try:
        stream = io.BytesIO(content)
        shape, fortran, dtype = _READ_HEADER[npy.read_magic(stream)](stream)
        # numpy allocates what a header claims before it reads a byte of it.
        claimed, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
        if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
            raise ValueError(f"its type is {dtype}, which is no tensor's")
        if claimed != there:
            raise ValueError(f"it claims {claimed} bytes and has {there}")
        flat: NDArray[Any] = np.frombuffer(content, dtype, math.prod(shape), stream.tell())
        array = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, KeyError, TypeError, SyntaxError, EOFError, MemoryError, RecursionError) as error:
        raise _invalid(f"{name}: {filename[:200]!r} is not an array that can be read: {error}") from error
    return _as_ours(array, filename, name)


def _as_ours(array: NDArray[Any], filename: str, name: str) -> NDArray[Any]:
    match array.dtype.kind:
        case "U":
            return np.array(array.tolist(), dtype=object).reshape(array.shape)
        case "S":
            try:
                texts = [each.decode() for each in array.reshape(-1).tolist()]
            except UnicodeDecodeError as error:
                raise _invalid(f"{name}: {filename[:200]!r} holds bytes that are not UTF-8") from error
            return np.array(texts, dtype=object).reshape(array.shape)
        case "V" if array.dtype.itemsize == 2:
            return np.ascontiguousarray(array).view("<u2").reshape(array.shape)
        case "b" | "i" | "u" | "f":
            return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        case _:
            raise _invalid(f"{name}: {filename[:200]!r} is of type {array.dtype}, which is no tensor's")


def _writable(array: NDArray[Any], tensor: str) -> NDArray[Any]:
    if array.dtype.kind != "O":
        return array
    texts = array.reshape(-1).tolist()
    if any(text.endswith("\0") for text in texts):
        raise _invalid(f"{tensor!r} holds text that ends in NUL, which an .npz file cannot hold")
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def _invalid(words: str) -> VerificationError:
    return VerificationError(words, reason=Reason.GOLDEN_INVALID)

"""System shared memory over a real socket: tensors in regions, and whatever the owner of a region may do to it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from numpy.typing import NDArray
from support.descriptors import open_files
from support.rpc_models import POOLED_S, ComputedModel, doubled, echo_signature
from support.rpc_plane import RPC_S, Plane, error_info, infer_request
from support.shared import (
    FOLDER,
    PREFIX,
    SharedObject,
    from_region,
    laid_in,
    register,
    registered,
    unregister,
)

from model_sidecar.release.tensors import Datatype, Signature, TensorSpec
from model_sidecar.rpc.copies import Copies
from model_sidecar.rpc.elements import strings_to_raw
from model_sidecar_client.wire.inference import ModelInferRequest, ServerMetadataRequest

ROW = np.array([1.5, -2.0], dtype="<f4").tobytes()
PAGE = 4096
MAX_MESSAGE = 4 << 20


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path, shared_memory=True, max_message_bytes=MAX_MESSAGE).running() as running:
        running.publish(ComputedModel(compute=doubled))
        yield running


@pytest.fixture
def call(plane: Plane) -> Iterator[SimpleNamespace]:
    with plane.calling() as calls:
        yield calls


@pytest.fixture
def shared() -> Iterator[SharedObject]:
    with SharedObject(4 * PAGE) as made:
        yield made


def refused(call: Any, request: object, code: StatusCode, reason: str) -> str:
    return failing(partial(call, request, timeout=RPC_S), code, reason)


def failing(call: Callable[[], object], code: StatusCode, reason: str) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    details: str = caught.value.details() or ""
    assert (caught.value.code(), error_info(caught.value).reason) == (code, reason), details
    return details


def unusable(call: SimpleNamespace, key: str, byte_size: int, *, offset: int = 0) -> None:
    failing(
        partial(register, call, "r", key, byte_size, offset=offset),
        StatusCode.INVALID_ARGUMENT,
        "REGION_INVALID",
    )


def held(shared: SharedObject) -> int:
    """How many descriptors of an object this process has, besides its owner's."""
    return open_files().count(str(shared.path)) - 1


def answers(call: SimpleNamespace) -> None:
    answer = call.ModelInfer(infer_request(ROW), timeout=RPC_S)
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [3.0, -4.0]


def test_a_tensor_comes_from_a_region_and_goes_into_one(call: SimpleNamespace, shared: SharedObject) -> None:
    """An input is read where the request says, and an output put where it says; the answer tells where, and holds nothing."""
    register(call, "both", shared.key, 2 * PAGE, offset=PAGE)
    shared.write(ROW, PAGE + 16)
    request = from_region("both", len(ROW), offset=16)
    laid_in(request.outputs.add(name="y"), "both", 100, offset=512)

    answer = call.ModelInfer(request, timeout=RPC_S)

    assert np.frombuffer(shared.read(8, PAGE + 512), "<f4").tolist() == [3.0, -4.0]
    assert shared.read(100 - 8, PAGE + 520) == bytes(100 - 8)
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [1, 2])
    said = {name: each.string_param or each.int64_param for name, each in output.parameters.items()}
    assert said == {
        "shared_memory_region": "both",
        "shared_memory_byte_size": 8,
        "shared_memory_offset": 512,
    }
    assert list(answer.raw_output_contents) == [b""]


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_goes_both_ways(
    plane: Plane, call: SimpleNamespace, shared: SharedObject, datatype: Datatype
) -> None:
    """What lies in a region means what it would mean in a message, whatever its type."""
    plane.publish(ComputedModel(signature=echo_signature(datatype)))
    text = np.array(["", "grün", "x" * 70_000], dtype=object)
    raw = (
        strings_to_raw(text) if datatype is Datatype.BYTES else np.array([1, 0, 1], datatype.numpy).tobytes()
    )
    shared.resize(1 << 20)
    register(call, "r", shared.key, 1 << 20)
    shared.write(raw)
    request = from_region("r", len(raw), shape=(3,), datatype=datatype.value)
    laid_in(request.outputs.add(name="y"), "r", len(raw), offset=1 << 19)

    answer = call.ModelInfer(request, timeout=RPC_S)

    assert shared.read(len(raw), 1 << 19) == raw
    assert answer.outputs[0].parameters["shared_memory_byte_size"].int64_param == len(raw)


def test_some_tensors_lie_in_a_region_and_some_in_the_message(
    plane: Plane, call: SimpleNamespace, shared: SharedObject
) -> None:
    """Raw contents are those of the other inputs, in their order; and of an answer, those of the other outputs."""
    names = ("a", "b", "c")
    specs = tuple(TensorSpec(name, Datatype.INT64, ()) for name in names)
    signature = Signature(specs, tuple(TensorSpec(name + "'", Datatype.INT64, ()) for name in names))
    plane.publish(
        ComputedModel(signature=signature, compute=lambda inputs: {n + "'": inputs[n] + 1 for n in names})
    )
    register(call, "r", shared.key, PAGE)
    shared.write(np.int64(20).tobytes(), 64)
    numbers = {"a": 10, "c": 30}
    request = ModelInferRequest(model_name="echo")
    for name in names:
        tensor = request.inputs.add(name=name, datatype="INT64")
        if name == "b":
            laid_in(tensor, "r", 8, offset=64)
        else:
            request.raw_input_contents.append(np.int64(numbers[name]).tobytes())
    for name in names:
        asked = request.outputs.add(name=name + "'")
        if name == "b":
            laid_in(asked, "r", 8, offset=128)

    answer = call.ModelInfer(request, timeout=RPC_S)

    given = [np.frombuffer(each, "<i8").tolist() for each in answer.raw_output_contents]
    assert given == [[11], [], [31]]
    assert np.frombuffer(shared.read(8, 128), "<i8").tolist() == [21]

    request.raw_input_contents.append(ROW)
    told = refused(call.ModelInfer, request, StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert "3 raw_input_contents for 2 inputs" in told


def test_what_was_read_is_a_copy(call: SimpleNamespace, plane: Plane, shared: SharedObject) -> None:
    """A model works on what lay there when it was read, whatever becomes of the region meanwhile; so do those who watch."""
    model = ComputedModel(compute=doubled, cost_s=POOLED_S)
    plane.publish(model)
    register(call, "r", shared.key, PAGE)
    shared.write(ROW)
    model.hold()
    asked = call.ModelInfer.future(from_region("r", len(ROW)), timeout=RPC_S)
    assert model.begun.acquire(timeout=RPC_S)
    shared.write(bytes(len(ROW)))
    shared.resize(0)
    unregister(call)
    model.gate.set()

    assert np.frombuffer(asked.result().raw_output_contents[0], "<f4").tolist() == [3.0, -4.0]


def test_regions_are_listed_and_forgotten(call: SimpleNamespace, shared: SharedObject) -> None:
    """Status tells of one or of all; unregistering one that is not there is no error; a name is taken only once."""
    register(call, "one", shared.key, PAGE)
    register(call, "other", shared.key, 8, offset=PAGE)
    assert registered(call) == {"one": (shared.key, 0, PAGE), "other": (shared.key, PAGE, 8)}
    assert registered(call, "other") == {"other": (shared.key, PAGE, 8)}
    failing(partial(register, call, "one", shared.key, 8), StatusCode.ALREADY_EXISTS, "REGION_EXISTS")
    failing(partial(registered, call, "third"), StatusCode.NOT_FOUND, "REGION_NOT_FOUND")

    unregister(call, "third")
    unregister(call, "one")
    assert list(registered(call)) == ["other"]
    refused(call.ModelInfer, from_region("one", 8), StatusCode.NOT_FOUND, "REGION_NOT_FOUND")
    register(call, "one", shared.key, 16)
    unregister(call)
    assert registered(call) == {}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        ".",
        "..",
        "/..",
        "../shm/x",
        "a/b",
        "/etc/passwd",
        "x\0y",
        "x" * 256,
        PREFIX + "nobody",
    ],
)
def test_a_key_that_names_no_object_is_refused(call: SimpleNamespace, key: str) -> None:
    """A key is a name in one folder, and leads nowhere else."""
    unusable(call, key, 8)
    answers(call)


def test_a_key_that_names_something_else_is_refused(
    call: SimpleNamespace, shared: SharedObject, tmp_path: Path
) -> None:
    """A directory, a FIFO that nobody writes to, a link, also one to an object: none of them is opened or waited for."""
    target = tmp_path / "target"
    target.write_bytes(bytes(PAGE))
    made: list[Path] = [FOLDER / f"{PREFIX}{os.getpid()}-{number}" for number in range(4)]
    try:
        made[0].mkdir()
        os.mkfifo(made[1])
        made[2].symlink_to(target)
        made[3].symlink_to(shared.path)
        for path in made:
            unusable(call, path.name, 8)
    finally:
        made[0].rmdir()
        for path in made[1:]:
            path.unlink()
    answers(call)


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (0, 0),
        (0, 4 * PAGE + 1),
        (4 * PAGE, 1),
        (1, 4 * PAGE),
        (1 << 63, 8),
        (0, 1 << 63),
        ((1 << 64) - 1, 8),
        (8, (1 << 64) - 8),
        ((1 << 64) - 8, (1 << 64) - 8),
    ],
)
def test_a_region_lies_within_its_object(
    call: SimpleNamespace, shared: SharedObject, offset: int, byte_size: int
) -> None:
    """No region begins or ends outside of the object, whatever the sums wrap to elsewhere."""
    unusable(call, shared.key, byte_size, offset=offset)
    answers(call)


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (PAGE - 7, 8),
        (PAGE, 8),
        (0, PAGE + 1),
        ((1 << 63) - 1, 8),
        (8, (1 << 63) - 1),
        (-1, 8),
        (-8, 8),
        (0, -8),
        (-(1 << 63), 8),
    ],
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_tensor_lies_within_its_region(
    call: SimpleNamespace, shared: SharedObject, side: str, offset: int, byte_size: int
) -> None:
    """Nothing outside of a region is read or written through it, though it is there in the object."""
    shared.write(b"\xff" * (4 * PAGE))
    register(call, "r", shared.key, PAGE, offset=PAGE)
    request = infer_request(ROW) if side == "output" else from_region("r", byte_size, offset=offset)
    if side == "output":
        laid_in(request.outputs.add(name="y"), "r", byte_size, offset=offset)
    with pytest.raises(grpc.RpcError) as caught:
        call.ModelInfer(request, timeout=RPC_S)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert side in (caught.value.details() or "")
    assert shared.read(4 * PAGE) == b"\xff" * (4 * PAGE)
    answers(call)


def test_sizes_are_checked_before_anything_is_copied(call: SimpleNamespace, shared: SharedObject) -> None:
    """A tensor of another size than its shape says is refused, and so is more than a message may have, or nonsense."""
    shared.resize(MAX_MESSAGE + PAGE)
    register(call, "r", shared.key, MAX_MESSAGE + PAGE)
    told = refused(call.ModelInfer, from_region("r", 16), StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert "16 bytes, expected 8" in told
    wide = from_region("r", MAX_MESSAGE + 8, shape=(MAX_MESSAGE // 8 + 1, 2))
    told = refused(call.ModelInfer, wide, StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert "--max-message" in told
    for name, parameter in (
        ("shared_memory_byte_size", {"string_param": "8"}),
        ("shared_memory_offset", {"double_param": 0.0}),
        ("shared_memory_region", {"int64_param": 1}),
    ):
        odd = from_region("r", 8, offset=0)
        del odd.inputs[0].parameters[name]
        for field, value in parameter.items():
            setattr(odd.inputs[0].parameters[name], field, value)
        assert name in refused(call.ModelInfer, odd, StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    two = from_region("r", 8)
    two.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    assert "typed contents" in refused(call.ModelInfer, two, StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")


def test_an_answer_that_does_not_fit_is_refused(call: SimpleNamespace, shared: SharedObject) -> None:
    """An output larger than what was set aside for it is not written, not even in part."""
    register(call, "r", shared.key, PAGE)
    request = infer_request(ROW)
    laid_in(request.outputs.add(name="y"), "r", 7)
    told = refused(call.ModelInfer, request, StatusCode.INVALID_ARGUMENT, "REGION_INVALID")
    assert "output 'y'" in told
    assert "8 bytes" in told
    assert shared.read(PAGE) == bytes(PAGE)
    answers(call)


def test_a_region_that_was_cut_off_fails_its_request_alone(
    call: SimpleNamespace, shared: SharedObject
) -> None:
    """A shrunk object is an error of whoever uses it; nothing is written beyond its end, and once it is long again, all is well."""
    register(call, "r", shared.key, 4 * PAGE)
    shared.resize(PAGE)
    inside, beyond = from_region("r", 8), from_region("r", 8, offset=2 * PAGE)
    call.ModelInfer(inside, timeout=RPC_S)
    told = refused(call.ModelInfer, beyond, StatusCode.INVALID_ARGUMENT, "REGION_INVALID")
    assert "ends 8 bytes before" in told
    into = infer_request(ROW)
    laid_in(into.outputs.add(name="y"), "r", 8, offset=2 * PAGE)
    refused(call.ModelInfer, into, StatusCode.INVALID_ARGUMENT, "REGION_INVALID")
    assert shared.size() == PAGE
    shared.resize(4 * PAGE)
    call.ModelInfer(beyond, timeout=RPC_S)
    call.ModelInfer(into, timeout=RPC_S)
    answers(call)


def test_a_region_outlives_its_name_and_its_namesake(call: SimpleNamespace, shared: SharedObject) -> None:
    """A registered object that was unlinked, and made anew under its name, is still the one that was registered."""
    register(call, "r", shared.key, PAGE)
    shared.write(ROW)
    shared.unlink()
    shared.path.write_bytes(bytes(PAGE))
    answer = call.ModelInfer(from_region("r", 8), timeout=RPC_S)
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [3.0, -4.0]


def test_ten_thousand_registrations_are_not_taken(call: SimpleNamespace, shared: SharedObject) -> None:
    """So many regions and no more, whoever asks how often; and as many descriptors."""
    codes: Counter[StatusCode | None] = Counter()
    for number in range(10_000):
        try:
            register(call, f"r{number}", shared.key, 8)
        except grpc.RpcError as error:
            codes[error.code()] += 1
    taken = len(registered(call))
    assert 0 < taken <= 256
    assert codes == {StatusCode.RESOURCE_EXHAUSTED: 10_000 - taken}
    assert held(shared) == taken
    failing(partial(register, call, "r", shared.key, 8), StatusCode.RESOURCE_EXHAUSTED, "REGIONS_FULL")
    answers(call)

    unregister(call)

    assert held(shared) == 0
    register(call, "r", shared.key, 8)


def test_what_a_dead_owner_left_is_dropped(call: SimpleNamespace) -> None:
    """A region whose object has no name, and lost the lock that its owner held, goes with the next registration; no other does."""
    with SharedObject(PAGE) as locked, SharedObject(PAGE) as unlocked, SharedObject(PAGE) as named:
        for each in (locked, named):
            fcntl.flock(each.descriptor, fcntl.LOCK_EX)
        for name, each in (("locked", locked), ("unlocked", unlocked), ("named", named)):
            register(call, name, each.key, 8)
        locked.unlink()
        unlocked.unlink()
        register(call, "next", named.key, 8)
        assert set(registered(call)) == {"locked", "unlocked", "named", "next"}
        for each in (locked, named):
            fcntl.flock(each.descriptor, fcntl.LOCK_UN)
        unregister(call, "next")
        register(call, "next", named.key, 8)
        assert set(registered(call)) == {"unlocked", "named", "next"}


def test_a_large_region_is_read_in_a_lane(call: SimpleNamespace, plane: Plane, shared: SharedObject) -> None:
    """However small the message and cheap the model: what takes long to copy is not copied on the loop."""
    size = 1 << 20
    model = ComputedModel(warm_bytes=size)
    plane.publish(model)
    shared.resize(size)
    register(call, "r", shared.key, size)
    call.ModelInfer(from_region("r", size, shape=(size // 8, 2)), timeout=RPC_S)
    assert {name.partition("_")[0] for name in model.threads} == {"lane"}
    model.threads.clear()
    call.ModelInfer(from_region("r", 8), timeout=RPC_S)
    assert model.threads == {"data-plane"}


def test_streams_go_the_same_way(call: SimpleNamespace, shared: SharedObject) -> None:
    """Messages of a stream may name regions, too; one that names a wrong one is told so, and the stream goes on."""
    register(call, "r", shared.key, PAGE)
    shared.write(ROW)
    requests = [from_region("r", 8), from_region("nobody", 8), from_region("r", 8)]
    good, bad, again = call.ModelStreamInfer(iter(requests), timeout=RPC_S)
    for each in (good, again):
        content = each.infer_response.raw_output_contents[0]
        assert np.frombuffer(content, "<f4").tolist() == [3.0, -4.0]
    assert "'nobody' is not registered" in bad.error_message


def test_many_at_once_do_not_see_each_others_tensors(call: SimpleNamespace, plane: Plane) -> None:
    """Memory for copies is used again only when nobody looks at it any more."""
    size, count = 2 << 20, 6
    plane.publish(ComputedModel(compute=doubled, warm_bytes=size))
    wrong: list[int] = []

    def ask(number: int, shared: SharedObject) -> None:
        expected = np.full(size // 4, number, "<f4")
        shared.write(expected.tobytes())
        request = from_region(f"r{number}", size, shape=(size // 8, 2))
        laid_in(request.outputs.add(name="y"), f"r{number}", size, offset=size)
        for _ in range(10):
            call.ModelInfer(request, timeout=RPC_S)
            if shared.read(size, size) != (2 * expected).tobytes():
                wrong.append(number)

    objects = [SharedObject(2 * size) for _ in range(count)]
    try:
        for number, shared in enumerate(objects):
            register(call, f"r{number}", shared.key, 2 * size)
        threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(objects)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for shared in objects:
            shared.__exit__()
    assert wrong == []


def test_memory_for_copies_is_used_again_when_its_last_view_has_gone() -> None:
    """However the array was cut and cast meanwhile; and what is far too large for a tensor is left for another."""
    copies = Copies(64 << 20)
    size = 2 << 20
    first = copies.take(size)
    address = first.ctypes.data
    view: NDArray[Any] | None = first[8:].view("<f4").reshape(-1, 2)[1:]
    del first
    assert copies.take(size).ctypes.data != address
    view = None
    found = [copies.take(size), copies.take(size)]
    assert address in [each.ctypes.data for each in found]
    large = copies.take(32 << 20)
    address = large.ctypes.data
    del large
    assert copies.take(size).ctypes.data != address
    assert copies.take(31 << 20).ctypes.data == address
    assert view is None


def test_no_more_memory_for_copies_is_kept_than_was_said() -> None:
    """What comes back beyond the bound is given back to the system."""
    copies = Copies(5 << 20)
    before = _mapped_kib()
    taken = [copies.take(2 << 20) for _ in range(50)]
    for each in taken:
        each[:] = 1
    assert _mapped_kib() - before >= 100 << 10
    del each
    taken.clear()
    assert _mapped_kib() - before < 10 << 10


def _mapped_kib() -> int:
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if "VmSize" in each)
    return int(line.split()[1])


def test_the_extension_is_told_where_it_is(call: SimpleNamespace) -> None:
    """ServerMetadata names it, so that clients need not try."""
    answer = call.ServerMetadata(ServerMetadataRequest(), timeout=RPC_S)
    assert list(answer.extensions) == ["parameters", "statistics", "system_shared_memory"]


def test_it_is_off_unless_asked_for(tmp_path: Path, shared: SharedObject) -> None:
    """Without --shared-memory its calls are UNIMPLEMENTED, it is no extension, and a tensor in a region is refused by name."""
    with Plane(tmp_path).running() as plane, plane.calling() as call:
        plane.publish(ComputedModel())
        for method in (partial(register, call, "r", shared.key, 8), partial(registered, call)):
            with pytest.raises(grpc.RpcError) as caught:
                method()
            assert caught.value.code() is StatusCode.UNIMPLEMENTED
        assert "system_shared_memory" not in call.ServerMetadata(ServerMetadataRequest()).extensions
        told = refused(call.ModelInfer, from_region("r", 8), StatusCode.INVALID_ARGUMENT, "REGION_INVALID")
        assert "input 'x'" in told
        assert "--shared-memory" in told

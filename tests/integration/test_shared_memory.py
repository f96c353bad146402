"""Shared memory and real processes: clients that cut their regions off under requests, that die, and sidecars that restart."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from support import models
from support.descriptors import open_files
from support.shared import FOLDER, SharedObject, from_region, laid_in, register, registered
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, Yard

import model_sidecar_client
from model_sidecar_client import AsyncClient, Client, DeadlineError, InvalidRequestError, NotSupportedError
from model_sidecar_client.regions import Region
from model_sidecar_client.wire import services

ROOT = Path(__file__).parents[2]
INTERPRETER = Path(os.environ.get("MODEL_SIDECAR_TRITON_PYTHON", ROOT / ".venv-triton" / "bin" / "python"))
A = "2024.01.10.prod"
WIDTH = 1 << 18
MIB = 1 << 20
ON = "--shared-memory"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A store with an echo of rows of a mebibyte."""
    made = Yard(tmp_path)
    made.publish(A, model=models.identity(shape=(-1, WIDTH), takes="raw"), golden=False)
    return made


def rows_of(number: int, count: int = 2) -> np.ndarray:
    return np.full((count, WIDTH), number, np.float32)


def ours() -> set[str]:
    """Objects that our client made and that still have a name."""
    return {path.name for path in FOLDER.glob("model-sidecar-*") if "test" not in path.name}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = ours()
    yield
    end = time.monotonic() + 10
    while not ours() <= before:
        assert time.monotonic() < end, ours() - before
        time.sleep(0.01)  # other tests' clients make some beside us, and drop their names at once


def regions_of(sidecar: RunningSidecar) -> dict[str, tuple[str, int, int]]:
    with grpc.insecure_channel(sidecar.data) as channel:
        return registered(services.multicallables(channel, services.INFERENCE))


def test_a_region_cut_off_in_a_loop_kills_nobody(yard: Yard) -> None:
    """While its owner cuts a region off and makes it long again, without a pause, requests are answered or told; nothing dies.

    A touch of a mapping beyond the end of its object is SIGBUS, which no Python handler survives.
    """
    size = 16 * MIB
    over = threading.Event()
    codes: Counter[str] = Counter()
    with (
        serving(yard, A, ON) as sidecar,
        SharedObject(2 * size) as shared,
        grpc.insecure_channel(sidecar.data) as channel,
    ):
        call = services.multicallables(channel, services.INFERENCE)
        register(call, "r", shared.key, 2 * size)
        request = from_region("r", size, shape=(16, WIDTH), model=MODEL, name="raw")
        laid_in(request.outputs.add(name="y"), "r", size, offset=size)

        def cut() -> None:
            while not over.is_set():
                for length in (0, size // 2, 2 * size, size, size + 4096, 2 * size):
                    shared.resize(length)

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            for _ in range(150):
                try:
                    call.ModelInfer(request, timeout=30)
                    codes["OK"] += 1
                except grpc.RpcError as error:
                    codes[error.code().name] += 1
        finally:
            over.set()
            cutter.join()
        assert not sidecar.dead()
        assert set(codes) <= {"OK", "INVALID_ARGUMENT"}, codes
        assert codes["INVALID_ARGUMENT"], "it was never cut off in time: this shows nothing"
        shared.resize(2 * size)
        shared.write(rows_of(7, 16).tobytes())
        call.ModelInfer(request, timeout=30)
        assert shared.read(size, size) == rows_of(7, 16).tobytes()


def test_the_client_uses_it_by_itself(yard: Yard) -> None:
    """Large tensors go through a region where it is offered, both ways and again; small ones and other clients' do not."""
    with serving(yard, A, ON) as sidecar, Client(sidecar.data) as client:
        small = client.predict(MODEL, {"raw": np.ones((0, WIDTH), np.float32)})
        assert small.outputs["y"].shape == (0, WIDTH)
        assert regions_of(sidecar) == {}
        kept = [client.predict(MODEL, {"raw": rows_of(number)}).outputs["y"] for number in range(5)]
        ((key, _offset, _size),) = regions_of(sidecar).values()  # one caller needs one region
        assert not (FOLDER / key.lstrip("/")).exists(), "its name is gone"
        for number, values in enumerate(kept):
            np.testing.assert_array_equal(values, rows_of(number))
            values[...] = -1  # the caller's own
        strided = np.ones((4, WIDTH), np.float64)[::2]
        np.testing.assert_array_equal(client.predict(MODEL, {"raw": strided}).outputs["y"], rows_of(1))
        with Client(sidecar.data, shared_memory=False) as other:
            np.testing.assert_array_equal(other.predict(MODEL, {"raw": rows_of(3)}).outputs["y"], rows_of(3))
        with pytest.raises(InvalidRequestError, match="shape"):
            client.predict(MODEL, {"raw": np.ones((2, WIDTH + 1), np.float32)})
        client.close()
        assert regions_of(sidecar) == {}


def test_an_array_is_filled_in_place(yard: Yard) -> None:
    """An array of the client's own shared memory is not copied, nor a part of it; behind its block it is one like any other."""
    with serving(yard, A, ON) as sidecar, Client(sidecar.data, timeout_s=30) as client:
        with client.shared_array((4, WIDTH)) as rows:
            for number in range(3):
                rows[...] = np.arange(4)[:, None] + number
                part = client.predict(MODEL, {"raw": rows[1:3]}).outputs["y"]
                np.testing.assert_array_equal(part[:, 0], [number + 1, number + 2])
            sizes = sorted(size for _key, _offset, size in regions_of(sidecar).values())
            assert sizes == [2 * MIB, 4 * MIB], "room for the answer, and the array"
            sidecar.kill()
            sidecar.start().wait_ready()
            np.testing.assert_array_equal(client.predict(MODEL, {"raw": rows}).outputs["y"], rows)
        rows[...] = 5
        np.testing.assert_array_equal(client.predict(MODEL, {"raw": rows}).outputs["y"], rows)
    with serving(yard, A) as plain, Client(plain.data) as client, client.shared_array((2, WIDTH)) as rows:
        rows[...] = 7
        np.testing.assert_array_equal(client.predict(MODEL, {"raw": rows}).outputs["y"], rows)


def test_threads_and_tasks_have_regions_of_their_own(yard: Yard) -> None:
    """Many at once, of a synchronous client and an asynchronous one, by calls and by streams, each get their own answers."""

    async def ask(target: str) -> None:
        async with AsyncClient(target, timeout_s=60) as client, client.stream(MODEL) as stream:

            async def one(number: int) -> None:
                for predict in (
                    client.predict(MODEL, {"raw": rows_of(number)}),
                    stream.predict({"raw": rows_of(number)}),
                ):
                    np.testing.assert_array_equal((await predict).outputs["y"], rows_of(number))

            for _ in range(3):
                await asyncio.gather(*(one(number) for number in range(12)))

    wrong: list[int] = []
    with (
        serving(yard, A, ON) as sidecar,
        Client(sidecar.data, timeout_s=60) as client,
        client.stream(MODEL) as stream,
    ):

        def call(number: int) -> None:
            for _ in range(5):
                for answer in (
                    client.predict(MODEL, {"raw": rows_of(number)}),
                    stream.predict({"raw": rows_of(number)}),
                ):
                    wrong.extend([number] * int((answer.outputs["y"] != number).sum()))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert 1 <= len(regions_of(sidecar)) <= 8
        asyncio.run(ask(sidecar.data))


def test_a_sidecar_that_restarts_is_told_again(yard: Yard) -> None:
    """A restarted sidecar knows no region: the next call makes one; without --shared-memory it goes as a message."""
    with serving(yard, A, ON) as sidecar, Client(sidecar.data, timeout_s=30) as client:
        for options in ((ON,), (ON,), (), (ON,)):
            sidecar.kill()
            sidecar._options = options
            sidecar.start().wait_ready()
            for number in range(3):
                answer = client.predict(MODEL, {"raw": rows_of(number)})
                np.testing.assert_array_equal(answer.outputs["y"], rows_of(number))


def test_who_insists_is_told_that_it_cannot_be(yard: Yard) -> None:
    """`shared_memory=True` is an error where it is not offered; by default it is only not used."""
    with (
        serving(yard, A) as sidecar,
        Client(sidecar.data, shared_memory=True) as insisting,
        Client(sidecar.data) as client,
    ):
        with pytest.raises(NotSupportedError, match="--shared-memory"):
            insisting.predict(MODEL, {"raw": rows_of(1)})
        np.testing.assert_array_equal(client.predict(MODEL, {"raw": rows_of(1)}).outputs["y"], rows_of(1))


def test_an_answer_given_up_is_not_written_into_anothers(yard: Yard) -> None:
    """A region whose prediction ran into its deadline is not used again: the sidecar may still write to it."""
    with serving(yard, A, ON) as sidecar, Client(sidecar.data, timeout_s=30) as client:
        for number in range(3):
            client.predict(MODEL, {"raw": rows_of(number)})
        for number in range(20):
            with suppress(DeadlineError):
                client.predict(MODEL, {"raw": rows_of(-1, 16)}, timeout_s=0.004)
            answer = client.predict(MODEL, {"raw": rows_of(number, 16)})
            assert (answer.outputs["y"] == number).all()


KILLED = """
import sys, os, signal, numpy as np
from model_sidecar_client import Client
client = Client(sys.argv[1])
client.predict(sys.argv[2], {"raw": np.ones((2, 1 << 18), np.float32)})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_client_that_was_killed(yard: Yard) -> None:
    """SIGKILL leaves no name in /dev/shm, and no region beyond the next registration."""
    with serving(yard, A, ON) as sidecar:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, sidecar.data, MODEL], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == -9, done.stderr
        (left,) = regions_of(sidecar)
        with Client(sidecar.data) as client:
            client.predict(MODEL, {"raw": rows_of(1)})
            assert left not in regions_of(sidecar)


def test_a_region_is_given_back_however_it_is_let_go_of() -> None:
    """One that is only forgotten closes its descriptor, and takes its name away."""
    region = Region(MIB)
    path = FOLDER / region.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert any(region.name in each for each in open_files())
    del region
    gc.collect()
    assert not path.exists()
    assert not any(path.name in each for each in open_files())


STORY = """
import sys
import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from model_sidecar_client import Client
from tritonclient.utils import InferenceServerException

target, model = sys.argv[1:]
rows = np.arange(4 << 18, dtype=np.float32).reshape(4, -1)
with triton.InferenceServerClient(target) as client:
    assert "system_shared_memory" in client.get_server_metadata().extensions
    client.unregister_system_shared_memory()
    taken = shm.create_shared_memory_region("in", "/model-sidecar-test-in", rows.nbytes)
    given = shm.create_shared_memory_region("out", "/model-sidecar-test-out", rows.nbytes + 64)
    shm.set_shared_memory_region(taken, [rows])
    client.register_system_shared_memory("in", "/model-sidecar-test-in", rows.nbytes)
    client.register_system_shared_memory("out", "/model-sidecar-test-out", rows.nbytes + 64)
    status = client.get_system_shared_memory_status()
    assert {name: each.byte_size for name, each in status.regions.items()} == {"in": rows.nbytes, "out": rows.nbytes + 64}
    assert client.get_system_shared_memory_status("in").regions["in"].key == "/model-sidecar-test-in"
    inputs = [triton.InferInput("raw", rows.shape, "FP32")]
    inputs[0].set_shared_memory("in", rows.nbytes)
    outputs = [triton.InferRequestedOutput("y")]
    outputs[0].set_shared_memory("out", rows.nbytes, 64)
    answer = client.infer(model, inputs, outputs=outputs)
    output = answer.get_output("y")
    np.testing.assert_array_equal(shm.get_contents_as_numpy(given, np.float32, output.shape, 64), rows)
    for call, status in (
        (lambda: client.register_system_shared_memory("in", "/model-sidecar-test-in", 8), "ALREADY_EXISTS"),
        (lambda: client.register_system_shared_memory("x", "/model-sidecar-test-nobody", 8), "INVALID_ARGUMENT"),
        (lambda: client.get_system_shared_memory_status("x"), "NOT_FOUND"),
    ):
        try:
            call()
        except InferenceServerException as error:
            assert status in str(error.status()), error
        else:
            raise AssertionError(f"{status} was expected")
    client.unregister_system_shared_memory("in")
    client.unregister_system_shared_memory()
    assert not client.get_system_shared_memory_status().regions
    shm.destroy_shared_memory_region(taken)
    shm.destroy_shared_memory_region(given)

with Client(target, shared_memory=True) as ours, ours.shared_array(rows.shape) as placed:
    for number in range(3):
        placed[...] = rows + number
        np.testing.assert_array_equal(ours.predict(model, {"raw": placed}).outputs["y"], placed)
        np.testing.assert_array_equal(ours.predict(model, {"raw": rows}).outputs["y"], rows)
print("all as expected")
"""


def test_tritonclients_shared_memory_works_unchanged(yard: Yard) -> None:
    """Its utilities and calls, as its users write them; and our client beside it, with the protobuf that it needs."""
    if not INTERPRETER.exists():
        pytest.skip(f"no interpreter with tritonclient at {INTERPRETER}: `make venv-triton` makes one")
    with serving(yard, A, ON) as sidecar:
        done = subprocess.run(
            [str(INTERPRETER), "-c", STORY, sidecar.data, MODEL],
            env={**os.environ, "PYTHONPATH": str(Path(model_sidecar_client.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all as expected"

"""Clients that others wrote, unchanged: tritonclient over Unix sockets and TCP, against a real sidecar."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.ports import free_port
from support.sidecars import serving
from support.yard import MODEL, PROD, Yard

ROOT = Path(__file__).parents[2]
INTERPRETER = Path(os.environ.get("MODEL_SIDECAR_TRITON_PYTHON", ROOT / ".venv-triton" / "bin" / "python"))
A, B = "2024.01.10.prod", "2024.01.12.prod"

STORY = """
import asyncio, queue, sys
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

model, live, previous, offset, before, *targets = sys.argv[1:]
rows = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def tensors(module):
    tensor = module.InferInput("raw", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor], [module.InferRequestedOutput("y")]


for target in targets:
    with triton.InferenceServerClient(target) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
        assert not client.is_model_ready("nobody")
        assert client.get_server_metadata().name == "model-sidecar"
        metadata = client.get_model_metadata(model)
        assert (metadata.platform, list(metadata.versions)) == ("onnx_onnxv1", [live, previous])
        assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("raw", "FP32", [-1, 2])]
        inputs, outputs = tensors(triton)
        answer = client.infer(model, inputs, outputs=outputs, request_id="7", parameters={"priority_class": "high"})
        np.testing.assert_array_equal(answer.as_numpy("y"), rows + np.float32(offset))
        assert (answer.get_response().model_version, answer.get_response().id) == (live, "7")
        older = client.infer(model, inputs, model_version=previous)
        np.testing.assert_array_equal(older.as_numpy("y"), rows + np.float32(before))
        states = {each.version: each.state for each in client.get_model_repository_index().models}
        assert states[live] == "READY", states
        counted = client.get_inference_statistics(model, live).model_stats[0]
        assert counted.inference_count >= 1, counted
        for call, status in (
            (lambda: client.infer(model, inputs, model_version="2023.01.01.prod"), "NOT_FOUND"),
            (lambda: client.infer("nobody", inputs), "NOT_FOUND"),
            (lambda: client.get_model_config(model), "UNIMPLEMENTED"),
            (lambda: client.load_model(model), "UNIMPLEMENTED"),
        ):
            try:
                call()
            except InferenceServerException as error:
                assert status in str(error.status()), error
            else:
                raise AssertionError(f"{status} was expected")

        # Over a stream: answers in the order of the requests, errors as those of their messages.
        told = queue.SimpleQueue()
        client.start_stream(lambda result, error: told.put((result, error)))
        for number in range(40):
            client.async_stream_infer(model, inputs, request_id=str(number), outputs=outputs, enable_empty_final_response=True)
        client.async_stream_infer(model, inputs, model_version=previous)
        client.async_stream_infer("nobody", inputs)
        client.async_stream_infer(model, inputs, request_id="last")
        for number in range(40):
            result, error = told.get(timeout=20)
            assert error is None and result.get_response().id == str(number), (number, error)
            assert result.get_response().model_version == live
            np.testing.assert_array_equal(result.as_numpy("y"), rows + np.float32(offset))
        result, error = told.get(timeout=20)
        assert result.get_response().model_version == previous
        result, error = told.get(timeout=20)
        assert result is None and "'nobody' is not served here" in error.message(), error
        result, error = told.get(timeout=20)
        assert result.get_response().id == "last"
        client.stop_stream()

    async def ask():
        async with triton_aio.InferenceServerClient(target) as client:
            inputs, outputs = tensors(triton_aio)
            answers = await asyncio.gather(*(client.infer(model, inputs, outputs=outputs) for _ in range(20)))
            for answer in answers:
                np.testing.assert_array_equal(answer.as_numpy("y"), rows + np.float32(offset))

            async def asked():
                for number in range(20):
                    yield {"model_name": model, "inputs": inputs, "outputs": outputs, "request_id": str(number)}

            seen = []
            async for result, error in client.stream_infer(asked()):
                assert error is None, error
                seen.append(result.get_response().id)
            assert seen == [str(number) for number in range(20)], seen

    asyncio.run(ask())
print("all as expected")
"""


def test_tritonclient_works_unchanged(yard: Yard) -> None:
    """Its synchronous and asyncio clients, over a Unix socket and TCP, get answers, metadata, statistics, streams and errors."""
    if not INTERPRETER.exists():
        pytest.skip(f"no interpreter with tritonclient at {INTERPRETER}: `make venv-triton` makes one")
    for version in (A, B):
        yard.publish(version)
    tcp = f"127.0.0.1:{free_port()}"
    with serving(yard, A, "--data", tcp) as sidecar, sidecar.operator() as operator:
        operator.deploy(MODEL, B, environment=PROD)
        offsets = (str(yard.expected(B, 0.0)), str(yard.expected(A, 0.0)))
        done = subprocess.run(
            [str(INTERPRETER), "-c", STORY, MODEL, B, A, *offsets, sidecar.data, tcp],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all as expected"

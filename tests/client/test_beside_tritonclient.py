"""Our client and Triton's in one process: both register `inference.*`, and neither may notice the other.

tritonclient still needs protobuf 6, so this runs in an interpreter of its own, made by `make venv-triton`. That also
shows that our client runs with protobuf 6.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import model_sidecar_client
from model_sidecar_client.testing import StandInSidecar

MODEL, VERSION = "recommendation-v1", "2024.01.15.prod"
ROOT = Path(__file__).parents[2]
INTERPRETER = Path(os.environ.get("MODEL_SIDECAR_TRITON_PYTHON", ROOT / ".venv-triton" / "bin" / "python"))

OURS = "from model_sidecar_client import Client"
TRITONS = "import tritonclient.grpc as triton"
CALLS = """
import sys, numpy, google.protobuf
target, model = sys.argv[1:]
rows = numpy.array([[1.0, 2.0]], numpy.float32)
with Client(target) as client:
    ours = client.predict(model, {"x": rows})
theirs_client = triton.InferenceServerClient(target)
tensor = triton.InferInput("x", rows.shape, "FP32")
tensor.set_data_from_numpy(rows)
theirs = theirs_client.infer(model, [tensor], request_id="mine")
assert theirs_client.is_server_ready() and theirs_client.is_model_ready(model)
names = [each.name for each in theirs_client.get_model_metadata(model).inputs]
theirs_client.close()
print(google.protobuf.__version__.split(".")[0], names)
print(ours.outputs["y"].tolist(), ours.version)
print(theirs.as_numpy("y").tolist(), theirs.get_response().model_version, theirs.get_response().id)
"""


@pytest.fixture
def interpreter() -> str:
    if not INTERPRETER.exists():
        pytest.skip(f"no interpreter with tritonclient at {INTERPRETER}: `make venv-triton` makes one")
    return str(INTERPRETER)


@pytest.mark.parametrize(
    "order", [(OURS, TRITONS), (TRITONS, OURS)], ids=["ours first", "tritonclient first"]
)
def test_both_clients_call_from_one_process(
    sidecar: StandInSidecar, interpreter: str, order: tuple[str, str]
) -> None:
    """Imported in either order, each makes its call and gets its answer."""
    sidecar.answer(MODEL, lambda inputs: {"y": inputs["x"] * 2}, version=VERSION, inputs={"x": "FP32"})

    done = subprocess.run(
        [interpreter, "-c", "\n".join(order) + CALLS, sidecar.target, MODEL],
        env={**os.environ, "PYTHONPATH": str(Path(model_sidecar_client.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["6 ['x']", f"[[2.0, 4.0]] {VERSION}", f"[[2.0, 4.0]] {VERSION} mine"]

"""The model of Triton's Python backend, run by its stub in a process of its own: raw onnxruntime on `x`, and `y`."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What the backend looks for by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version that this instance is of."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        """Answer each."""
        made: list[triton.InferenceResponse] = []
        for request in requests:
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            y = self._session.run(["y"], {"x": x})[0]
            made.append(triton.InferenceResponse([triton.Tensor("y", y)]))
        return made

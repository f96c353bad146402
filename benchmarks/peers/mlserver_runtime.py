"""A runtime of MLServer, run in its process: raw onnxruntime on `x`, and `y`."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Onnx(MLModel):  # type: ignore[misc]  # lives in an environment of its own, unseen from here
    """One version of one model."""

    async def load(self) -> bool:
        """Load the file that the settings name."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        uri = await get_model_uri(self._settings)
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request, on the loop, as its documents show it."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = self._session.run(["y"], {"x": x})[0]
        outputs = [NumpyCodec.encode_output("y", y)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

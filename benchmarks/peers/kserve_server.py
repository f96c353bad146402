"""A model server of the KServe SDK: raw onnxruntime on `x`, and `y`.

python kserve_server.py --model_name NAME --path current.onnx --grpc_port … --http_port …
"""

import argparse

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository, ModelServer, model_server


class Onnx(Model):  # type: ignore[misc]  # lives in an environment of its own, unseen from here
    """The file at this path, as it was when it was loaded last."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path
        self.load()

    def load(self) -> bool:
        """Load what lies there now."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self.ready = True
        return True

    def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        """Answer one request."""
        y = self._session.run(["y"], {"x": payload.inputs[0].as_numpy()})[0]
        output = InferOutput("y", list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=True)
        return InferResponse(payload.id or "", self.name, [output])


class Repository(ModelRepository):  # type: ignore[misc]  # as above
    """Loads what is asked for once more; the SDK's own does nothing."""

    def load(self, name: str) -> bool:
        """The model of this name."""
        model = self.get_model(name)
        return model is not None and model.load()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--path", required=True)
    chosen, _ = parser.parse_known_args()
    server = ModelServer(registered_models=Repository(), enable_latency_logging=False, workers=1)
    server.start([Onnx(chosen.model_name, chosen.path)])

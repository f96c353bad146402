"""From verified bytes to a model that answers; the only room that imports onnxruntime."""

import os

# From 1.29 on, onnxruntime reports to its vendor over the network and leaves files in the home directory, unless told
# not to before it is first imported. A sidecar that watches over somebody's model tells nobody else of it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

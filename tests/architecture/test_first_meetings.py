"""What happens only once in a process must not happen in two threads at once."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import threading
from model_sidecar.ledger.record import decode
from model_sidecar.release.manifest_reading import parse_manifest
from model_sidecar.release.pointer import parse_pointer

digest = "sha256:" + "a" * 64
manifest = ('{"version":"2024.01.10.prod","model_hash":"' + digest + '","schema_version":1,"model":"m",'
    '"files":{"model.onnx":{"digest":"' + digest + '","size":1},"golden.npz":{"digest":"' + digest + '","size":1}},'
    '"golden":{"path":"golden.npz"},"outputs":{"task":"none"},"signature":{"inputs":[{"name":"x","datatype":"FP32",'
    '"shape":[1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[1]}]}}').encode()
barrier = threading.Barrier(4)

def meet():
    barrier.wait()
    parse_manifest(manifest)
    parse_pointer(b'{"version":"2024.01.10.prod"}')
    try:
        decode(b"{}\\n")
    except Exception:
        pass

threads = [threading.Thread(target=meet) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_several_models_may_start_at_the_same_time() -> None:
    """Documents are parsed for the first time by several threads at once, in fresh processes, without a crash."""
    processes = [
        subprocess.Popen([sys.executable, "-c", RACE], stderr=subprocess.PIPE, text=True) for _ in range(12)
    ]
    for process in processes:
        _, words = process.communicate(timeout=60)
        assert process.returncode == 0, words

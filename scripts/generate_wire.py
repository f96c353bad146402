"""Make the wire's descriptor set and type stubs from proto/, or with --check show that they are fresh.

No Python code is generated: generated modules demand a protobuf runtime at least as new as the generator and
register their names in a process-wide pool. The client reads the descriptor set into a pool of its own instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
WIRE = ROOT / "client" / "src" / "model_sidecar_client" / "wire"
STUBS = {
    "inference/inference.proto": "inference",
    "model_sidecar/v1/deployment.proto": "deployment",
    "model_sidecar/v1/feedback.proto": "feedback",
    "google/rpc/status.proto": "status",
    "google/rpc/error_details.proto": "error_details",
}


def generate(into: Path) -> dict[str, bytes]:
    """The generated files by name; `into` is scratch space."""
    descriptors = into / "descriptors.binpb"
    sources = sorted(STUBS)
    arguments = ["protoc", f"-I{PROTO}", f"--pyi_out={into}", "--include_imports"]
    if (
        protoc.main([*arguments, f"--descriptor_set_out={descriptors}", *sources, f"-I{_well_known_types()}"])
        != 0
    ):
        sys.exit("protoc refused the sources in proto/; its words stand above")
    made = {descriptors.name: descriptors.read_bytes()}
    for source, name in STUBS.items():
        made[f"{name}.pyi"] = (into / source.replace(".proto", "_pb2.pyi")).read_bytes()
    return made


def _well_known_types() -> Path:
    return Path(protoc.__file__).parent / "_proto"


def main() -> None:
    """Write the files, or compare them with those that stand there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        made = generate(Path(scratch))
    stale = [
        n for n, content in made.items() if not (WIRE / n).exists() or (WIRE / n).read_bytes() != content
    ]
    if check and stale:
        sys.exit(
            f"stale in {WIRE.relative_to(ROOT)}: {', '.join(stale)}; run `make proto` and commit the result"
        )
    for name in stale:
        (WIRE / name).write_bytes(made[name])


if __name__ == "__main__":
    main()

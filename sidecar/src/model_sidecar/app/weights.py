"""A version's large weights in a file of their own, where they can be mapped instead of copied when it is loaded."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Mapping
from itertools import chain, count

from model_sidecar.disk.faults import store_faults
from model_sidecar.errors import InvalidRequestError
from model_sidecar.model.moving_out import LEAST_BYTES, moved_out
from model_sidecar.release.manifest import MODEL, FileEntry, Role
from model_sidecar.store.publishing import Staging


def weights_apart(staging: Staging, *, taken: Collection[str]) -> Mapping[str, FileEntry]:
    """Rewrite the staged model without its large weights, and stage these beside it; the entries of both.

    `taken` are the names of the version's other files. The model was read by `read_build` before, so that it is ONNX.

    Raises:
        InvalidRequestError: it has no large weights, or two of one name.
        StoreError: the store cannot be written.
    """
    names = chain(["weights.bin"], (f"weights-{number}.bin" for number in count(2)))
    # As a file system sees them that does not tell cases apart.
    folded = {name.casefold() for name in taken}
    location = next(name for name in names if name not in folded)
    path = staging.path / MODEL
    with store_faults(path), path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with content:
        moved = moved_out(content, location=location)
        if moved.twice:
            raise InvalidRequestError(
                f"{MODEL} has two weights named {min(moved.twice)[:80]!r}: which of them counts would change. Export it with "
                "names of their own, or publish it without --external-weights"
            )
        if not moved.weights:
            raise InvalidRequestError(
                f"{MODEL} has no weights of {LEAST_BYTES} bytes or more in it: publish it without --external-weights"
            )
        weights = staging.write_parts(location, moved.data(content), role=Role.EXTERNAL_DATA)
        return {MODEL: staging.write(MODEL, moved.model, role=Role.MODEL), location: weights}

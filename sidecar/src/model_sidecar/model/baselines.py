"""The baseline of a verified version."""

from __future__ import annotations

from model_sidecar.errors import Reason, VerificationError
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.baseline_reading import MAX_BASELINE_BYTES, parse_baseline
from model_sidecar.store.sealing import SealedFile
from model_sidecar.store.verifying import VerifiedVersion


def baseline_in(sealed: SealedFile) -> Baseline:
    """The baseline in this file.

    Raises:
        VerificationError: BASELINE_INVALID.
    """
    with open(sealed.path, "rb") as file:  # noqa: PTH123 - the descriptor's own path, opened anew: an offset of its own
        return parse_baseline(file.read(MAX_BASELINE_BYTES + 1))


def baseline_of_version(verified: VerifiedVersion) -> Baseline | None:
    """The baseline that the manifest names; None where it names none.

    Raises:
        VerificationError: BASELINE_INVALID.
    """
    named = verified.manifest.baseline
    if named is None:
        return None
    baseline = baseline_in(verified.files[named.path])
    if named.rows not in (None, baseline.rows):
        raise VerificationError(
            f"the manifest says that {named.path} is of {named.rows} rows, and it is of {baseline.rows}",
            reason=Reason.BASELINE_INVALID,
        )
    return baseline

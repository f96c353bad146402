"""Which version an order means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from model_sidecar.errors import InvalidNameError, NotFoundError, Reason, RefusedError
from model_sidecar.ledger.ledger import Ledger
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import Version, parse_version
from model_sidecar.serving.orders import DeployOrder, RollbackOrder, ToGeneration, ToPrevious, ToVersion


@dataclass(frozen=True, slots=True)
class Target:
    """The version that an order means, and the identity it must have.

    `manifest` is what the ledger last recorded for that version: a directory that was replaced since is not the version
    that was deployed. None for a version that the ledger has never named.
    """

    version: Version
    manifest: Digest | None


def resolve(order: DeployOrder | RollbackOrder, *, ledger: Ledger, live: Manifest | None) -> Target:
    """The order's target.

    Args:
        live: the live version's manifest, whose `rollback_target` counts where the ledger has no previous version.

    Raises:
        NotFoundError: a generation that the ledger has not.
        RefusedError: NO_PREVIOUS_VERSION.
    """
    target = ToVersion(order.version) if isinstance(order, DeployOrder) else order.target
    match target:
        case ToVersion(version):
            return Target(version, ledger.recorded_manifest(version))
        case ToGeneration(generation):
            return _of_generation(ledger, generation)
        case ToPrevious():
            return _previous(ledger, live)
        case _:
            assert_never(target)


def _of_generation(ledger: Ledger, generation: int) -> Target:
    record, head = ledger.record(generation), ledger.head
    if record is None:
        raise NotFoundError(
            f"generation {generation} is not in the ledger: it has 1 to {head.generation if head else 0}",
            reason=Reason.GENERATION_NOT_FOUND,
            generation=generation,
        )
    return Target(record.version, record.manifest_sha256)


def _previous(ledger: Ledger, live: Manifest | None) -> Target:
    record = ledger.previous_good()
    if record is not None:
        return Target(record.version, record.manifest_sha256)
    hint = _hint(ledger, live)
    if hint is None:
        raise RefusedError(
            "there is no good version before this one: neither the ledger nor the live manifest's rollback_target names "
            "one that was not rolled away from. Name one yourself: `sidecarctl rollback … --to VERSION`",
            reason=Reason.NO_PREVIOUS_VERSION,
        )
    return Target(hint, None)


def _hint(ledger: Ledger, live: Manifest | None) -> Version | None:
    """The live manifest's `rollback_target`, unless the ledger knows that version.

    Then it is the head's own, or it was rolled away from: otherwise the ledger would have named it itself.
    """
    try:
        version = parse_version(live.rollback_target or "" if live is not None else "")
    except InvalidNameError:
        return None
    return version if ledger.recorded_manifest(version) is None else None

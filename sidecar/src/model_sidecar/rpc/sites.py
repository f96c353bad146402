"""The served models by name, and what to say of a model or version that is not here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from model_sidecar.errors import InvalidNameError, NotFoundError, Reason, RefusedError, SidecarError
from model_sidecar.release.names import Version, parse_version
from model_sidecar.rpc.off_loop import StoreLooks
from model_sidecar.serving.site import ServedSite


class Sites:
    """One site for each model. For the data plane's loop: what it reads from the store, it reads elsewhere."""

    def __init__(self, sites: Iterable[ServedSite]) -> None:
        self._by_name: dict[str, ServedSite] = {served.site.model: served for served in sites}
        self._looks = StoreLooks()
        self.all = tuple(self._by_name.values())

    def find(self, name: str) -> ServedSite | None:
        """The model of this name, if it is served here."""
        return self._by_name.get(name)

    def served(self, name: str) -> ServedSite:
        """The model of this name; NotFoundError if it is not served here."""
        served = self._by_name.get(name)
        if served is None:
            raise NotFoundError(
                f"model {name[:200]!r} is not served here: this sidecar serves {', '.join(self._by_name)}",
                reason=Reason.MODEL_NOT_FOUND,
            )
        return served

    async def published(self, served: ServedSite) -> list[Version]:
        """The versions that the store has, newest first; StoreError where it cannot be read."""
        return await self._looks.look(partial(served.versions.versions, served.site.model))

    async def absent(self, served: ServedSite, asked: str) -> SidecarError:
        """What to answer for a version that is not resident: only the store knows whether there is one.

        Raises:
            StoreError: it cannot be read.
        """
        model = served.site.model
        here = f"Resident here: {', '.join(resident_versions(served)) or 'none'}"
        try:
            version = parse_version(asked)
        except InvalidNameError as error:
            return NotFoundError(f"{error}. {here}", version=asked[:200])
        if await self._looks.look(partial(served.versions.fingerprint, model, version)) is None:
            return NotFoundError(f"model {model} has no version {version}. {here}", version=version)
        return RefusedError(
            f"version {version} of model {model} is not resident: only the live version and its standby answer. {here}",
            reason=Reason.VERSION_NOT_RESIDENT,
            version=version,
        )

    def close(self) -> None:
        """Read nothing more from the store."""
        self._looks.close()


def resident_versions(served: ServedSite) -> list[Version]:
    """The versions that can answer now, the live one first."""
    residents = served.stage.residents()
    return [model.version for model in (residents.live, residents.standby) if model is not None]

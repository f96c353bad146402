"""The served models, as operators name them: by model and environment, or all at once."""

from __future__ import annotations

from collections.abc import Iterable

from model_sidecar.errors import NotFoundError, Reason
from model_sidecar.events import Site
from model_sidecar.release.names import ModelName, parse_environment, parse_model
from model_sidecar.serving.site import ServedSite


class ControlSites:
    """One site for each model. Any thread may call."""

    def __init__(self, sites: Iterable[ServedSite]) -> None:
        self._by_model: dict[ModelName, ServedSite] = {served.site.model: served for served in sites}

    def served(self, model: str, environment: str) -> ServedSite:
        """The site of this model; an empty environment is the one that is served.

        Raises:
            InvalidNameError: one of the two is no name.
            NotFoundError: MODEL_NOT_FOUND.
        """
        served = self._by_model.get(parse_model(model))
        if served is None:
            raise NotFoundError(
                f"model {model!r} is not served here: this sidecar serves {', '.join(self._by_model)}",
                reason=Reason.MODEL_NOT_FOUND,
            )
        check_environment(served.site, environment)
        return served

    def asked(self, model: str, environment: str) -> list[ServedSite]:
        """The site of this model; with an empty one, all in this environment, or all there are. Raises as `served`."""
        if model:
            return [self.served(model, environment)]
        return [each for each in self._by_model.values() if environment in ("", each.site.environment)]


def check_environment(site: Site, environment: str) -> None:
    """Refuse what is asked of the model's site in another environment; "" is whichever it is.

    Raises:
        InvalidNameError: it is no name.
        NotFoundError: MODEL_NOT_FOUND.
    """
    if environment and parse_environment(environment) != site.environment:
        raise NotFoundError(
            f"model {site.model} is served here in environment {site.environment}, not {environment}",
            reason=Reason.MODEL_NOT_FOUND,
        )

"""GetQuality and GetDrift, the operators' part of `model_sidecar.v1.FeedbackService`: answered from memory, at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from model_sidecar.breath import breathe
from model_sidecar.errors import InvalidRequestError, NotFoundError
from model_sidecar.events import Site
from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.quality.quality import DAY_S
from model_sidecar.monitor.quality.quality_report import VersionQuality
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.names import parse_environment, parse_version
from model_sidecar.rpc.control_sites import ControlSites
from model_sidecar.rpc.snapshots import filled
from model_sidecar.serving.site import ServedSite
from model_sidecar_client.wire.feedback import (
    GetDriftRequest,
    GetDriftResponse,
    GetQualityRequest,
    GetQualityResponse,
)

Report = TypeVar("Report", VersionQuality, VersionDrift)

_LONGEST_S = 366 * 24 * 3600.0
_MOST_DECISIONS = 20


def serialized(response: GetDriftResponse) -> bytes:
    """The bytes of the response, made of one model's after another's: all at once would hold the interpreter for milliseconds.

    Serialized messages behind one another are one message, whose lists are theirs one behind the other (protobuf.dev,
    "Last One Wins").
    """
    return b"".join(GetDriftResponse(models=[each]).SerializeToString() for each in response.models)


class MonitoringCalls:
    """Answers operators; its pool's threads call it, and none of them waits."""

    def __init__(self, sites: Iterable[ServedSite], reports: Reports) -> None:
        """Tell of these sites what the reports say."""
        self._sites = ControlSites(sites)
        self._reports = reports

    def GetQuality(self, request: GetQualityRequest, context: Any) -> GetQualityResponse:
        """How well versions predict, beside what they were published with."""
        window_s = _window(request)
        response = GetQualityResponse()
        for served in self._asked(request.model, request.environment):
            entry = response.models.add(model=served.site.model, environment=served.site.environment)
            found = self._reports.quality_of(served, window_s)
            for version in _named(found, request.version, served.site, is_one=bool(request.model)):
                self._fill(entry.versions, version, f"the quality of {version.version}")
        return response

    def GetDrift(self, request: GetDriftRequest, context: Any) -> GetDriftResponse:
        """How far versions have drifted from what they were published with, and what the guard made of it."""
        response = GetDriftResponse()
        for served in self._asked(request.model, request.environment):
            entry = response.models.add(
                model=served.site.model,
                environment=served.site.environment,
                guard=self._reports.guard.value,
            )
            found = self._reports.drift_of(served)
            for version in _named(found, request.version, served.site, is_one=bool(request.model)):
                self._fill(entry.versions, version, f"the drift of {version.version}")
            for decision in self._reports.decisions_of(served.site)[:_MOST_DECISIONS]:
                filled(entry.decisions.add(), decision)
        return response

    def _fill(self, versions: Any, report: VersionQuality | VersionDrift, what: str) -> None:
        """Add a version's report; one that has no place in a message costs itself, and says so."""
        breathe()
        try:
            filled(versions.add(), report)
        except Exception as error:  # noqa: BLE001 - it is told, and costs no more than itself
            versions[-1].Clear()
            versions[-1].version = report.version
            versions[-1].summary = self._reports.faults.tell(what, error)

    def _asked(self, model: str, environment: str) -> list[ServedSite]:
        if environment:
            parse_environment(environment)  # a name that is none is an error also where no model is named
        return self._sites.asked(model, environment)


def _window(request: GetQualityRequest) -> float:
    if not request.HasField("window"):
        return DAY_S
    seconds = request.window.seconds + request.window.nanos / 1e9
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidRequestError(f"window is {seconds:g} s: expected more than 0, and at most a year")
    return seconds


def _named(found: Sequence[Report], version: str, site: Site, *, is_one: bool) -> list[Report]:
    """Those of this version, or all; where one model is asked for, a version that is not watched is an error."""
    if not version:
        return list(found)
    wanted = parse_version(version)
    named = [each for each in found if each.version == wanted]
    if not named and is_one:
        there = ", ".join(each.version for each in found) or "none"
        raise NotFoundError(
            f"version {wanted} of {site} is not watched here: watched are {there}; a version is from its first prediction",
            version=wanted,
        )
    return named

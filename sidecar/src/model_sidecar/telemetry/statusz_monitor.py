"""The status page's part about quality, drift and guard: drawn as `sidecarctl … --html` draws it, from the same reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from model_sidecar.monitor.drift.drift_report import VersionDrift
from model_sidecar.monitor.quality.quality_report import VersionQuality
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.digests import Digest
from model_sidecar.serving.site import ServedSite
from model_sidecar.telemetry.markup import Markup, tag
from model_sidecar_client.report.sections import decisions_section, drift_section, quality_section
from model_sidecar_client.report.style import PLOTS

Report = TypeVar("Report", VersionQuality, VersionDrift)

STYLE = Markup(PLOTS)


class Watched:
    """What is known of one site's versions at one moment; asked for once for a page."""

    def __init__(self, served: ServedSite, reports: Reports) -> None:
        self._reports = reports
        self._site = served.site
        live = served.stage.residents().live
        self._live = live.manifest.digest if live is not None else None
        self._faults: list[Markup] = []
        self._quality = self._asked("the quality", lambda: reports.quality_of(served))
        self._drift = self._asked("the drift", lambda: reports.drift_of(served))

    def notices(self) -> Iterator[Markup]:
        """The alarms of the live version, and what cannot be told, for the top of the page."""
        yield from self._faults
        for key, rated in self._quality.items():
            if key[1] == self._live and rated.alarm_since is not None:
                yield _notice("predicts worse than it was published with", rated.summary)
        for key, drifted in self._drift.items():
            if key[1] == self._live and drifted.alarm_since is not None:
                yield _notice("has drifted", drifted.summary)

    def sections(self) -> Iterator[Markup]:
        """The live version's quality and drift with its plots, the others' folded away, and what the guard decided."""
        for key in dict.fromkeys((*self._quality, *self._drift)):
            version, manifest = key
            pieces = self._pieces(key)
            if manifest == self._live:
                yield from pieces
            else:
                yield tag("details", tag("summary", f"Quality and drift of {version}"), *pieces)
        yield from self._drawn(
            "what the guard decided",
            lambda: decisions_section(self._reports.guard.value, self._reports.decisions_of(self._site)),
        )

    def _pieces(self, key: tuple[str, Digest]) -> Sequence[Markup]:
        rated, drifted = self._quality.get(key), self._drift.get(key)
        made: list[Markup] = []
        if rated is not None:
            made += self._drawn(f"the quality of {key[0]}", lambda: quality_section(rated))
        if drifted is not None and drifted.streams:
            made += self._drawn(f"the drift of {key[0]}", lambda: drift_section(drifted))
        elif drifted is not None:
            made.append(tag("p", drifted.summary))
        return made

    # What fails is told in its place; the page is there for whoever was woken all the same.

    def _asked(self, what: str, ask: Callable[[], Iterable[Report]]) -> dict[tuple[str, Digest], Report]:
        try:
            return {_key(each): each for each in ask()}
        except Exception as error:  # noqa: BLE001 - it is told, and costs no more than itself
            self._faults.append(self._fault(what, error))
            return {}

    def _drawn(self, what: str, draw: Callable[[], str | None]) -> list[Markup]:
        try:
            drawn = draw()
        except Exception as error:  # noqa: BLE001 - it is told, and costs no more than itself
            return [self._fault(what, error)]
        return [] if drawn is None else [Markup(drawn)]

    def _fault(self, what: str, error: Exception) -> Markup:
        return tag("p", self._reports.faults.tell(f"{what} on the status page", error), css="notice bad")


def _key(report: VersionQuality | VersionDrift) -> tuple[str, Digest]:
    return report.version, report.manifest_sha256


def _notice(what: str, summary: str) -> Markup:
    return tag("p", "The live version ", tag("strong", what), f": {summary}", css="notice bad")

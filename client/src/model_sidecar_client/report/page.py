"""One self-contained page: no scripts, nothing from the network; light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from model_sidecar_client.monitoring_records import ModelDrift, ModelQuality
from model_sidecar_client.report.markup import Markup, tag
from model_sidecar_client.report.sections import decisions_section, drift_section, quality_section
from model_sidecar_client.report.style import PAGE, PLOTS


def page(quality: Sequence[ModelQuality], drift: Sequence[ModelDrift], *, made_at: datetime) -> str:
    """All of it, a section for each model; what stands in only one of the two is shown by itself."""
    sites = dict.fromkeys(
        [(each.model, each.environment) for each in quality]
        + [(each.model, each.environment) for each in drift]
    )
    title = " · ".join(f"{model} {environment}" for model, environment in sites) or "nothing"
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", title),
            tag("p", f"quality and drift as of {made_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", css="quiet"),
        ),
        tag("main", *(_site(site, quality, drift) for site in sites)),
        tag(
            "footer",
            tag(
                "p",
                "Bounds are of one look, 95 %. An alarm rests on evidence that may be looked at all the time: it is raised "
                "falsely no more often than its budget says. docs/monitoring.md says what to do about one.",
                css="quiet",
            ),
        ),
    )
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", f"{title} · quality and drift"),
        tag("style", Markup(PAGE + PLOTS)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _site(site: tuple[str, str], quality: Sequence[ModelQuality], drift: Sequence[ModelDrift]) -> Markup:
    of_quality = [each for each in quality if (each.model, each.environment) == site]
    of_drift = [each for each in drift if (each.model, each.environment) == site]
    qualities = {each.version: each for model in of_quality for each in model.versions}
    drifts = {each.version: each for model in of_drift for each in model.versions}
    versions = dict.fromkeys((*qualities, *drifts))
    return tag(
        "section",
        tag("h2", site[0], tag("span", f" / {site[1]}", css="quiet")),
        tag("p", "No version is watched yet: it is from its first prediction.", css="quiet")
        if not versions
        else None,
        *(
            tag(
                "div",
                tag("h2", version, css="version") if len(versions) > 1 else None,
                quality_section(qualities[version]) if version in qualities else None,
                drift_section(drifts[version]) if version in drifts else None,
            )
            for version in versions
        ),
        *(decisions_section(each.guard, each.decisions) for each in of_drift),
    )

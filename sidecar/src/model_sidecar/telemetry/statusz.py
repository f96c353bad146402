"""The page for whoever was woken: what answers, since when, who changed what and why, and what to do about it.

One self-contained page without scripts; nothing on it acts. It is made from memory alone, so that it opens while the
store hangs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import resources

from model_sidecar.errors import Reason
from model_sidecar.ledger.record import Action, Record
from model_sidecar.model.execution import Execution, execution_of
from model_sidecar.monitor.reports import Reports
from model_sidecar.release.tensors import TensorSpec
from model_sidecar.serving.site import ServedSite
from model_sidecar.serving.stage import Model
from model_sidecar.serving.status import Standing, State, Status
from model_sidecar.telemetry.markup import Markup, row, table, tag
from model_sidecar.telemetry.meters import Meters
from model_sidecar.telemetry.readiness import Readiness
from model_sidecar.telemetry.statusz_monitor import STYLE, Watched
from model_sidecar.telemetry.wording import ago, milliseconds, number, span

TIMELINE = 20
_STALE_S = 30.0
_OF_THE_STORE = frozenset({Reason.STORE_UNAVAILABLE, Reason.STORE_FULL, Reason.LEDGER_INVALID})
_STATES = {
    State.READY: ("good", "ready"),
    State.LOADING: ("busy", "loading"),
    State.DEGRADED: ("bad", "degraded"),
    State.NOT_SERVING: ("bad", "not serving"),
}
_BY_URGENCY = (State.READY, State.LOADING, State.DEGRADED, State.NOT_SERVING)
_ACTIONS = {Action.DEPLOY: "good", Action.ROLLBACK: "busy", Action.ADOPT: "plain"}


class StatusPage:
    """Makes the page. Any thread may call `render`."""

    def __init__(
        self,
        sites: Sequence[ServedSite],
        *,
        meters: Meters,
        readiness: Readiness,
        software: str,
        control: str = "",
        reports: Reports | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin to exist.

        Args:
            sites: what is served.
            meters: what the versions have answered.
            readiness: whether all of it can be.
            software: this distribution's version.
            control: where the control listener is, such as "unix:/run/sidecar/control.sock", for the commands that
                the page shows.
            reports: what is known of quality and drift.
            now: the wall clock.
        """
        self._sites = tuple(sites)
        self._meters = meters
        self._readiness = readiness
        self._software = software
        self._control = control
        self._reports = reports or Reports()
        self._now = now
        self._started = now()
        self._style = Markup(resources.files(__package__).joinpath("statusz.css").read_text("utf-8"))

    def render(self) -> bytes:
        """The page, in UTF-8."""
        now = self._now()
        obstacles = self._readiness.obstacles()
        colour, title = self._worst()
        sidecar = self._sites[0].board.current().sidecar if self._sites else ""
        header = tag(
            "header",
            tag("h1", "model-sidecar ", _badge(colour, title)),
            tag(
                "p",
                f"{sidecar} · version {self._software} · up {span((now - self._started).total_seconds())} · "
                f"as of {now:%Y-%m-%d %H:%M:%S} UTC",
                css="quiet",
            ),
            *(tag("p", each, css="notice bad") for each in obstacles),
        )
        head = tag(
            "head",
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
            Markup('<meta name="color-scheme" content="light dark">'),
            tag("title", f"{title} · model-sidecar {sidecar}"),
            tag("style", self._style, STYLE),
        )
        # In pieces: to join and to encode all of it at once would keep the interpreter for milliseconds.
        pieces = [f'<!doctype html>\n<html lang="en">{head}<body>{header}<main>'.encode()]
        pieces += [self._site(served, now).encode() for served in self._sites]
        pieces.append(f"</main>{self._footer()}</body></html>\n".encode())
        return b"".join(pieces)

    def _worst(self) -> tuple[str, str]:
        states = [served.board.current().state for served in self._sites]
        return _STATES[max(states, key=_BY_URGENCY.index, default=State.NOT_SERVING)]

    def _site(self, served: ServedSite, now: datetime) -> Markup:
        status, residents = served.board.current(), served.stage.residents()
        watched = Watched(served, self._reports)
        colour, word = _STATES[status.state]
        live = residents.live
        # One emergency rollback waits at a time: while one does, the ledger knows only where it has gone already.
        can_roll_back = live is not None and not status.externally_managed and status.unrecorded is None
        if live is not None:
            generation = (
                f"generation {residents.generation}" if residents.generation is not None else "no generation"
            )
            answering = tag(
                "p",
                tag("strong", live.version),
                f" answers · {generation} · in memory for {ago(live.loaded_at, now)}",
                css="answering",
            )
        else:
            answering = tag("p", "Nothing answers yet. ", _deploy(served, self._control), css="answering")
        return tag(
            "section",
            tag(
                "h2",
                served.site.model,
                tag("span", f" / {served.site.environment} ", css="quiet"),
                _badge(colour, word),
            ),
            answering,
            *_notices(status, now),
            *watched.notices(),
            _rollback(served, self._control, status, live=live, standby=residents.standby)
            if can_roll_back
            else None,
            _timeline(served.ledger.records(limit=TIMELINE), residents.generation, now),
            *watched.sections(),
            *(
                [self._versions(served, [each for each in (live, residents.standby) if each], now)]
                if live
                else []
            ),
            _pointer(served, status),
        )

    def _versions(self, served: ServedSite, models: Sequence[Model], now: datetime) -> Markup:
        columns = (
            "",
            *(f"{role} · {each.version}" for role, each in zip(("live", "standby"), models, strict=False)),
        )
        manifests = [each.manifest for each in models]
        traffic = [self._meters.traffic(served.site, each.version) for each in models]
        metrics = dict.fromkeys(name for manifest in manifests for name in manifest.metrics)
        rows = [
            row(*(each.training_date for each in manifests), head="trained"),
            row(*(each.data_snapshot_id for each in manifests), head="data snapshot"),
            row(*(each.preprocessing_version for each in manifests), head="preprocessing"),
            row(*(each.framework for each in manifests), head="framework"),
            row(*(each.deployed_by for each in manifests), head="published by"),
            *(
                row(*(number(each.metrics.get(name)) for each in manifests), head=name, css="metric")
                for name in metrics
            ),
            row(*(_specs(each.signature.inputs) for each in models), head="takes"),
            row(*(_specs(each.signature.outputs) for each in models), head="gives"),
            row(*(tag("code", each.digest) for each in manifests), head="manifest"),
            row(*(f"{ago(each.loaded_at, now)} ago" for each in models), head="loaded"),
            row(*(_execution(each) for each in models), head="runs"),
            row(*(f"{each.answered:,}" if each else "" for each in traffic), head="predictions"),
            row(*(f"{each.failed:,}" if each else "" for each in traffic), head="of them failed"),
            row(*(milliseconds(each.p50_s if each else None) for each in traffic), head="median"),
            row(*(milliseconds(each.p99_s if each else None) for each in traffic), head="99 %"),
        ]
        return table(columns, rows, caption="In memory")

    def _footer(self) -> Markup:
        links = ["/metrics", "/readyz", "/livez"]
        links += [
            f"/api/model-registry/{each.site.model}/{each.site.environment}/active" for each in self._sites
        ]
        return tag("footer", tag("p", *(tag("a", each, href=each) for each in links)))


def _notices(status: Status, now: datetime) -> list[Markup]:
    made = []
    desired, observed, error = status.desired, status.observed, status.last_error
    if status.loading is not None:
        made.append(tag("p", f"{status.loading} is being verified and loaded.", css="notice busy"))
    if desired is not None and (observed is None or desired.version != observed.version):
        made.append(
            tag(
                "p",
                tag("strong", desired.version),
                f" is wanted by {_who_wants(desired, status)}, and is not live.",
                css="notice bad",
            )
        )
    if error is not None:
        what = f"{ago(error.since, now)} ago" + (f", {error.version}" if error.version else "")
        made.append(
            tag("p", tag("strong", error.reason.value), f" ({what}): {error.message}", css="notice bad")
        )
    if status.pointer_staleness_s > _STALE_S:
        seen = (
            f"for {span(status.pointer_staleness_s)}" if status.last_look is not None else "since the start"
        )
        made.append(
            tag("p", f"The store has not been read {seen}; what is live answers on.", css="notice bad")
        )
    if status.unrecorded is not None:
        in_effect = (
            "in effect, and " if observed is not None and observed.version == status.unrecorded else ""
        )
        made.append(
            tag(
                "p",
                f"The emergency rollback to {status.unrecorded} is {in_effect}not recorded yet: that is done when the "
                "store is back, and until then no other can be ordered.",
                css="notice bad",
            )
        )
    return made


def _who_wants(desired: Standing, status: Status) -> str:
    if desired.generation is not None:
        return f"generation {desired.generation}"
    return "the emergency rollback" if desired.version == status.unrecorded else "the pointer"


def _pointer(served: ServedSite, status: Status) -> Markup:
    desired = status.desired
    kept = (
        "externally managed: followed, never written" if status.externally_managed else "managed by sidecars"
    )
    facts = [
        ("wanted", desired.version if desired else "nothing yet"),
        ("generation", desired.generation if desired and desired.generation is not None else "none"),
        ("record", tag("code", desired.record_sha256) if desired and desired.record_sha256 else "none"),
        ("pointer", kept),
        ("last look", "none yet" if status.last_look is None else f"{status.pointer_staleness_s:.1f} s ago"),
        ("store", tag("code", served.versions.layout.model(served.site.model).absolute())),
    ]
    return table(("", ""), [row(value, head=name) for name, value in facts], caption="Active pointer")


def _timeline(records: Sequence[Record], live_generation: int | None, now: datetime) -> Markup:
    if not records:
        return tag("p", "The ledger is empty.", css="quiet")
    rows = [
        row(
            record.generation,
            Markup(
                tag("span", f"{record.timestamp:%Y-%m-%d %H:%M:%S}")
                + " "
                + tag("span", f"{ago(record.timestamp, now)} ago", css="quiet")
            ),
            _badge(_ACTIONS[record.action], record.action.value.lower()),
            tag("span", record.version, title=f"before: {record.previous_version or 'nothing'}"),
            _actor(record),
            record.reason,
            tag("span", tag("code", record.source_commit[:12]), title=record.source_commit),
            css="current" if record.generation == live_generation else "",
        )
        for record in records
    ]
    columns = ("#", "when (UTC)", "what", "version", "who", "why", "commit")
    return table(columns, rows, caption=f"Last {len(records)} deployments")


def _actor(record: Record) -> str:
    actor = record.actor
    return f"{actor.id} for {actor.on_behalf_of}" if actor.on_behalf_of else actor.id


def _rollback(
    served: ServedSite, control: str, status: Status, *, live: Model | None, standby: Model | None
) -> Markup | None:
    # Not necessarily to the standby: after a rollback that is the version that was left for good reason.
    target = served.ledger.previous_good()
    if target is None:
        return None
    speed = "which has to be loaded from the store first"
    if standby is not None and standby.version == target.version:
        speed = "which stands by"
    if live is not None and live.version == target.version:
        speed = "which still answers"  # the head names a version that could not take its place
    urgent = ("--emergency",) if _needs_emergency(status) else ()
    command = _command(served, control, "rollback", served.site.model, *urgent)
    return tag(
        "p",
        f"To go back to {target.version}, {speed}: ",
        tag("code", f'{command} --reason "…"', css="command"),
    )


def _needs_emergency(status: Status) -> bool:
    """Whether a plain rollback would be refused, for all that is known; where the store is back, the option does no harm."""
    error = status.last_error
    return status.pointer_staleness_s > _STALE_S or (error is not None and error.reason in _OF_THE_STORE)


def _deploy(served: ServedSite, control: str) -> Markup:
    command = _command(served, control, "deploy", served.site.model, "VERSION")
    return tag("code", f'{command} --reason "…"', css="command")


def _command(served: ServedSite, control: str, *words: str) -> str:
    where = ("--control", control) if control else ()
    return shlex.join(("sidecarctl", *where, *words, "--environment", served.site.environment))


def _badge(colour: str, word: str) -> Markup:
    return tag("span", word, css=f"badge {colour}")


def _execution(model: Model) -> str:
    execution, cost = execution_of(model), milliseconds(model.cost_s)
    if execution is Execution.BATCHED and model.batching is not None:
        return f"{execution}, up to {model.batching.max_rows} rows; {cost} alone"
    return f"{execution}; {cost}"


def _specs(specs: Sequence[TensorSpec]) -> Markup:
    return tag("code", ", ".join(map(str, specs)))

"""The plots, as inline SVG whose colours are the page's: they follow it into the dark."""

from __future__ import annotations

from collections.abc import Sequence

from model_sidecar_client.report.markup import Markup, tag
from model_sidecar_client.report.shapes import Bin, Metric

_WIDTH, _HEIGHT, _FLOOR = 260.0, 96.0, 82.0
_BAR = (220.0, 14.0)
_SPAN = (240.0, 22.0)
_LETTER = 6.2
_MOST_LABELS = 12


def histogram(bins: Sequence[Bin], *, alarm: bool, each_labelled: bool = False) -> Markup:
    """Shares by bin: the baseline's as pale bars, the last hour's as narrow ones before them. Each tells itself on hover.

    Bins that stand in no order, such as classes, are `each_labelled`, if they are not many: ends say nothing of those between.
    """
    top = max([0.02, *(each.share for each in bins), *(each.baseline_share for each in bins)])
    width = _WIDTH / max(1, len(bins))
    drawn: list[Markup] = []
    for place, each in enumerate(bins):
        left = place * width
        drawn.append(
            tag(
                "g",
                tag(
                    "title",
                    f"{each.label}: {each.share:.1%} in the last hour, {each.baseline_share:.1%} in the baseline",
                ),
                tag("rect", x=_n(left), y=0, width=_n(width), height=_n(_FLOOR), css="feel"),
                _bar(left + width * 0.08, width * 0.84, each.baseline_share / top, "then"),
                _bar(left + width * 0.29, width * 0.42, each.share / top, "now alarm" if alarm else "now"),
            )
        )
    drawn.append(tag("line", x1=0, x2=_n(_WIDTH), y1=_n(_FLOOR), y2=_n(_FLOOR), css="axis"))
    is_each = each_labelled and len(bins) <= _MOST_LABELS
    drawn += _every_label(bins, width) if is_each else _bin_labels(bins, width)
    return tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {_n(_WIDTH)} {_n(_HEIGHT)}",
        css="plot",
        role="img",
        aria_label="shares by bin, in the last hour beside the baseline",
    )


def evidence_bar(evidence: float, threshold: float) -> Markup:
    """How much evidence there is, with a mark in the middle at what makes an alarm; both are logarithms to base 10.

    Twice what makes an alarm fills it: how much more there is than that is nobody's concern.
    """
    width, height = _BAR
    scale = width / max(2 * threshold, 1.0)
    length = max(0.0, min(width, evidence * scale))
    mark = threshold * scale
    is_alarm = evidence >= threshold
    return tag(
        "svg",
        tag("rect", x=0, y=4, width=_n(width), height=6, rx=3, css="rail"),
        tag("rect", x=0, y=4, width=_n(length), height=6, rx=3, css="now alarm" if is_alarm else "now")
        if length
        else None,
        tag("line", x1=_n(mark), x2=_n(mark), y1=0, y2=_n(height), css="threshold"),
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        css="bar",
        role="img",
        aria_label=f"evidence 10^{evidence:.1f}, an alarm from 10^{threshold:.1f} on",
    )


def interval(metric: Metric, *, scale: tuple[float, float]) -> Markup:
    """A metric's value and bounds on a scale from one number to another, with a mark where it was published."""
    width, height = _SPAN
    low, high = scale
    across = (width - 12) / ((high - low) or 1.0)

    def at(value: float) -> float:
        return 6 + min(max((value - low) * across, 0.0), width - 12)

    lower = metric.value if metric.lower is None else metric.lower
    upper = metric.value if metric.upper is None else metric.upper
    css = "now alarm" if metric.verdict == "below" else "now"
    middle = height / 2
    return tag(
        "svg",
        tag("line", x1=6, x2=_n(width - 6), y1=_n(middle), y2=_n(middle), css="axis"),
        tag(
            "rect",
            x=_n(at(lower)),
            y=_n(middle - 3),
            width=_n(max(2.0, at(upper) - at(lower))),
            height=6,
            rx=3,
            css=f"{css} faint",
        ),
        tag(
            "circle",
            cx=_n(at(metric.value)),
            cy=_n(middle),
            r=5,
            css=f"{css}{' hollow' if metric.estimated else ''}",
        ),
        None
        if metric.baseline is None
        else tag(
            "line",
            x1=_n(at(metric.baseline)),
            x2=_n(at(metric.baseline)),
            y1=2,
            y2=_n(height - 2),
            css="threshold",
        ),
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        css="span",
        role="img",
        aria_label=f"{metric.name} {metric.value:.4g} between {lower:.4g} and {upper:.4g}",
    )


def scale_of(metric: Metric) -> tuple[float, float]:
    """From where to where an interval's scale goes: around all that it shows, with room, and within 0..1 for shares."""
    shown = [each for each in (metric.value, metric.lower, metric.upper, metric.baseline) if each is not None]
    room = max((max(shown) - min(shown)) * 0.25, abs(metric.value) * 0.01, 1e-9)
    low, high = max(0.0, min(shown) - room), max(shown) + room
    return low, min(high, 1.0) if max(shown) <= 1.0 and metric.name not in _UNBOUNDED else high


_UNBOUNDED = frozenset({"log_loss", "mae", "rmse"})


def _bar(left: float, width: float, share: float, css: str) -> Markup | None:
    height = (_FLOOR - 6) * share
    if height <= 0:
        return None
    height = max(height, 1.0)  # a share that is not nothing can be seen
    return tag("rect", x=_n(left), y=_n(_FLOOR - height), width=_n(width), height=_n(height), rx=1, css=css)


def _bin_labels(bins: Sequence[Bin], width: float) -> list[Markup]:
    """All of them where there is room, else the first and the last."""
    shown = (
        range(len(bins)) if all(len(each.label) * _LETTER <= width for each in bins) else (0, len(bins) - 1)
    )
    made = []
    for place in dict.fromkeys(shown) if bins else ():
        is_end = len(shown) <= 2 < len(bins)
        anchor = ("start" if place == 0 else "end") if is_end else "middle"
        x = {"start": place * width, "middle": (place + 0.5) * width, "end": (place + 1) * width}[anchor]
        made.append(tag("text", _short(bins[place].label), x=_n(x), y=_n(_HEIGHT - 2), text_anchor=anchor))
    return made


def _every_label(bins: Sequence[Bin], width: float) -> list[Markup]:
    """All of them, cut where there is no room; the whole one is told on hover."""
    most = int(width / _LETTER)
    return [
        tag(
            "text",
            _short(each.label, most),
            x=_n((place + 0.5) * width),
            y=_n(_HEIGHT - 2),
            text_anchor="middle",
        )
        for place, each in enumerate(bins)
    ]


def _short(label: str, most: int = 18) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")

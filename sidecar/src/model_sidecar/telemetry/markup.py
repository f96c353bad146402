"""HTML that cannot be injected into: every string is escaped, except what was made here."""

from __future__ import annotations

import html

from model_sidecar.telemetry.lines import visible


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


def tag(name: str, *children: object, css: str = "", **attributes: object) -> Markup:
    """An element; `css` is its class. Children that are no Markup, and all attributes, are escaped; None is left out."""
    given = {"class": css or None, **attributes}
    written = "".join(f' {key}="{_text(value)}"' for key, value in given.items() if value is not None)
    return Markup(f"<{name}{written}>{''.join(map(_child, children))}</{name}>")


def row(*cells: object, head: object = None, css: str = "") -> Markup:
    """A table's row, with a heading if there is one."""
    headings = [tag("th", head, scope="row")] if head is not None else []
    return tag("tr", *headings, *(tag("td", cell) for cell in cells), css=css)


def table(columns: tuple[object, ...], rows: list[Markup], *, caption: str) -> Markup:
    """A table that scrolls by itself where the window is narrow."""
    heads = tag("thead", tag("tr", *(tag("th", column, scope="col") for column in columns)))
    return tag("div", tag("table", tag("caption", caption), heads, tag("tbody", *rows)), css="wide")


def _child(child: object) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else _text(child)


def _text(value: object) -> str:
    return html.escape(visible(str(value)))

"""HTML and SVG that cannot be injected into: all text is escaped, except what was made here."""

from __future__ import annotations

import html


class Markup(str):
    """Finished markup."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. `css` is its class, and `_` in an attribute's name is `-`; None is left out, everywhere."""
    written = "".join(
        f' {"class" if key == "css" else key.replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
        if value is not None and value != ""
    )
    return Markup(f"<{name}{written}>{''.join(map(_child, children))}</{name}>")


def together(*pieces: Markup | None) -> Markup:
    """One after another; None is left out."""
    return Markup("".join(each for each in pieces if each is not None))


def _child(child: object) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else _text(child)


def _text(value: object) -> str:
    text = str(value)
    if not text.isprintable():
        # What turns the direction of text, or is not seen, could make a name read as another.
        seen = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
        text = "".join(seen)
    return html.escape(text)

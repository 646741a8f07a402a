"""HTML written by hand: every text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, a smaller text after it, and CSS classes.

    Example:
        >>> Cell("4.09G", small="1.00x").html()
        '<td class="number">4.09G <small>1.00x</small></td>'
    """

    text: str
    small: str = ""
    classes: str = "number"

    def html(self) -> str:
        """Return the cell with its texts escaped."""
        small = f" <small>{html.escape(self.small)}</small>" if self.small else ""
        return f'<td class="{html.escape(self.classes)}">{html.escape(self.text)}{small}</td>'


def tag(name: str, text: str, *, classes: str = "") -> str:
    """Wrap a text, which is escaped, into an element.

    Example:
        >>> tag("p", "a < b", classes="lead")
        '<p class="lead">a &lt; b</p>'
    """
    given = f' class="{html.escape(classes)}"' if classes else ""
    return f"<{name}{given}>{html.escape(text)}</{name}>"


def section(title: str, *parts: str) -> str:
    """Wrap parts, which are HTML, into a section with a title.

    Example:
        >>> section("Notes", "<p>None.</p>")
        '<section><h2>Notes</h2><p>None.</p></section>'
    """
    return f"<section>{tag('h2', title)}{''.join(parts)}</section>"


def table(
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Cell]]],
    *,
    caption: str = "",
    classes: str = "",
) -> str:
    """Write a table; a head that ends in < stands over numbers, a row has CSS classes.

    Example:
        >>> table(["n<"], [("base", [Cell("1")])]).count("number")
        2
    """
    head = "".join(
        tag("th", name.removesuffix("<"), classes="number" if name.endswith("<") else "")
        for name in heads
    )
    body = "".join(
        f'<tr class="{html.escape(kind)}">{"".join(cell.html() for cell in cells)}</tr>'
        for kind, cells in rows
    )
    said = tag("caption", caption) if caption else ""
    return (
        f'<div class="scroll"><table class="{html.escape(classes)}">{said}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def definitions(pairs: Iterable[tuple[str, str]], *, classes: str) -> str:
    """Write a list of terms and what they are.

    Example:
        >>> definitions([("torch", "2.6.0")], classes="conditions")
        '<dl class="conditions"><dt>torch</dt><dd>2.6.0</dd></dl>'
    """
    inner = "".join(tag("dt", term) + tag("dd", what) for term, what in pairs)
    return f'<dl class="{html.escape(classes)}">{inner}</dl>'


def bullets(texts: Iterable[str]) -> str:
    """Write a list of texts.

    Example:
        >>> bullets(["one"])
        '<ul><li>one</li></ul>'
    """
    return f"<ul>{''.join(tag('li', text) for text in texts)}</ul>"

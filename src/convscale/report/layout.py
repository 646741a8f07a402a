"""How every table for the terminal looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from convscale.quantities import Resolution, format_resolution

_UNLIMITED = 10_000  # columns, more than any table has


def table_of(*heads: str) -> Table:
    """Make a table; a head that ends in < is a column of numbers.

    Example:
        >>> [column.justify for column in table_of("metric", "value<").columns]
        ['left', 'right']
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for head in heads:
        numeric = head.endswith("<")
        table.add_column(
            head.removesuffix("<"),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    return table


def titled(title: str, table: RenderableType) -> Group:
    """Put a bold title over a table.

    Example:
        >>> plain_lines(titled("Layers", table_of("path")))
        ['Layers', 'path']
    """
    return Group(Text(title, style="bold"), table)


def where_run(resolution: Resolution | None, inputs: Sequence[str]) -> str:
    """Say at which resolution, or on which inputs, a network was run.

    Example:
        >>> where_run(8, ()), where_run(None, ["1x10:int64"])
        ('at 8 px', 'on inputs 1x10:int64')
    """
    if inputs or resolution is None:
        return f"on inputs {', '.join(inputs)}"
    return f"at {format_resolution(resolution)} px"


def add_row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of plain text: brackets in names are no markup.

    Example:
        >>> table = table_of("path")
        >>> add_row(table, "layer1[0]")
        >>> plain_lines(table)[-1]
        'layer1[0]'
    """
    table.add_row(*(Text(cell) for cell in cells), style=style)


def noted(notes: Iterable[str]) -> list[Text]:
    """Return one line for each note.

    Example:
        >>> noted(["Depth kept."])[0].plain
        'Note: Depth kept.'
    """
    return [Text(f"Note: {note}") for note in notes]


class Widest:
    """Show the wide table where it fits the window, else the narrow one.

    Example:
        >>> both = Widest(table_of("a rather wide head"), table_of("narrow"))
        >>> plain_lines(both), plain_lines(both, width=10)
        (['a rather wide head'], ['narrow'])
    """

    def __init__(self, wide: Table, narrow: Table) -> None:
        self.wide, self.narrow = wide, narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose for rich, which knows the window."""
        unlimited = options.update(max_width=_UNLIMITED)
        needed = console.measure(self.wide, options=unlimited).maximum
        yield self.wide if needed <= options.max_width else self.narrow


def plain_lines(renderable: RenderableType, *, width: int = 160) -> list[str]:
    """Return the lines that a terminal of that width shows, without rules and padding.

    Example:
        >>> plain_lines(Text("some   text"))
        ['some text']
    """
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    lines = (" ".join(line.split()) for line in captured.get().splitlines())
    return [line for line in lines if line.strip("─ ")]

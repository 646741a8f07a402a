"""One self-contained HTML page about a comparison: no other file, no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscale.complexity.complexity import METRICS
from convscale.errors import InputError
from convscale.files import write_whole
from convscale.report import parts
from convscale.report.figures import decision_figure, growth_figure, latency_figure
from convscale.report.frames import decision_frame, growth_frame, latency_frame, law_frame
from convscale.report.look import Palette
from convscale.report.markup import section, tag
from convscale.report.sentences import prediction_sentence
from convscale.selection import STAND_IN

if TYPE_CHECKING:
    from convscale.selection import Choice
    from convscale.study import Comparison

_PANEL_PX = 320  # the least width of a panel in which titles and ticks keep apart


def check_report_path(path: str | Path) -> Path:
    """Return where a report can be written, before minutes are spent on its content.

    Raises:
        InputError: If the path is a folder, or lies under a file.

    Example:
        >>> check_report_path("demo/report.html").name
        'report.html'
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder. Give the report a file name, as in report.html.")
    for parent in target.parents:
        if parent.exists() and not parent.is_dir():
            raise InputError(f"{parent} is a file, so that no report can be written under it.")
    return target


def write_report(comparison: Comparison, choices: Sequence[Choice], path: str | Path) -> Path:
    """Write a comparison and what to build as one HTML file, whole or not at all.

    Args:
        comparison: The rows, their correlation and the conditions.
        choices: What to build, for those networks that have a budget.
        path: The file; folders above it are made, and an old file is replaced.

    Returns:
        The path.

    Raises:
        InputError: If nothing can be written there.

    Example:
        >>> import tempfile
        >>> from convscale.study import Comparison, Row
        >>> comparison = Comparison((Row("timm:net", None, 1.0, 8, 4000, 20, 7),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = write_report(comparison, [], Path(folder, "report.html"))
        ...     "timm:net" in written.read_text(encoding="utf-8")
        True
    """
    target = check_report_path(path)
    return write_whole(target, render_report(comparison, choices))


def render_report(comparison: Comparison, choices: Sequence[Choice]) -> str:
    """Return the page's text.

    Example:
        >>> from convscale.study import Comparison, Row
        >>> page = render_report(Comparison((Row("timm:net", None, 1.0, 8, 4000, 20, 7),)), [])
        >>> page.startswith("<!doctype html>"), "<script src" in page
        (True, False)
    """
    *others, last = comparison.networks or ("nothing",)
    title = f"Scaling {', '.join(others)} and {last}" if others else f"Scaling {last}"
    body = _header(title, comparison), *_sections(comparison, choices)
    return page(title, body)


def page(title: str, body: Sequence[str]) -> str:
    """Return the text of a page: its title, and its body, which is HTML.

    Example:
        >>> page("a < b", ["<p>c</p>"]).count("a &lt; b")
        1
    """
    style = resources.files("convscale.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
        f"<style>\n{style}</style></head>\n<body><main>\n{chr(10).join(body)}\n</main></body></html>\n"
    )


def _header(title: str, comparison: Comparison) -> str:
    scaled = [row for row in comparison.rows if row.strategy is not None]
    strategies = ", ".join(dict.fromkeys(str(row.strategy) for row in scaled))
    factors = ", ".join(dict.fromkeys(f"{row.factor:g}x" for row in scaled))
    what = f"{len(scaled)} scaled networks: strategies {strategies}; factors {factors}."
    return (
        f"<header>{tag('h1', title)}{tag('p', what if scaled else 'No scaled network.')}</header>"
    )


def _sections(comparison: Comparison, choices: Sequence[Choice]) -> list[str]:
    figures = Figures()
    palette = Palette(
        [row.strategy for row in comparison.rows if row.strategy is not None], comparison.networks
    )
    return [
        *_what_to_build(comparison, choices, palette, figures),
        *_what_predicts(comparison, palette, figures),
        *_how_acts_grow(comparison, palette, figures),
        section("All networks", parts.rows_table(comparison, choices)),
        parts.reading_section(),
        parts.notes_section(comparison),
        parts.conditions_section(comparison.conditions, batch_size=comparison.batch_size),
    ]


class Figures:
    """Turn figures into HTML; the first brings plotly's script along, inline.

    Example:
        >>> Figures().written
        0
    """

    def __init__(self) -> None:
        self.written = 0

    def html(self, figure: Any, *, width: int) -> str:
        """Return a figure that a window narrower than its least width (px) scrolls sideways."""
        first, self.written = self.written == 0, self.written + 1
        text: str = figure.to_html(
            full_html=False,
            include_plotlyjs=first,
            div_id=f"figure-{self.written}",
            config={"displaylogo": False, "responsive": True, "displayModeBar": False},
        )
        return f'<div class="scroll"><div style="min-width:{width}px">{text}</div></div>'


def _what_to_build(
    comparison: Comparison, choices: Sequence[Choice], palette: Palette, figures: Figures
) -> list[str]:
    if not choices:
        said = "No latency budget is given, so that nothing is recommended."
        return [section("What to build", tag("p", said, classes="lead"))]
    frame = decision_frame(comparison, choices)
    ringed = (
        f"The recommended network (ringed) has the most flops inside the budget; {STAND_IN} "
        "until accuracies are measured or predicted. "
        if any(choice.feasible for choice in choices)
        else ""
    )
    said = f"{ringed}What lies in the grey part takes too long."
    if not len(frame):  # by predicted latencies
        return [parts.cards(choices, comparison)]
    return [
        parts.cards(choices, comparison),
        section(
            "Flops inside the budget",
            tag("p", said),
            figures.html(decision_figure(frame, palette), width=_PANEL_PX * min(2, len(choices))),
        ),
    ]


def _what_predicts(comparison: Comparison, palette: Palette, figures: Figures) -> list[str]:
    title, said = "Which metric predicts latency", prediction_sentence(comparison)
    if not comparison.measured:
        return [section(title, tag("p", said, classes="lead"))]
    figure = latency_figure(latency_frame(comparison), comparison.correlation, palette)
    legend = "Bars reach from the first to the third quartile. Both axes are logarithmic."
    return [
        section(
            title,
            tag("p", said, classes="lead"),
            figures.html(figure, width=_PANEL_PX * len(METRICS)),
            tag("p", legend),
            parts.correlation_section_table(comparison),
        )
    ]


def _how_acts_grow(comparison: Comparison, palette: Palette, figures: Figures) -> list[str]:
    frame = growth_frame(comparison)
    if not len(frame):
        return []
    ratios = [float(ratio) for ratio in frame["flops_ratio"] if ratio and ratio > 0]
    if not ratios:
        return []
    known = [s for s in comparison.strategies if s.name in palette.strategies]
    lowest, highest = min(1.0, *ratios), max(1.0, *ratios)
    laws = law_frame(known, lowest=lowest, highest=highest)
    said = (
        "Lines are the laws for plain convolutions; marks are the networks as built. "
        "The fewer acts for the flops, the less memory is moved."
    )
    return [
        section(
            "How activations grow with flops",
            tag("p", said),
            figures.html(growth_figure(frame, laws, palette), width=3 * _PANEL_PX // 2),
        )
    ]

"""The exponents that a network shows, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from convscale.quantities import format_resolution
from convscale.report.layout import add_row, noted, table_of, titled

if TYPE_CHECKING:
    from convscale.study.laws import Exponent, NetworkLaws

_LEAST = 0.005  # causes smaller than that are left out


def laws_table(found: NetworkLaws) -> RenderableType:
    """Show the exponents by the law, as fitted, and what the difference comes from.

    Example:
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.study.laws import Exponent, Law, NetworkLaws
        >>> acts = Exponent(0.5, 0.52, causes=(("stem", 0.02),))
        >>> law = Law("w", Exponent(1, 1), Exponent(1, 1), acts)
        >>> plain_lines(laws_table(NetworkLaws("net", 224, (2.0,), (law,), ())))[-1]
        'w acts 0.5 0.520 +0.020 stem +0.020'
    """
    table = table_of("strategy", "metric", "law<", "fitted<", "off by<", "causes")
    for law in found.laws:
        for metric in ("flops", "params", "acts"):
            exponent: Exponent = getattr(law, metric)
            add_row(table, law.strategy, metric, *_cells(exponent))
    factors = ", ".join(f"{factor:g}" for factor in found.factors)
    title = f"{found.network} at {format_resolution(found.resolution)} px, s = {factors}"
    said = "Flops grow as a power of s, params and acts as powers of the flops."
    return Group(titled(f"{title}. {said}", table), *noted(found.notes))


def _cells(exponent: Exponent) -> tuple[str, str, str, str]:
    causes = [f"{name} {part:+.3f}" for name, part in exponent.causes if abs(part) >= _LEAST]
    off = f"{exponent.deviation:+.3f}"
    return f"{exponent.theory:.3g}", f"{exponent.fitted:.3f}", off, ", ".join(causes)

"""`convscale select`: the best scaled network under any constraints, or one of a table, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.gathered import gathered
from convscale.cli.progress import progress
from convscale.cli.select_options import (
    Budgets,
    Columns,
    Errors,
    Limits,
    Measuring,
    Networks,
    Output,
    Searched,
    Steps,
    Times,
    Training,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convscale.study.asked import SelectOptions
    from convscale.study.network_series import NetworkSeries
    from convscale.study.zoo_selection import ZooSelection

    Chosen = ZooSelection | NetworkSeries


@gathered
def select(
    *,
    networks: Networks = None,
    errors: Errors,
    limits: Limits,
    budgets: Budgets = None,
    times: Times,
    columns: Columns,
    steps: Steps,
    training: Training,
    searched: Searched,
    measuring: Measuring,
    output: Output,
    json: options.Json = False,
) -> Answer:
    """Choose the best scaled network, or one of a table, under any constraints, and say why.

    Example:
        >>> select()
        Traceback (most recent call last):
        convscale.errors.InputError: Nothing to choose from was given. Name the networks whose ...
    """
    asked: SelectOptions = {
        "limits": limits.read(),
        "columns": columns.read(),
        **times.read(),
        **errors.read(),
        **steps.read(),
    }
    file, drawing = output.paths
    asked |= {**training.read(), **searched.read(), **measuring.read()}
    found = _chosen(networks or None, budgets, asked)
    _write(found, file, drawing)
    if json:
        return found.as_document()
    written = [f"Written: {path}" for path in (file, drawing) if path is not None]
    return [*_parts(found), *written]


def _chosen(networks: list[str] | None, budgets: str | None, asked: SelectOptions) -> Chosen:
    """Choose a network, or a series of them where there are budgets."""
    from convscale.study.selecting import select as select_networks
    from convscale.study.selecting import select_series

    title = "Searching" if networks else "Counting"
    with progress(title if asked["measure"] is None else f"{title} and measuring") as report:
        asked["progress"] = report
        if budgets is None:
            return select_networks(networks, **asked)
        return select_series(networks, budgets=budgets, **asked)


def _write(found: Chosen, file: Path | None, drawing: Path | None) -> None:
    """Write the table and the figure, where they were asked for."""
    if file is not None:
        from convscale.files import write_whole

        write_whole(file, found.frame().to_csv(index=False, lineterminator="\n"))
    if drawing is not None:
        from convscale.report.selection_plot import write_selection_plot
        from convscale.report.series_plot import write_series_plot
        from convscale.study.zoo_selection import ZooSelection

        if isinstance(found, ZooSelection):
            write_selection_plot(found, drawing)
        else:
            write_series_plot(found, drawing)


def _parts(found: Chosen) -> list[RenderableType]:
    """Return what the terminal shows."""
    from convscale.report.selecting import selection_parts
    from convscale.report.series import series_parts
    from convscale.study.zoo_selection import ZooSelection

    return selection_parts(found) if isinstance(found, ZooSelection) else series_parts(found)

"""`convscale count`: flops, params and acts of a network, and where they sit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number, report_file, whole_number
from convscale.complexity.views import Operators, check_view
from convscale.errors import InputError
from convscale.input_sizes import parse_input_sizes
from convscale.quantities import parse_resolution

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convscale.complexity.complexity import Count


@dataclass(frozen=True)
class Wish:
    """What is asked for beside the count: a view, and files to write.

    Example:
        >>> Wish(view="kind").any, Wish().any
        (True, False)
    """

    view: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    csv: Path | None = None
    plot: Path | None = None

    @property
    def any(self) -> bool:
        """Whether operators must be recorded."""
        return self != Wish()

    @property
    def stages(self) -> bool:
        """Whether stages must be found."""
        return self.view == "stage" or self.plot is not None


def count(
    network: options.Network,
    resolution: options.Resolution = None,
    convention: options.CountConvention = "default",
    layers: options.Layers = False,
    by: options.By = None,
    csv: options.Csv = None,
    plot: options.Plot = None,
    dtype: options.ViewDtype = None,
    batch_size: options.ViewBatchSize = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    input_size: options.InputSizes = None,
    json: options.Json = False,
) -> Answer:
    """Count the flops (multiply-adds), params and acts of a network.

    Example:
        >>> count("resnet50", json=True)["flops"]
        4089184256
    """
    side = None if resolution is None else parse_resolution(resolution)
    inputs = parse_input_sizes(input_size)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    wish = _wish(by, csv, plot, dtype, batch_size)
    known = {
        "resolution": side,
        "num_classes": classes,
        "in_chans": channels,
        "example_inputs": inputs,
    }
    found, shown = _counted(network, convention, known, layers=layers, json=json)
    first = "default" if convention == "all" else convention
    parts = _recorded(network, wish, {**known, "convention": first}) if wish.any else None
    if isinstance(shown, dict):
        return {**shown, **_documents(parts, wish)}
    if parts is None:
        return shown
    new = tuple(note for note in parts.notes if note not in found.notes)
    return [*shown, *_tables(replace(parts, notes=new), wish)]


def _counted(
    network: str, convention: str, known: dict[str, Any], *, layers: bool, json: bool
) -> tuple[Count, Answer]:
    """Count in a convention, or in all: the first count, and what is shown of them."""
    from convscale.complexity.conventions import CONVENTIONS
    from convscale.report import conventions, tables
    from convscale.scaling import count as count_network
    from convscale.scaling import count_conventions

    if convention not in (*CONVENTIONS, "all"):
        known_names = ", ".join(CONVENTIONS)
        raise InputError(f"Unknown convention {convention!r}. Use {known_names} or all.")
    if convention == "all":
        every = count_conventions(network, **known)
        first = next(iter(every.values()))
        if json:
            return first, conventions.conventions_document(every, layers=layers)
        return first, [conventions.conventions_table(every, layers=layers)]
    found = count_network(network, convention=convention, **known)
    if json:
        return found, found.as_document(layers=layers)
    return found, [tables.count_table(found, layers=layers)]


def _wish(
    by: str | None, csv: str | None, plot: str | None, dtype: str | None, batch_size: str | None
) -> Wish:
    """Read the options of views; what cannot be written is refused before anything is counted."""
    drawn = None if plot is None else report_file(plot, example="--plot resnet50.html")
    if drawn is not None:
        from convscale.report.exports import plot_form

        plot_form(drawn)
    return Wish(
        view=None if by is None else check_view(by),
        dtype=dtype,
        batch_size=None if batch_size is None else whole_number(batch_size, what="batch size"),
        csv=None if csv is None else report_file(csv, example="--csv resnet50.csv"),
        plot=drawn,
    )


def _recorded(network: str, wish: Wish, known: dict[str, Any]) -> Operators:
    """Record the operators, and write the files that are asked for."""
    from convscale.report.exports import write_csv, write_plot
    from convscale.scaling import operators

    found = operators(
        network,
        dtype=wish.dtype or "float32",
        batch_size=wish.batch_size or 1,
        stages=wish.stages,
        **known,
    )
    if wish.csv is not None:
        write_csv(found, wish.view or "total", wish.csv)
    if wish.plot is not None:
        write_plot(found, wish.plot)
    return found


def _documents(found: Operators | None, wish: Wish) -> dict[str, object]:
    if found is None:
        return {}
    return {**found.moved_document(), **found.as_document(wish.view or "total")}


def _tables(found: Operators, wish: Wish) -> list[RenderableType]:
    from convscale.report.views import moved_table, view_table

    shown: list[RenderableType] = []
    if wish.view not in (None, "total"):
        shown.append(view_table(found, str(wish.view)))
    else:
        shown.append(moved_table(found))
    written = (("Table", wish.csv), ("Plot", wish.plot))
    return [*shown, *(f"{what}: {path}" for what, path in written if path is not None)]

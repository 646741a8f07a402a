"""`convscale select`: the best scaled network under any constraints, or one of a table, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.plan import whole_images
from convscale.cli.progress import progress
from convscale.cli.values import (
    listed,
    optional_whole_number,
    report_file,
    share,
    time_limits,
    watts,
    whole_number,
)
from convscale.errors import InputError
from convscale.quantities import parse_number, parse_resolution

if TYPE_CHECKING:
    from convscale.selection.constraints import Constraint
    from convscale.selection.zoo import ZooColumns
    from convscale.study.zoo_selection import ZooSelection

_LIMITS, _COLUMNS = "Constraints (any of them)", "Columns of the table"
_SEARCH, _TRAINING = "What is searched", "The training that is limited"

Networks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NETWORK]...",
        help="Whose scaled versions are the candidates; none where a table has the candidates.",
        show_default=False,
    ),
]
Table = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="CSV: a network a line, named as for count: candidates, or trials for --law.",
    ),
]
Error = Annotated[
    str | None,
    typer.Option(
        "--error",
        metavar="COLUMN",
        help="Holds the errors; without it flops stand in for accuracy.",
    ),
]
Law = Annotated[
    bool,
    typer.Option(
        "--law",
        metavar="",
        help="Fit e0 + b*acts^-c to the errors of each series, and choose by it.",
    ),
]
Uncertainty = Annotated[
    str | None,
    typer.Option(
        "--uncertainty",
        metavar="NUMBER",
        help="Errors that differ by less are equal, and the cheaper wins; of flops a share (5%).",
    ),
]
Confidence = Annotated[
    str | None,
    typer.Option(
        "--confidence", metavar="SHARE", help="Probability that predicted times are kept: 0.9."
    ),
]
Cost = Annotated[
    str | None,
    typer.Option("--cost", metavar="QUANTITY", help="What tells the cheaper; by default latency."),
]


def _limit(name: str, metavar: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=_LIMITS
    )
    return info


def _column(name: str, metavar: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=_COLUMNS
    )
    return info


def _searched(name: str, metavar: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=_SEARCH
    )
    return info


def _trained(name: str, metavar: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=_TRAINING
    )
    return info


Strategies = Annotated[
    str | None, _searched("--strategies", "LIST", "Those that are tried; all by default: w,dWr.")
]
Exponents = Annotated[
    str | None,
    _searched(
        "--exponents",
        "on|off",
        "Whether exponents between them are tried; on without --strategies.",
    ),
]
Candidates = Annotated[
    str | None, _searched("--candidates", "N", "The most that are tried from a network.")
]
FactorRange = Annotated[
    str | None, _searched("--factors", "RANGE", "Of scale factors: 0.25..8, 1.. or ..8.")
]
BaseSide = Annotated[
    str | None, _searched("--resolution", "PX", "Of the networks before they are scaled.")
]
RoundingRule = Annotated[
    str | None,
    _searched("--rounding", "RULE", "As of scale; of paper families reference by default."),
]
TrainProfile = Annotated[
    str | None,
    _trained("--train-profile", "NAME|FILE", "A profile of training: predicts its time."),
]
Images = Annotated[str | None, _trained("--images", "NUMBER", "Of one epoch, such as 1.28M.")]
Epochs = Annotated[str | None, _trained("--epochs", "N", "How often all images are seen.")]
Devices = Annotated[str | None, _trained("--devices", "N", "That train together; 1 by default.")]
TrainBatch = Annotated[
    str | None, _trained("--train-batch-size", "N", "Images on each device in a step; 256.")
]
Efficiency = Annotated[
    str | None, _trained("--efficiency", "SHARE", "Left of a device's speed beside others.")
]
Power = Annotated[
    str | None, _trained("--power", "WATTS", "Of each device, such as 300W: for --energy.")
]
Flops = Annotated[str | None, _limit("--flops", "NUMBER", "At most, such as 4G.")]
Params = Annotated[str | None, _limit("--params", "NUMBER", "At most, such as 40M.")]
Acts = Annotated[str | None, _limit("--acts", "NUMBER", "At most, such as 12M.")]
Latency = Annotated[str | None, _limit("--latency", "TIME", "At most, such as 5ms, for a batch.")]
Throughput = Annotated[str | None, _limit("--throughput", "RATE", "At least: images a second.")]
Memory = Annotated[str | None, _limit("--memory", "SIZE", "Of inference, at most: 2GB.")]
TrainingMemory = Annotated[
    str | None, _limit("--training-memory", "SIZE", "Of a step of training, at most: 8GB.")
]
TrainHours = Annotated[
    str | None, _limit("--train-hours", "TIME", "At most: 24, 90min; predicted, or of a column.")
]
Energy = Annotated[
    str | None, _limit("--energy", "ENERGY", "At most: 12kWh; of a training, or of a column.")
]
Download = Annotated[
    str | None, _limit("--download", "SIZE", "Of the weights in --dtype, at most: 50MB.")
]
Sides = Annotated[
    str | None, _limit("--resolution-range", "RANGE", "In px: 160..320, 160.. or ..320.")
]
Multiple = Annotated[
    str | None, _limit("--width-multiple", "N", "All widths of feature maps are multiples of it.")
]
ModelColumn = Annotated[
    str | None,
    _column("--model-column", "COLUMN", "The networks; by default model, network, name."),
]
SideColumn = Annotated[
    str | None,
    _column("--resolution-column", "COLUMN", "Input sides; by default resolution, img_size."),
]
SeriesColumn = Annotated[
    str | None,
    _column(
        "--series-column", "COLUMN", "Series of networks; by default series, strategy, family."
    ),
]
LatencyColumn = Annotated[
    str | None,
    _column("--latency-column", "COLUMN[:UNIT]", "Latencies, in ms, or in s by COLUMN:s."),
]
Columns = Annotated[
    list[str] | None,
    _column(
        "--column", "QUANTITY=COLUMN[:UNIT]", "Any other: params=param_count:M; may be repeated."
    ),
]
WeightsDtype = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="Of the weights, for --download.")
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write a line a candidate.")]
Plot = Annotated[
    str | None,
    typer.Option("--plot", metavar="FILE", help="Draw cost and error: .html, .png, .svg or .pdf."),
]
Budgets = Annotated[
    str | None,
    typer.Option(
        "--budgets",
        metavar="LIST",
        help="One series with a network a budget: 2ms,5ms,12ms, or flops=1G,2G,4G.",
        rich_help_panel=_LIMITS,
    ),
]
_MEASURING = "Finalists that are measured"


def _measured(name: str, metavar: str, help_text: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=_MEASURING
    )
    return info


MeasureCount = Annotated[
    str | None,
    _measured("--measure", "N", "Measure the best N on this machine, and decide by that."),
]
Device = Annotated[
    str | None, _measured("--device", "DEVICE", "Where to measure: cpu (the default), cuda, mps.")
]
Threads = Annotated[str | None, _measured("--threads", "N", "Threads on the CPU; one.")]
Repeats = Annotated[str | None, _measured("--repeats", "N", "Rounds over all of them; 15.")]
TimeLimit = Annotated[
    str | None, _measured("--time-limit", "TIME", "Stop measuring after this time; 75s.")
]


def select(
    networks: Networks = None,
    table: Table = None,
    error: Error = None,
    law: Law = False,
    uncertainty: Uncertainty = None,
    flops: Flops = None,
    params: Params = None,
    acts: Acts = None,
    latency: Latency = None,
    throughput: Throughput = None,
    memory: Memory = None,
    training_memory: TrainingMemory = None,
    train_hours: TrainHours = None,
    energy: Energy = None,
    download: Download = None,
    resolution_range: Sides = None,
    width_multiple: Multiple = None,
    budgets: Budgets = None,
    profile: options.Profile = None,
    batch_size: options.BatchSize = "1",
    confidence: Confidence = None,
    cost: Cost = None,
    model_column: ModelColumn = None,
    resolution_column: SideColumn = None,
    series_column: SeriesColumn = None,
    latency_column: LatencyColumn = None,
    column: Columns = None,
    dtype: WeightsDtype = "float32",
    optimizer: options.Optimizer = "sgd",
    precision: options.StepPrecision = None,
    train_profile: TrainProfile = None,
    images: Images = None,
    epochs: Epochs = None,
    devices: Devices = None,
    train_batch_size: TrainBatch = None,
    efficiency: Efficiency = None,
    power: Power = None,
    strategies: Strategies = None,
    exponents: Exponents = None,
    candidates: Candidates = None,
    factors: FactorRange = None,
    resolution: BaseSide = None,
    rounding: RoundingRule = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    measure: MeasureCount = None,
    device: Device = None,
    threads: Threads = None,
    repeats: Repeats = None,
    time_limit: TimeLimit = None,
    csv: Csv = None,
    plot: Plot = None,
    json: options.Json = False,
) -> Answer:
    """Choose the best scaled network, or one of a table, under any constraints, and say why.

    Example:
        >>> select()
        Traceback (most recent call last):
        convscale.errors.InputError: Nothing to choose from was given. Name the networks whose ...
    """
    limits = _limits(
        latency_ms=latency,
        images_per_second=throughput,
        flops=flops,
        params=params,
        acts=acts,
        memory_bytes=memory,
        training_memory_bytes=training_memory,
        download_bytes=download,
        training_h=train_hours,
        energy_kwh=energy,
        resolution_px=resolution_range,
        width_multiple=width_multiple,
    )
    columns = _columns(model_column, resolution_column, series_column, latency_column, column or [])
    batch = whole_number(batch_size, what="batch size")
    level = None if confidence is None else share(confidence, what="confidence")
    equal = _uncertainty(uncertainty, flops=error is None)
    file, drawing = _files(csv, plot)
    training = _training(images, epochs, devices, train_batch_size, efficiency, power)
    space = _space(strategies, exponents, candidates, factors, resolution, num_classes, in_chans)

    asked: dict[str, Any] = {
        "table": table,
        "limits": limits,
        "error": error,
        "law": law,
        "uncertainty": equal,
        "profile": profile,
        "batch_size": batch,
        "confidence": level,
        "cost": cost,
        "columns": columns,
        "dtype": dtype,
        "optimizer": optimizer,
        "precision": precision,
        "train_profile": train_profile,
        "rounding": rounding,
        **training,
        **space,
        "measure": optional_whole_number(measure, what="number of finalists"),
        "device": device,
        "threads": optional_whole_number(threads, what="number of threads"),
        **time_limits(repeats, time_limit, repeats_as="rounds"),
    }
    if budgets is not None:
        return _series(networks, budgets, asked, file, drawing, json=json)

    from convscale.study.selecting import select as select_networks

    title = "Searching" if networks else "Counting"
    with progress(title if measure is None else f"{title} and measuring") as report:
        found = select_networks(networks or None, **asked, progress=report)
    return _answer(found, file, drawing, json=json)


def _series(
    networks: list[str] | None,
    budgets: str,
    asked: dict[str, Any],
    file: Path | None,
    drawing: Path | None,
    *,
    json: bool,
) -> Answer:
    """Choose a network for each budget, and show the series."""
    from convscale.study.selecting import select_series

    title = "Searching" if networks else "Counting"
    with progress(title if asked["measure"] is None else f"{title} and measuring") as report:
        found = select_series(networks or None, budgets=budgets, **asked, progress=report)
    if file is not None:
        from convscale.files import write_whole

        write_whole(file, found.frame().to_csv(index=False, lineterminator="\n"))
    if drawing is not None:
        from convscale.report.series_plot import write_series_plot

        write_series_plot(found, drawing)
    if json:
        return found.as_document()

    from convscale.report.series import series_parts

    written = [f"Written: {path}" for path in (file, drawing) if path is not None]
    return [*series_parts(found), *written]


def _training(
    images: str | None,
    epochs: str | None,
    devices: str | None,
    batch_size: str | None,
    efficiency: str | None,
    power: str | None,
) -> dict[str, Any]:
    """Return what describes the training whose time and energy are limited."""
    return {
        "images": None if images is None else whole_images(images),
        "epochs": optional_whole_number(epochs, what="number of epochs"),
        "devices": optional_whole_number(devices, what="number of devices"),
        "train_batch_size": optional_whole_number(batch_size, what="batch size"),
        "efficiency": None if efficiency is None else share(efficiency, what="efficiency"),
        "power_w": None if power is None else watts(power),
    }


def _space(
    strategies: str | None,
    exponents: str | None,
    candidates: str | None,
    factors: str | None,
    resolution: str | None,
    num_classes: str | None,
    in_chans: str | None,
) -> dict[str, Any]:
    """Return which scaled versions are candidates.

    Raises:
        InputError: If something of it cannot be read.
    """
    from convscale.study.space import parse_factors

    if exponents not in (None, "on", "off"):
        raise InputError(f"--exponents is {exponents!r}. Write on or off.")
    names = None
    if strategies is not None:
        names = listed(strategies, what="strategies", example="w,dWr")
    return {
        "strategies": names,
        "exponents": None if exponents is None else exponents == "on",
        "candidates": optional_whole_number(candidates, what="number of candidates"),
        "factors": None if factors is None else parse_factors(factors),
        "resolution": None if resolution is None else parse_resolution(resolution),
        "num_classes": optional_whole_number(num_classes, what="number of classes"),
        "in_chans": optional_whole_number(in_chans, what="number of input channels"),
    }


def _limits(**given: str | None) -> list[Constraint]:
    """Return the constraints that were given, by the names of their quantities."""
    from convscale.selection.constraints import Constraint, Sense, parse_range
    from convscale.selection.metrics import metric

    found: list[Constraint] = []
    for name, text in given.items():
        own = metric(name)
        if text is None:
            continue
        if name == "resolution_px":
            found += parse_range(text, name)
        else:
            sense: Sense = "%" if name == "width_multiple" else ">=" if own.at_least else "<="
            found.append(Constraint(name, own.read(text), sense))
    return found


def _columns(
    model: str | None,
    resolution: str | None,
    series: str | None,
    latency: str | None,
    others: list[str],
) -> ZooColumns:
    """Return which columns hold what.

    Raises:
        InputError: If a quantity is in two of them.
    """
    from convscale.selection.zoo import ZooColumns, parse_column

    found = [parse_column(text) for text in others]
    if latency is not None:
        found.append(parse_column(latency, on="latency_ms"))
    names = [one.on for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two columns were named for {twice}. Name one.")
    return ZooColumns(model, resolution, series, None, tuple(found))


def _uncertainty(text: str | None, *, flops: bool) -> float | None:
    if text is None or text.strip() == "0":
        return None if text is None else 0.0
    return share(text, what="uncertainty") if flops else parse_number(text, what="uncertainty")


def _files(csv: str | None, plot: str | None) -> tuple[Path | None, Path | None]:
    """Return where to write, before minutes are spent on what is to be written."""
    drawing = None if plot is None else report_file(plot, example="--plot front.html")
    if drawing is not None:
        from convscale.report.exports import plot_form

        plot_form(drawing)
    return None if csv is None else report_file(csv, example="--csv candidates.csv"), drawing


def _answer(found: ZooSelection, file: Path | None, drawing: Path | None, *, json: bool) -> Answer:
    if file is not None:
        from convscale.files import write_whole

        write_whole(file, found.frame().to_csv(index=False, lineterminator="\n"))
    if drawing is not None:
        from convscale.report.selection_plot import write_selection_plot

        write_selection_plot(found, drawing)
    if json:
        return found.as_document()

    from convscale.report.selecting import selection_parts

    written = [f"Written: {path}" for path in (file, drawing) if path is not None]
    return [*selection_parts(found), *written]

"""The options of `convscale select`, in groups: as the parser takes them, read to what they say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscale.cli import options
from convscale.cli.plan import whole_images
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
    from convscale.study.asked import SelectOptions

_LIMITS, _COLUMNS = "Constraints (any of them)", "Columns of the table"
_SEARCH, _TRAINING = "What is searched", "The training that is limited"
_MEASURING = "Finalists that are measured"

Text = str | None


def _option(
    name: str, metavar: str, help_text: str, panel: str | None = None
) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_text, rich_help_panel=panel
    )
    return info


_limit, _column, _searched, _trained, _measured = (
    partial(_option, panel=panel) for panel in (_LIMITS, _COLUMNS, _SEARCH, _TRAINING, _MEASURING)
)

Networks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NETWORK]...",
        help="Whose scaled versions are the candidates; none where a table has the candidates.",
        show_default=False,
    ),
]
Budgets = Annotated[
    Text,
    _limit(
        "--budgets",
        "LIST",
        "One series with a network a budget: 2ms,5ms,12ms, or flops=1G,2G,4G.",
    ),
]


@dataclass(frozen=True)
class Errors:
    """What the errors of the candidates are.

    Example:
        >>> Errors(uncertainty="5%").read()["uncertainty"]
        0.05
    """

    table: Annotated[
        Text,
        _option(
            "--table",
            "FILE",
            "CSV: a network a line, named as for count: candidates, or trials for --law.",
        ),
    ] = None
    error: Annotated[
        Text,
        _option("--error", "COLUMN", "Holds the errors; without it flops stand in for accuracy."),
    ] = None
    law: Annotated[
        bool,
        _option("--law", "", "Fit e0 + b*acts^-c to the errors of each series, and choose by it."),
    ] = False
    uncertainty: Annotated[
        Text,
        _option(
            "--uncertainty",
            "NUMBER",
            "Errors that differ by less are equal, and the cheaper wins; of flops a share (5%).",
        ),
    ] = None

    def read(self) -> SelectOptions:
        """Return what the library takes."""
        return {
            "table": self.table,
            "error": self.error,
            "law": self.law,
            "uncertainty": self._least_difference(),
        }

    def _least_difference(self) -> float | None:
        text = self.uncertainty
        if text is None or text.strip() == "0":
            return None if text is None else 0.0
        if self.error is None:
            return share(text, what="uncertainty")
        if text.strip().endswith("%"):
            raise InputError(
                f"Cannot read {text!r} as an uncertainty of {self.error}. Write it in the unit of "
                "that column, as in 0.1."
            )
        return parse_number(text, what="uncertainty")


@dataclass(frozen=True)
class Limits:
    """The constraints; each field but the last two is a quantity of `convscale.selection.metrics`.

    Example:
        >>> [str(one.limit) for one in Limits(flops="4G", resolution_px="160..320").read()]
        ['4000000000.0', '160.0', '320.0']
    """

    flops: Annotated[Text, _limit("--flops", "NUMBER", "At most, such as 4G.")] = None
    params: Annotated[Text, _limit("--params", "NUMBER", "At most, such as 40M.")] = None
    acts: Annotated[Text, _limit("--acts", "NUMBER", "At most, such as 12M.")] = None
    latency_ms: Annotated[
        Text, _limit("--latency", "TIME", "At most, such as 5ms, for a batch.")
    ] = None
    images_per_second: Annotated[
        Text, _limit("--throughput", "RATE", "At least: images a second.")
    ] = None
    memory_bytes: Annotated[Text, _limit("--memory", "SIZE", "Of inference, at most: 2GB.")] = None
    training_memory_bytes: Annotated[
        Text, _limit("--training-memory", "SIZE", "Of a step of training, at most: 8GB.")
    ] = None
    training_h: Annotated[
        Text,
        _limit("--train-hours", "TIME", "At most: 24, 90min; predicted, or of a column."),
    ] = None
    energy_kwh: Annotated[
        Text, _limit("--energy", "ENERGY", "At most: 12kWh; of a training, or of a column.")
    ] = None
    download_bytes: Annotated[
        Text, _limit("--download", "SIZE", "Of the weights in --dtype, at most: 50MB.")
    ] = None
    resolution_px: Annotated[
        Text, _limit("--resolution-range", "RANGE", "In px: 160..320, 160.. or ..320.")
    ] = None
    width_multiple: Annotated[
        Text,
        _limit("--width-multiple", "N", "All widths of feature maps are multiples of it."),
    ] = None

    def read(self) -> list[Constraint]:
        """Return the constraints that were given.

        Raises:
            InputError: If one cannot be read.
        """
        from convscale.selection.constraints import Constraint, Sense, parse_range
        from convscale.selection.metrics import metric

        found: list[Constraint] = []
        for name, text in asdict(self).items():
            own = metric(name)
            if text is None:
                continue
            if name == "resolution_px":
                found += parse_range(text, name)
            else:
                sense: Sense = "%" if name == "width_multiple" else ">=" if own.at_least else "<="
                found.append(Constraint(name, own.read(text), sense))
        return found


@dataclass(frozen=True)
class Times:
    """What predicts times, and what tells the cheaper.

    Example:
        >>> Times(batch_size="64", confidence="0.9").read()["confidence"]
        0.9
    """

    profile: options.Profile = None
    batch_size: options.BatchSize = "1"
    confidence: Annotated[
        Text, _option("--confidence", "SHARE", "Probability that predicted times are kept: 0.9.")
    ] = None
    cost: Annotated[
        Text, _option("--cost", "QUANTITY", "What tells the cheaper; by default latency.")
    ] = None

    def read(self) -> SelectOptions:
        """Return what the library takes."""
        return {
            "profile": self.profile,
            "batch_size": whole_number(self.batch_size, what="batch size"),
            "confidence": None if self.confidence is None else _probability(self.confidence),
            "cost": self.cost,
        }


def _probability(text: str) -> float:
    """Read a confidence, as a share or in per cent."""
    from convscale.selection.confidence import check_confidence

    given = text.strip()
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        raise InputError(f"Cannot read {text!r} as a confidence. Write 0.9 or 90%.") from None
    return check_confidence(value)


@dataclass(frozen=True)
class Columns:
    """Which columns of the table hold what.

    Example:
        >>> Columns(latency_column="time:s").read().quantities[0].on
        'latency_ms'
    """

    model_column: Annotated[
        Text,
        _column("--model-column", "COLUMN", "The networks; by default model, network, name."),
    ] = None
    resolution_column: Annotated[
        Text,
        _column("--resolution-column", "COLUMN", "Input sides; by default resolution, img_size."),
    ] = None
    series_column: Annotated[
        Text,
        _column(
            "--series-column", "COLUMN", "Series of networks; by default series, strategy, family."
        ),
    ] = None
    latency_column: Annotated[
        Text,
        _column("--latency-column", "COLUMN[:UNIT]", "Latencies, in ms, or in s by COLUMN:s."),
    ] = None
    column: Annotated[
        list[str] | None,
        _column(
            "--column",
            "QUANTITY=COLUMN[:UNIT]",
            "Any other: params=param_count:M; may be repeated.",
        ),
    ] = None

    def read(self) -> ZooColumns:
        """Return what the library takes.

        Raises:
            InputError: If a quantity is in two of them.
        """
        from convscale.selection.zoo import ZooColumns, check_once, parse_column

        found = [parse_column(text) for text in self.column or []]
        if self.latency_column is not None:
            found.append(parse_column(self.latency_column, on="latency_ms"))
        check_once(found)
        return ZooColumns(
            self.model_column, self.resolution_column, self.series_column, None, tuple(found)
        )


@dataclass(frozen=True)
class Steps:
    """Weights, and the step of training whose memory is limited.

    Example:
        >>> Steps().read()["dtype"]
        'float32'
    """

    dtype: Annotated[str, _option("--dtype", "DTYPE", "Of the weights, for --download.")] = (
        "float32"
    )
    optimizer: options.Optimizer = "sgd"
    precision: options.StepPrecision = None

    def read(self) -> SelectOptions:
        """Return what the library takes."""
        return {"dtype": self.dtype, "optimizer": self.optimizer, "precision": self.precision}


@dataclass(frozen=True)
class Training:
    """The training whose time and energy are limited.

    Example:
        >>> Training(images="1.28M", epochs="90").read()["images"]
        1280000
    """

    train_profile: Annotated[
        Text, _trained("--train-profile", "NAME|FILE", "A profile of training: predicts its time.")
    ] = None
    images: Annotated[Text, _trained("--images", "NUMBER", "Of one epoch, such as 1.28M.")] = None
    epochs: Annotated[Text, _trained("--epochs", "N", "How often all images are seen.")] = None
    devices: Annotated[Text, _trained("--devices", "N", "That train together; 1 by default.")] = (
        None
    )
    train_batch_size: Annotated[
        Text, _trained("--train-batch-size", "N", "Images on each device in a step; 256.")
    ] = None
    efficiency: Annotated[
        Text, _trained("--efficiency", "SHARE", "Left of a device's speed beside others.")
    ] = None
    power: Annotated[
        Text, _trained("--power", "WATTS", "Of each device, such as 300W: for --energy.")
    ] = None

    def read(self) -> SelectOptions:
        """Return what the library takes."""
        left = self.efficiency
        return {
            "train_profile": self.train_profile,
            "images": None if self.images is None else whole_images(self.images),
            "epochs": optional_whole_number(self.epochs, what="number of epochs"),
            "devices": optional_whole_number(self.devices, what="number of devices"),
            "train_batch_size": optional_whole_number(self.train_batch_size, what="batch size"),
            "efficiency": None if left is None else share(left, what="efficiency"),
            "power_w": None if self.power is None else watts(self.power),
        }


@dataclass(frozen=True)
class Searched:
    """Which scaled versions are candidates.

    Example:
        >>> Searched(strategies="w,dWr", factors="..8").read()["factors"]
        (0.00390625, 8.0)
    """

    strategies: Annotated[
        Text, _searched("--strategies", "LIST", "Those that are tried; all by default: w,dWr.")
    ] = None
    exponents: Annotated[
        Text,
        _searched(
            "--exponents",
            "on|off",
            "Whether exponents between them are tried; on without --strategies.",
        ),
    ] = None
    candidates: Annotated[
        Text, _searched("--candidates", "N", "The most that are tried from a network.")
    ] = None
    factors: Annotated[
        Text, _searched("--factors", "RANGE", "Of scale factors: 0.25..8, 1.. or ..8.")
    ] = None
    resolution: Annotated[
        Text, _searched("--resolution", "PX", "Of the networks before they are scaled.")
    ] = None
    rounding: Annotated[
        Text,
        _searched("--rounding", "RULE", "As of scale; of paper families reference by default."),
    ] = None
    num_classes: options.NumClasses = None
    in_chans: options.InChans = None

    def read(self) -> SelectOptions:
        """Return what the library takes.

        Raises:
            InputError: If something of it cannot be read.
        """
        from convscale.study.space import parse_factors

        between, names, side = self.exponents, self.strategies, self.resolution
        if between not in (None, "on", "off"):
            raise InputError(f"--exponents is {between!r}. Write on or off.")
        return {
            "strategies": None
            if names is None
            else listed(names, what="strategies", example="w,dWr"),
            "exponents": None if between is None else between == "on",
            "candidates": optional_whole_number(self.candidates, what="number of candidates"),
            "factors": None if self.factors is None else parse_factors(self.factors),
            "resolution": None if side is None else parse_resolution(side),
            "rounding": self.rounding,
            "num_classes": optional_whole_number(self.num_classes, what="number of classes"),
            "in_chans": optional_whole_number(self.in_chans, what="number of input channels"),
        }


@dataclass(frozen=True)
class Measuring:
    """How finalists are measured.

    Example:
        >>> Measuring(measure="5", repeats="3").read()["rounds"]
        3
    """

    measure: Annotated[
        Text,
        _measured("--measure", "N", "Measure the best N on this machine, and decide by that."),
    ] = None
    device: Annotated[
        Text, _measured("--device", "DEVICE", "Where to measure: cpu (the default), cuda, mps.")
    ] = None
    threads: Annotated[Text, _measured("--threads", "N", "Threads on the CPU; one.")] = None
    repeats: Annotated[Text, _measured("--repeats", "N", "Rounds over all of them; 15.")] = None
    time_limit: Annotated[
        Text, _measured("--time-limit", "TIME", "Stop measuring after this time; 75s.")
    ] = None

    def read(self) -> SelectOptions:
        """Return what the library takes."""
        found: SelectOptions = {
            "measure": optional_whole_number(self.measure, what="number of finalists"),
            "device": self.device,
            "threads": optional_whole_number(self.threads, what="number of threads"),
        }
        times = time_limits(self.repeats, self.time_limit, repeats_as="rounds")
        return {**found, **times}  # type: ignore[typeddict-item]


@dataclass(frozen=True)
class Output:
    """Where the candidates are written.

    Example:
        >>> Output().paths
        (None, None)
    """

    csv: Annotated[Text, _option("--csv", "FILE", "Write a line a candidate.")] = None
    plot: Annotated[
        Text, _option("--plot", "FILE", "Draw cost and error: .html, .png, .svg or .pdf.")
    ] = None

    @property
    def paths(self) -> tuple[Path | None, Path | None]:
        """The table and the figure, checked before minutes are spent on what is to be written."""
        drawing = None if self.plot is None else report_file(self.plot, example="--plot front.html")
        if drawing is not None:
            from convscale.report.exports import plot_form

            plot_form(drawing)
        table = None if self.csv is None else report_file(self.csv, example="--csv candidates.csv")
        return table, drawing

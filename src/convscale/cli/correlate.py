"""`convscale correlate`: which metric tells the time on the machine at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.progress import progress
from convscale.cli.values import (
    listed,
    optional_whole_number,
    report_file,
    seconds_of,
    whole_number,
    writing,
)
from convscale.errors import InputError
from convscale.quantities import parse_number, parse_resolution
from convscale.strategy import parse_strategy

if TYPE_CHECKING:
    from convscale.study.runtime_study import RuntimeStudy

_STRATEGIES, _FACTORS = "w,d,r,dwr,dWr", "1,2,4,8"

MaybeNetworks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NETWORK",
        help="One or several base networks, as for compare; none with --from.",
        show_default=False,
    ),
]
Factors = Annotated[
    str,
    typer.Option(
        "--factors", metavar="LIST", help="Times the flops; 1 is the base network, measured once."
    ),
]
Rounds = Annotated[
    str, typer.Option("--rounds", metavar="N", help="How often each network is visited.")
]
Passes = Annotated[
    str, typer.Option("--passes", metavar="N", help="Timed passes a visit, after its warm-up.")
]
Limit = Annotated[
    str,
    typer.Option(
        "--time-limit",
        metavar="TIME",
        help="Begin no round that would end after it, beyond the third.",
    ),
]
StudyOut = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FILE", help="Write the study after each visit; go on where it exists."
    ),
]
StudyFrom = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="Show such a study again; measure nothing."),
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write a line a network.")]
Plot = Annotated[
    str | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw time against each metric: .html, .png, .svg or .pdf."
    ),
]


def correlate(
    networks: MaybeNetworks = None,
    strategies: options.Strategies = _STRATEGIES,
    factors: Factors = _FACTORS,
    resolution: options.Resolution = None,
    mode: options.Mode = "inference",
    batch_size: options.BatchSize = "1",
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    channels_last: options.ChannelsLast = False,
    compile: options.Compile = False,
    threads: options.Threads = None,
    backend: options.Backend = "pytorch",
    optimizer: options.Optimizer = "sgd",
    isolate: options.Isolate = False,
    rounds: Rounds = "7",
    passes: Passes = "3",
    time_limit: Limit = "600",
    out: StudyOut = None,
    from_file: StudyFrom = None,
    csv: Csv = None,
    plot: Plot = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Find out which metric tells the time of scaled networks on the machine at hand.

    Example:
        >>> correlate()
        Traceback (most recent call last):
        convscale.errors.InputError: No network was named. Write at least one, or --from FILE.
    """
    table, drawing = _files(csv, plot)
    if from_file is not None:
        if networks:
            raise InputError("A study that is shown again measures nothing. Name no network.")
        from convscale.study.study_file import read_study

        return _answer(read_study(from_file), table, drawing, json=json)
    if not networks:
        raise InputError("No network was named. Write at least one, or --from FILE.")
    names = listed(strategies, what="strategies", example=_STRATEGIES)
    chosen = [parse_strategy(name) for name in names]
    texts = listed(factors, what="factors", example=_FACTORS)
    scales = [parse_number(text, what="factor") for text in texts]
    limit = seconds_of(time_limit, what="time limit")
    visits = whole_number(rounds, what="number of rounds")
    timed = whole_number(passes, what="number of passes")
    batch = whole_number(batch_size, what="batch size")
    cores = optional_whole_number(threads, what="number of threads")
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    file = None if out is None else report_file(out)

    from convscale.study.correlate import correlate as correlate_networks

    with progress("Scaling and measuring") as report:
        found = correlate_networks(
            networks,
            strategies=chosen,
            factors=scales,
            resolution=side,
            rounds=visits,
            passes=timed,
            time_limit_s=limit,
            file=file,
            num_classes=classes,
            in_chans=channels,
            progress=report,
            mode=mode,
            batch_size=batch,
            device=device,
            dtype=dtype,
            channels_last=channels_last,
            compile=compile,
            threads=cores,
            backend=backend,
            optimizer=optimizer,
            isolate=isolate,
        )
    return _answer(found, table, drawing, json=json)


def _files(csv: str | None, plot: str | None) -> tuple[Path | None, Path | None]:
    """Return where to write, before minutes are spent on what is to be written."""
    drawing = None
    if plot is not None:
        from convscale.report.scatter import plot_file

        drawing = plot_file(str(report_file(plot)))
    return None if csv is None else report_file(csv), drawing


def _answer(found: RuntimeStudy, table: Path | None, drawing: Path | None, *, json: bool) -> Answer:
    if table is not None:
        with writing(table):
            table.parent.mkdir(parents=True, exist_ok=True)
            found.as_table().to_csv(table, index=False)
    if drawing is not None:
        _draw(found, drawing)
    if json:
        return found.as_document()

    from convscale.report.correlations import correlations_table

    written = [f"Written: {path}" for path in (table, drawing) if path is not None]
    return [correlations_table(found), *written]


def _draw(found: RuntimeStudy, path: Path) -> None:
    from convscale.report.association import TIME_NAMES, scatter_frame
    from convscale.report.scatter import write_scatter
    from convscale.study.runtime_study import ALL_NETWORKS

    total = found.associations.get(found.time, {}).get(ALL_NETWORKS)
    by = {} if total is None else total.r
    r = {name: None if (one := own["log"]) is None else one.value for name, own in by.items()}
    write_scatter(scatter_frame(found), r, path, time=TIME_NAMES[found.time])

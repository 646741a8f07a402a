"""`convscale eval`: judge the network of a training run."""

from __future__ import annotations

from typing import Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.progress import progress
from convscale.quantities import parse_resolution

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The folder that 'convscale train' wrote.", show_default=False
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="As for 'convscale train'; by default what the network was trained on.",
    ),
]
Side = Annotated[
    str | None,
    typer.Option(
        "--resolution", metavar="PX", help="Input side, or 256x128; by default that of the run."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="NETWORK",
        help="Of networks from a file: path/to/file.py:factory again; runs that file.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Where to run it: cpu, cuda or mps.")
]


def evaluate(
    run: Run,
    data: Data = None,
    resolution: Side = None,
    base: Base = None,
    device: Device = "cpu",
    json: options.Json = False,
) -> Answer:
    """Judge the network of a training run by the validation images of its data, or of others.

    Example:
        >>> evaluate("no such run")
        Traceback (most recent call last):
        convscale.errors.InputError: no such run holds no result.json. Give the folder of a run
        that convscale train wrote, one epoch or more of it.
    """
    side = None if resolution is None else parse_resolution(resolution)

    from convscale.training.judging import judge

    with progress("Judging") as report:
        found = judge(
            run, data=data, base=base, resolution=side, device=device, progress=report
        ).as_document()
    if json:
        return found

    from convscale.report.trained import errors_table

    return [errors_table(found)]

"""`convscale calibrate`: a profile of the device at hand, or of a table of timings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.calibrating import (
    Asked,
    answer,
    check_table_options,
    from_table,
    here,
    refuse_with_table,
    to_time,
)
from convscale.cli.values import (
    listed,
    optional_whole_number,
    report_file,
    seconds_of,
    whole_number,
)
from convscale.errors import InputError

Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The name of the new profile.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FILE.csv", help="Timings in timm's format, in place of timing here."
    ),
]
Adapt = Annotated[
    str | None,
    typer.Option(
        "--adapt",
        metavar="NAME|FILE",
        help="The profile to start from; by default the shipped one that is run most alike. With "
        "--from, a fit of its own without.",
    ),
]
SourceTimings = Annotated[
    str | None,
    typer.Option(
        "--source-timings",
        metavar="FILE.csv",
        help="Timings on the device of the profile to start from: what it misses is known then.",
    ),
]
Networks = Annotated[
    str | None,
    typer.Option(
        "--networks",
        metavar="LIST",
        help="What to time, NAME or NAME@SIDE, separated by commas; by default 20 networks.",
    ),
]
Choose = Annotated[
    str | None,
    typer.Option(
        "--choose", metavar="N", help="Time the N of the networks that tell most about the others."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", metavar="", help="Print what would be timed; time nothing.")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to time: cpu, cuda or mps; by default cpu. Of a table: what it was timed on, "
        "by default a GPU where the dtype is not float32 or the batch is larger than 1.",
    ),
]
Layout = Annotated[
    str,
    typer.Option("--layout", metavar="LAYOUT", help="nchw, or nhwc: with the channels last."),
]
Execute = Annotated[
    str, typer.Option("--mode", metavar="MODE", help="eager, or compiled by torch.compile.")
]
Dtype = Annotated[
    str,
    typer.Option("--dtype", metavar="DTYPE", help="float32, amp (autocast), float16 or bfloat16."),
]
Work = Annotated[
    str | None,
    typer.Option("--work", metavar="WORK", help="inference, or training: a whole step."),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch-size", metavar="N", help="Images in a pass; by default 1, on accelerators 64."
    ),
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="TIME",
        help="Begin no round that would end after it; by default 9min.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FILE", help="Where to write the profile, if not among one's own."
    ),
]
Timings = Annotated[
    str | None,
    typer.Option(
        "--timings", metavar="FILE", help="Keep all passes in a file; go on where it exists."
    ),
]
Csv = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write the times as a table that --from reads."),
]


NoHeldOut = Annotated[
    bool,
    typer.Option(
        "--no-heldout",
        metavar="",
        help="With --from: leave no families out, which takes a fit for each. The profile has no "
        "errors then, and its intervals are too narrow.",
    ),
]


def calibrate(
    name: Name = None,
    from_file: From = None,
    adapt: Adapt = None,
    source_timings: SourceTimings = None,
    networks: Networks = None,
    choose: Choose = None,
    dry_run: DryRun = False,
    device: Device = None,
    dtype: Dtype = "float32",
    layout: Layout = "nchw",
    mode: Execute = "eager",
    work: Work = None,
    batch_size: Batch = None,
    threads: options.Threads = None,
    time_limit: Limit = None,
    timings: Timings = None,
    csv: Csv = None,
    out: Out = None,
    no_heldout: NoHeldOut = False,
    json: options.Json = False,
) -> Answer:
    """Fit a device profile to networks timed here, or to somebody else's table of timings.

    Example:
        >>> calibrate()
        Traceback (most recent call last):
        convscale.errors.InputError: The new profile has no name. Write one: --name mybox.
    """
    if name is None and not dry_run:
        raise InputError("The new profile has no name. Write one: --name mybox.")
    if name is not None:
        from convscale.prediction.store import check_name

        check_name(name)
    asked = Asked(
        name=name or "dry-run",
        run={"dtype": dtype, "layout": layout, "mode": mode, "work": work or "inference"},
        device=device,
        batch_size=optional_whole_number(batch_size, what="batch size"),
        threads=optional_whole_number(threads, what="number of threads"),
        limit_s=seconds_of(time_limit or "9min", what="time limit"),
        timings=None if timings is None else report_file(timings, example="--timings here.json"),
        csv=None if csv is None else report_file(csv, example="--csv here.csv"),
        out=None if out is None else report_file(out, example="--out mybox.json"),
        reference=None if source_timings is None else Path(source_timings),
        held_out=not no_heldout,
    )
    named = listed(networks, what="networks", example="resnet18,resnet50@160") if networks else None
    count = None if choose is None else whole_number(choose, what="number of networks to choose")
    if from_file is not None:
        refuse_with_table(
            {
                "--networks": networks,
                "--choose": choose,
                "--dry-run": dry_run,
                "--timings": timings,
                "--csv": csv,
                "--batch-size": batch_size,
                "--threads": threads,
                "--time-limit": time_limit,
            }
        )
        check_table_options(adapt, source_timings, device, held_out=not no_heldout)
        return answer(from_table(Path(from_file), adapt, work, asked), asked, json=json)
    if no_heldout:
        raise InputError("--no-heldout is for a table of times (--from). Leave it out.")
    sides, source = to_time(asked, adapt, named, count)
    if dry_run:
        texts = [one.text for one in sides]
        return {"schema_version": 1, "network": texts} if json else [*texts]
    return answer(here(sides, source, asked), asked, json=json)

"""`convscale calibrate`: a profile of the device at hand, or of a table of timings."""

from __future__ import annotations

from dataclasses import dataclass
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
)
from convscale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convscale.prediction.execution import Execution
    from convscale.prediction.profile import Condition, Profile
    from convscale.prediction.tables import Table
    from convscale.prediction.timing import Timing
    from convscale.runtime import Setting
    from convscale.study.tabulated import Tabulated
    from convscale.study.timing import Side

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
        help="Begin no round that would end after it; by default 10min.",
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
    asked = _Asked(
        name=name or "dry-run",
        run={"dtype": dtype, "layout": layout, "mode": mode, "work": work or "inference"},
        device=device,
        batch_size=optional_whole_number(batch_size, what="batch size"),
        threads=optional_whole_number(threads, what="number of threads"),
        limit_s=seconds_of(time_limit or "10min", what="time limit"),
        timings=None if timings is None else report_file(timings, example="--timings here.json"),
        csv=None if csv is None else report_file(csv, example="--csv here.csv"),
        out=None if out is None else report_file(out, example="--out mybox.json"),
        reference=None if source_timings is None else Path(source_timings),
        held_out=not no_heldout,
    )
    named = listed(networks, what="networks", example="resnet18,resnet50@160") if networks else None
    count = None if choose is None else whole_number(choose, what="number of networks to choose")
    if from_file is not None:
        _refuse_with_table(
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
        _check_table_options(adapt, source_timings, device, held_out=not no_heldout)
        return _answer(_from_table(Path(from_file), adapt, work, asked), asked, json=json)
    if no_heldout:
        raise InputError("--no-heldout is for a table of times (--from). Leave it out.")
    sides, source = _to_time(asked, adapt, named, count)
    if dry_run:
        texts = [one.text for one in sides]
        return {"schema_version": 1, "network": texts} if json else [*texts]
    return _answer(_here(sides, source, asked), asked, json=json)


@dataclass(frozen=True)
class _Asked:
    """What was asked for, read."""

    name: str
    run: dict[str, str]
    device: str | None
    batch_size: int | None
    threads: int | None
    limit_s: float
    timings: Path | None
    csv: Path | None
    out: Path | None
    reference: Path | None
    held_out: bool

    @property
    def execution(self) -> Execution:
        from convscale.prediction.execution import Execution

        kind = (self.device or "cpu").partition(":")[0]
        return Execution(hardware="cpu" if kind == "cpu" else "gpu", **self.run)

    @property
    def setting(self) -> Setting:
        """Return how networks are run here, or refuse what `measure` does not do."""
        from convscale.runtime import Setting
        from convscale.study.calibrating import with_batch

        run = self.execution
        if run.dtype in ("float16", "bfloat16"):
            raise InputError(
                f"Networks are timed here with their weights in float32, and with the dtype amp "
                f"under autocast; not in {run.dtype} throughout. Write --dtype amp."
            )
        narrow = "bfloat16" if run.hardware == "cpu" else "float16"
        setting = Setting(
            mode=run.work,
            device=self.device or "cpu",
            dtype=narrow if run.dtype == "amp" else None,
            channels_last=run.layout == "nhwc",
            compile=run.mode == "compiled",
            threads=self.threads,
        )
        return with_batch(setting, self.batch_size)


def _refuse_with_table(given: Mapping[str, object]) -> None:
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise InputError(
            f"{' and '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} for networks that are "
            "timed here, and --from reads times of elsewhere. Leave one of them out."
        )


def _check_table_options(
    adapt: str | None, source_timings: str | None, device: str | None, *, held_out: bool
) -> None:
    """Refuse options of a table that would be of no effect."""
    if source_timings is not None and adapt is None:
        raise InputError(
            "--source-timings are of the profile to start from, and none is named. Name it by "
            "--adapt, or leave them out."
        )
    if not held_out and adapt is not None:
        raise InputError(
            "--no-heldout is for a fit of its own, and --adapt starts from another profile. Leave "
            "one of them out."
        )
    kind = None if device is None else device.partition(":")[0]
    if kind not in (None, "cpu", "cuda", "mps"):
        raise InputError(
            f"Unknown device {device!r}. Use cpu, cuda or mps; the name of the profile (--name) "
            "says which."
        )


def _to_time(
    asked: _Asked, adapt: str | None, named: tuple[str, ...] | None, count: int | None
) -> tuple[tuple[Side, ...], Profile]:
    """Return what to time, and the profile to start from."""
    from convscale.study.choosing import choose_networks
    from convscale.study.default_networks import CANDIDATES, DEFAULT_SIDES
    from convscale.study.timing import Side

    setting, source = asked.setting, _source(asked.execution, adapt)
    sides = None if named is None else tuple(map(Side.of, named))
    twice = sorted({text for text in named or () if (named or ()).count(text) > 1})
    if twice:
        raise InputError(f"--networks names {' and '.join(twice)} twice. Name each once.")
    if count is None:
        return sides or DEFAULT_SIDES, source
    assert isinstance(setting.batch_size, int)
    with progress("Choosing networks") as report:
        chosen = choose_networks(
            source,
            asked.execution,
            count,
            batch_size=setting.batch_size,
            candidates=sides or CANDIDATES,
            progress=report,
        )
    return chosen, source


def _source(execution: Execution, adapt: str | None) -> Profile:
    from convscale.prediction.store import profile_of, profiles
    from convscale.study.calibrating import nearest

    if adapt is not None:
        return profile_of(adapt)
    shipped = [one.profile for one in profiles() if one.shipped and one.profile is not None]
    return nearest(execution, shipped)


def _here(sides: tuple[Side, ...], source: Profile, asked: _Asked) -> Profile:
    from convscale.files import write_whole
    from convscale.study.calibrating import calibrate_here, timings_of
    from convscale.study.timed_table import timed_table

    reference = _reference(source, asked)
    setting = asked.setting
    with progress("Timing networks") as report:
        profile, study = calibrate_here(
            asked.name,
            source,
            setting,
            sides=sides,
            time_limit_s=asked.limit_s,
            reference=reference,
            file=asked.timings,
            progress=report,
        )
    if asked.csv is not None:
        params = [one.row.params for one in study.networks if one.passes]
        timed = timings_of(study, sides, setting)
        write_whole(asked.csv, timed_table(timed, params, work=asked.execution.work))
    return profile


def _reference(source: Profile, asked: _Asked) -> tuple[Timing, ...]:
    if asked.reference is None:
        return ()
    return _tabulated(asked.reference, source.execution.work).timings


def _tabulated(path: Path, work: str | None) -> Tabulated:
    from convscale.prediction.tables import read_table
    from convscale.study.tabulated import tabulated

    table = read_table(path, work=work)
    with progress(f"Reading networks of {path.name}") as report:
        return tabulated(table, progress=report)


def _from_table(path: Path, adapt: str | None, work: str | None, asked: _Asked) -> Profile:
    from dataclasses import replace

    from convscale.prediction.fitted import fitted_profile
    from convscale.prediction.store import profile_of
    from convscale.prediction.tables import read_table
    from convscale.prediction.transfer import transferred
    from convscale.study.tabulated import skipped_conditions

    source = None if adapt is None else profile_of(adapt)
    table = read_table(path, work=work)
    execution = replace(asked.execution, work=table.work)
    if asked.device is None:
        execution = replace(execution, hardware=_hardware(table, execution, source))
    found = _tabulated(path, table.work)
    conditions: dict[str, Condition] = {
        "device": asked.device or asked.name,
        "source": path.name,
        **skipped_conditions(found),
    }
    if source is not None:
        reference = _reference(source, asked)
        adapted = transferred(
            source,
            found.timings,
            execution,
            name=asked.name,
            conditions=conditions,
            reference=reference,
        )
        return replace(adapted, excluded=found.excluded)
    with progress("Fitting, a family left out at a time") as report:
        return fitted_profile(
            found.timings,
            execution,
            name=asked.name,
            conditions=conditions,
            excluded=found.excluded,
            held_out=asked.held_out,
            progress=report,
        )


def _hardware(table: Table, execution: Execution, source: Profile | None) -> str:
    """Return what a table was timed on, which it does not say."""
    if source is not None:
        return source.execution.hardware
    from convscale.study.from_table import hardware_of

    return hardware_of(table, execution.dtype)


def _answer(profile: Profile, asked: _Asked, *, json: bool) -> Answer:
    from convscale.prediction.profile_file import as_document
    from convscale.prediction.store import save_profile
    from convscale.report.profiles import profile_table

    path = save_profile(profile, asked.out)
    if json:
        return {"network": None, **as_document(profile), "path": str(path)}
    written = [f"Table: {asked.csv}"] if asked.csv is not None else []
    return [profile_table(profile), *written, f"Profile: {path}"]

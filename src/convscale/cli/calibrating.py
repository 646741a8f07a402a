"""What `convscale calibrate` does with its options: time networks here, or read a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convscale.cli.answer import Answer
from convscale.cli.progress import progress, say
from convscale.errors import InputError
from convscale.quantities import format_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convscale.prediction.execution import Execution
    from convscale.prediction.profile import Profile
    from convscale.runtime import Setting
    from convscale.study.timing import Side


@dataclass(frozen=True)
class Asked:
    """What was asked for, read.

    Args:
        name: The name of the new profile.
        run: How networks are run: dtype, and layout, mode and work.
        device: Where they are run, if it was said.
        batch_size: Images in a pass, if it was said.
        threads: Threads, if it was said.
        limit_s: Seconds of timing.
        timings: The file of all passes.
        csv: The table to write.
        out: The file of the profile, if not among one's own.
        reference: The table of times on the source's device.
        held_out: Whether families are left out of a fit.

    Example:
        >>> Asked("mine", {"dtype": "amp"}, device="cuda").execution.hardware
        'gpu'
    """

    name: str
    run: dict[str, str]
    device: str | None = None
    batch_size: int | None = None
    threads: int | None = None
    limit_s: float = 600.0
    timings: Path | None = None
    csv: Path | None = None
    out: Path | None = None
    reference: Path | None = None
    held_out: bool = True

    @property
    def execution(self) -> Execution:
        """How networks are run, as the runtime model says it."""
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


def refuse_with_table(given: Mapping[str, object]) -> None:
    """Refuse options for networks that are timed here beside a table.

    Raises:
        InputError: If any has a value.

    Example:
        >>> refuse_with_table({"--choose": "3"})
        Traceback (most recent call last):
        convscale.errors.InputError: --choose is for networks that are timed here, and ...
    """
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise InputError(
            f"{' and '.join(wrong)} {'are' if len(wrong) > 1 else 'is'} for networks that are "
            "timed here, and --from reads times of elsewhere. Leave one of them out."
        )


def check_table_options(
    adapt: str | None, source_timings: str | None, device: str | None, *, held_out: bool
) -> None:
    """Refuse options of a table that would be of no effect.

    Raises:
        InputError: If there are any.

    Example:
        >>> check_table_options("mine", None, "cpu", held_out=True) is None
        True
    """
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


def to_time(
    asked: Asked, adapt: str | None, named: tuple[str, ...] | None, count: int | None
) -> tuple[tuple[Side, ...], Profile]:
    """Return what to time, and the profile to start from.

    Args:
        asked: What was asked for.
        adapt: The name or the file of the profile, if it was said.
        named: The networks, if they were named.
        count: How many of them to choose.

    Raises:
        InputError: If there is no such profile, or a network is named twice.

    Example:
        >>> sides, source = to_time(Asked("mine", {"dtype": "float32"}), None, None, None)
        >>> len(sides), source.execution.hardware
        (20, 'cpu')
    """
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


def here(sides: tuple[Side, ...], source: Profile, asked: Asked) -> Profile:
    """Time networks on the device at hand, and carry a profile over to their times.

    Args:
        sides: The networks.
        source: The profile to start from.
        asked: What was asked for.

    Raises:
        InputError: If none could be timed, or a file holds something else.

    Example:
        >>> here((), to_time(Asked("a", {"dtype": "float32"}), None, None, None)[1],
        ...      Asked("mine", {"dtype": "float32"}))
        Traceback (most recent call last):
        convscale.errors.InputError: No network is to be timed. Name at least one.
    """
    from convscale.files import write_whole
    from convscale.scaling import resolve
    from convscale.study.calibrating import calibrate_here, timings_of
    from convscale.study.from_table import timings_of_table
    from convscale.study.timed_table import timed_table

    setting = asked.setting
    with progress("Reading timings of the source") as report:
        reference = timings_of_table(asked.reference, source.execution.work, progress=report)
    for side in sides:  # an unknown name is refused before anything is promised
        resolve(side.network, resolution=side.resolution)
    say(_announced(sides, asked))
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


def _announced(sides: Sequence[Side], asked: Asked) -> str:
    """Say before networks are timed how long that takes at most."""
    from convscale.study.timing import ROUNDS
    from convscale.study.visiting import FEWEST_ROUNDS

    count = f"{len(sides)} network{'' if len(sides) == 1 else 's'}"
    return (
        f"Timing {count} in up to {ROUNDS} rounds: {format_ms(1e3 * asked.limit_s)} at most, "
        f"unless the first {FEWEST_ROUNDS} rounds take longer; then the fit."
    )


def from_table(path: Path, adapt: str | None, work: str | None, asked: Asked) -> Profile:
    """Fit a profile to a table, or carry one over to its times.

    Example:
        >>> from_table(Path("none.csv"), None, None, Asked("mine", {"dtype": "amp"}))
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file none.csv. Name a CSV file with timings.
    """
    from convscale.study.from_table import calibrate

    kind = None if asked.device is None else asked.device.partition(":")[0]
    named = {} if asked.device is None else {"device": asked.device}
    with progress(f"Calibrating by {path.name}") as report:
        return calibrate(
            path,
            name=asked.name,
            dtype=asked.run["dtype"],
            layout=asked.run.get("layout", "nchw"),
            mode=asked.run.get("mode", "eager"),
            hardware=None if kind is None else "cpu" if kind == "cpu" else "gpu",
            work=work,
            held_out=asked.held_out,
            adapt=adapt,
            source_timings=asked.reference,
            conditions=named,
            progress=report,
        )


def answer(profile: Profile, asked: Asked, *, json: bool) -> Answer:
    """Write a profile, and show it.

    A profile that stands there already is replaced by a higher version, and that is said.

    Args:
        profile: The profile.
        asked: What was asked for.
        json: Whether it is shown as JSON.

    Example:
        >>> import tempfile
        >>> from convscale.prediction.store import profile_of
        >>> mine = profile_of("rtx3090-amp-nchw")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asked = Asked("mine", {}, out=Path(folder, "mine.json"))
        ...     [answer(mine, asked, json=True)["version"] for _ in range(2)]
        [1, 2]
    """
    from convscale.prediction.profile_file import as_document
    from convscale.prediction.store import replaced_by, save_profile
    from convscale.report.profiles import profile_table

    before = replaced_by(profile, asked.out)
    if before is not None:
        profile = replace(profile, version=before + 1)
    path = save_profile(profile, asked.out)
    if json:
        return {"network": None, **as_document(profile), "path": str(path)}
    written = [f"Table: {asked.csv}"] if asked.csv is not None else []
    anew = "" if before is None else f" (version {profile.version}; version {before} is replaced)"
    return [profile_table(profile), *written, f"Profile: {path}{anew}"]

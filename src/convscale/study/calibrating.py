"""Fit a profile to networks that are timed here, starting from a profile of another device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from convscale.errors import InputError
from convscale.prediction.execution import Execution
from convscale.prediction.profile import Condition, Profile
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import transferred
from convscale.quantities import sides as sides_of
from convscale.runtime import Conditions, Setting
from convscale.study.default_networks import DEFAULT_SIDES
from convscale.study.recorded import family_of, recorded
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
from convscale.study.timing import PASSES, ROUNDS, Side, time_networks
from convscale.study.trials import Progress

TIME_NAMES = {"latency": "wall time", "processor": "processor time"}


def calibrate_here(
    name: str,
    source: Profile,
    setting: Setting,
    *,
    sides: Sequence[Side] = DEFAULT_SIDES,
    rounds: int = ROUNDS,
    passes: int = PASSES,
    time_limit_s: float = 600.0,
    reference: Sequence[Timing] = (),
    file: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Profile, RuntimeStudy]:
    """Time networks on the device at hand and adapt a profile to their times.

    Args:
        name: The new profile's name.
        source: The profile to start from; `nearest` finds one.
        setting: How the networks are run.
        sides: The networks, by default about twenty that tell most.
        rounds: How often each is visited.
        passes: Timed passes a visit.
        time_limit_s: Begin no round that would end after this time, beyond the third.
        reference: Times of these and other networks on the source's device, if at hand.
        file: A study file, written after each visit; where it exists already, it goes on.
        seed: For the weights, the inputs and the order of the visits.
        progress: Called with steps done and steps in all.

    Returns:
        The profile, and the times that it was fitted to.

    Raises:
        InputError: If a value cannot be used, or no network could be timed.

    Example:
        >>> callable(calibrate_here)
        True
    """
    execution = execution_of(setting)
    study = time_networks(
        sides,
        setting,
        rounds=rounds,
        passes=passes,
        time_limit_s=time_limit_s,
        file=file,
        seed=seed,
        progress=progress,
    )
    timings = timings_of(study, sides, setting)
    if not timings:
        failed = next((one.failed for one in study.networks if one.failed), "nothing was timed")
        raise InputError(f"None of the networks could be timed: {failed}")
    profile = transferred(
        source,
        timings,
        execution,
        name=name,
        conditions=conditions_of(study, setting),
        reference=reference,
    )
    return profile, study


def execution_of(setting: Setting) -> Execution:
    """Return what a setting is to the runtime model.

    Example:
        >>> execution_of(Setting(dtype="bfloat16", channels_last=True, compile=True))
        Execution(hardware='cpu', layout='nhwc', mode='compiled', work='inference', dtype='amp')
    """
    # a narrow dtype is run under autocast, with the weights in float32
    narrow = setting.dtype in ("float16", "bfloat16")
    return Execution(
        hardware="cpu" if setting.device.partition(":")[0] == "cpu" else "gpu",
        layout="nhwc" if setting.channels_last else "nchw",
        mode="compiled" if setting.compile else "eager",
        work=setting.mode,
        dtype="amp" if narrow else "float32",
    )


def timings_of(study: RuntimeStudy, sides: Sequence[Side], setting: Setting) -> list[Timing]:
    """Return the median times of a study, with the operators of its networks.

    The processor time of several threads is divided by their number: it is what the wall time
    would be if nobody else ran and all of them were busy.

    Example:
        >>> timings_of(RuntimeStudy((), {}), [], Setting())
        []
    """
    assert isinstance(setting.batch_size, int)
    threads = (setting.threads or 1) if study.time == "processor" else 1
    found = []
    for side, network in zip(sides, study.networks, strict=True):
        if network.passes:
            seconds = getattr(network.timed, study.time).median / 1e3 / threads
            found.append(_timing(side, network, setting.batch_size, seconds))
    return found


def _timing(side: Side, timed: TimedNetwork, batch_size: int, seconds: float) -> Timing:
    _, work = recorded(side)
    name, own = timed.row.network, sides_of(timed.row.resolution)
    square = round(prod(own) ** (1 / len(own)))
    return Timing(name, family_of(name), work, batch_size, seconds, square)


def conditions_of(study: RuntimeStudy, setting: Setting) -> dict[str, Condition]:
    """Return what the times of a study hold for, as a profile keeps it.

    Example:
        >>> conditions_of(RuntimeStudy((), {}), Setting())["time"]
        'wall time'
    """
    seen = study.conditions or Conditions(setting.device, "", 0, "", 1, "", "")
    kept = ("hardware", "processors", "torch", "timm", "python", "system", "load_average")
    return {
        "device": seen.hardware or seen.device,
        "threads": seen.threads,
        "autocast": setting.dtype if setting.dtype in ("float16", "bfloat16") else None,
        "time": TIME_NAMES[study.time],
        "rounds": study.rounds,
        "started": seen.started,
        **{name: getattr(seen, name) for name in kept},
        "source": "measured by convscale calibrate",
    }


def nearest(execution: Execution, profiles: Sequence[Profile]) -> Profile:
    """Return the profile that is run most alike: dtype, then mode, then layout.

    Raises:
        InputError: If there is none for the hardware and the work.

    Example:
        >>> nearest(Execution(), [])
        Traceback (most recent call last):
        convscale.errors.InputError: There is no profile of inference on a gpu to start from. ...
    """
    fit = [
        one
        for one in profiles
        if (one.execution.hardware, one.execution.work) == (execution.hardware, execution.work)
    ]
    if not fit:
        raise InputError(
            f"There is no profile of {execution.work} on a {execution.hardware} to start from. "
            "Name one by --adapt, or fit one to a table by --from."
        )

    def likeness(one: Profile) -> tuple[bool, bool, bool]:
        own = one.execution
        return (
            own.dtype == execution.dtype,
            own.mode == execution.mode,
            own.layout == execution.layout,
        )

    best = max(map(likeness, fit))
    return min((one for one in fit if likeness(one) == best), key=lambda one: one.name)


def with_batch(setting: Setting, batch_size: int | None) -> Setting:
    """Return a setting with a batch size: by default 1 on a processor, 64 elsewhere.

    Example:
        >>> with_batch(Setting(device="cuda"), None).batch_size
        64
    """
    default = 1 if setting.device.partition(":")[0] == "cpu" else 64
    return replace(setting, batch_size=batch_size or default)

"""Time networks in interleaved rounds, for coefficients to be fitted to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.quantities import Resolution, check_resolution, format_resolution
from convscale.runtime import (
    Conditions,
    Failure,
    Limits,
    Measurement,
    Setting,
    Subject,
    check_setting,
    measure_together,
)
from convscale.runtime.conditions import observe
from convscale.study.comparison import Row
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
from convscale.study.study_file import continued, write_study
from convscale.study.trials import Progress, Trial
from convscale.study.visiting import Rounds, invite

if TYPE_CHECKING:
    from convscale.network import Network, NetworkLike

# Every network is timed at least so often, in visits that lie apart.
ROUNDS, PASSES = 7, 3


@dataclass(frozen=True)
class Side:
    """A network and the input side to time it at; None is the network's own.

    Example:
        >>> Side.of("timm:resnet18@160").resolution
        160
        >>> Side.of("resnet18@dWr:2")
        Side(network='resnet18@dWr:2', resolution=None)
    """

    network: NetworkLike
    resolution: Resolution | None = None

    @property
    def text(self) -> str:
        """The text that `of` reads."""
        side = "" if self.resolution is None else f"@{format_resolution(self.resolution)}"
        return f"{self.network}{side}"

    @classmethod
    def of(cls, text: str) -> Side:
        """Read a name that may end in @ and a side in px.

        Example:
            >>> Side.of("resnet18")
            Side(network='resnet18', resolution=None)
        """
        name, _, side = text.rpartition("@")
        if name and side.isdecimal():
            return cls(name, check_resolution(int(side)))
        return cls(text)


def time_networks(
    sides: Sequence[Side],
    setting: Setting,
    *,
    rounds: int = ROUNDS,
    passes: int = PASSES,
    time_limit_s: float = 600.0,
    file: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RuntimeStudy:
    """Time networks in rounds over all of them; the time limit holds for building them as well.

    Each has memory for its weights only while it is visited. Compiled networks stay as they are
    compiled, all of them, and are timed in rounds too.

    Args:
        sides: The networks.
        setting: How they are run.
        rounds: How often each is visited.
        passes: Timed passes a visit.
        time_limit_s: Begin no round that would end after this time, beyond the third.
        file: A study file, written after each visit; where it exists already, the study in it
            goes on.
        seed: For the weights, the inputs and the order of the visits.
        progress: Called with steps done and steps in all.

    Raises:
        InputError: If a network or a value cannot be used, or the file holds another study.

    Example:
        >>> from torch import nn
        >>> nets = [Side(nn.Conv2d(3, 8, 3), 16), Side(nn.Conv2d(3, 16, 3), 16)]
        >>> study = time_networks(nets, Setting(), rounds=3, passes=1)
        >>> [row.latency.repeats for row in study.rows]
        [3, 3]
    """
    if not sides:
        raise InputError("No network is to be timed. Name at least one.")
    if setting.batch_size == "max":
        raise InputError(
            "The batch size is max: networks that are compared need one. Write an integer."
        )
    device = check_setting(setting)
    Limits(rounds, time_limit_s=time_limit_s)
    report = progress or _silent
    until = time.monotonic() + time_limit_s
    trials = []
    for trial in _trials(sides, seed):
        trials.append(trial)
        report(len(trials), len(sides) * (1 + rounds))
    study = RuntimeStudy(
        tuple(TimedNetwork(trial.row) for trial in trials),
        {"seed": seed, "passes": passes, **asdict(setting)},
    )
    now = observe(device, threads=setting.threads or 1, subjects=len(trials))
    study = continued(study, file, now)
    left = max(1.0, until - time.monotonic())

    def keep(so_far: RuntimeStudy) -> None:
        if file is not None:
            write_study(so_far, file)

    def timing(done: int, total: int) -> None:
        report(len(sides) + done, len(sides) + total)

    if setting.compile:
        study = _together(study, trials, setting, rounds * passes, left, timing)
        keep(study)
        return study
    guests = [invite(trial, seed=seed) for trial in trials]
    return Rounds(guests, setting, rounds, passes, left, seed=seed, keep=keep, progress=timing).run(
        study
    )


def _together(
    study: RuntimeStudy,
    trials: Sequence[Trial],
    setting: Setting,
    repeats: int,
    limit_s: float,
    progress: Progress,
) -> RuntimeStudy:
    """Time compiled networks; to compile again at every visit would take longer than the passes."""
    subjects = [trial.subject for trial in trials if trial.subject is not None]
    found = measure_together(
        subjects, rounds=repeats, time_limit_s=limit_s, progress=progress, **asdict(setting)
    )
    timed = [_timed(trial.row, one) for trial, one in zip(trials, found, strict=True)]
    seen = [one.conditions for one in found if isinstance(one, Measurement)]
    return replace(
        study,
        networks=tuple(timed),
        conditions=_first(seen),
        rounds=min(_repeats(found), default=0),
    )


def _timed(row: Row, found: Measurement | Failure) -> TimedNetwork:
    if isinstance(found, Failure):
        return TimedNetwork(row, failed=found.failed)
    # A visit a pass: the passes of compiled networks lie apart.
    wall = tuple((seconds,) for seconds in found.wall_s)
    processor = tuple((seconds,) for seconds in found.processor_s)
    return TimedNetwork(row, wall, processor)


def _repeats(found: Iterable[Measurement | Failure]) -> list[int]:
    return [len(one.wall_s) for one in found if isinstance(one, Measurement)]


def _first(seen: Sequence[Conditions]) -> Conditions | None:
    return seen[0] if seen else None


def _trials(sides: Sequence[Side], seed: int) -> Iterable[Trial]:
    """Build each network, once it is clear that all of them exist."""
    from convscale.scaling import resolve

    networks = [resolve(side.network, resolution=side.resolution) for side in sides]
    for network in networks:
        yield _trial(network, seed)


def _trial(network: Network, seed: int) -> Trial:
    import torch

    from convscale.complexity.counting import count_network

    counted = count_network(network)
    assert counted.resolution is not None  # without inputs of the user's
    metrics = (counted.flops, counted.params, counted.acts)
    row = Row(network.name, None, 1.0, counted.resolution, *metrics, notes=counted.notes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = network.build("cpu")
    subject = Subject(row.label, module, row.resolution, network.in_chans, network.dims or 2)
    return Trial(row, subject)


def _silent(done: int, total: int) -> None:
    """Report nothing."""

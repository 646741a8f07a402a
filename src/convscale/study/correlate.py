"""Scale networks, measure them in interleaved rounds, and see which metric tells the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from convscale.errors import InputError
from convscale.quantities import Resolution, check_count
from convscale.runtime import Limits, Setting, SettingOptions, check_setting
from convscale.runtime.conditions import observe
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
from convscale.study.study_file import continued, write_study
from convscale.study.trials import Plan, Progress, Trial, plan_of, scale_all
from convscale.study.visiting import Guest, Rounds, invite

if TYPE_CHECKING:
    from convscale.network import NetworkLike
    from convscale.strategy import Strategy

STRATEGIES = ("w", "d", "r", "dwr", "dWr")
FACTORS = (1.0, 2.0, 4.0, 8.0)


def correlate(
    networks: Sequence[NetworkLike],
    *,
    strategies: Sequence[str | Strategy] = STRATEGIES,
    factors: Sequence[float] = FACTORS,
    resolution: Resolution | None = None,
    rounds: int = 7,
    passes: int = 3,
    time_limit_s: float = 600.0,
    file: str | Path | None = None,
    isolate: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **setting: Unpack[SettingOptions],
) -> RuntimeStudy:
    """Measure how the time goes with flops, params, acts, and with flops and acts together.

    Each network is scaled by each strategy and factor; factor 1 is the base network, which is
    measured once. Rounds visit all networks in a random order. A network has memory for its
    weights only while it is visited, so that there may be more of them than memory holds.

    Args:
        networks: Names or modules.
        strategies: Names or strategies.
        factors: Scale factors s of the flops.
        resolution: The base networks' input side in px; by default their own.
        rounds: How often each network is visited.
        passes: Timed passes a visit, after its warm-up.
        time_limit_s: Begin no round that would end after this time, beyond the third.
        file: A study file, written after each visit; where it exists already, the study in it
            goes on, and what failed is tried again.
        isolate: Whether each visit is in a process of its own, so that a crash is a row; to start
            one takes seconds.
        num_classes: Classes of networks made from a name.
        in_chans: Input channels of networks made from a name.
        seed: For the weights, the inputs and the order of the visits.
        progress: Called with steps done and steps in all.
        setting: The fields of `runtime.Setting`: mode, batch_size, device, dtype, threads, …

    Returns:
        The networks with all their passes, and the correlations. A network that does not run or
        does not fit into memory is in it with the reason.

    Raises:
        InputError: If a value cannot be used, or the file holds another study.
        UnscalableNetworkError: If no combination can be scaled.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
        >>> study = correlate([net], strategies=["w", "r"], factors=[1, 2], resolution=16, rounds=3)
        >>> [(row.strategy, row.latency.repeats) for row in study.rows]
        [(None, 9), ('w', 9), ('r', 9)]
    """
    asked = Setting(**setting)
    if asked.batch_size == "max":
        raise InputError(
            "The batch size is max: networks of one study need one batch size. Write an integer."
        )
    # Refuse what cannot be measured before minutes are spent on scaling.
    device = check_setting(asked)
    Limits(check_count(rounds, what="number of rounds"), time_limit_s=time_limit_s)
    check_count(passes, what="number of passes")
    plan = plan_of(
        networks,
        strategies=strategies,
        factors=_beyond_base(factors),
        resolution=resolution,
        weights=True,
        seed=seed,
        options={"num_classes": num_classes, "in_chans": in_chans},
    )
    steps = _Steps(progress or _silent, plan.size, seed)
    notes = scale_all(plan, steps.built)
    study = RuntimeStudy(
        tuple(TimedNetwork(guest.trial.row) for guest in steps.guests),
        _settings(plan, steps.guests, asked, passes=passes),
        notes=notes,
    )
    path = None if file is None else Path(file)
    now = observe(device, threads=asked.threads or 1, subjects=len(study.networks))
    visits = Rounds(
        steps.guests,
        asked,
        rounds=rounds,
        passes=passes,
        limit_s=time_limit_s,
        seed=seed,
        isolate=isolate,
        keep=lambda so_far: None if path is None else write_study(so_far, path),
        progress=steps.measuring,
    )
    found = visits.run(continued(study, path, now))
    return _noted(found, asked=rounds)


def _beyond_base(factors: Sequence[float]) -> list[float]:
    """Return the factors other than 1, which is the base network and measured once."""
    others = [factor for factor in factors if factor != 1]
    if factors and not others:
        raise InputError("The only factor is 1, the base network. Write others too, as in 1,2,4,8.")
    return others


def _settings(
    plan: Plan, guests: Sequence[Guest], setting: Setting, *, passes: int
) -> dict[str, object]:
    """Return what was asked for, as a study file compares and keeps it."""
    return {
        "networks": list(dict.fromkeys(guest.trial.row.network for guest in guests)),
        "strategies": [strategy.name for strategy in plan.strategies],
        "factors": list(plan.factors),
        "seed": plan.seed,
        "passes": passes,
        **asdict(setting),
    }


def _noted(study: RuntimeStudy, *, asked: int) -> RuntimeStudy:
    """Add what makes the times fewer than asked for."""
    notes = list(study.notes)
    if study.rounds < asked:
        notes.append(f"Stopped after {study.rounds} of {asked} rounds: the time limit was reached.")
    return replace(study, notes=tuple(notes))


@dataclass
class _Steps:
    """Scaling and measuring as one row of steps; each network is parked once it is built."""

    report: Progress
    total: int
    seed: int
    done: int = 0
    guests: list[Guest] = field(default_factory=list)

    def built(self, trial: Trial | None) -> None:
        if trial is not None:
            self.guests.append(invite(trial, seed=self.seed))
        self.done += 1
        self.report(self.done, self.total)

    def measuring(self, done: int, total: int) -> None:
        self.report(self.done + done, self.done + total)


def _silent(done: int, total: int) -> None:
    """Report nothing."""

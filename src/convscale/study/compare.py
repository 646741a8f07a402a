"""Scale networks by strategies and factors, count them, and measure them if asked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from convscale.complexity.complexity import METRICS, Count
from convscale.errors import InputError, UnscalableNetworkError
from convscale.families import AnyNet, EfficientNet, RegNet
from convscale.quantities import Resolution, check_count, check_positive, check_resolution
from convscale.runtime import Measurement, Subject, measure_together, open_device
from convscale.runtime.measure import check_setting
from convscale.strategy import Step, Strategy, parse_strategy
from convscale.study.comparison import Comparison, Row

if TYPE_CHECKING:
    from torch import nn

    from convscale.network import Network, NetworkLike
    from convscale.scaling import ScaledNetwork

Progress = Callable[[int, int], None]
T = TypeVar("T")


def compare(
    networks: Sequence[NetworkLike],
    *,
    strategies: Sequence[str | Strategy],
    factors: Sequence[float],
    resolution: Resolution | None = None,
    measure: bool = False,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 15,
    time_limit_s: float = 75.0,
    progress: Progress | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare strategies and factors on networks by flops, params, acts and latency.

    Args:
        networks: Names or modules; what stands twice is compared once.
        strategies: Names or strategies.
        factors: Scale factors s of the flops.
        resolution: The base networks' input side in px; by default their own.
        measure: Whether to measure latencies, all networks interleaved.
        batch_size: Images in one forward pass that is measured.
        device: cpu, cuda, cuda:1 or mps.
        threads: Threads of the processor; one by default, which repeats best.
        rounds: Timed passes of each network.
        time_limit_s: Stop measuring after this time, but not before three rounds.
        progress: Called with steps done and steps in all: a network scaled is a step, and
            so is each forward pass.
        num_classes: Classes of networks made from a name.
        in_chans: Input channels of networks made from a name.
        seed: For the weights, the inputs and the order of the measurements.

    Returns:
        For each network a base row and a row a strategy and factor. A combination that
        cannot be scaled is left out and named in the notes.

    Raises:
        InputError: If a list is empty or a value cannot be used.
        UnscalableNetworkError: If no combination can be scaled.

    Example:
        >>> found = compare(["resnet18"], strategies=["w", "dWr"], factors=[2.0], resolution=64)
        >>> [(row.strategy, row.factor) for row in found.rows]
        [(None, 1.0), ('w', 2.0), ('dWr', 2.0)]
    """
    if measure:
        # Refuse what cannot be measured before minutes are spent on scaling.
        open_device(device)
        check_setting(batch_size, threads, time_limit_s)
        check_count(rounds, what="number of rounds")
    alone = (str, AnyNet, EfficientNet, RegNet)
    named = [networks] if isinstance(networks, alone) else networks
    plan = _Plan(
        _once(_some(named, "networks")),
        _once([_strategy(given) for given in _some(strategies, "strategies")]),
        _once([check_positive(s, what="factor") for s in _some(factors, "factors")]),
        resolution=None if resolution is None else check_resolution(resolution),
        weights=measure,
        seed=seed,
        options={"num_classes": num_classes, "in_chans": in_chans},
    )
    steps = _Steps(progress or _silent, total=plan.size * (1 + (rounds + 1 if measure else 0)))
    trials, notes = _scale_all(plan, steps)
    counted = Comparison(tuple(trial.row for trial in trials), plan.strategies, notes=notes)
    if not measure:
        return counted
    measured = measure_together(
        [trial.subject for trial in trials if trial.subject is not None],
        batch_size=batch_size,
        device=device,
        threads=threads,
        rounds=rounds,
        time_limit_s=time_limit_s,
        progress=steps.measuring,
        seed=seed,
    )
    return _with_times(counted, measured, asked=rounds)


def _with_times(counted: Comparison, measured: Sequence[Measurement], *, asked: int) -> Comparison:
    """Add to each row the times of the measurement in its place."""
    return replace(
        counted,
        rows=tuple(_timed(row, found) for row, found in zip(counted.rows, measured, strict=True)),
        conditions=measured[0].conditions,
        batch_size=measured[0].batch_size,
        notes=(*counted.notes, *_time_notes(measured, asked=asked)),
    )


@dataclass(frozen=True)
class _Plan:
    networks: tuple[NetworkLike, ...]
    strategies: tuple[Strategy, ...]
    factors: tuple[float, ...]
    resolution: Resolution | None
    weights: bool
    seed: int
    options: dict[str, int | None]

    @property
    def size(self) -> int:
        """How many networks there are to build, the bases included."""
        each = (1 if isinstance(s, Step) else len(self.factors) for s in self.strategies)
        return len(self.networks) * (1 + sum(each))


@dataclass(frozen=True)
class _Trial:
    """A row without times, and the module to time where one is to be timed."""

    row: Row
    subject: Subject | None


@dataclass
class _Steps:
    """Scaling and measuring as one row of steps for the progress callback."""

    report: Progress
    total: int
    done: int = 0

    def built(self) -> None:
        """Report one more network."""
        self.done += 1
        self.report(self.done, self.total)

    def measuring(self, done: int, total: int) -> None:
        """Report passes as steps after those of building."""
        self.report(self.done + done, self.done + total)


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _some(values: Sequence[T], what: str) -> Sequence[T]:
    if not values:
        raise InputError(f"The list of {what} is empty. Give at least one.")
    return values


def _once(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _strategy(given: str | Strategy) -> Strategy:
    return given if isinstance(given, Strategy) else parse_strategy(given)


def _scale_all(plan: _Plan, steps: _Steps) -> tuple[list[_Trial], tuple[str, ...]]:
    """Build every network of the plan; name in notes what cannot be scaled."""
    trials: list[_Trial] = []
    failures: list[UnscalableNetworkError] = []
    for network in _resolved(plan):
        for result in _trials(network, plan):
            if isinstance(result, _Trial):
                trials.append(result)
            else:
                failures.append(result)
            steps.built()
    if failures and not any(trial.row.strategy for trial in trials):
        raise failures[0]
    return trials, _once([failure.line for failure in failures])


def _resolved(plan: _Plan) -> list[Network]:
    """Find all networks before any is scaled, each name once."""
    from convscale.scaling import resolve

    found: dict[str, Network] = {}
    for given in plan.networks:
        network = resolve(given, resolution=plan.resolution, **plan.options)
        name, count = network.name, 1
        # Modules of one class share a name, and their rows must not mix.
        while name in found and not isinstance(given, str):
            count += 1
            name = f"{network.name}#{count}"
        found.setdefault(name, replace(network, name=name))
    return list(found.values())


def _trials(network: Network, plan: _Plan) -> Iterator[_Trial | UnscalableNetworkError]:
    """Yield the base network, then it scaled by each strategy and factor, or why it cannot."""
    from convscale.complexity.counting import count_network
    from convscale.scaling import Scaler

    try:
        scaler = Scaler(network)
    except UnscalableNetworkError as error:
        yield _base(network, count_network(network), plan)
        yield error
        return
    base = _base(network, scaler.base, plan)
    yield base
    for strategy in plan.strategies:
        for factor in (None,) if isinstance(strategy, Step) else plan.factors:
            try:
                scaled = scaler.scale(strategy, factor=factor, seed=plan.seed, weights=plan.weights)
            except UnscalableNetworkError as error:
                yield error
            else:
                yield _scaled(scaled, base.row, plan)


def _base(network: Network, counted: Count, plan: _Plan) -> _Trial:
    row = Row(
        network.name,
        None,
        1.0,
        counted.resolution,
        counted.flops,
        counted.params,
        counted.acts,
        ratio=dict.fromkeys(METRICS, 1.0),
        notes=counted.notes,
    )
    module = network.build("cpu") if plan.weights else None
    return _trial(row, module, network.in_chans, network.dims or 2)


def _scaled(scaled: ScaledNetwork, base: Row, plan: _Plan) -> _Trial:
    achieved = scaled.achieved
    row = Row(
        base.network,
        scaled.strategy.name,
        scaled.requested["factor"],
        scaled.resolution,
        achieved.flops,
        achieved.params,
        achieved.acts,
        ratio=scaled.ratio,
        notes=scaled.notes,
    )
    module = scaled.module if plan.weights else None
    return _trial(row, module, scaled.in_chans, scaled.dims)


def _trial(row: Row, module: nn.Module | None, in_chans: int | None, dims: int) -> _Trial:
    if module is None:
        return _Trial(row, None)
    return _Trial(row, Subject(row.label, module, row.resolution, in_chans, dims))


def _time_notes(measured: Sequence[Measurement], *, asked: int) -> Iterator[str]:
    """Say what makes the latencies fewer or less certain than asked for, once for all rows."""
    total, rounds = len(measured), measured[0].conditions.rounds
    if rounds < asked:
        yield f"Stopped after {rounds} of {asked} rounds: the time limit was reached."
    contended = [found.busy_share for found in measured if found.contended]
    if contended:
        share = statistics.median(share for share in contended if share is not None)
        yield (
            f"{len(contended)} of {total} networks ran for only about {100 * share:.0f} % of their "
            "wall time: the machine is shared, or they use few threads. Compare processor times."
        )
    wide = sum(found.latency_ms.wide for found in measured)
    if wide:
        yield (
            f"{wide} of {total} latencies have an interquartile range above a fifth of their "
            "median. Other work may be running: compare again on a quiet machine."
        )


def _timed(row: Row, measured: Measurement) -> Row:
    return replace(row, latency=measured.latency_ms, processor=measured.processor_ms)

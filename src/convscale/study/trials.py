"""Base networks and those scaled from them, built one after another, for studies of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from convscale.complexity.complexity import METRICS, Count
from convscale.errors import InputError, UnscalableNetworkError
from convscale.families import AnyNet, EfficientNet, RegNet
from convscale.quantities import Resolution, check_positive, check_resolution
from convscale.runtime import Subject
from convscale.strategy import Step, Strategy, parse_strategy
from convscale.study.comparison import Row

if TYPE_CHECKING:
    from torch import nn

    from convscale.network import Network, NetworkLike
    from convscale.scaling import ScaledNetwork
    from convscale.scaling.latency import Timing

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """Which networks to scale by which strategies and factors; each stands there once.

    weights says whether modules are built, options what networks made from a name are given,
    timing what predicts their latency, if anything does.

    Example:
        >>> plan_of(["resnet18"], strategies=["w", "dWr"], factors=[2.0, 4.0]).size
        5
    """

    networks: tuple[NetworkLike, ...]
    strategies: tuple[Strategy, ...]
    factors: tuple[float, ...]
    resolution: Resolution | None
    weights: bool
    seed: int
    options: dict[str, int | None]
    timing: Timing | None = None

    @property
    def size(self) -> int:
        """How many networks there are to build, the bases included."""
        each = (1 if isinstance(s, Step) else len(self.factors) for s in self.strategies)
        return len(self.networks) * (1 + sum(each))


def plan_of(
    networks: Sequence[NetworkLike],
    *,
    strategies: Sequence[str | Strategy],
    factors: Sequence[float],
    resolution: Resolution | None = None,
    weights: bool = False,
    seed: int = 0,
    options: dict[str, int | None] | None = None,
    timing: Timing | None = None,
) -> Plan:
    """Check what was asked for, and leave out what stands there twice.

    Raises:
        InputError: If a list is empty or a value cannot be used.

    Example:
        >>> plan_of("resnet18", strategies=["w", "w"], factors=[2, 4.0]).factors
        (2.0, 4.0)
    """
    alone = (str, AnyNet, EfficientNet, RegNet)
    named = [networks] if isinstance(networks, alone) else networks
    return Plan(
        _once(_some(named, "networks")),
        _once([_strategy(given) for given in _some(strategies, "strategies")]),
        _once([check_positive(s, what="factor") for s in _some(factors, "factors")]),
        resolution=None if resolution is None else check_resolution(resolution),
        weights=weights,
        seed=seed,
        options=options or {},
        timing=timing,
    )


def _some(values: Sequence[T], what: str) -> Sequence[T]:
    if not values:
        raise InputError(f"The list of {what} is empty. Give at least one.")
    return values


def _once(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _strategy(given: str | Strategy) -> Strategy:
    return given if isinstance(given, Strategy) else parse_strategy(given)


@dataclass(frozen=True)
class Trial:
    """A row without times, and the module to time where one is to be timed.

    Example:
        >>> Trial(Row("net", None, 1.0, 8, 100, 10, 5), None).row.label
        'net'
    """

    row: Row
    subject: Subject | None


def scale_all(plan: Plan, built: Callable[[Trial | None], None]) -> tuple[str, ...]:
    """Build every network of the plan and hand each on; return notes on what cannot be scaled.

    Args:
        plan: What to build.
        built: Takes each network as soon as it is there, so that it need not keep them all;
            None in place of one that cannot be scaled.

    Raises:
        UnscalableNetworkError: If no combination can be scaled.

    Example:
        >>> found = []
        >>> scale_all(plan_of(["resnet18"], strategies=["w"], factors=[2.0]), found.append)
        ()
        >>> [trial.row.label for trial in found]
        ['timm:resnet18', 'timm:resnet18@w:2']
    """
    failures: list[UnscalableNetworkError] = []
    scaled = 0
    for network in _resolved(plan):
        for result in _trials(network, plan):
            if isinstance(result, Trial):
                scaled += result.row.strategy is not None
                built(result)
            else:
                failures.append(result)
                built(None)
    if failures and not scaled:
        raise failures[0]
    return _once([failure.line for failure in failures])


def _resolved(plan: Plan) -> list[Network]:
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


def _trials(network: Network, plan: Plan) -> Iterator[Trial | UnscalableNetworkError]:
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


def _base(network: Network, counted: Count, plan: Plan) -> Trial:
    assert counted.resolution is not None  # without inputs of the user's
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
        predicted=None if plan.timing is None else plan.timing.of(network),
    )
    module = network.build("cpu") if plan.weights else None
    return _trial(row, module, network.in_chans, network.dims or 2)


def _scaled(scaled: ScaledNetwork, base: Row, plan: Plan) -> Trial:
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
        predicted=None if plan.timing is None else plan.timing.of(scaled.as_network()),
    )
    module = scaled.module if plan.weights else None
    return _trial(row, module, scaled.in_chans, scaled.dims)


def _trial(row: Row, module: nn.Module | None, in_chans: int | None, dims: int) -> Trial:
    if module is None:
        return Trial(row, None)
    return Trial(row, Subject(row.label, module, row.resolution, in_chans, dims))

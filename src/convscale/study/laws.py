"""The exponents that a real network shows, and what takes them off the law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscale.errors import InputError, UnscalableNetworkError
from convscale.quantities import Resolution, check_positive
from convscale.strategy import Step, Strategy, named_strategies, parse_strategy

if TYPE_CHECKING:
    import numpy.typing as npt

    from convscale.network import NetworkLike
    from convscale.scaling import Scaler
    from convscale.scaling.search.continuous import Continuous, Costs

    Values = npt.NDArray[np.float64]

ROUNDING, DENSE, REST = "rounding", "dense blocks", "rest"
FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exponent:
    """An exponent by the law, as fitted, and the causes whose sum is the difference.

    Example:
        >>> Exponent(theory=0.6, fitted=0.65, causes=(("stem", 0.05),)).deviation
        0.05
    """

    theory: float
    fitted: float
    causes: tuple[tuple[str, float], ...] = ()

    @property
    def deviation(self) -> float:
        """Fitted minus theory."""
        return round(self.fitted - self.theory, 12)


@dataclass(frozen=True)
class Law:
    """The exponents of one strategy: flops in powers of s, params and acts in powers of flops.

    Example:
        >>> Law("w", Exponent(1, 1), Exponent(1, 1), Exponent(0.5, 0.5)).acts.fitted
        0.5
    """

    strategy: str
    flops: Exponent
    params: Exponent
    acts: Exponent


@dataclass(frozen=True)
class NetworkLaws:
    """The exponents that one network shows for several strategies.

    Example:
        >>> NetworkLaws("timm:resnet18", 224, (1.0, 2.0), (), ()).laws
        ()
    """

    network: str
    resolution: Resolution
    factors: tuple[float, ...]
    laws: tuple[Law, ...]
    notes: tuple[str, ...]


def laws(
    network: NetworkLike,
    *,
    strategies: Sequence[str | Strategy] | None = None,
    factors: Sequence[float] = FACTORS,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    progress: Progress | None = None,
) -> NetworkLaws:
    """Fit the exponents that a network shows, and say what takes them off the law.

    Nothing is built: scaled networks are costed in closed form. With y and x the logarithms
    of ratios to the base, an exponent is the slope Σxy / Σx² of the line through the base:
    flops against s, params and acts against the flops that were achieved.

    The deviation is the sum of its causes. `rounding` is the slope less that of a network
    whose depths, widths and maps need not be whole; each other cause is what the slope of
    that network changes by when one more part is left out of all three metrics: the head, the
    stem, layers between stages, depthwise convolutions (which grow with width and not its
    square), attention (the products without weights, which grow so too, and with the square of
    the positions), norms and biases, squeezes (which have no positions). Where depth grows, also
    stages of fixed depth, and the first blocks of the others, which are not repeated: in
    their place stands one that is. `rest` is what remains. In networks of dense blocks depth
    adds blocks unlike those that are there, and all of the difference is theirs.

    Args:
        network: A name, a description of `convscale.families`, or a module.
        strategies: Strategies or their notation; by default the eight named ones.
        factors: Scale factors s; 1 is the base itself.
        resolution: Base input side, or all sides, in px; required for modules.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        progress: Called with the steps done and in all.

    Raises:
        InputError: If a value cannot be used, or no factor differs from 1.
        UnscalableNetworkError: If no strategy can be followed.

    Example:
        >>> found = laws("timm:resnet18", strategies=["w"], factors=[2, 4], resolution=64)
        >>> abs(found.laws[0].params.fitted - 1) < 0.05
        True
    """
    from convscale.scaling import Scaler, resolve
    from convscale.scaling.results.notes import dims_note

    steps = tuple(dict.fromkeys(check_positive(s, what="factor") for s in factors if s != 1))
    if not steps:
        raise InputError("No factor differs from 1. Give some, as in 2,4,8,16.")
    given = named_strategies() if strategies is None else strategies
    chosen = [law_of(one) for one in given]
    if not chosen:
        raise InputError("The list of strategies is empty. Give at least one.")
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    scaler = Scaler(found)
    chosen = [strategy.in_dims(scaler.dims) for strategy in chosen]
    report = progress or (lambda _done, _total: None)
    results: list[Law] = []
    failures: list[UnscalableNetworkError] = []
    model = _continuous(scaler)
    for index, strategy in enumerate(chosen):
        try:
            results.append(_law(scaler, model, strategy, steps))
        except UnscalableNetworkError as error:
            failures.append(error)
        report(index + 1, len(chosen))
    if not results:
        raise failures[0]
    notes = dict.fromkeys((*dims_note(chosen[0]), *(error.line for error in failures)))
    return NetworkLaws(found.name, scaler.resolution, steps, tuple(results), tuple(notes))


def law_of(given: str | Strategy) -> Strategy:
    """Return a strategy that follows a law: an entry of a table does not.

    Raises:
        InputError: If it is one, or no strategy is written so.

    Example:
        >>> law_of("dWr").growth.acts
        0.6
    """
    strategy = parse_strategy(given) if isinstance(given, str) else given
    if isinstance(strategy, Step):
        raise InputError(
            f"Strategy {strategy.name!r} is one step and follows no law. Use a formula, such as "
            "dWr or efficientnet."
        )
    return strategy


def _continuous(scaler: Scaler) -> Continuous:
    from convscale.scaling.search.continuous import Continuous

    return Continuous(scaler.blueprint)


def _law(scaler: Scaler, model: Continuous, strategy: Strategy, steps: Sequence[float]) -> Law:
    """Fit one strategy, from what would be built and from what needs no rounding."""
    from convscale.scaling.search.search import candidate_at, check_axes, nearer

    check_axes(scaler.blueprint, strategy)
    built = [
        nearer(scaler.blueprint, strategy, candidate_at(scaler.blueprint, strategy, s)).complexity
        for s in steps
    ]
    base = scaler.blueprint.base_complexity
    x = np.log(np.array(steps))
    real = {
        metric: np.log([getattr(one, metric) / getattr(base, metric) for one in built])
        for metric in ("flops", "params", "acts")
    }
    theory = {"flops": 1.0, "params": strategy.growth.params, "acts": strategy.growth.acts}
    fitted = _slopes(x, real)
    # of dense blocks each depth is another network, so that no part grows smoothly with it
    whole = model.dense and strategy.depth > 0
    smooth = [] if whole else _smooth(model, strategy, steps)
    chain = [fitted, *(_slopes(x, costs) for _, costs in smooth)]
    names = [*(name for name, _ in smooth), DENSE if whole else REST]
    exponents = {
        metric: Exponent(law, fitted[metric], _causes(names, [one[metric] for one in chain], law))
        for metric, law in theory.items()
    }
    return Law(strategy.name, exponents["flops"], exponents["params"], exponents["acts"])


def _slopes(x: Values, logs: dict[str, Values]) -> dict[str, float]:
    """Return the slopes of flops against s, and of params and acts against flops."""
    return {m: slope(x if m == "flops" else logs["flops"], y) for m, y in logs.items()}


def _causes(
    names: Sequence[str], slopes: Sequence[float], law: float
) -> tuple[tuple[str, float], ...]:
    """Return by how much each cause moves the slope, the last one from what remains to the law."""
    return tuple(
        (name, before - after)
        for name, before, after in zip(names, slopes, (*slopes[1:], law), strict=True)
    )


def _smooth(
    model: Continuous, strategy: Strategy, steps: Sequence[float]
) -> list[tuple[str, dict[str, Values]]]:
    """Return logarithms of ratios without rounding: of all, then with ever more parts left out.

    A part whose absence leaves nothing is not left out.
    """
    from convscale.scaling.search.continuous import PARTS, PARTS_OF_DEPTH

    factors = [strategy.factors(s) for s in (1.0, *steps)]
    found = [(ROUNDING, _ratios(model.costs(factors)))]
    left: tuple[str, ...] = ()
    for part in PARTS_OF_DEPTH if strategy.depth else PARTS:
        costs = model.costs(factors, without=(*left, part))
        if min(costs.flops[0], costs.params[0], costs.acts[0]) > 0:
            left = (*left, part)
            found.append((part, _ratios(costs)))
    return found


def _ratios(costs: Costs) -> dict[str, Values]:
    values = {"flops": costs.flops, "params": costs.params, "acts": costs.acts}
    return {metric: np.log(value[1:] / value[0]) for metric, value in values.items()}


def slope(x: Values, y: Values) -> float:
    """Return the slope of the line through the origin with the least squares.

    Example:
        >>> slope(np.array([1.0, 2.0]), np.array([0.5, 1.0]))
        0.5
    """
    return float((x * y).sum() / (x * x).sum())

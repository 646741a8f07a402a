"""Scale a paper family's network by the authors' rule."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from convscale.complexity.complexity import Complexity
from convscale.complexity.counting import count_module, count_network
from convscale.errors import BudgetError, InputError
from convscale.families import AnyNet, Description, solved
from convscale.families.closed_form import check_closed_form
from convscale.families.description import GROUPED
from convscale.families.documents import as_document
from convscale.families.rounding import rescaled
from convscale.families.scaling import by_factors, check_rules, group_rule
from convscale.network.running.feeding import known_resolution
from convscale.network.sources.network import Network, Origin, from_family
from convscale.quantities import format_count, format_miss, sides
from convscale.scaling.plans.asking import target_of
from convscale.scaling.plans.control import Control
from convscale.scaling.plans.naming import scaled_name
from convscale.scaling.plans.plan import Plan
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.strategy import Step, Strategy, without
from convscale.strategy.step import from_other_side

_MISS, _BUDGET_MISS, _STRICT = 0.03, 0.01, 0.03


def scale_family(
    network: Network,
    strategy: Strategy,
    targets: dict[str, float | None],
    *,
    rounding: str,
    keep: tuple[str, ...] = (),
    control: Control | None = None,
    width_multiple: int = 8,
    convention: str = "default",
    seed: int = 0,
    strict: bool = False,
    weights: bool = True,
    misses: bool = True,
) -> ScaledNetwork:
    """Scale a network of a paper family by a closed-form rule, and build it.

    Args:
        network: The base network.
        strategy: How the factor is shared, group width included.
        targets: factor, flops, params and acts; exactly one is given.
        rounding: reference, the authors' rule, or efficientnet.
        keep: The axes that stay (d, w, r); the others share the factor.
        control: No parts can be kept or frozen, and no stage has a factor of its own.
        width_multiple: The multiple of the rule's widths, which is 8.
        convention: The convention of base, achieved and budget.
        seed: Seed of the weights.
        strict: Whether a budget missed by more than 3 % is an error.
        weights: Whether the module gets weights; on the meta device if not.
        misses: Whether a note says how far the target is missed.

    Raises:
        InputError: If the network is of no family, or an argument is wrong.
        BudgetError: If a strict budget cannot be met.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> found = scale_family(resolve_base("RegNetY-4.0GF"), parse_strategy("d1_w8_g8_r1"),
        ...                      {"factor": 4}, rounding="reference", weights=False)
        >>> found.resolution
        240

    Source: arXiv 2103.06877 and its public reference code.
    """
    target, value = target_of(strategy, targets)
    _refuse_control(rounding, control, width_multiple)
    base = _description(network, rounding)
    strategy, kept = without(strategy, keep)
    check_rules(strategy, rounding)
    factor = value
    if target != "factor":
        check_closed_form(convention)
        factor = solved(
            base,
            strategy,
            target,
            value,
            rounding=rounding,
            convention=convention,
            group_width="follow",  # the strategy says it already
        )
    factors = strategy.factors(factor)
    net = by_factors(base, factors, rounding=rounding)
    made = from_family(network.name, net, {})
    module = made.build("meta")
    before = count_network(network, convention=convention)
    counted = count_module(module, net.resolution, name=network.name, convention=convention)
    achieved = Complexity(counted.flops, counted.params, counted.acts)
    if strict and target != "factor" and abs(achieved.as_dict()[target] / value - 1) > _STRICT:
        raise BudgetError(
            f"The nearest network of strategy {strategy.name!r} has "
            f"{format_count(achieved.as_dict()[target])} {target}, not {format_count(value)}. "
            "Leave strict out to take it."
        )
    return ScaledNetwork(
        network=network.name,
        module=_weighted(made, seed=seed) if weights else module,
        resolution=net.resolution,
        strategy=strategy,
        factor=factor,
        factors=factors,
        base=before,
        base_resolution=base.resolution,
        requested={target: value},
        achieved=achieved,
        notes=(
            *kept,
            *from_other_side(strategy, base.resolution),
            *_changed(base, net, keep),
            *(_misses(strategy, target, value, before, achieved) if misses else ()),
            *_grouped(base, net),
        ),
        in_chans=net.in_chans,
        origin=Origin(network.name, network.origin.options, family=as_document(net)),
        plan=Plan(),
    )


def is_by_rule(network: Network, rounding: str | None) -> bool:
    """Tell whether a network is scaled by the authors' rule, in closed form.

    Example:
        >>> from convscale.network import resolve_base
        >>> is_by_rule(resolve_base("RegNetY-4.0GF"), "efficientnet")
        True
    """
    return rounding == "reference" or (rounding == "efficientnet" and network.family is not None)


def scaled_family(
    base: Network, strategy: Strategy, factor: float | None, *, rounding: str
) -> Network:
    """Return a network of a paper family scaled by the authors' rule, with its description.

    Args:
        base: The base network.
        strategy: How the factor is shared; group width is scaled as the rounding has it.
        factor: The scale factor; None for an entry of a table.
        rounding: reference or efficientnet.

    Raises:
        InputError: If the network is of no family, or the rule does not follow the strategy.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.strategy import parse_strategy
        >>> base = resolve_base("RegNetY-4.0GF")
        >>> found = scaled_family(base, parse_strategy("dWr"), 4, rounding="reference")
        >>> found.name, found.resolution
        ('RegNetY-4.0GF@dWr:4:reference', 240)
    """
    net = _description(base, rounding)
    rule = group_rule(strategy, None, rounding=rounding)
    _, value = target_of(rule, {"factor": factor})
    check_rules(rule, rounding)
    made = by_factors(net, rule.factors(value), rounding=rounding)
    name = scaled_name(base.name, strategy, factor, rounding)
    origin = Origin(base.name, base.origin.options, family=as_document(made))
    return replace(from_family(name, made, {}), origin=origin)


def _description(network: Network, rounding: str) -> Description:
    """Return the base network's description at the resolution asked for."""
    if network.family is None:
        raise InputError(
            f"Rounding {rounding!r} is a rule for paper families, and {network.name} is none. "
            "Use nearest, or a name such as RegNetY-4.0GF."
        )
    net, side = network.family, known_resolution(network, None)
    if side == net.resolution:
        return net
    times = sides(net.test_resolution)[0] / sides(net.resolution)[0]
    return replace(net, resolution=side, test_resolution=rescaled(side, times, step=1))


def _refuse_control(rounding: str, control: Control | None, width_multiple: int) -> None:
    if width_multiple != 8:
        raise InputError(
            f"Rounding {rounding!r} rounds widths to multiples of 8, not of {width_multiple}. "
            "Leave the width multiple out, or use nearest."
        )
    if control not in (None, Control()):
        raise InputError(
            f"Rounding {rounding!r} keeps and freezes no parts and gives stages no factors of "
            "their own. Use nearest for that."
        )


def _weighted(made: Network, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made.build("cpu")


def _changed(base: Description, net: Description, keep: tuple[str, ...]) -> tuple[str, ...]:
    """Say where the rule rounds what is kept."""
    values = {
        "w": ("widths", base.widths, net.widths),
        "r": ("resolution", base.resolution, net.resolution),
    }
    return tuple(
        f"The rule rounds the {what} {before} that {axis} keeps to {after}."
        for axis, (what, before, after) in values.items()
        if axis in keep and before != after
    )


def _misses(
    strategy: Strategy, target: str, value: float, before: Complexity, achieved: Complexity
) -> tuple[str, ...]:
    """Say how far the rounding takes the network from the request."""
    got = achieved.as_dict()[target] if target != "factor" else achieved.flops / before.flops
    miss = got / value - 1
    if abs(miss) <= (_MISS if target == "factor" else _BUDGET_MISS):
        return ()
    if isinstance(strategy, Step):
        what = f"{value:.3g} times the flops, which {strategy.name} asks for,"
    else:
        what = (
            f"the {format_count(value)} {target}" if target != "factor" else f"the factor {value:g}"
        )
    by = format_miss(got, value)
    return (f"Rounding to whole blocks, widths and groups misses {what} by {by}.",)


def _grouped(base: Description, net: Description) -> tuple[str, ...]:
    """Say where a group width of 1 was scaled."""
    if isinstance(base, AnyNet) and isinstance(net, AnyNet) and base.block in GROUPED:
        pairs = zip(base.group_widths, net.group_widths, strict=True)
        if any(old == 1 and new > 1 for old, new in pairs):
            return ("The rule scales a group width of 1 like any other.",)
    return ()

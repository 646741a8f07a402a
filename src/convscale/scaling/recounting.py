"""Count a scaled network and its base in another convention, or with rules for operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log

from convscale.complexity.complexity import METRICS, Complexity, Uncounted
from convscale.complexity.counting import count_module, count_network
from convscale.errors import BudgetError, few
from convscale.network.channels.products import OwnRule, checked_rules
from convscale.network.modules.copies import meta_copy
from convscale.network.sources.network import Network
from convscale.quantities import exact, format_count, format_miss
from convscale.scaling.recipe import Recipe
from convscale.scaling.results.scaled import ScaledNetwork

_ROUNDS = 5  # of searches for one budget
_NEAR = 0.001  # a miss that no further search is worth
_FAR = 0.03  # a miss that is worth a note, and refused where it is strict


def solved(
    recipe: Recipe,
    targets: Mapping[str, float | None],
    rules: Mapping[str, OwnRule] | None = None,
    *,
    weights: bool,
) -> ScaledNetwork:
    """Return the network of one target, a budget met as its metric is counted.

    What a network is searched by is the convention default, without rules. Where another counts,
    the search is told as much more or less as the network that it found misses the budget by.

    Args:
        recipe: What is scaled, and how.
        targets: Exactly one of factor, flops, params and acts.
        rules: Rules for operators of base and achieved.
        weights: Whether the module gets weights.

    Raises:
        BudgetError: If the recipe is strict, and the budget is missed by more than 3 %.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.scaler import Scaler
        >>> from convscale.strategy import parse_strategy
        >>> base = resolve_base("timm:resnet18")
        >>> recipe = Recipe(base, parse_strategy("w"), Scaler(base), convention="torch")
        >>> flops = solved(recipe, {"flops": 8e9}, weights=False).achieved.flops
        >>> abs(flops / 8e9 - 1) < 0.01
        True
    """
    base, convention = recipe.base, recipe.convention
    (metric, budget), *_ = [pair for pair in targets.items() if pair[1] is not None] or [("", 0.0)]
    other = convention != "default" or base.rules or rules
    if recipe.scaler is None or not other or metric not in METRICS or not budget:
        made = recipe.made(targets, weights=weights, final=True)
        return recounted(made, base, convention, rules)
    asked, best, tried = budget, None, set[float]()
    while len(tried) < _ROUNDS and asked not in tried:
        tried.add(asked)
        bare = recipe.made({metric: asked})
        found = recounted(bare, base, convention, rules)
        value = getattr(found.achieved, metric)
        miss = abs(log(max(value, 1) / budget))
        if best is None or miss < best[0]:
            best = (miss, asked, bare, found)
        if miss < _NEAR:
            break
        asked *= budget / max(value, 1)
    assert best is not None
    miss, asked, bare, found = best
    value = getattr(found.achieved, metric)
    if miss > _FAR and recipe.strict:
        raise BudgetError(
            f"The nearest network of strategy {recipe.strategy.name!r} has {format_count(value)} "
            f"{metric} in the convention {convention}, not {format_count(budget)}. Leave strict "
            "out to take it."
        )
    if weights:
        found = recounted(recipe.weighted(bare, {metric: asked}), base, convention, rules)
    notes = found.notes
    if miss > _FAR:
        by = format_miss(value, budget)
        of = f"{format_count(budget)} {metric}"
        notes = (*notes, f"The nearest network misses the budget of {of} by {by}.")
    return replace(found, requested={metric: budget}, notes=notes)


def recounted(
    found: ScaledNetwork,
    base: Network,
    convention: str,
    rules: Mapping[str, OwnRule] | None = None,
) -> ScaledNetwork:
    """Return a scaled network whose counts are in a convention, by rules for its operators.

    A factor is met in the convention default, without rules. A note names what is counted in
    neither network.

    Example:
        >>> import convscale as cs
        >>> cs.scale("resnet18", strategy="w", factor=2, weights=False,
        ...          convention="pycls").base.flops
        1814074344
    """
    every = {**base.rules, **checked_rules(rules)}
    if convention == found.base.convention and not every:
        return replace(found, notes=(*found.notes, *_unseen(found.base.uncounted)))
    counted = count_module(
        meta_copy(found.module),
        exact(found.resolution, found.dims),
        name=found.network,
        in_chans=found.in_chans,
        convention=convention,
        rules=every,
        given=found.inputs,
    )
    before = count_network(
        base, resolution=found.base_resolution, convention=convention, rules=rules
    )
    notes = found.notes
    if every and "factor" in found.requested:
        notes = (*notes, f"Solved for without the operators that rules count: {_few(every)}.")
    return replace(
        found,
        base=before,
        achieved=Complexity(counted.flops, counted.params, counted.acts),
        notes=(*notes, *_unseen(before.uncounted)),
    )


def _unseen(uncounted: tuple[Uncounted, ...]) -> tuple[str, ...]:
    """Say which operators are counted neither before nor after."""
    if not uncounted:
        return ()
    listed = _few({entry.operator: entry for entry in uncounted})
    return (f"Without a rule, counted in neither network: {listed}.",)


def _few(names: Mapping[str, object]) -> str:
    return few(name.replace("::", ".") for name in names)

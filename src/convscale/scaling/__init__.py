"""Scaling: width, group width, depth and resolution rebuilt, the factor solved for a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from convscale.complexity.counting import check_convention
from convscale.complexity.memory import MemoryBudget
from convscale.errors import InputError
from convscale.families.scaling import group_rule
from convscale.network.channels.products import OwnRule
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.sources.naming import NetworkLike
from convscale.prediction.store import ProfileLike
from convscale.quantities import Resolution
from convscale.scaling.family import is_by_rule
from convscale.scaling.latency import memory_beside, scale_to_latency, timing_of, with_latency
from convscale.scaling.memory import budget_of
from convscale.scaling.plans.asking import check_rounding, each, split_keep, target_of
from convscale.scaling.predicting import predict
from convscale.scaling.recipe import Recipe
from convscale.scaling.recounting import recounted, solved
from convscale.scaling.resolving import count, count_conventions, resolve, with_inputs
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.scaling.results.storage import load, save
from convscale.scaling.scaler import Scaler
from convscale.scaling.staging import StageRow, StageTable, stages
from convscale.scaling.views import operators
from convscale.scaling.within import scale_within
from convscale.strategy import Strategy, parse_strategy

__all__ = [
    "ScaledNetwork",
    "Scaler",
    "StageRow",
    "StageTable",
    "count",
    "count_conventions",
    "load",
    "operators",
    "predict",
    "resolve",
    "save",
    "scale",
    "stages",
]


def scale(
    network: NetworkLike,
    *,
    strategy: str | Strategy,
    factor: float | None = None,
    flops: float | None = None,
    params: float | None = None,
    acts: float | None = None,
    latency: float | str | None = None,
    memory: int | str | MemoryBudget | None = None,
    profile: ProfileLike | None = None,
    batch_size: int | None = None,
    resolution: Resolution | None = None,
    rounding: str | None = None,
    width_multiple: int = 8,
    keep: Iterable[str] = (),
    freeze: Iterable[str] = (),
    stage_depth: Iterable[float] = (),
    stage_width: Iterable[float] = (),
    seed: int = 0,
    strict: bool = False,
    weights: bool = True,
    num_classes: int | None = None,
    in_chans: int | None = None,
    group_width: str | None = None,
    convention: str = "default",
    rules: Mapping[str, OwnRule] | None = None,
    example_inputs: ExampleInputs | None = None,
) -> ScaledNetwork:
    """Scale a network to exactly one target: a factor, or a budget.

    Budgets are of flops, params, acts, predicted latency or memory; the last two may be given
    together, and then both hold. An entry of a table, such as efficientnet-table@b3, has factors
    of its own and takes none.

    Args:
        network: A name, `file.py:factory`, a saved folder, a description of
            `convscale.families`, or a module; it is not changed.
        strategy: How the factor is shared: dWr, dwr, w, d1_w8_g8_r1…
        factor: Scale factor s of the flops.
        flops: Budget of flops (multiply-adds).
        params: Budget of params.
        acts: Budget of acts.
        memory: Upper limit of memory: bytes or text such as "8GB", for a training step of one
            image by SGD; a `MemoryBudget` says what else must fit. It is never exceeded. Beside a
            latency it is that of the batch that the profile predicts, in inference or training.
        latency: Budget of the latency that the profile predicts: text such as "8ms", or ms.
        profile: The name of a device profile, its file, or a `Profile`: for a latency, or to
            see it beside another target.
        batch_size: Images in the batch whose latency is predicted; 1 by default.
        resolution: Base input side, or all sides, in px; required for modules.
        rounding: nearest, efficientnet, tinynet or yolo; by default the strategy's own, which
            is nearest unless its source has another. For paper families also reference, the
            authors' rule.
        width_multiple: The multiple that widths keep, as far as the base has it.
        keep: What to leave alone: axes (d, w, r) and parts (stem, head).
        freeze: Patterns of the paths of modules whose tensors keep their shapes.
        stage_depth: For each stage a number that the factor of depth is multiplied by.
        stage_width: Likewise for width. With either, the target may be left out: factor 1.
        seed: Seed of the fresh weights; tensors that keep their shape keep their values.
        strict: Whether a budget missed by more than 3 % is an error, or a factor of which the flops
            miss more than a tenth.
        weights: Whether the module gets weights; on the meta device if not.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        group_width: follow, to scale group width like width, or named, only where the
            strategy names g; named under the rounding reference, else follow.
        convention: The convention of base and achieved: default, pycls, fvcore or torch.
        rules: Rules for operators of base and achieved: see `count`.
        example_inputs: What the base network's forward pass takes, as `count` takes it. Its sides
            are those of the first image; inputs that are maps grow with it.

    Returns:
        The scaled network: module, resolution, requested, achieved, notes.

    Raises:
        InputError: If an argument is wrong, or a budget lies below the smallest network.
        UnscalableNetworkError: If the network cannot follow the strategy.
        BudgetError: If a strict budget cannot be met.

    Example:
        >>> scaled = scale("resnet18", strategy="dWr", flops=3.6e9, weights=False)
        >>> abs(scaled.achieved.flops / 3.6e9 - 1) < 0.01
        True
    """
    chosen = parse_strategy(strategy) if isinstance(strategy, str) else strategy
    keep, freeze = each(keep), each(freeze)
    stage_depth, stage_width = tuple(stage_depth), tuple(stage_width)
    axes, control = split_keep(keep, freeze, stage_depth, stage_width)
    timing = timing_of(profile, latency, batch_size)
    if memory is None:
        budget = None
    elif timing is not None and timing.limit_ms is not None:
        budget = memory_beside(memory, timing)
    else:
        budget = budget_of(memory)
    targets = {"factor": factor, "flops": flops, "params": params, "acts": acts}
    bound = None if timing is None else timing.limit_ms
    limits = {"latency": bound, "memory": None if budget is None else budget.limit_bytes}
    if bound is not None and budget is not None:
        limits["memory"] = None  # it is the one target's limit
    target_of(chosen, {**targets, **limits}, default=control.default_factor)
    if rounding is not None:
        check_rounding(rounding)
    check_convention(convention)
    rule = group_rule(chosen, group_width, rounding=rounding)
    base = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    base = with_inputs(base, example_inputs, resolution)
    by_rule = is_by_rule(base, rounding)
    if by_rule and example_inputs is not None:
        raise InputError(
            "Under the rounding reference a network takes one image. Give its resolution, or use "
            "another rounding."
        )
    recipe = Recipe(
        base,
        rule,
        None if by_rule else Scaler(base, width_multiple=width_multiple),
        axes,
        control,
        rounding=rounding,
        width_multiple=width_multiple,
        convention=convention,
        seed=seed,
        strict=strict,
    )
    if timing is not None and timing.limit_ms is not None:
        found = scale_to_latency(recipe, timing, memory=budget, weights=weights)
    elif budget is not None:
        found = scale_within(recipe.at, rule, budget, strict=strict, weights=weights)
    else:
        found = solved(recipe, targets, rules, weights=weights)
        return found if timing is None else with_latency(found, base, timing)
    if timing is not None and timing.limit_ms is None:
        found = with_latency(found, base, timing)
    return recounted(found, base, convention, rules)

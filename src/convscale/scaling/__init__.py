"""Scaling: width, group width, depth and resolution rebuilt, the factor solved for a budget."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from convscale.quantities import Resolution
from convscale.scaling.resolving import count, resolve
from convscale.scaling.scaled import ScaledNetwork
from convscale.scaling.scaler import Scaler, check_rounding, one_target
from convscale.scaling.staging import StageRow, StageTable, stages
from convscale.scaling.storage import load, save
from convscale.strategy import Strategy

__all__ = [
    "ScaledNetwork",
    "Scaler",
    "StageRow",
    "StageTable",
    "count",
    "load",
    "resolve",
    "save",
    "scale",
    "stages",
]


def scale(
    network: str | nn.Module,
    *,
    strategy: str | Strategy,
    factor: float | None = None,
    flops: float | None = None,
    params: float | None = None,
    acts: float | None = None,
    resolution: Resolution | None = None,
    rounding: str = "nearest",
    width_multiple: int = 8,
    keep: Iterable[str] = (),
    seed: int = 0,
    strict: bool = False,
    weights: bool = True,
    num_classes: int | None = None,
    in_chans: int | None = None,
) -> ScaledNetwork:
    """Scale a network to exactly one target: a factor, or a budget of flops, params or acts.

    Args:
        network: A name, `file.py:factory`, a saved folder, or a module; it is not changed.
        strategy: How the factor is shared: dWr, dwr, w, d1_w8_g8_r1…
        factor: Scale factor s of the flops.
        flops: Budget of flops (multiply-adds).
        params: Budget of params.
        acts: Budget of acts.
        resolution: Base input side or (height, width) in px; required for modules.
        rounding: Rounding rule; nearest is the one there is.
        width_multiple: The multiple that widths keep, as far as the base has it.
        keep: Axes to leave alone, of d, w and r.
        seed: Seed of the fresh weights; tensors that keep their shape keep their values.
        strict: Whether a budget missed by more than 3 % is an error.
        weights: Whether the module gets weights; on the meta device if not.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.

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
    one_target({"factor": factor, "flops": flops, "params": params, "acts": acts})
    check_rounding(rounding)
    base = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return Scaler(base, width_multiple=width_multiple).scale(
        strategy,
        factor=factor,
        flops=flops,
        params=params,
        acts=acts,
        keep=keep,
        seed=seed,
        strict=strict,
        weights=weights,
    )

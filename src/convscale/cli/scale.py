"""`convscale scale`: a scaled network for a factor or a budget, counted and saved if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import (
    listed,
    new_folder,
    one_target,
    optional_whole_number,
    whole_number,
    writing,
)
from convscale.quantities import parse_resolution
from convscale.strategy import parse_strategy

if TYPE_CHECKING:
    from convscale.scaling import ScaledNetwork


def scale(
    network: options.Network,
    strategy: options.Strategy,
    factor: options.Factor = None,
    flops: options.Flops = None,
    params: options.Params = None,
    acts: options.Acts = None,
    out: options.Out = None,
    resolution: options.Resolution = None,
    rounding: options.Rounding = "nearest",
    group_width: options.GroupWidth = None,
    width_multiple: options.WidthMultiple = "8",
    keep: options.Keep = None,
    seed: options.Seed = "0",
    strict: options.Strict = False,
    convention: options.Convention = "default",
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Scale a network by a strategy to a factor or a budget.

    Example:
        >>> scale("resnet18", "dWr", factor="nan")
        Traceback (most recent call last):
        convscale.errors.InputError: The factor is nan; it must be positive and finite.
    """
    target = one_target(factor=factor, flops=flops, params=params, acts=acts)
    chosen = parse_strategy(strategy)
    side = None if resolution is None else parse_resolution(resolution)
    kept = () if keep is None else listed(keep, what="axes to keep", example="d,r")
    multiple = whole_number(width_multiple, what="width multiple")
    start = whole_number(seed, what="seed", minimum=0)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    folder = None if out is None else new_folder(out)

    from convscale.scaling import scale as scale_network

    found = scale_network(
        network,
        strategy=chosen,
        factor=target.get("factor"),
        flops=target.get("flops"),
        params=target.get("params"),
        acts=target.get("acts"),
        resolution=side,
        rounding=rounding,
        width_multiple=multiple,
        keep=kept,
        seed=start,
        strict=strict,
        weights=folder is not None,
        num_classes=classes,
        in_chans=channels,
        group_width=group_width,
        convention=convention,
    )
    return _answer(found, folder, json=json)


def _answer(found: ScaledNetwork, folder: Path | None, *, json: bool) -> Answer:
    if folder is not None:
        with writing(folder):
            found.save(folder)
    if json:
        return found.as_document()

    from convscale.report import tables

    saved = [] if folder is None else [f"Saved in {folder}/."]
    return [tables.scaled_table(found), *saved]

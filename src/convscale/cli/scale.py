"""`convscale scale`: a scaled network for a factor or a budget, counted and saved if asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.profiles import no_profile
from convscale.cli.values import (
    listed,
    new_folder,
    numbers,
    one_target,
    optional_whole_number,
    whole_number,
    writing,
)
from convscale.complexity.memory import MemoryBudget
from convscale.errors import InputError
from convscale.input_sizes import parse_input_sizes
from convscale.quantities import parse_bytes, parse_resolution
from convscale.strategy import Step, Strategy, parse_strategy
from convscale.strategy.step import own_factors

if TYPE_CHECKING:
    from convscale.scaling import ScaledNetwork


def scale(
    network: options.Network,
    strategy: options.Strategy,
    factor: options.Factor = None,
    flops: options.Flops = None,
    params: options.Params = None,
    acts: options.Acts = None,
    latency: options.Latency = None,
    memory: options.Memory = None,
    profile: options.ScaleProfile = None,
    batch_size: options.FittingBatch = None,
    optimizer: options.FittingOptimizer = None,
    precision: options.FittingPrecision = None,
    checkpointing: options.FittingCheckpoints = False,
    out: options.Out = None,
    resolution: options.Resolution = None,
    rounding: options.Rounding = None,
    group_width: options.GroupWidth = None,
    width_multiple: options.WidthMultiple = "8",
    keep: options.Keep = None,
    freeze: options.Freeze = None,
    stage_depth: options.StageDepth = None,
    stage_width: options.StageWidth = None,
    seed: options.Seed = "0",
    strict: options.Strict = False,
    convention: options.Convention = "default",
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    input_size: options.InputSizes = None,
    json: options.Json = False,
) -> Answer:
    """Scale a network by a strategy to a factor or a budget.

    Example:
        >>> scale("resnet18", "dWr", factor="nan")
        Traceback (most recent call last):
        convscale.errors.InputError: The factor is nan; it must be positive and finite.
    """
    depths = numbers(stage_depth, what="depth factors of stages", example="1,1,3,1")
    widths = numbers(stage_width, what="width factors of stages", example="1,1,2,2")
    chosen = parse_strategy(strategy)
    given = {"factor": factor, "flops": flops, "params": params, "acts": acts, "latency": latency}
    target = _target(chosen, bool(depths or widths), given, memory)
    if latency is not None and profile is None:
        raise no_profile(f"The latency budget {latency} needs a profile that predicts it")
    size = optional_whole_number(batch_size, what="batch size")
    budget = _budget(target, size, optimizer, precision, checkpointing, profile)
    side = None if resolution is None else parse_resolution(resolution)
    kept = _kept(keep)
    multiple = whole_number(width_multiple, what="width multiple")
    start = whole_number(seed, what="seed", minimum=0)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    inputs = parse_input_sizes(input_size)
    folder = None if out is None else new_folder(out)

    from convscale.scaling import scale as scale_network

    found = scale_network(
        network,
        strategy=chosen,
        factor=target.get("factor"),
        flops=target.get("flops"),
        params=target.get("params"),
        acts=target.get("acts"),
        latency=target.get("latency"),
        memory=budget,
        profile=profile,
        batch_size=None if profile is None else size,
        resolution=side,
        rounding=rounding,
        width_multiple=multiple,
        keep=kept,
        freeze=tuple(freeze or ()),
        stage_depth=depths,
        stage_width=widths,
        seed=start,
        strict=strict,
        weights=folder is not None,
        num_classes=classes,
        in_chans=channels,
        group_width=group_width,
        convention=convention,
        example_inputs=inputs,
    )
    return _answer(found, folder, json=json)


def _kept(lists: list[str] | None) -> tuple[str, ...]:
    """Return all that is to be left alone, of one list or several."""
    read = (listed(text, what="parts to keep", example="r,stem") for text in lists or ())
    return tuple(name for names in read for name in names)


def _target(
    strategy: Strategy, by_stage: bool, given: dict[str, str | None], memory: str | None
) -> dict[str, float]:
    """Return the target by name, and the limit of memory, which may go with a latency.

    An entry of a table has factors of its own and takes no target.
    """
    if isinstance(strategy, Step):
        if any(value is not None for value in (*given.values(), memory)):
            raise InputError(own_factors(strategy))
        return {}
    if given["latency"] is not None and memory is not None:
        limit = {"memory": float(parse_bytes(memory, what="memory budget"))}
        return {**one_target(optional=by_stage, **given), **limit}
    return one_target(optional=by_stage, **given, memory=memory)


def _budget(
    target: dict[str, float],
    batch_size: int | None,
    optimizer: str | None,
    precision: str | None,
    checkpointing: bool,
    profile: str | None,
) -> MemoryBudget | None:
    """Return the budget of memory, where there is one."""
    timed = profile is not None
    if "memory" in target:
        steps = None if optimizer == "none" else optimizer or "sgd"
        limit = MemoryBudget(
            int(target["memory"]), batch_size or 1, steps, precision, checkpointing
        )
        if profile is None or "latency" not in target:
            return limit
        from convscale.scaling.latency import memory_beside, timing_of

        timing = timing_of(profile, None, batch_size)
        assert timing is not None
        own = memory_beside(limit.limit_bytes, timing)  # what of it is not said is the profile's
        unsaid = optimizer is None and not checkpointing
        steps = own.optimizer if unsaid else limit.optimizer
        return replace(limit, optimizer=steps, precision=precision or own.precision)
    fitting = checkpointing or optimizer is not None or precision is not None
    if fitting or (batch_size is not None and not timed):
        raise InputError(
            "--batch-size, --optimizer, --precision and --checkpointing say what must fit "
            "into a budget of memory, the batch size also whose latency --profile predicts. Write "
            "--memory 8GB or --profile NAME with them, or leave them out."
        )
    return None


def _answer(found: ScaledNetwork, folder: Path | None, *, json: bool) -> Answer:
    if folder is not None:
        with writing(folder):
            found.save(folder)
    if json:
        return found.as_document()

    from convscale.report import tables

    saved = [] if folder is None else [f"Saved in {folder}/."]
    return [tables.scaled_table(found), *saved]

"""Carry out a plan: a base network and a plan make the scaled module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import torch
from torch import nn

from convscale.errors import BudgetError, few
from convscale.network.modules.copies import full_copy, meta_copy
from convscale.network.modules.numbers import Place, set_place
from convscale.network.stages.stages import join, upwards
from convscale.scaling.building.depth import apply_depth
from convscale.scaling.building.resizing import follow, resize
from convscale.scaling.building.spectral import estimate_again
from convscale.scaling.building.weights import Redraw, averaged, is_written, refresh
from convscale.scaling.plans.plan import Attribute, Description, Plan, flat

_CONTAINERS: Any = (list, tuple, dict)
_NORMS = nn.modules.batchnorm._NormBase
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}


def build(base: nn.Module, plan: Plan, *, seed: int = 0) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the scaled module; the base is not changed.

    Tensors whose shape stays keep the base's values; those of added blocks and of new shape
    get fresh ones. Mode, dtype and device are the base's; on the meta device there are no
    values.

    Args:
        base: The base module.
        plan: What to change.
        seed: Seed of the fresh weights.

    Returns:
        The module, and notes for the user.

    Raises:
        BudgetError: If the weights exceed the memory of the machine.

    Example:
        >>> scaled, notes = build(nn.Linear(2, 3), Plan(shapes={"weight": (5, 2), "bias": (5,)}))
        >>> scaled.weight.shape
        torch.Size([5, 2])
    """
    on_meta = any(tensor.is_meta for tensor in base.parameters())
    if not on_meta:
        _check_memory(plan)
    module = meta_copy(base) if on_meta else full_copy(base)
    apply_depth(module, plan.depth)
    present = _tensors(module)
    shapes = {name: shape for name, shape in plan.shapes.items() if name in present}
    redraw = Redraw(seed, plan.unscaled)
    frozen: list[str] = []  # those that got random values, and do not train

    def drawn(name: str, old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if isinstance(old, nn.Parameter) and not old.requires_grad and not is_written(old):
            frozen.append(name)
        return redraw(name, old, shape)

    def fill(name: str, old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        path, _, leaf = name.rpartition(".")
        if old.is_meta:
            return drawn(name, old, shape)
        if leaf in _STATISTICS and isinstance(module.get_submodule(path), _NORMS):
            return torch.full(shape, _STATISTICS[leaf], dtype=old.dtype, device=old.device)
        if name in plan.statistics:
            return averaged(old, shape)
        return drawn(name, old, shape)

    added = set(_added(plan, present))
    kept = {
        name
        for name, tensor in present.items()
        if name not in added and shapes.get(name, tuple(tensor.shape)) == tuple(tensor.shape)
    }
    resize(module, shapes, plan.groups, plan.normalized, fill)
    set_descriptions(module, plan.descriptions)
    set_attributes(module, plan.attributes)
    for path in {entry.module for entry in plan.attributes}:
        follow(module.get_submodule(path), path)  # refuses groups that channels do not divide into
    if on_meta:
        return module, ()
    _redraw_added(module, added, drawn)
    notes = refresh(module, kept, seed=seed)
    estimate_again(module, kept)
    return module, (*notes, *_frozen(frozen))


def _frozen(names: list[str]) -> tuple[str, ...]:
    """Say which weights got random values, and do not train."""
    if not names:
        return ()
    return (
        f"Frozen weights are new and hold random values: {few(names)}. Let them train, or keep "
        "their widths (--freeze).",
    )


def set_attributes(module: nn.Module, attributes: Iterable[Attribute]) -> None:
    """Give attributes of a module of our own the values that follow its widths.

    Example:
        >>> net = nn.Sequential(nn.Unflatten(1, (2, 4)))
        >>> set_attributes(net, [Attribute("0", "unflattened_size", 1, 6)])
        >>> net[0].unflattened_size
        (2, 6)
    """
    for entry in attributes:
        set_place(module, Place(entry.module, entry.name, entry.index), entry.value)


def set_descriptions(module: nn.Module, descriptions: Iterable[Description]) -> None:
    """Let a module of our own say what is true of it now.

    Example:
        >>> net = nn.Identity()
        >>> net.feature_info = [{"num_chs": 64}]
        >>> set_descriptions(net, [Description("", ("feature_info", 0, "num_chs"), 112)])
        >>> net.feature_info
        [{'num_chs': 112}]
    """
    for entry in descriptions:
        owner: Any = module.get_submodule(entry.module)
        for key in entry.path[:-1]:
            owner = owner[key] if isinstance(owner, _CONTAINERS) else getattr(owner, str(key))
        last: Any = entry.path[-1]
        if isinstance(owner, _CONTAINERS):
            owner[last] = entry.value
        else:
            setattr(owner, last, entry.value)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _added(plan: Plan, present: dict[str, torch.Tensor]) -> Iterator[str]:
    paths = {join(change.container, name) for change in flat(plan.depth) for name in change.added}
    return (name for name in present if paths.intersection(upwards(name))) if paths else iter(())


def _redraw_added(
    module: nn.Module,
    added: set[str],
    redraw: Callable[[str, torch.Tensor, tuple[int, ...]], torch.Tensor],
) -> None:
    """Give copies of a block weights of their own."""
    for name, tensor in module.named_parameters():
        if name in added:
            with torch.no_grad():
                tensor.copy_(redraw(name, tensor, tuple(tensor.shape)))


def _check_memory(plan: Plan) -> None:
    needed = 4 * sum(prod(shape) for shape in plan.shapes.values())
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return  # the system does not tell; an allocation that fails says so itself
    if needed > available:
        raise BudgetError(
            f"The scaled network has {needed / 1e9:.0f} GB of weights; this machine has "
            f"{available / 1e9:.0f} GB of memory. Scale it without weights: weights=False."
        )

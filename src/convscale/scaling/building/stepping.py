"""Networks that are a base network and plans applied to it, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from convscale.network.modules.copies import meta_copy
from convscale.network.sources.network import Device, Network, Remake
from convscale.quantities import Resolution
from convscale.scaling.building.build import build
from convscale.scaling.building.depth import apply_depth
from convscale.scaling.plans.plan import Plan

Steps = Sequence[dict[str, Any]]


def stepped(base: Network, steps: Steps, *, name: str, resolution: Resolution | None) -> Network:
    """Describe a network that plans make of a base.

    Args:
        base: The base network.
        steps: The documents of the plans.
        name: The name of the network.
        resolution: The side, or all sides, in px that it is meant for.

    Example:
        >>> from convscale.network import resolve_base
        >>> wide = Plan(shapes={"fc.weight": (10, 512), "fc.bias": (10,)}).as_document()
        >>> net = stepped(resolve_base("timm:resnet18"), [wide], name="ten", resolution=224)
        >>> net.build("meta").fc.out_features
        10
    """

    def make(device: Device) -> nn.Module:
        return applied(base.build(device), steps)

    def again(more: dict[str, Any]) -> Network:
        assert base.remake is not None
        other = base.remake.make(more)
        moved = moved_to(steps, base.build("meta"), other.build("meta"))
        return stepped(other, moved, name=name, resolution=other.resolution)

    origin = replace(base.origin, steps=(*base.origin.steps, *steps))
    remake = None if base.remake is None else Remake(base.remake.factory, again)
    return Network(
        name,
        resolution,
        base.in_chans,
        make,
        origin,
        remake=remake,
        dims=base.dims,
        rules=base.rules,
    )


def applied(module: nn.Module, steps: Steps) -> nn.Module:
    """Return what plans make of a module, which is not changed.

    Example:
        >>> applied(nn.Linear(2, 3), [Plan(shapes={"weight": (3, 4)}).as_document()]).in_features
        4
    """
    for step in steps:
        module, _ = build(module, Plan.from_document(step))
    return module


def moved_to(steps: Steps, base: nn.Module, other: nn.Module) -> list[dict[str, Any]]:
    """Return the plans for the same base built for another input size.

    What a plan leaves as the base has it, such as the length of a position table, becomes what
    the other has there.

    Args:
        steps: The documents of the plans.
        base: The base network that they were made for, on the meta device.
        other: The same for another size, on the meta device.

    Example:
        >>> wide = Plan(shapes={"weight": (49, 16)}).as_document()
        >>> base, other = (nn.Embedding(n, 8, device="meta") for n in (49, 64))
        >>> moved_to([wide], base, other)[0]["shapes"]
        {'weight': (64, 16)}
    """
    moved = []
    for step in steps:
        plan = Plan.from_document(step)
        before, after = _shapes(base, plan), _shapes(other, plan)
        shapes = {
            name: tuple(
                there if size == here else size
                for size, here, there in zip(shape, before[name], after[name], strict=True)
            )
            for name, shape in plan.shapes.items()
            if name in before and name in after
        }
        new = replace(plan, shapes=shapes)
        moved.append(new.as_document())
        base, other = applied(base, [step]), applied(other, moved[-1:])
    return moved


def _shapes(module: nn.Module, plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the tensors have once the blocks of a plan are added and removed."""
    copied = meta_copy(module)
    apply_depth(copied, plan.depth)
    tensors = (*copied.named_parameters(remove_duplicate=False),)
    buffers = (*copied.named_buffers(remove_duplicate=False),)
    return {name: tuple(tensor.shape) for name, tensor in (*tensors, *buffers)}

"""Change the depth of a module: add copies of a stage's repeatable block, or take blocks away."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import nn

from convscale.network.stages import Stage, join
from convscale.scaling.plan import DepthEdit, Repetition


def edit(
    stage: Stage,
    depth: int,
    repetition: Repetition | None,
    *,
    taken: frozenset[str] = frozenset(),
) -> DepthEdit | None:
    """Plan the change of one stage to a depth; None where it has that depth already.

    Args:
        stage: The stage.
        depth: The new number of blocks, at least 1.
        repetition: How a repeatable block is made, for a stage that has none.
        taken: Names that the container has already.

    Example:
        >>> edit(Stage("layer1", ("0", "1"), "Block", "1"), 4, None).added
        ('2', '3')
    """
    if depth == stage.depth:
        return None
    if depth < stage.depth:
        return DepthEdit(stage.container, removed=stage.blocks[depth:])
    last = stage.blocks[-1]
    return DepthEdit(
        stage.container,
        added=next_names(last, depth - stage.depth, taken),
        after=last,
        template=stage.repeatable or last,
        repetition=None if stage.repeatable else repetition,
    )


def next_names(last: str, count: int, taken: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Continue the numbering of blocks; number apart where the next names are taken.

    Example:
        >>> next_names("5", 2), next_names("b2", 1), next_names("tail", 1)
        (('6', '7'), ('b3',), ('tail1',))
        >>> next_names("3", 2, frozenset({"3", "4"}))
        ('3_1', '3_2')
    """
    stem = last.rstrip("0123456789")
    number = int(last[len(stem) :] or 0)
    steps = range(1, count + 1)
    names = tuple(f"{stem}{number + step}" for step in steps)
    return tuple(f"{last}_{step}" for step in steps) if taken.intersection(names) else names


def apply_depth(module: nn.Module, edits: Iterable[DepthEdit]) -> None:
    """Change the depth of a module of our own in place.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
        >>> apply_depth(net, [DepthEdit("", added=("1",), after="0", template="0")])
        >>> list(net.state_dict())[-1]
        '1.0.bias'
    """
    pending = list(edits)
    templates = [_template(module, change) for change in pending]
    for change, template in zip(pending, templates, strict=True):
        container = module.get_submodule(change.container)
        for name in change.removed:
            del container._modules[name]
        if template is not None:
            place(container, change.after, change.added, template)


def _template(module: nn.Module, change: DepthEdit) -> nn.Module | None:
    """Return the block to copy, taken before any other change is made."""
    if not change.added:
        return None
    block = module.get_submodule(join(change.container, change.template))
    if change.repetition is None:
        return block
    return repeatable(module, change.repetition)


def place(container: nn.Module, after: str, names: tuple[str, ...], template: nn.Module) -> None:
    """Insert copies of a block behind a child, in the order of execution.

    Example:
        >>> net = nn.Sequential(nn.ReLU(), nn.Sigmoid())
        >>> place(net, "0", ("0_1",), nn.Tanh())
        >>> list(net._modules)
        ['0', '0_1', '1']
    """
    children = list(container._modules.items())
    container._modules.clear()
    for name, child in children:
        container._modules[name] = child
        if name == after:
            for new in names:
                container._modules[new] = copy.deepcopy(template)


def repeatable(module: nn.Module, made: Repetition) -> nn.Module:
    """Make a block that keeps the tensor's shape from one that does not; its widths follow later.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1)))
        >>> repeatable(net, Repetition("0", None, unstrided=("0",)))[0].stride
        (1, 1)
    """
    block = copy.deepcopy(module.get_submodule(made.source))
    for path in made.unstrided:
        layer = block.get_submodule(path)
        stride = layer.stride
        layer.stride = tuple(1 for _ in stride) if isinstance(stride, tuple) else 1  # type: ignore[assignment]
    for name, value in made.flags:
        setattr(block, name, value)
    if made.model is not None:
        model = module.get_submodule(made.model)
        for name in made.borrowed:
            block._modules[name] = copy.deepcopy(getattr(model, name, None))
    return block

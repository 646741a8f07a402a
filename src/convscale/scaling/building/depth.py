"""Change the depth of a module: add copies of a stage's repeatable block, or take blocks away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any

from torch import nn

from convscale.network.modules.copies import part_copy, places, shared_modules
from convscale.network.modules.numbers import set_place
from convscale.network.stages.pairs import entries, entry_copy, set_entries
from convscale.network.stages.stages import Stage, join
from convscale.network.tracing.chains import (
    BEND,
    followers_of,
    hand_on,
    replace_followers,
    without_followers,
)
from convscale.network.tracing.positions import by_position
from convscale.scaling.plans.plan import DepthEdit, Repetition, flat


def edit(
    stage: Stage,
    depth: int,
    repetition: Repetition | None,
    *,
    taken: frozenset[str] = frozenset(),
    host: str = "",
) -> DepthEdit | None:
    """Plan the change of one stage to a depth; None where it has that depth already.

    Args:
        stage: The stage.
        depth: The new number of blocks, at least 1.
        repetition: How a repeatable block is made, for a stage that has none.
        taken: Names that stand where added blocks will.
        host: The module whose followers added blocks are, in stages whose blocks hand on.

    Example:
        >>> edit(Stage("layer1", ("0", "1"), "Block", "1"), 4, None).added
        ('2', '3')
        >>> edit(Stage("", ("conv1",), "Block", "conv1", mode="chained"), 2, None).added
        ('conv1.conv1_1',)
    """
    if depth == stage.depth:
        return None
    if depth < stage.depth:
        less = depth - stage.depth
        gone = tuple(name for block in stage.removable[less:] for name in stage.modules(block))
        return DepthEdit(
            stage.container, removed=gone, mode=stage.mode, counts=stage.counts, more=less
        )
    last = stage.modules(stage.blocks[-1])
    more = depth - stage.depth
    template = stage.modules(stage.repeatable or stage.blocks[-1])
    chained = stage.mode == "chained"
    host = host or last[-1]
    if chained:
        added = _followers(host, stage, template, more, taken)
    elif len(template) == 1:
        added = next_names(last[-1], more, taken)
    elif (following := _in_row(last, more, taken)) is not None:
        added = following
    elif _number(last) is not None:
        rows = [next_names(name, more, taken) for name in last]
        added = tuple(names[step] for step in range(more) for names in rows)
    else:
        added = tuple(f"{name}_{step}" for step in range(1, more + 1) for name in template)
    return DepthEdit(
        stage.container,
        added=added,
        after=host if chained else last[-1],
        template=template,
        repetition=None if stage.repeatable else repetition,
        mode=stage.mode,
        counts=stage.counts,
        more=more,
        bend=stage.bend,
    )


def _followers(
    host: str, stage: Stage, template: tuple[str, ...], more: int, taken: frozenset[str]
) -> tuple[str, ...]:
    """Name the modules of added blocks in the module that hands its output through them.

    Several that make up a block stand in a sequence, as do those behind what bends.
    """
    single = len(template) == 1 and stage.bend is None
    leaf = _leaf(host if single else template[0])
    numbers = (number for number in count(1) if f"{leaf}_{number}" not in taken)
    blocks = [f"{host}.{leaf}_{number}" for number in islice(numbers, more)]
    return tuple(
        block if single else f"{block}.{_leaf(name)}" for block in blocks for name in template
    )


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _in_row(names: tuple[str, ...], more: int, taken: frozenset[str]) -> tuple[str, ...] | None:
    """Continue the numbers that are the names of a block's modules; None where they are none.

    Nor where the next ones are taken.
    """
    if not all(name.isdecimal() for name in names):
        return None
    first = int(names[0])
    own = [str(first + step) for step in range((more + 1) * len(names))]
    new = tuple(own[len(names) :])
    return new if own[: len(names)] == list(names) and not taken.intersection(new) else None


def _number(names: tuple[str, ...]) -> int | None:
    """Return the number that all names of a block end with behind words; None where they do not."""
    ends = [name[len(name.rstrip("0123456789")) :] for name in names]
    words = all(name.rstrip("0123456789")[-1:].isidentifier() for name in names)
    return int(ends[0]) if words and ends[0] and len(set(ends)) == 1 else None


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
        >>> apply_depth(net, [DepthEdit("", added=("1",), after="0", template=("0",))])
        >>> list(net.state_dict())[-1]
        '1.0.bias'
    """
    pending = list(flat(edits))
    every = places(module)
    templates = [_templates(module, change) for change in pending]
    for change, blocks in zip(pending, templates, strict=True):
        for held_in in change.counts:
            held = getattr(module.get_submodule(held_in.module), held_in.attribute)
            now = held[held_in.index] if isinstance(held_in.index, int) else held
            names = list(module.get_submodule(change.container)._modules)
            new = now + change.more if isinstance(now, int) else _listed(now, names, change)
            set_place(module, held_in, new)
        container = module.get_submodule(change.container)
        if isinstance(container, nn.ParameterList):
            _edit_parameters(container, change)
            continue
        chained = change.mode == "chained"
        if change.removed and not chained:
            _tell_features(container, change)
        for name in change.removed:
            remove(container, name, skipped=chained)
        copies = {
            name: None if block is None else _copied(block, shared_modules(every, block))
            for position, name in enumerate(change.added)
            for block in [blocks[position % len(blocks)]]
        }
        if chained and copies:
            chain(container, change.after, _bent(copies, change))
        elif copies:
            place(container, change.after, copies)
        by_position(container)


def _tell_features(container: nn.Module, change: DepthEdit) -> None:
    """Let features come from the block before one that goes, where its name tells of them."""
    told = vars(container).get("return_layers")
    if not isinstance(told, dict):
        return
    last = ""
    moved = {}
    for name in container._modules:
        last = last if name in change.removed else name
        moved[name] = last
    vars(container)["return_layers"] = {moved.get(name, name): own for name, own in told.items()}


def _copied(block: nn.Module, shared: Iterable[nn.Module]) -> nn.Module:
    """Copy a block by itself, without what it hands its output through."""
    return without_followers(part_copy(block, shared))


def _bent(copies: Mapping[str, nn.Module | None], change: DepthEdit) -> dict[str, nn.Module]:
    """Return added modules in the order in which they run, each block behind what bends."""
    found: dict[str, nn.Module] = {}
    for position, (name, block) in enumerate(copies.items()):
        if change.bend is not None and position % len(change.template) == 0:
            found[f"{name}{BEND}"] = change.bend.module()
        if block is not None:
            found[name] = block
    return found


def _listed(values: Sequence[Any], names: list[str], change: DepthEdit) -> Sequence[Any]:
    """Return what an attribute lists of each block; copies have what their models have."""
    own = dict(zip(names, values, strict=True))
    more = [own[change.template[i % len(change.template)]] for i in range(len(change.added))]
    found: list[Any] = []
    for name, value in own.items():
        found += [value] if name not in change.removed else []
        found += more if name == change.after else []
    return tuple(found) if isinstance(values, tuple) else found


def _templates(module: nn.Module, change: DepthEdit) -> list[nn.Module | None]:
    """Return the modules of the block to copy, taken before any other change is made.

    A list beside blocks has None for those that need nothing of it, and gets as much for a copy.
    """
    if not change.added or isinstance(module.get_submodule(change.container), nn.ParameterList):
        return []
    paths = [join(change.container, name) for name in change.template]
    made = change.repetition
    return [
        repeatable(module, made)
        if made is not None and made.source == path
        else _child(module, path)
        for path in paths
    ]


def _child(module: nn.Module, path: str) -> nn.Module | None:
    """Return a module by its path, or the None that is registered there."""
    parent, _, leaf = path.rpartition(".")
    return module.get_submodule(parent)._modules[leaf]


def _edit_parameters(found: nn.ParameterList, change: DepthEdit) -> None:
    """Add copies of an entry to a list of parameters, or take entries away."""
    new: dict[str, Any] = {}
    for name, entry in entries(found).items():
        if name not in change.removed:
            new[name] = entry
        if change.added and name == change.after:
            model = entries(found)[change.template[0]]
            new |= {added: entry_copy(model) for added in change.added}
    set_entries(found, new)


def pair(own: nn.Module, change: DepthEdit, other: nn.Module, path: str) -> DepthEdit:
    """Return the edit of a list that has an entry for every block, as the blocks are edited.

    Args:
        own: The container of the blocks.
        change: Their edit.
        other: The list.
        path: The list's path.

    Example:
        >>> blocks = nn.ModuleDict({"a": nn.Tanh(), "b": nn.Tanh()})
        >>> more = DepthEdit("blocks", added=("b1",), after="b", template=("b",))
        >>> pair(blocks, more, nn.ModuleList([nn.Tanh(), nn.Tanh()]), "others").added
        ('2',)
    """
    counterpart = dict(zip(own._modules, entries(other), strict=True))
    removed = tuple(counterpart[name] for name in change.removed)
    if not change.added:
        return DepthEdit(path, removed=removed)
    after = counterpart[change.after]
    taken = frozenset(counterpart.values())
    added = next_names(after, len(change.added), taken)
    template = tuple(counterpart[name] for name in change.template)
    return DepthEdit(path, added=added, after=after, template=template, removed=removed)


def remove(container: nn.Module, name: str, *, skipped: bool = False) -> None:
    """Take a block away; where others call it by name, leave one that passes its input on.

    Blocks that the block hands its output through go on running.

    Example:
        >>> net = nn.Sequential(nn.ReLU(), nn.Sigmoid())
        >>> remove(net, "1")
        >>> net
        Sequential(
          (0): ReLU()
        )
    """
    path, _, leaf = name.rpartition(".")
    parent = container.get_submodule(path)
    above, _, holder = path.rpartition(".")
    if holder in followers_of(container.get_submodule(above)):
        del parent._modules[leaf]
        parent._modules.pop(f"{leaf}{BEND}", None)
        if parent._modules:
            return
        parent, leaf = container.get_submodule(above), holder  # nothing of the block is left
    if leaf in followers_of(parent):
        replace_followers(parent, leaf, ())
        skipped = False
    if not skipped:
        del parent._modules[leaf]
        return
    old = parent._modules[leaf]
    new = Skip(copies=isinstance(old, nn.modules.conv._ConvNd))
    if isinstance(old, nn.Module) and (names := followers_of(old)):
        hand_on(new, {own: old.get_submodule(own) for own in names})
    parent._modules[leaf] = new


def place(container: nn.Module, after: str, blocks: Mapping[str, nn.Module | None]) -> None:
    """Insert blocks behind a child, in the order of execution.

    Example:
        >>> net = nn.Sequential(nn.ReLU(), nn.Sigmoid())
        >>> place(net, "0", {"0_1": nn.Tanh()})
        >>> list(net._modules)
        ['0', '0_1', '1']
    """
    children = list(container._modules.items())
    container._modules.clear()
    for name, child in children:
        container._modules[name] = child
        if name == after:
            container._modules.update(blocks)
    replace_followers(container, after, (after, *blocks))


def chain(container: nn.Module, after: str, blocks: Mapping[str, nn.Module]) -> None:
    """Let a block hand its output through others, which stand in it by the names given.

    Example:
        >>> net = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Identity()})
        >>> chain(net, "a", {"a.a_1": nn.Tanh(), "a.a_2.act": nn.Tanh()})
        >>> list(net), [name for name, _ in net["a"].named_children()]
        (['a', 'b'], ['a_1', 'a_2'])
    """
    own: dict[str, nn.Module] = {}
    for name, block in blocks.items():
        first, _, rest = name.removeprefix(f"{after}.").partition(".")
        if rest:
            own.setdefault(first, nn.Sequential()).add_module(rest, block)
        else:
            own[first] = block
    hand_on(container.get_submodule(after), own)


class Skip(nn.Module):
    """Pass the first input on, in the place of a block that was taken away.

    Args:
        copies: Whether it gives a tensor of its own, as what stands behind may write into it.

    Example:
        >>> Skip()(3, None)
        3
    """

    def __init__(self, *, copies: bool = False) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        """Return the first input."""
        return x.clone() if self.copies else x


def repeatable(module: nn.Module, made: Repetition) -> nn.Module:
    """Make a block that keeps the tensor's shape from one that does not; its widths follow later.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1)))
        >>> repeatable(net, Repetition("0", None, unstrided=("0",)))[0].stride
        (1, 1)
    """
    block = _copied(module.get_submodule(made.source), ())
    for path in made.unstrided:
        layer = block.get_submodule(path)
        stride = layer.stride
        layer.stride = tuple(1 for _ in stride) if isinstance(stride, tuple) else 1  # type: ignore[assignment]
    for path in made.padded:
        block.get_submodule(path).padding = "same"  # type: ignore[assignment]
    for path in made.centred:
        _centre(block.get_submodule(path))
    for name, value in made.flags:
        setattr(block, name, value)
    if made.model is not None:
        model = module.get_submodule(made.model)
        for name in made.borrowed:
            _lend(block, name, model)
    return block


def _lend(block: nn.Module, name: str, model: nn.Module) -> None:
    """Put in the place of a child what another block has: a module, none, or a plain function."""
    part = getattr(model, name, None)
    if part is None or isinstance(part, nn.Module):
        block._modules[name] = None if part is None else part_copy(part)
        return
    del block._modules[name]
    own = getattr(part, "__self__", None) is model  # a method of the block itself
    setattr(block, name, getattr(block, part.__name__) if own else part)


def _centre(layer: nn.Module) -> None:
    """Let a convolution without stride keep the sides of a map: by an odd kernel, and padding."""
    assert isinstance(layer, nn.modules.conv._ConvNd)
    kernel = tuple(size - 1 + size % 2 for size in layer.kernel_size)
    weight = layer.weight.detach()
    for dim, size in enumerate(kernel, start=2):
        weight = weight.narrow(dim, 0, size)
    layer.weight = nn.Parameter(weight.clone(), requires_grad=layer.weight.requires_grad)
    layer.kernel_size = kernel
    layer.padding = tuple(
        dilation * (size - 1) // 2 for dilation, size in zip(layer.dilation, kernel, strict=True)
    )
    layer.output_padding = tuple(0 for _ in kernel)

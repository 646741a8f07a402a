"""Change the depth of a module: add copies of a stage's repeatable block, or take blocks away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from convscale.network.copies import part_copy, places, shared_modules
from convscale.network.numbers import set_place
from convscale.network.pairs import entries, entry_copy, set_entries
from convscale.network.stages import Stage, join
from convscale.scaling.plan import DepthEdit, Repetition, flat


def edit(
    stage: Stage,
    depth: int,
    repetition: Repetition | None,
    *,
    taken: frozenset[str] = frozenset(),
    outside: tuple[str, ...] = (),
) -> DepthEdit | None:
    """Plan the change of one stage to a depth; None where it has that depth already.

    Args:
        stage: The stage.
        depth: The new number of blocks, at least 1.
        repetition: How a repeatable block is made, for a stage that has none.
        taken: Names that the container has already.
        outside: What the modules of added blocks are called where the list that holds the others
            is not to hold them, a number apart.

    Example:
        >>> edit(Stage("layer1", ("0", "1"), "Block", "1"), 4, None).added
        ('2', '3')
    """
    if depth == stage.depth:
        return None
    if depth < stage.depth:
        gone = tuple(name for block in stage.blocks[depth:] for name in stage.modules(block))
        less = depth - stage.depth
        return DepthEdit(
            stage.container, removed=gone, mode=stage.mode, counts=stage.counts, more=less
        )
    last = stage.modules(stage.blocks[-1])
    more = depth - stage.depth
    template = stage.modules(stage.repeatable or stage.blocks[-1])
    if outside:
        added = tuple(f"{name}_{step}" for step in range(1, more + 1) for name in outside)
    elif len(template) == 1:
        added = next_names(last[-1], more, taken)
    elif _number(last) is not None:
        following = [next_names(name, more, taken) for name in last]
        added = tuple(names[step] for step in range(more) for names in following)
    else:
        added = tuple(f"{name}_{step}" for step in range(1, more + 1) for name in template)
    return DepthEdit(
        stage.container,
        added=added,
        after=last[-1],
        template=template,
        repetition=None if stage.repeatable else repetition,
        mode=stage.mode,
        counts=stage.counts,
        more=more,
        bend=stage.bend,
    )


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
        for count in change.counts:
            held = getattr(module.get_submodule(count.module), count.attribute)
            now = held[count.index] if isinstance(count.index, int) else held
            names = list(module.get_submodule(change.container)._modules)
            new = now + change.more if isinstance(now, int) else _listed(now, names, change)
            set_place(module, count, new)
        container = module.get_submodule(change.container)
        if isinstance(container, nn.ParameterList):
            _edit_parameters(container, change)
            continue
        chained = change.mode == "chained"
        for name in change.removed:
            remove(container, name, skipped=chained)
        copies = {
            name: None if block is None else part_copy(block, shared_modules(every, block))
            for position, name in enumerate(change.added)
            for block in [blocks[position % len(blocks)]]
        }
        if chained and copies:
            chain(container, change.after, _bent(copies, change))
        elif copies:
            place(container, change.after, copies)


def _bent(copies: Mapping[str, nn.Module | None], change: DepthEdit) -> dict[str, nn.Module]:
    """Return added modules in the order in which they run, each block behind what bends."""
    found: dict[str, nn.Module] = {}
    for position, (name, block) in enumerate(copies.items()):
        if change.bend is not None and position % len(change.template) == 0:
            found[f"{name}_act"] = change.bend.module()
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
    if not skipped:
        del parent._modules[leaf]
        return
    old, new = parent._modules[leaf], Skip()
    if isinstance(old, _Chain):
        _hand_on(new, old.followers)
    parent._modules[leaf] = new
    for block in parent.children():
        if isinstance(block, _Chain):
            vars(block)["followers"] = tuple(new if b is old else b for b in block.followers)


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


def chain(container: nn.Module, after: str, blocks: Mapping[str, nn.Module]) -> None:
    """Register blocks beside a block, and let that block hand its output through them.

    Example:
        >>> net = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Identity()})
        >>> chain(net, "a", {"a1": nn.Tanh()})
        >>> list(net), net["a"].followers
        (['a', 'a1', 'b'], (Tanh(),))
    """
    for path in dict.fromkeys(name.rpartition(".")[0] for name in blocks):
        own = {
            leaf: block
            for name, block in blocks.items()
            for parent, _, leaf in [name.rpartition(".")]
            if parent == path
        }
        beside = after.removeprefix(f"{path}.") if path else after
        place(container.get_submodule(path), beside.partition(".")[0], own)
    _hand_on(container.get_submodule(after), tuple(blocks.values()))


class Skip(nn.Module):
    """Pass the first input on, in the place of a block that was taken away.

    Example:
        >>> Skip()(3, None)
        3
    """

    def forward(self, x: Any, *_: Any) -> Any:
        """Return the first input."""
        return x


def _hand_on(first: nn.Module, followers: tuple[nn.Module, ...]) -> None:
    """Let a block hand its output through others; those it has already come first."""
    kind = type(first)
    if isinstance(first, _Chain):
        vars(first)["followers"] = (*first.followers, *followers)
        return
    vars(first)["followers"] = followers
    first.__class__ = _chaining(kind)


def _chaining(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Chain, kind), {"__module__": kind.__module__})


def _unpickled(kind: type[nn.Module]) -> nn.Module:
    """Make a block that hands its output on, which a pickle holds no class of."""
    new = kind.__new__(kind)
    new.__class__ = _chaining(kind)
    return new


class _Chain(nn.Module):
    """A block whose output runs through others that stand beside it.

    They take what else the block was given, such as the embedding of a time.
    """

    followers: tuple[nn.Module, ...]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        for block in self.followers:
            output = block(output, *args[1:], **kwargs)
        return output

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self).__bases__[1],), self.__getstate__()  # type: ignore[no-untyped-call]


def repeatable(module: nn.Module, made: Repetition) -> nn.Module:
    """Make a block that keeps the tensor's shape from one that does not; its widths follow later.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1)))
        >>> repeatable(net, Repetition("0", None, unstrided=("0",)))[0].stride
        (1, 1)
    """
    block = part_copy(module.get_submodule(made.source))
    for path in made.unstrided:
        layer = block.get_submodule(path)
        stride = layer.stride
        layer.stride = tuple(1 for _ in stride) if isinstance(stride, tuple) else 1  # type: ignore[assignment]
    for path in made.padded:
        block.get_submodule(path).padding = "same"  # type: ignore[assignment]
    for name, value in made.flags:
        setattr(block, name, value)
    if made.model is not None:
        model = module.get_submodule(made.model)
        for name in made.borrowed:
            part = getattr(model, name, None)
            block._modules[name] = None if part is None else part_copy(part)
    return block

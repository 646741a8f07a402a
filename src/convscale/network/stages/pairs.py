"""Lists that a forward pass runs through together with a list of blocks, entry by entry.

A block may have a weight, a scale or a second module beside it in a list of its own: a block more
needs an entry more there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from convscale.network.modules.numbers import Place
from convscale.network.stages.stages import Stage, join, upwards, within

_PLAIN = (bool, int, float, str, tuple)
_LISTS = (nn.ParameterList, nn.ModuleList, nn.ModuleDict)


def lists_beside(module: nn.Module, stage: Stage) -> tuple[str, ...]:
    """Return the paths of the lists beside a stage's container that have as many entries.

    Example:
        >>> net = nn.Module()
        >>> net.blocks = nn.ModuleList([nn.Tanh(), nn.Tanh()])
        >>> net.scales = nn.ParameterList([torch.ones(1), torch.ones(1)])
        >>> lists_beside(net, Stage("blocks", ("0", "1"), "Tanh", "1"))
        ('scales',)
    """
    if not stage.container or stage.members:
        return ()
    owner = stage.container.rpartition(".")[0]
    own = module.get_submodule(stage.container)
    count = len(list(own.children()))
    return tuple(
        join(owner, name)
        for name, other in module.get_submodule(owner).named_children()
        if isinstance(other, _LISTS) and other is not own and len(other) == count
    )


def counts_beside(
    module: nn.Module, stage: Stage, stages: tuple[Stage, ...] = ()
) -> tuple[Place, ...]:
    """Return the attributes around a stage that may count its blocks, or list something of each.

    They are of the module that holds the blocks and, where that is a list, of the one around it; or
    lists of any module around, with the depth of each stage inside. What lists something of each
    block (how far apart a convolution reads) has as many entries as the list of blocks.

    Args:
        module: The network.
        stage: The stage.
        stages: All stages of the network.

    Example:
        >>> net = nn.Module()
        >>> net.blocks, net.size, net.width = nn.ModuleList([nn.Tanh(), nn.Tanh()]), 2, 8
        >>> counts_beside(net, Stage("blocks", ("0", "1"), "Tanh", "1"))
        (Place(module='', attribute='size', index=None),)
    """
    holder = module.get_submodule(stage.container)
    listed = isinstance(holder, _LISTS)
    sizes = {stage.depth, len(list(holder.children()))} if listed else {stage.depth}
    owner = stage.container.rpartition(".")[0] if listed else stage.container
    single = (
        Place(owner, name, None)
        for name, value in vars(module.get_submodule(owner)).items()
        if (type(value) is int and value in sizes) or (listed and _lists(value, max(sizes)))
    )
    return (*single, *_in_lists(module, stage, stages))


def _lists(value: Any, count: int) -> bool:
    """Tell whether an attribute lists plain values, as many as asked."""
    if type(value) not in (list, tuple) or len(value) != count:
        return False
    return all(type(entry) in _PLAIN for entry in value)


def _in_lists(module: nn.Module, stage: Stage, stages: tuple[Stage, ...]) -> Iterator[Place]:
    """Yield the entries that may count a stage's blocks in lists with one for each stage."""
    for path in (*upwards(stage.container), ""):
        inside = [other for other in stages if not path or within(other.container, path)]
        depths = [other.depth for other in inside]
        for name, value in vars(module.get_submodule(path)).items():
            listed = type(value) in (list, tuple) and all(type(entry) is int for entry in value)
            if listed and len(depths) > 1 and list(value) == depths:
                yield Place(path, name, inside.index(stage))


def entries(found: nn.Module) -> dict[str, Any]:
    """Return the entries of a list of modules or parameters by name, in the order of the list.

    Example:
        >>> list(entries(nn.ParameterList([torch.ones(1), torch.ones(1)])))
        ['0', '1']
    """
    if isinstance(found, Ordered):
        return {name: found._parameters[name] for name in found.names}
    return dict(found._parameters if isinstance(found, nn.ParameterList) else found._modules)


def set_entries(found: nn.Module, new: dict[str, Any]) -> None:
    """Give a list of our own other entries, in the order given.

    Example:
        >>> scales = nn.ParameterList([torch.zeros(1), torch.ones(1)])
        >>> set_entries(scales, {"0": scales[0], "0_1": nn.Parameter(torch.ones(1) * 5)})
        >>> [int(scale) for scale in scales], len(scales), list(scales.state_dict())
        ([0, 5], 2, ['0', '0_1'])
    """
    store: dict[str, Any] = found._modules
    if isinstance(found, nn.ParameterList):
        found.__class__ = Ordered
        vars(found)["names"] = tuple(new)
        store = found._parameters
    store.clear()
    store.update(new)


class Ordered(nn.ParameterList):
    """A list of parameters whose names tell more than their order.

    Example:
        >>> isinstance(Ordered([]), nn.ParameterList)
        True
    """

    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._parameters[name] for name in self.names])

    def __getitem__(self, index: Any) -> Any:
        chosen = self.names[index]
        if isinstance(chosen, tuple):
            return [self._parameters[name] for name in chosen]
        return self._parameters[chosen]


def entry_copy(entry: torch.Tensor) -> torch.Tensor:
    """Copy a parameter for another entry of a list.

    Example:
        >>> entry_copy(nn.Parameter(torch.ones(2))).requires_grad
        True
    """
    return nn.Parameter(entry.detach().clone(), requires_grad=entry.requires_grad)

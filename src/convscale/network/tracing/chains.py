"""Blocks that hand their output on, through blocks that were added to them: their followers.

Where a forward pass calls a block by name, or knows the blocks of a list by their numbers, what is
added runs inside the last of them: it stands in that block, and goes with it wherever the block
goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from convscale.network.modules.walking import walk
from convscale.network.tracing.positions import Positions

BEND = "_act"  # what the name of a module ends with that bends in front of an added block
_MAKES_WEIGHTS = "parametrizations"  # the child that PyTorch gives a layer with computed weights
_NAMES = "convscale_followers"  # of the attribute of a block that lists them as they run


def followers_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the blocks that a block hands its output through.

    Example:
        >>> followers_of(nn.ReLU())
        ()
    """
    found: tuple[str, ...] = vars(module).get(_NAMES, ())
    return found


def _beside(module: nn.Module) -> tuple[str, ...]:
    """Return the names of children that are no layers of a module: they follow, or make weights."""
    followers = followers_of(module)
    return (*followers, _MAKES_WEIGHTS) if _is_parametrized(module) else followers


def _is_parametrized(module: nn.Module) -> bool:
    """Tell what PyTorch's own function tells, which takes long: it is asked of every module."""
    made = module._modules.get(_MAKES_WEIGHTS)
    return isinstance(made, nn.ModuleDict) and len(made) > 0


def own_children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of a module with their names, but for its followers.

    What makes its weights, as a weight norm does, is none of them.

    Example:
        >>> block = nn.Conv2d(3, 3, 1)
        >>> hand_on(block, {"more": nn.Conv2d(3, 3, 1)})
        >>> len(list(block.children())), len(list(own_children(block)))
        (1, 0)
    """
    others = _beside(module)
    return ((name, child) for name, child in module.named_children() if name not in others)


def own_walk(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network with their paths, but for followers and what is in them.

    Nor what makes weights, as a weight norm does.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 1))
        >>> hand_on(net[0], {"more": nn.Sequential(nn.Tanh())})
        >>> [path for path, _ in own_walk(net)]
        ['', '0']
    """
    others: tuple[str, ...] = ()
    for path, part in walk(module):
        if not f"{path}.".startswith(others):
            yield path, part
            others += tuple(f"{path}.{name}.".lstrip(".") for name in _beside(part))


def own_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of a module with their names, but for those of followers.

    Example:
        >>> block = nn.Conv2d(3, 3, 1, bias=False)
        >>> hand_on(block, {"more": nn.Conv2d(3, 3, 1, bias=False)})
        >>> [name for name, _ in own_parameters(block)]
        ['weight']
    """
    followers = tuple(f"{name}." for name in followers_of(module))
    named = module.named_parameters()
    return ((name, own) for name, own in named if not name.startswith(followers))


def kind_of(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module, of one that hands its output on that of the block itself.

    PyTorch gives every module whose weights are made from others a class of its own: the class is
    the one that it is derived from.

    Example:
        >>> block = nn.Tanh()
        >>> hand_on(block, {"more": nn.ReLU()})
        >>> kind_of(block) is nn.Tanh, type(block) is nn.Tanh
        (True, False)
    """
    kind = _unchained(type(module))
    if kind is Positions:
        return nn.ModuleList
    return kind.__bases__[0] if _is_parametrized(module) else kind


def _unchained(kind: type[nn.Module]) -> type[nn.Module]:
    return kind.__bases__[1] if issubclass(kind, Chain) else kind


def hand_on(first: nn.Module, blocks: Mapping[str, nn.Module]) -> None:
    """Let a block hand its output through others, by their names in it.

    Those that it has already come first. A plain sequence runs them behind its own layers.

    Example:
        >>> block = nn.ReLU()
        >>> hand_on(block, {"more": nn.Threshold(2.0, 7.0)})
        >>> import torch
        >>> block(torch.tensor([-1.0, 3.0])), followers_of(block)
        (tensor([7., 3.]), ('more',))
    """
    first._modules.update(blocks)
    vars(first)[_NAMES] = (*followers_of(first), *blocks)
    plain = isinstance(first, nn.Sequential) and type(first).forward is nn.Sequential.forward
    if not plain and not isinstance(first, Chain):
        first.__class__ = _chaining(type(first))


def without_followers(module: nn.Module) -> nn.Module:
    """Take its followers from a block of our own, and return it.

    Example:
        >>> block = nn.Tanh()
        >>> hand_on(block, {"more": nn.ReLU()})
        >>> without_followers(block)
        Tanh()
    """
    for name in followers_of(module):
        del module._modules[name]
    vars(module).pop(_NAMES, None)
    module.__class__ = _unchained(type(module))
    return module


def replace_followers(module: nn.Module, name: str, names: tuple[str, ...]) -> None:
    """Put other names in the place of one among the followers of a module, where it is one.

    Example:
        >>> block = nn.Tanh()
        >>> hand_on(block, {"more": nn.ReLU()})
        >>> replace_followers(block, "more", ("more", "most"))
        >>> followers_of(block)
        ('more', 'most')
    """
    own = followers_of(module)
    if name in own:
        place = own.index(name)
        vars(module)[_NAMES] = (*own[:place], *names, *own[place + 1 :])


def _chaining(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (Chain, kind), {"__module__": kind.__module__})


def _unpickled(kind: type[nn.Module]) -> nn.Module:
    """Make a block that hands its output on, which a pickle holds no class of."""
    new = kind.__new__(kind)
    new.__class__ = _chaining(kind)
    return new


class Chain(nn.Module):
    """A block whose output runs through its followers.

    They take what else the block was given, such as the embedding of a time.

    Example:
        >>> issubclass(Chain, nn.Module)
        True
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block itself, and then its followers."""
        output = super().forward(*args, **kwargs)
        for name in followers_of(self):
            output = self._modules[name](output, *args[1:], **kwargs)  # type: ignore[misc]
        return output

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self).__bases__[1],), self.__getstate__()  # type: ignore[no-untyped-call]

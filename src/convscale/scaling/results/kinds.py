"""Kinds of blocks that take turns in a stage, told apart by attributes that the forward pass reads.

Windows that are shifted in every second block are one: an added block is a copy of one of these
kinds, though it has the shapes of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType

from torch import nn

from convscale.network.modules.walking import walk
from convscale.network.stages.stages import Stage, join

Attribute = tuple[str, str]  # a module in the block, and what is read from it
_SILENT = frozenset(("__init__", "extra_repr", "__repr__", "reset_parameters"))
_PLAIN = (bool, int, str, type(None))


def alternating(
    module: nn.Module, stage: Stage, others: Sequence[Stage] = ()
) -> frozenset[Attribute]:
    """Return the attributes by which blocks of a stage take turns, with a period.

    Two blocks that differ show no period: they take turns where those of another stage do so by
    the same attribute. What differs in every block, as its number does, tells no kinds apart.

    Args:
        module: The network.
        stage: The stage.
        others: All stages of the network.

    Example:
        >>> class Shifted(nn.Module):
        ...     def __init__(self, number):
        ...         super().__init__()
        ...         self.number, self.shift = number, number % 2
        ...     def forward(self, x):
        ...         return x.roll(self.shift) + self.number
        >>> net = nn.Sequential(*map(Shifted, range(4)))
        >>> alternating(net, Stage("", ("0", "1", "2", "3"), "Shifted", "3"))
        frozenset({('0.', 'shift')})
    """
    own = _series(module, stage)
    found = {name for name, values in own.items() if _takes_turns(values)}
    few = {name for name, values in own.items() if len(values) == 2 and len(set(values)) == 2}
    for other in others if few else ():
        if other.kind == stage.kind:
            found |= few & {
                n for n, values in _series(module, other).items() if _takes_turns(values)
            }
    return frozenset(found)


def _takes_turns(values: Sequence[Hashable]) -> bool:
    """Tell whether different values repeat with a period, at least once in full."""
    count = len(values)
    return len(set(values)) > 1 and any(
        all(values[i] == values[i - period] for i in range(period, count))
        for period in range(2, count // 2 + 1)
    )


def _series(module: nn.Module, stage: Stage) -> dict[Attribute, tuple[Hashable, ...]]:
    """Return the values in the blocks of attributes that all of them have."""
    blocks = [dict(_read(module, stage, block)) for block in stage.blocks]
    shared = set(blocks[0]).intersection(*blocks[1:])
    return {name: tuple(block[name] for block in blocks) for name in shared}


def _read(module: nn.Module, stage: Stage, block: str) -> Iterator[tuple[Attribute, Hashable]]:
    """Yield the plain attributes of the modules in a block that code other than theirs reads."""
    for place, name in enumerate(stage.modules(block)):
        for path, part in walk(module.get_submodule(join(stage.container, name))):
            if type(part).__module__.startswith("torch."):
                continue  # what their layers compute shows in kernels and dilations
            plain = {key: _value(value) for key, value in vars(part).items() if _is_plain(value)}
            for key in plain.keys() & _names_read(type(part)) - {"training"}:
                yield (f"{place}.{path}", key), plain[key]


def _is_plain(value: object) -> bool:
    """Tell whether a value is whole, a word or a flag, or a few of them: rates are none."""
    if isinstance(value, tuple | list):
        return len(value) <= 4 and all(isinstance(one, _PLAIN) for one in value)
    return isinstance(value, _PLAIN)


def _value(value: object) -> Hashable:
    return tuple(value) if isinstance(value, list) else value


def _names_read(kind: type[nn.Module]) -> frozenset[str]:
    """Return the names in the code of a class, but for what makes and shows a module."""
    found: set[str] = set()
    for base in kind.__mro__:
        if base is nn.Module:
            break
        for name, member in _functions(vars(base)):
            if name not in _SILENT:
                found |= _names_in(member.__code__)
    return frozenset(found)


def _functions(members: Mapping[str, object]) -> Iterator[tuple[str, FunctionType]]:
    for name, member in members.items():
        inner = getattr(member, "fget", getattr(member, "__func__", member))
        if isinstance(inner, FunctionType):
            yield name, inner


def _names_in(code: CodeType) -> frozenset[str]:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(code.co_names).union(*(_names_in(one) for one in inner))

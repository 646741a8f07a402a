"""Copies of a module that leave the caller's own untouched."""

from __future__ import annotations

import copy
import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from types import CellType
from typing import Any

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.modules.constants import hold_values
from convscale.network.modules.functions import is_own, own_copy
from convscale.network.modules.walking import has_weights, walk
from convscale.network.modules.wrappers import readable_parts

_PLAIN = frozenset((int, float, bool, str, type(None)))
# The tables that every module has for itself.
_TABLES = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))


def meta_copy(module: nn.Module, *, run: bool = False) -> nn.Module:
    """Copy a module to the meta device; its weights are never copied, so no memory is used.

    Args:
        module: The module.
        run: Whether the copy is run and thrown away: it has the module's own tensors that are on
            the meta device already, as there is nothing in them that a run could change.

    Raises:
        InputError: If the module cannot be copied, or has parameters without a shape.

    Example:
        >>> next(meta_copy(nn.Linear(2, 3)).parameters()).device.type
        'meta'
    """
    parts = readable_parts(module)
    memo = {id(t): t if run and t.is_meta else _as_meta(t) for t in _tensors(parts)}
    copied = _copy(module, parts, memo)
    return without_foreign_hooks(copied) if any(p._forward_hooks for p in parts) else copied


def without_foreign_hooks(copied: nn.Module) -> nn.Module:
    """Take away from a copy what the user hooked on: it sees the user's own runs only.

    Example:
        >>> net = nn.ReLU()
        >>> handle = net.register_forward_hook(lambda *seen: print(seen))
        >>> without_foreign_hooks(full_copy(net))(torch.zeros(1))
        tensor([0.])
    """
    parts = walk(copied)
    hooked = [part for _, part in parts if part._forward_hooks]
    if not hooked:
        return copied
    owned = {id(value) for _, part in parts for value in (part, *vars(part).values())}
    for part in hooked:
        for key, hook in list(part._forward_hooks.items()):
            if not any(id(owner) in owned for owner in _owners(hook)):
                del part._forward_hooks[key]
    return copied


def part_copy(part: nn.Module, shared: Iterable[nn.Module] = ()) -> nn.Module:
    """Copy a part of a network; what its hooks report to is the network's, and stays one.

    Args:
        part: The part.
        shared: Modules in it that other parts have too: the copy has them as well, not copies.

    Example:
        >>> part_copy(nn.ReLU())
        ReLU()
    """
    inside = {one for _, one in walk(part)}
    owners = [
        hook_owner(hook)
        for module in inside
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    memo = {id(owner): owner for owner in owners if owner not in inside}
    memo |= {id(one): one for one in shared}
    return _cloned(part, memo)


def places(module: nn.Module) -> Counter[nn.Module]:
    """Return in how many places of a network each of its modules stands.

    Example:
        >>> mix = nn.Tanh()
        >>> places(nn.Sequential(mix, mix))[mix]
        2
    """
    return Counter(one for _, one in module.named_modules(remove_duplicate=False))


def shared_modules(every: Counter[nn.Module], part: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules with weights in a part of a network that stand outside of it too.

    A part that stands in several places itself takes along what is inside of it.

    Args:
        every: How often each module of the network stands in it (`places`).
        part: The part.

    Example:
        >>> mix = nn.Conv2d(4, 4, 3)
        >>> net = nn.Sequential(nn.Sequential(mix, nn.Tanh()), nn.Sequential(mix, nn.Tanh()))
        >>> shared_modules(places(net), net[1])
        (Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1)),)
    """
    inside, often = places(part), max(1, every[part])
    return tuple(
        one
        for _, one in walk(part)
        if one is not part and every[one] > often * inside[one] and has_weights(one)
    )


def hook_owner(hook: Any) -> object:
    """Return the object whose method a hook is; a network may hold it and read what it saw.

    Example:
        >>> seen: list[object] = []
        >>> hook_owner(functools.partial(seen.append, 1)) is seen
        True
    """
    while isinstance(hook, functools.partial):
        hook = hook.func
    return getattr(hook, "__self__", None)


def _owners(hook: Any) -> Iterator[object]:
    """Yield what a hook may report to: the object whose method it is, and what it closes over."""
    if (owner := hook_owner(hook)) is not None:
        yield owner
    for cell in getattr(hook, "__closure__", None) or ():
        if cell != CellType():
            yield cell.cell_contents


def _reported_to(parts: list[nn.Module]) -> list[object]:
    """Return the lists and dictionaries in attributes that hooks close over."""
    hooked = [part for part in parts if part._forward_hooks or part._forward_pre_hooks]
    if not hooked:
        return []
    own = {id(value) for part in parts for value in vars(part).values()}
    return [
        owner
        for part in hooked
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
        for owner in _owners(hook)
        if isinstance(owner, list | dict | set) and id(owner) in own
    ]


def full_copy(module: nn.Module) -> nn.Module:
    """Copy a module with its weights, mode, dtype and device.

    What was computed from weights and is held in an attribute, as by weight norm, is a value.

    Raises:
        InputError: If the module cannot be copied.

    Example:
        >>> base = nn.Linear(2, 3)
        >>> torch.equal(full_copy(base).weight, base.weight)
        True
    """
    parts = readable_parts(module)
    computed = {id(t): t.detach().clone() for t in _tensors(parts) if not t.is_leaf}
    return _copy(module, parts, computed)


def converted_copy(module: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Copy a module with another tensor for each of its own.

    Raises:
        InputError: If the module cannot be copied.

    Example:
        >>> converted_copy(nn.Linear(2, 3), lambda tensor: torch.zeros_like(tensor)).bias
        tensor([0., 0., 0.])
    """
    parts = readable_parts(module)
    return _copy(module, parts, {id(tensor): convert(tensor) for tensor in _tensors(parts)})


def _copy(module: nn.Module, parts: list[nn.Module], memo: dict[int, Any]) -> nn.Module:
    try:
        for held in _reported_to(parts):
            _value(held, memo)  # a copy's hooks report to the copy's own, whichever comes first
        return _cloned(module, memo)
    except Exception as error:
        raise InputError(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {error}). "
            "Give a module that copy.deepcopy accepts."
        ) from error


def _cloned(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Do what copy.deepcopy does for modules, several times faster: most attributes are plain."""
    known = memo.get(id(module))
    if known is not None:
        return known  # type: ignore[no-any-return]
    kind = type(module)
    if not _is_ordinary(kind):
        return copy.deepcopy(module, memo)
    new = memo[id(module)] = kind.__new__(kind)
    state = vars(new)
    hooked = bool(module._forward_hooks or module._forward_pre_hooks)
    for name, value in module.__getstate__().items():  # type: ignore[no-untyped-call]
        held = type(value)
        if held in _PLAIN:
            state[name] = value
        elif name in _TABLES and not value:  # no hooks, no parameters: most of all there is
            state[name] = held()
            if hooked:  # handles of hooks refer to tables, empty ones too
                state[name] = memo.setdefault(id(value), state[name])
        else:
            state[name] = _value(value, memo)
    return new


def _is_ordinary(kind: type[nn.Module]) -> bool:
    """Tell whether modules of a class are copied attribute by attribute.

    PyTorch's own layers override what sets their state only to read old pickles, and its compiler
    replaces it to mark what was copied.
    """
    return (
        issubclass(kind, nn.Module)  # and no stand-in for one
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__setstate__.__module__.startswith(
            ("torch.nn.modules.", "torch._dynamo.mutation_guard")
        )
        and not hasattr(kind, "__deepcopy__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind.__getstate__ in (nn.Module.__getstate__, object.__getstate__)
    )


def _value(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module):
        return _cloned(value, memo)
    if kind in (dict, OrderedDict):
        copied = memo[id(value)] = kind()
        for key, entry in value.items():
            copied[key] = _value(entry, memo)
        return copied
    if kind in (list, set) and _PLAIN.issuperset(map(type, value)):
        copied = memo[id(value)] = value.copy()
        return copied
    if kind.__module__.startswith("torch._library"):  # a custom operator is one for all
        return value
    if is_own(value):
        return own_copy(value, lambda held: _held(held, memo), memo)
    return copy.deepcopy(value, memo)


def _held(value: Any, memo: dict[int, Any]) -> Any:
    """Copy what a function closes over where it is the network's; share anything else."""
    if id(value) in memo or isinstance(value, nn.Module) or is_own(value):
        return _value(value, memo)
    return value


def _as_meta(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
        raise InputError(
            "The network has lazy parameters without a shape. Run it once before it is given."
        )
    blank = blank_like(tensor)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(blank, requires_grad=tensor.requires_grad)
    hold_values(blank, tensor)
    return blank


def blank_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the meta device with the shape, strides and dtype of another.

    Example:
        >>> blank_like(torch.zeros(2, 3)).device.type
        'meta'
    """
    if tensor.layout == torch.strided and tensor.is_contiguous():  # spares a decomposition
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return torch.empty_like(tensor, device="meta")


def _tensors(parts: list[nn.Module]) -> list[torch.Tensor]:
    """Return every tensor that a module holds: registered, or in a plain attribute."""
    found: list[torch.Tensor] = []
    for part in parts:
        for table in (part._parameters, part._buffers):
            if table:
                found += [tensor for tensor in table.values() if tensor is not None]
        for name, value in vars(part).items():
            if name not in _TABLES and type(value) not in _PLAIN:
                _gather(value, found)
    return found


def _gather(value: object, found: list[torch.Tensor]) -> None:
    """Put the tensors in an attribute to those found."""
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, list | tuple | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            if type(entry) not in _PLAIN:
                _gather(entry, found)

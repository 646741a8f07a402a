"""Functions in attributes of modules: the numbers that they hold, and copies of their own.

A shortcut is often written as a lambda that closes over a width, or as a partial function that
was given one. Copies of a module must not share such a variable with the original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any, TypeGuard

_COPY = "__convscale_copy__"


def held_numbers(value: object) -> dict[str, int]:
    """Return the integers that a function closes over or has as values of arguments, by name.

    Of a function that is no copy of our own none are told: others may hold it too.

    Example:
        >>> held_numbers(own_copy(lambda x, more=2: x + more, lambda held: held, {}))
        {'more': 2}
        >>> held_numbers(functools.partial(print, 1, end=2))
        {'end': 2}
    """
    found: dict[str, object] = {}
    if isinstance(value, functools.partial):
        found = dict(value.keywords)
    elif is_own(value) and _COPY in vars(value):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        found = {**_defaults(value), **{name: _content(cell) for name, cell in cells}}
    return {name: number for name, number in found.items() if type(number) is int}


def hold_number(value: Any, name: str, number: int) -> None:
    """Give a function, a copy of our own, another number by the name of its variable.

    Example:
        >>> pad = functools.partial(print, end=2)
        >>> hold_number(pad, "end", 3)
        >>> pad.keywords
        {'end': 3}
    """
    if isinstance(value, functools.partial):
        value.keywords[name] = number
    elif name in value.__code__.co_freevars:
        value.__closure__[value.__code__.co_freevars.index(name)].cell_contents = number
    elif name in (value.__kwdefaults__ or {}):
        value.__kwdefaults__[name] = number
    else:
        value.__defaults__ = tuple({**_positional(value), name: number}.values())


def is_own(value: object) -> TypeGuard[FunctionType]:
    """Tell whether a value is a function of the network, none of PyTorch, that holds something.

    Example:
        >>> is_own(print), is_own(lambda x: x), is_own(lambda x, more=2: x)
        (False, False, True)
    """
    if not isinstance(value, FunctionType) or str(value.__module__).startswith("torch."):
        return False
    return bool(value.__closure__ or value.__defaults__ or value.__kwdefaults__)


def own_copy(function: FunctionType, copied: Callable[[Any], Any], memo: dict[int, Any]) -> Any:
    """Copy a function with the variables that it closes over.

    Args:
        function: The function.
        copied: Copies what a variable holds, or returns it where it can be shared.
        memo: The copies by the identity of their originals; functions may share a variable.

    Example:
        >>> def outer(width):
        ...     return lambda: width
        >>> function = outer(8)
        >>> twin = own_copy(function, lambda value: value, {})
        >>> hold_number(twin, "width", 16)
        >>> function(), twin()
        (8, 16)
    """
    cells = []
    pending = []
    for cell in function.__closure__ or ():
        own = memo.get(id(cell))
        if own is None:
            own = memo[id(cell)] = CellType()
            pending.append((cell, own))
        cells.append(own)
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells) if cells else None,
    )
    memo[id(function)] = twin
    functools.update_wrapper(twin, function)
    del twin.__wrapped__  # type: ignore[attr-defined]
    vars(twin)[_COPY] = True
    twin.__kwdefaults__ = dict(function.__kwdefaults__) if function.__kwdefaults__ else None
    for cell, own in pending:  # after the function itself, which may be what they hold
        if cell != CellType():
            own.cell_contents = copied(cell.cell_contents)
    return twin


def _content(cell: CellType) -> object:
    return None if cell == CellType() else cell.cell_contents


def _positional(function: FunctionType) -> dict[str, Any]:
    """Return the values that positional arguments have, by name."""
    values = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return dict(zip(names[len(names) - len(values) :], values, strict=True))


def _defaults(function: FunctionType) -> dict[str, Any]:
    return {**_positional(function), **(function.__kwdefaults__ or {})}

"""Commands with many options: a function takes frozen groups of them, the parser each alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from convscale.cli.answer import Answer


def gathered(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return a command with an option for each field of the dataclasses that a function takes.

    Options stand in the order of the parameters and their fields. Parameters that are no
    dataclasses stay as they are.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Size:
        ...     width: int = 1
        ...     depth: int = 2
        >>> @gathered
        ... def area(size: Size, times: int = 1) -> str:
        ...     return str(size.width * size.depth * times)
        >>> str(inspect.signature(area)), area(width=3)
        ('(width: int = 1, depth: int = 2, times: int = 1) -> str', '6')
    """
    own = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = [
        one
        for name, parameter in own.parameters.items()
        for one in (
            _options(groups[name], parameter.kind)
            if name in groups
            else [parameter.replace(annotation=hints[name])]
        )
    ]
    signature = inspect.Signature(parameters, return_annotation=hints["return"])

    @wraps(command)
    def run(*given: Any, **named: Any) -> Answer:
        told = signature.bind(*given, **named).arguments
        for name, group in groups.items():
            parts = {one.name: told.pop(one.name) for one in fields(group) if one.name in told}
            told[name] = group(**parts)
        return command(**told)

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _options(group: Any, kind: Any) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            one.name,
            kind,
            default=_default(one),
            annotation=hints[one.name],
        )
        for one in fields(group)
    ]


def _default(one: Field[Any]) -> object:
    return inspect.Parameter.empty if one.default is MISSING else one.default

"""What `select` is asked, as it takes it: the options with their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_type_hints

from convscale.prediction.store import ProfileLike
from convscale.quantities import Resolution
from convscale.selection.constraints import Constraint
from convscale.selection.zoo import ZooColumns
from convscale.strategy import Strategy
from convscale.study.trials import Progress

Limit = Constraint | str
_Function = TypeVar("_Function", bound=Callable[..., Any])


class SelectOptions(TypedDict, total=False):
    """The options of `select`, which its docstring explains.

    Example:
        >>> SelectOptions(limits=["flops<=8G"])
        {'limits': ['flops<=8G']}
    """

    table: str | Path | None
    limits: Sequence[Limit]
    error: str | None
    law: bool
    uncertainty: float | None
    profile: ProfileLike | None
    batch_size: int
    confidence: float | None
    cost: str | None
    columns: ZooColumns | Mapping[str, str] | None
    dtype: str
    optimizer: str
    precision: str | None
    train_profile: ProfileLike | None
    images: int | None
    epochs: int | None
    devices: int | None
    train_batch_size: int | None
    efficiency: float | None
    power_w: float | None
    strategies: Sequence[str | Strategy] | None
    exponents: bool | None
    candidates: int | None
    factors: tuple[float, float] | None
    resolution: Resolution | None
    rounding: str | None
    num_classes: int | None
    in_chans: int | None
    progress: Progress | None
    measure: int | None
    device: str | None
    threads: int | None
    rounds: int | None
    time_limit_s: float | None


# What is taken where an option is not given; None of all others.
_DEFAULTS: SelectOptions = {
    "limits": (),
    "law": False,
    "batch_size": 1,
    "dtype": "float32",
    "optimizer": "sgd",
}


def completed(options: SelectOptions) -> SelectOptions:
    """Return all options, with the defaults of those that were not given.

    Raises:
        TypeError: If there is no such option.

    Example:
        >>> completed({"limits": ["flops<=8G"]})["dtype"]
        'float32'
    """
    names = SelectOptions.__annotations__
    for unknown in options.keys() - names.keys():
        near = get_close_matches(unknown, names, n=1)
        said = f" Did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"There is no option {unknown!r}.{said}")
    found: Any = {**dict.fromkeys(names), **_DEFAULTS, **options}
    return found  # type: ignore[no-any-return]


def spelled_out(function: _Function) -> _Function:
    """Let a function that takes these options name each of them in its signature.

    Example:
        >>> @spelled_out
        ... def choose(network, **options): ...
        >>> inspect.signature(choose).parameters["dtype"].default
        'float32'
    """
    own = inspect.signature(function)
    hints, defaults = get_type_hints(SelectOptions), dict[str, Any](completed({}))
    named = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint
        )
        for name, hint in hints.items()
    ]
    function.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
    return function

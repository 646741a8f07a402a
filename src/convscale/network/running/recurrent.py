"""Run a recurrent layer on the meta device by two of its steps, of which the first stands for more.

There it is made of a dozen operators a step, which are the same at every step: a signal of
thousands of steps would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any, Protocol

import torch

RECURRENT = frozenset((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu))
_FEW = 2


class Repeats(Protocol):
    """Who sees a run, and can take one step for several.

    Example:
        >>> class Sees:
        ...     times = 1
        ...     def repeats(self, x, dim):
        ...         return True
        >>> seen: Repeats = Sees()
    """

    times: int

    def repeats(self, x: torch.Tensor, dim: int) -> bool:
        """Tell whether it takes one step along a dimension for several."""


def shortened(func: Any, args: Sequence[Any], observers: Sequence[Repeats]) -> Any:
    """Return a function that runs a recurrent layer by two steps; the function itself elsewhere.

    Args:
        func: A function of PyTorch that is called.
        args: Its positional arguments.
        observers: Who sees the run. All must take one step for several; what they see while
            their `times` is not 1 happens so often, or not at all.

    Example:
        >>> shortened(torch.relu, (torch.zeros(3),), ()) is torch.relu
        True
    """
    if func not in RECURRENT or len(args) != 9 or not isinstance(args[2], list | tuple):
        return func  # a packed sequence gives its weights later
    x, dim = args[0], 0 if args[8] is False else 1
    if not x.is_meta or x.ndim != 3 or x.shape[dim] <= _FEW:
        return func
    if not all(observer.repeats(x, dim) for observer in observers):
        return func
    return wraps(func)(partial(_stepped, func, dim, tuple(observers)))


def _stepped(
    func: Callable[..., Any], dim: int, observers: Iterable[Repeats], x: torch.Tensor, *args: Any
) -> Any:
    """Run the first step for all but the last, and the last on the state that it leaves."""
    steps = x.shape[dim]
    state, *rest = args
    _set(observers, 0)  # what puts steps apart and together does not happen
    first, other = x.narrow(dim, 0, 1), x.narrow(dim, steps - 1, 1)
    _set(observers, steps - 1)
    _, *state_left = func(first, state, *rest)
    _set(observers, 1)
    left = tuple(state_left) if isinstance(state, list | tuple) else state_left[0]
    output, *last = func(other, left, *rest)
    _set(observers, 0)
    shape = [*output.shape]
    shape[dim] = steps
    output = output.expand(shape).contiguous()
    _set(observers, 1)
    return output, *last


def _set(observers: Iterable[Repeats], times: int) -> None:
    for observer in observers:
        observer.times = times

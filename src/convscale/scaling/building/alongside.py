"""Find, for the calls of a network of other depths, the calls of the base that they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convscale.network.channels.shaping import Shaped, tellers

_NONE: frozenset[str] = frozenset()


class Alongside:
    """The calls of the base network that name sizes, beside those of a network made from it.

    A module makes them in the same order. Where its code runs through blocks, it makes more for
    the blocks that were added and fewer for those that went; the attributes that told the sizes
    show whose they are.

    Args:
        shaped: The calls of the base network, module by module; None where one is not understood.
        model_path: Maps a module's path to that of its model in the base network's run.

    Example:
        >>> calls = {"": [Shaped("new_zeros", (1, 8), (None, None))]}
        >>> Alongside(calls, str).next("", "new_zeros", ())[1]
        ('', 0)
    """

    def __init__(
        self, shaped: Mapping[str, Sequence[Shaped | None]], model_path: Callable[[str], str]
    ) -> None:
        self._shaped = shaped
        self._model_path = model_path
        self._next: Counter[str] = Counter()

    def next(
        self, path: str, name: str, args: Sequence[Any]
    ) -> tuple[Shaped | None, tuple[str, int]]:
        """Return the call that corresponds to the next one of a module, and which one it is.

        Args:
            path: The module that makes it.
            name: The function.
            args: Its arguments, of any module's attributes the numbers of `install`.

        Returns:
            The call, None where there is none of that function; its module's path in the base
            network's run, and its number there.
        """
        model = self._model_path(path)
        calls = self._shaped.get(model, ())
        told_by = frozenset(self._model_path(own) for own in tellers(args))
        position = _beside(calls, self._next[path], name, told_by)
        self._next[path] = position + 1
        entry = calls[position] if position < len(calls) else None
        known = entry is not None and entry.function == name
        return entry if known else None, (model, position)


def _beside(calls: Sequence[Shaped | None], due: int, name: str, told_by: frozenset[str]) -> int:
    """Return which call it is: the one that is due, or the nearest that these modules told.

    It is one of the last block's where one more was added like it, and one behind where blocks
    went.
    """
    if not told_by or due >= len(calls) or _tellers(calls[due]) == told_by:
        return due
    for at in reversed(range(due)):
        if _tellers(calls[at]) not in (told_by, _NONE):
            break
        if _is_of(calls[at], name, told_by):
            return at
    behind = range(due, len(calls))
    return next((at for at in behind if _is_of(calls[at], name, told_by)), due)


def _is_of(call: Shaped | None, name: str, told_by: frozenset[str]) -> bool:
    return call is not None and call.function == name and call.told_by == told_by


def _tellers(call: Shaped | None) -> frozenset[str]:
    return _NONE if call is None else call.told_by

"""The errors that users meet; each carries one line and the exit status it stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConvscaleError(Exception):
    r"""Say in one line what came, what the rule is, and what to write instead.

    Example:
        >>> ConvscaleError("Factor 0 is not positive.\nUse 2 or 0.5.").line
        'Factor 0 is not positive. Use 2 or 0.5.'
    """

    exit_status = 2

    @property
    def line(self) -> str:
        """The message on a single line."""
        return " ".join(str(self).split())


class InputError(ConvscaleError, ValueError):
    """Refuse a value that the user gave."""


class UnknownNetworkError(InputError):
    """Refuse a network name that nothing answers to."""


class UnscalableNetworkError(ConvscaleError):
    """Say which module and operation cannot be scaled, why, and what the user can do."""

    exit_status = 3


class BudgetError(ConvscaleError):
    """Say that no network of the strategy answers the request well enough."""

    exit_status = 3


def few(names: Iterable[str], *, limit: int = 3, by: str = ", ") -> str:
    """List names in a sentence: the first of them, and how many there are more.

    Example:
        >>> few(["a", "b"]), few("abcde"), few(["a: 1", "b: 2", "c: 3"], limit=2, by="; ")
        ('a, b', 'a, b, c and 2 more', 'a: 1; b: 2 and 1 more')
    """
    listed = list(names)
    more = len(listed) - limit
    return by.join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


def near_names(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Suggest known names that resemble a wrong one, as a sentence or nothing.

    Example:
        >>> near_names("resnet5", ["resnet50", "vgg16"])
        ' Did you mean resnet50?'
        >>> near_names("ResNeXt-50", ["ResNet-50", "ResNeXt-50-32x4d"])
        ' Did you mean ResNeXt-50-32x4d or ResNet-50?'
        >>> near_names("qqq", ["resnet50"])
        ''
    """
    by_lower = {entry.lower(): entry for entry in known}
    given = name.lower()
    longer = [entry for entry in by_lower if len(given) > 2 and entry.startswith(given)]
    like = difflib.get_close_matches(given, by_lower, n=limit, cutoff=0.6)
    close = list(dict.fromkeys([*sorted(longer, key=len), *like]))[:limit]
    if not close:
        return ""
    return f" Did you mean {' or '.join(by_lower[entry] for entry in close)}?"


class ElsewhereError(ConvscaleError):
    """End one of several processes for a reason that another of them says.

    Args:
        message: Which process ended the work.
        exit_status: The exit status of that process.

    Example:
        >>> ElsewhereError("Process 0 has ended the run.", exit_status=3).exit_status
        3
    """

    def __init__(self, message: str, *, exit_status: int = 2) -> None:
        super().__init__(message)
        self.exit_status = exit_status

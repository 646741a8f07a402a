"""What is asked of a scaling: one target, what stays, and a rounding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from convscale.complexity.complexity import METRICS
from convscale.errors import InputError
from convscale.quantities import check_positive
from convscale.scaling.plans.control import PARTS, Control
from convscale.strategy import AXES, Step, Strategy
from convscale.strategy.rules import ROUNDINGS as SINGLE_ROUNDINGS
from convscale.strategy.step import own_factors

ROUNDINGS = (*SINGLE_ROUNDINGS, "reference")  # the last for paper families alone
TARGETS = ("factor", *METRICS, "latency", "memory")


def split_keep(
    keep: Iterable[str],
    freeze: Iterable[str] = (),
    stage_depth: Iterable[float] = (),
    stage_width: Iterable[float] = (),
) -> tuple[tuple[str, ...], Control]:
    """Tell the axes to keep from the parts to keep, and return these with what else stays.

    Raises:
        InputError: If something is no axis and no part, or an axis that stages have factors for.

    Example:
        >>> split_keep(("r", "stem"))[0]
        ('r',)
    """
    names = each(keep)
    for name in names:
        if name not in (*AXES, *PARTS):
            raise InputError(
                f"Cannot keep {name!r}. What can be kept are the axes d, w and r, the stem and "
                "the head; for other modules write --freeze PATTERN."
            )
    axes = tuple(name for name in names if name in AXES)
    parts = tuple(name for name in names if name in PARTS)
    stage_depth, stage_width = tuple(stage_depth), tuple(stage_width)
    for axis, option, factors in (
        ("d", "--stage-depth", stage_depth),
        ("w", "--stage-width", stage_width),
    ):
        if axis in axes and factors:
            raise InputError(
                f"The axis {axis} cannot be kept where stages have factors of their own for it. "
                f"Leave out --keep {axis}, or {option}."
            )
    return axes, Control(parts, each(freeze), stage_depth, stage_width)


def each(names: Iterable[str] | None) -> tuple[str, ...]:
    """Return names; a text alone is one of them, and None is none.

    Raises:
        InputError: If what is given holds other than text.

    Example:
        >>> each("stem"), each(["stem", "head"]), each(None)
        (('stem',), ('stem', 'head'), ())
    """
    if names is None or isinstance(names, str):
        return () if names is None else (names,)
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"{name!r} is no name or pattern. Write text, such as 'layer1.*'.")
    return found


def one_target(
    given: dict[str, float | None], *, default: float | None = None
) -> tuple[str, float]:
    """Return the one target that is given, checked.

    Args:
        given: Values by the name of the target.
        default: The factor to take where no target is given.

    Raises:
        InputError: If none or several are given, or the value is not positive and finite.

    Example:
        >>> one_target({"factor": 4, "flops": None})
        ('factor', 4.0)
    """
    present = [(name, value) for name, value in given.items() if value is not None]
    if not present and default is not None:
        present = [("factor", default)]
    if len(present) != 1:
        came = " and ".join(name for name, _ in present) or "none"
        raise InputError(
            f"Exactly one target is needed, {came} came. Give one of {', '.join(TARGETS)}."
        )
    name, value = present[0]
    return name, check_positive(value, what=name if name == "factor" else f"budget of {name}")


def target_of(
    strategy: Strategy, given: dict[str, float | None], *, default: float | None = None
) -> tuple[str, float]:
    """Return the one target that is given; the factors of a table's entry are its own target.

    Args:
        strategy: A strategy.
        given: Values by the name of the target.
        default: The factor to take where no target is given.

    Raises:
        InputError: If none or several are given, or one for an entry of a table.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> target_of(parse_strategy("yolov5@x"), {"factor": None})[0]
        'factor'
    """
    if not isinstance(strategy, Step):
        return one_target(given, default=default)
    if any(value is not None for value in given.values()):
        raise InputError(own_factors(strategy))
    return "factor", strategy.scale


def rounded(strategy: Strategy, rounding: str | None) -> Strategy:
    """Return a strategy with another rounding than its own, if one is asked for.

    Raises:
        InputError: If there is no such rounding.

    Example:
        >>> from convscale.strategy import parse_strategy
        >>> rounded(parse_strategy("dWr"), "nearest").rules.rounding
        'nearest'
    """
    if rounding is None:
        return strategy
    rules = replace(strategy.rules, rounding=check_rounding(rounding))
    return replace(strategy, rules=rules)


def check_rounding(rounding: str) -> str:
    """Return the name of a rounding rule that exists.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_rounding("nearest")
        'nearest'
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"Unknown rounding {rounding!r}. Use {', '.join(ROUNDINGS)}.")
    return rounding

"""Budgets of a series as people write them: 2ms,5ms,12ms or flops=1G,2G. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from convscale.errors import InputError
from convscale.selection.constraints import Constraint, Sense, parse_constraint
from convscale.selection.metrics import metric

# Units that tell the quantity: those of sizes and counts belong to several.
_TOLD = {
    "latency_ms": ("ms", "us", "µs", "μs", "s"),
    "training_h": ("h", "min", "d"),
    "energy_kwh": ("Wh", "J"),
}
_HOW = "Write times as in 2ms,5ms,12ms, or the quantity first, as in flops=1G,2G,4G."


def parse_budgets(given: str | Sequence[str | Constraint]) -> list[Constraint]:
    """Read budgets of one quantity, which their unit tells, or a name before them.

    Args:
        given: Text such as "2ms,5ms" or "memory=1GB,2GB"; or constraints, or their texts.

    Raises:
        InputError: If they cannot be read, or it is not clear of what they are.

    Example:
        >>> [str(one) for one in parse_budgets("flops=0.5G,1G")]
        ['flops<=500000000', 'flops<=1000000000']
        >>> [str(one) for one in parse_budgets(["2ms", "latency<=5ms"])]
        ['latency_ms<=2ms', 'latency_ms<=5ms']
    """
    if not isinstance(given, str):
        wrong = [one for one in given if not isinstance(one, str | Constraint)]
        if wrong:
            raise InputError(f"A budget is {wrong[0]!r}. Write it as text, as in 'flops=1G'.")
        return [one if isinstance(one, Constraint) else _one(one) for one in given]
    name, named, rest = given.partition("=")
    if named and ("=" in rest or name.rstrip().endswith(("<", ">"))):
        return [_one(text) for text in _entries(given)]
    return [_limit(name if named else "", text) for text in _entries(rest if named else given)]


def _entries(text: str) -> list[str]:
    found = [entry.strip() for entry in text.split(",")]
    if not any(found):
        raise InputError(f"The list of budgets is empty. {_HOW}")
    if not all(found):
        raise InputError(f"A budget in {text!r} is empty. Write one between any two commas. {_HOW}")
    return found


def _one(text: str) -> Constraint:
    """Read one budget with its quantity, or with a unit that tells it."""
    if any(sense in text for sense in ("<=", ">=", "%")):
        return parse_constraint(text)
    name, named, value = text.partition("=")
    return _limit(name if named else "", value if named else text)


def _limit(name: str, text: str) -> Constraint:
    own = metric(name.strip() or _told(text))
    sense: Sense = ">=" if own.at_least else "<="
    return Constraint(own.name, own.read(text.strip()), sense)


def _told(text: str) -> str:
    """Return the quantity that the unit of a value tells."""
    word = text.strip()
    for name, units in _TOLD.items():
        for unit in units:
            number = word.removesuffix(unit)
            if number != word and number.strip()[-1:].isdigit():
                return name
    if word.endswith(_TOLD["energy_kwh"]):  # kWh and MJ: prefixes are part of the unit
        return "energy_kwh"
    raise InputError(f"Cannot tell of what {text!r} is a budget. {_HOW}")

"""Leave axes out of a strategy."""

from __future__ import annotations

from dataclasses import replace

from convscale.errors import InputError
from convscale.strategy.step import Step
from convscale.strategy.strategy import Strategy


def without(strategy: Strategy, keep: tuple[str, ...]) -> tuple[Strategy, tuple[str, ...]]:
    """Leave axes out of a strategy; the others share what they had.

    Where widths stay, so do group widths.

    Args:
        strategy: The strategy.
        keep: The axes that stay: d, w, r.

    Returns:
        The strategy of the other axes, and a note that says so if any axis stays.

    Raises:
        InputError: If nothing is left to scale.

    Example:
        >>> from convscale.strategy import fast
        >>> rest, notes = without(fast(0.8), ("r",))
        >>> round(rest.factors(2.0 ** 9).width, 9), notes
        (16.0, ('Kept r: the exponents of dWr become depth 0.111, width 0.889, resolution 0.',))
    """
    if not keep:
        return strategy, ()
    shares = {"d": strategy.depth, "w": strategy.width, "r": strategy.resolution}
    for axis in keep:
        shares[axis] = 0.0
    if isinstance(strategy, Step):
        return strategy.without(keep), (f"Kept {', '.join(keep)}.",)
    total = sum(shares.values())
    if total <= 0:
        raise InputError(
            f"Nothing is left to scale by {strategy.name!r} with {', '.join(keep)} kept."
        )
    group = strategy.group_width
    if group is not None:
        group = 0.0 if "w" in keep else group / total
    shared = replace(
        strategy,
        depth=shares["d"] / total,
        width=shares["w"] / total,
        resolution=shares["r"] / total,
        group_width=group,
    )
    note = (
        f"Kept {', '.join(keep)}: the exponents of {strategy.name} become depth "
        f"{shared.depth:.3g}, width {shared.width:.3g}, resolution {shared.resolution:.3g}."
    )
    return shared, (note,)

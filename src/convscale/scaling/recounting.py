"""Count a scaled network and its base in another convention, or with rules for operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convscale.complexity.complexity import METRICS, Complexity, Uncounted
from convscale.complexity.counting import count_module, count_network
from convscale.network.copies import meta_copy
from convscale.network.products import OwnRule, checked_rules
from convscale.network.sources import Network
from convscale.quantities import exact
from convscale.scaling.scaled import ScaledNetwork


def recounted(
    found: ScaledNetwork,
    base: Network,
    convention: str,
    rules: Mapping[str, OwnRule] | None = None,
) -> ScaledNetwork:
    """Return a scaled network whose counts are in a convention, by rules for its operators.

    What the factor was solved for stays: the products of the convention default, without rules.
    A note names what is counted in neither network.

    Example:
        >>> import convscale as cs
        >>> cs.scale("resnet18", strategy="w", factor=2, weights=False,
        ...          convention="pycls").base.flops
        1814074344
    """
    every = {**base.rules, **checked_rules(rules)}
    if convention == found.base.convention and not every:
        return replace(found, notes=(*found.notes, *_unseen(found.base.uncounted)))
    counted = count_module(
        meta_copy(found.module),
        exact(found.resolution, found.dims),
        name=found.network,
        in_chans=found.in_chans,
        convention=convention,
        rules=every,
        given=found.inputs,
    )
    before = count_network(
        base, resolution=found.base_resolution, convention=convention, rules=rules
    )
    notes = found.notes
    if found.requested.keys() & set(METRICS) and convention != found.base.convention:
        notes = (*notes, "The budget was solved for in the convention default.")
    if every:
        notes = (*notes, f"Solved for without the operators that rules count: {_few(every)}.")
    return replace(
        found,
        base=before,
        achieved=Complexity(counted.flops, counted.params, counted.acts),
        notes=(*notes, *_unseen(before.uncounted)),
    )


def _unseen(uncounted: tuple[Uncounted, ...]) -> tuple[str, ...]:
    """Say which operators are counted neither before nor after."""
    if not uncounted:
        return ()
    listed = _few({entry.operator: entry for entry in uncounted})
    return (f"Without a rule, counted in neither network: {listed}.",)


def _few(names: Mapping[str, object]) -> str:
    listed = [name.replace("::", ".") for name in names]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")

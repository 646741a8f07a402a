"""Why a network was chosen, in sentences for a design document. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from convscale.quantities import format_count
from convscale.selection.metrics import metric
from convscale.selection.select import Rival, Selection

_RIVALS = 5  # series that the paragraph names


def reason_of(found: Selection, *, tried: bool = False, ended: str = "") -> str:
    """Return one paragraph: what was asked, what was chosen, and what the others lack.

    Args:
        found: The selection.
        tried: Whether the candidates are those that a search tried, and not all there are.
        ended: What ended the search, where no limit did.

    Example:
        >>> import numpy as np
        >>> from convscale.selection.objective import TableErrors
        >>> from convscale.selection.pool import Pool
        >>> from convscale.selection.select import select
        >>> from convscale.selection.constraints import Constraint
        >>> pool = Pool(("a", "b"), ("", ""), {"latency_ms": np.array([3.0, 9.0])})
        >>> limit = Constraint("latency_ms", 5.0)
        >>> print(reason_of(select(pool, TableErrors("top1_err", (20.0, 18.0)), [limit])))
        Of 2 candidates, 1 keeps latency at most 5.00 ms. Of these, a has the least top1_err:
        top1_err 20.00 at latency 3.00 ms. What binds is the limit of the latency: without
        it, b would be chosen (top1_err 18.00): latency 9.00 ms, 4.00 ms (80.0 %) over the
        limit of 5.00 ms. Errors are those of the column top1_err.
    """
    return " ".join(_sentences(found, tried, ended))


def _sentences(found: Selection, tried: bool, ended: str) -> Iterator[str]:
    yield _asked(found)
    yield _chosen(found)
    if found.constraints:
        yield _bound(found, tried) if found.binding else _unbound(found, tried, ended)
    if found.runner_up is not None:
        yield f"Next best that fits: {beside(found, found.runner_up)}."
    for rival in closest(found)[:_RIVALS]:
        yield f"Of {rival.series or 'no series'}, {rival_text(found, rival)}."
    yield found.objective.says


def closest(found: Selection) -> list[Rival]:
    """Return the next best of each other series, those that fit first, then by their error.

    Example:
        >>> callable(closest)
        True
    """
    error = found.estimate.error
    return sorted(found.rivals, key=lambda one: (one.missed is not None, float(error[one.at])))


def _asked(found: Selection) -> str:
    size, kept = len(found.pool), int(found.fits.sum())
    if not found.constraints:
        return f"There are {format_count(size)} candidates and no constraint."
    asked = " and ".join(map(found.pool.asked, found.constraints))
    verb = "keeps" if kept == 1 else "keep"
    if size == 1:
        return f"The only candidate {'keeps' if kept else 'misses'} {asked}."
    return f"Of {size} candidates, {kept} {verb} {asked}."


def _chosen(found: Selection) -> str:
    own = f"{shown_error(found, found.chosen)} at {shown_cost(found, found.chosen)}"
    if len(found.equal) == 1:
        return f"Of these, {found.label} has {found.objective.leads}: {own}."
    best = found.pool.labels[found.best]
    count = len(found.equal)
    if found.best == found.chosen:
        return (
            f"Of these, {found.label} has {found.objective.leads}, {own}, and is the cheapest of "
            f"the {count} that are equal to it within the uncertainty, itself among them."
        )
    return (
        f"Of these, {best} has {found.objective.leads} ({shown_error(found, found.best)} at "
        f"{shown_cost(found, found.best)}); {count} are equal to it within the uncertainty, itself "
        f"among them, and {found.label} is the cheapest of them: {own}."
    )


def _bound(found: Selection, tried: bool) -> str:
    first = found.binding[0]
    label, error = found.pool.labels[first.without], shown_error(found, first.without)
    own = f"{label} would {'be chosen' if first.chosen else f'have {found.objective.leads}'}"
    title = first.constraint.metric.title
    missed = found.pool.miss(first.constraint, first.without)
    more = [one.constraint.metric.title for one in found.binding[1:]]
    others = " and ".join(dict.fromkeys(more))
    also = f" So would something better without the limit of the {others}." if more else ""
    of = ", of those that were tried" if tried else ""
    return (
        f"What binds is the limit of the {title}: without it{of}, {own} ({error}): {missed}.{also}"
    )


def _unbound(found: Selection, tried: bool, ended: str) -> str:
    """Say why no constraint binds: nothing is better, or all that is misses several of them."""
    error = found.estimate.error
    better = np.flatnonzero(error < error[found.best])
    if not len(better):
        best, all_ = found.pool.labels[found.best], "that were tried" if tried else "candidates"
        by = f"; what ends the search is {ended}" if ended else ""
        return f"No constraint binds: {best} has {found.objective.leads} of all {all_}{by}."
    violations = found.pool.violations(found.constraints)
    near = int(min(better, key=lambda at: (violations[:, at].max(), error[at])))
    missed = [
        found.pool.miss(constraint, near)
        for constraint, by in zip(found.constraints, violations[:, near], strict=True)
        if by > 0
    ]
    return (
        "No constraint binds alone: whatever is better misses several. The nearest is "
        f"{found.pool.labels[near]} ({shown_error(found, near)}): {'; '.join(missed)}."
    )


def rival_text(found: Selection, rival: Rival) -> str:
    """Say of the next best of another series what it loses, or what it misses."""
    if rival.missed is None:
        return f"the best that fits is {beside(found, rival.at)}"
    label = found.pool.labels[rival.at]
    return f"none fits; the nearest is {label}: {found.pool.miss(rival.missed, rival.at)}"


def beside(found: Selection, at: int) -> str:
    """Write a candidate with its error beside that of the chosen one, and its cost."""
    error = found.estimate.error
    loss = found.objective.show_loss(float(error[at]), float(error[found.chosen]))
    return f"{found.pool.labels[at]}, {loss} at {shown_cost(found, at)}"


def shown_error(found: Selection, at: int) -> str:
    """Write the error of a candidate."""
    return found.objective.show(float(found.estimate.error[at]))


def shown_cost(found: Selection, at: int) -> str:
    """Write the cost of a candidate, with its name."""
    own = metric(found.cost)
    return f"{own.title} {own.show(float(found.costs()[at]))}"

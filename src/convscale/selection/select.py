"""Choose under any constraints: the best, what it lost to each of them, and the front. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscale.errors import BudgetError, InputError
from convscale.selection.constraints import Constraint, Floats
from convscale.selection.front import undominated
from convscale.selection.metrics import metric
from convscale.selection.objective import Estimate, Objective
from convscale.selection.pool import Pool

Mask = npt.NDArray[np.bool_]
NO_COSTS = frozenset(("images_per_second", "resolution_px", "width_multiple"))
TIMES = ("latency_ms", "training_h", "memory_bytes", "training_memory_bytes", "energy_kwh")


@dataclass(frozen=True)
class Binding:
    """A constraint without which another network would be chosen, and that network.

    Args:
        constraint: The constraint.
        without: The place of what would be chosen without it. Where that fits, as an equal of a
            better one that does not, it is the place of the better one.
        chosen: Whether it is what would be chosen, and not the better one beside it.

    Example:
        >>> Binding(Constraint("latency_ms", 5.0), without=3).without
        3
    """

    constraint: Constraint
    without: int
    chosen: bool = True


@dataclass(frozen=True)
class Rival:
    """The next best of another series: which candidate, and the constraint that it misses most.

    Example:
        >>> Rival("w", at=3, missed=None).at
        3
    """

    series: str
    at: int
    missed: Constraint | None


@dataclass(frozen=True)
class Selection:
    """What was chosen from a pool, and everything that is needed to say why.

    Args:
        pool: The candidates.
        objective: The model of the error.
        estimate: Its errors.
        constraints: What was asked for.
        cost: The quantity by which the cheaper of equals is told.
        chosen: The place of the chosen candidate.
        fits: Which candidates keep all constraints.
        equal: The places of those whose error differs from the best by less than the
            uncertainty, the chosen one among them.
        best: The place of the one with the least error.
        binding: The constraints without which a better one would be chosen, the best first.
        runner_up: What would be chosen without the chosen one; None where nothing else fits.
        rivals: The next best of each other series, or the nearest where none of it fits.
        front: The places of the Pareto front in cost and error, the cheapest first, of all
            candidates that keep the constraints on other quantities than the cost.
    """

    pool: Pool
    objective: Objective
    estimate: Estimate
    constraints: tuple[Constraint, ...]
    cost: str
    chosen: int
    fits: Mask
    equal: tuple[int, ...]
    best: int
    binding: tuple[Binding, ...]
    runner_up: int | None
    rivals: tuple[Rival, ...]
    front: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name of the chosen candidate."""
        return self.pool.labels[self.chosen]

    def costs(self) -> Floats:
        """Return the cost of each candidate."""
        return self.pool.values[self.cost]


def select(
    pool: Pool,
    objective: Objective,
    constraints: Sequence[Constraint],
    *,
    cost: str | None = None,
) -> Selection:
    """Choose the candidate with the least error that keeps every constraint.

    Candidates whose errors differ from the least by less than the uncertainty are equal: the
    cheapest of them is chosen, then the one with the lower error.

    Args:
        pool: The candidates.
        objective: The model of the error.
        constraints: What each must keep.
        cost: The quantity that tells what is cheaper; by default the latency where it is known,
            else what is constrained first, else flops.

    Raises:
        BudgetError: If no candidate keeps every constraint.
        InputError: If a value that is needed is not known.

    Example:
        >>> from convscale.selection.objective import TableErrors
        >>> pool = Pool(("a", "b", "c"), ("", "", ""), {"latency_ms": np.array([3.0, 4.0, 9.0])})
        >>> errors = TableErrors("top1_err", (20.05, 20.0, 18.0), uncertainty=0.1)
        >>> found = select(pool, errors, [Constraint("latency_ms", 5.0)])
        >>> found.label, [pool.labels[at] for at in found.front]
        ('a', ['a', 'b', 'c'])
    """
    given = tuple(constraints)
    estimate = objective.estimate(pool)
    _check_errors(pool, objective, estimate)
    violations = pool.violations(given)
    name = _cost(pool, given) if cost is None else metric(cost).name
    costs = _checked_costs(pool, name)
    fits = (violations == 0).all(axis=0)
    if not fits.any():
        raise BudgetError(_infeasible(pool, given, violations))
    chosen, best, equal = _pick(pool, estimate, costs, fits)
    others = fits.copy()
    others[chosen] = False
    return Selection(
        pool,
        objective,
        estimate,
        given,
        name,
        chosen,
        fits,
        equal,
        best,
        _binding(pool, estimate, costs, given, violations, best),
        _pick(pool, estimate, costs, others)[0] if others.any() else None,
        _rivals(pool, estimate, costs, given, violations, chosen),
        _front(pool, estimate, costs, name, given, violations),
    )


def preferred(found: Selection, among: Mask) -> tuple[int, bool]:
    """Return which of some candidates would be chosen, or comes nearest where none fits.

    Args:
        found: The selection.
        among: Which candidates; at least one.

    Returns:
        Its place, and whether it keeps all constraints.

    Example:
        >>> from convscale.selection.objective import TableErrors
        >>> pool = Pool(("a", "b"), ("", ""), {"flops": np.array([3.0, 9.0])})
        >>> found = select(pool, TableErrors("err", (20.0, 18.0)), [Constraint("flops", 5.0)])
        >>> preferred(found, np.array([False, True]))
        (1, False)
    """
    fitting = among & found.fits
    if fitting.any():
        return _pick(found.pool, found.estimate, found.costs(), fitting)[0], True
    most = found.pool.violations(found.constraints).max(axis=0, initial=0.0)
    return _order(found.pool, np.flatnonzero(among), most, found.estimate.error)[0], False


def _order(pool: Pool, at: npt.NDArray[np.intp], *keys: Floats) -> list[int]:
    """Return places in the order of keys, and of labels where these are equal."""
    names = np.array(pool.labels, dtype=np.str_)[at]
    return [int(i) for i in at[np.lexsort((names, *(key[at] for key in reversed(keys))))]]


def _pick(
    pool: Pool, estimate: Estimate, costs: Floats, among: Mask
) -> tuple[int, int, tuple[int, ...]]:
    """Return the chosen one, the one with the least error, and all that equal it."""
    at = np.flatnonzero(among)
    best = _order(pool, at, estimate.error, costs)[0]
    worse = estimate.error - estimate.error[best]
    equal = among & ((worse < estimate.margin(best)) | (worse == 0))
    order = _order(pool, np.flatnonzero(equal), costs, estimate.error)
    return order[0], best, tuple(order)


def _binding(
    pool: Pool,
    estimate: Estimate,
    costs: Floats,
    constraints: Sequence[Constraint],
    violations: Floats,
    best: int,
) -> tuple[Binding, ...]:
    found: list[Binding] = []
    for place, constraint in enumerate(constraints):
        others = np.delete(violations, place, axis=0)
        without = (others == 0).all(axis=0)
        pick, least, _ = _pick(pool, estimate, costs, without)
        if estimate.error[least] < estimate.error[best]:
            misses = bool(violations[place, pick] > 0)
            found.append(Binding(constraint, pick if misses else least, misses))
    return tuple(sorted(found, key=lambda one: float(estimate.error[one.without])))


def _rivals(
    pool: Pool,
    estimate: Estimate,
    costs: Floats,
    constraints: Sequence[Constraint],
    violations: Floats,
    chosen: int,
) -> tuple[Rival, ...]:
    series = np.array(pool.series, dtype=np.str_)
    most = violations.max(axis=0, initial=0.0)
    found = []
    for name in sorted(set(pool.series) - {pool.series[chosen]}):
        own = series == name
        if (own & (most == 0)).any():
            found.append(Rival(name, _pick(pool, estimate, costs, own & (most == 0))[0], None))
            continue
        at = _order(pool, np.flatnonzero(own), most, estimate.error)[0]
        found.append(Rival(name, at, constraints[int(violations[:, at].argmax())]))
    return tuple(found)


def _front(
    pool: Pool,
    estimate: Estimate,
    costs: Floats,
    cost: str,
    constraints: Sequence[Constraint],
    violations: Floats,
) -> tuple[int, ...]:
    others = [place for place, constraint in enumerate(constraints) if constraint.on != cost]
    at = np.flatnonzero((violations[others] == 0).all(axis=0))
    on = undominated(np.stack([costs[at], estimate.error[at]], axis=1))
    return tuple(_order(pool, at[on], costs, estimate.error))


def _cost(pool: Pool, constraints: Sequence[Constraint]) -> str:
    """Return the quantity that tells what is cheaper."""
    known = [name for name, column in pool.values.items() if not np.isnan(column).any()]
    asked = [constraint.on for constraint in constraints if constraint.sense == "<="]
    wanted = [*(name for name in TIMES if name in asked), "latency_ms", *asked, "flops", *known]
    found = [name for name in wanted if name in known and name not in NO_COSTS]
    if not found:
        raise InputError(
            "Nothing tells which candidate is cheaper. Give their latencies, flops or params."
        )
    return found[0]


def _checked_costs(pool: Pool, name: str) -> Floats:
    own = metric(name)
    if name in NO_COSTS:
        raise InputError(f"The {own.title} is no cost. Use one of which less is better, as flops.")
    costs = pool.values.get(name)
    if costs is None or np.isnan(costs).any():
        raise InputError(
            f"The {own.title} of some candidates is not known, so that it cannot be the cost. Give "
            "it, or name another cost."
        )
    return costs


def _check_errors(pool: Pool, objective: Objective, estimate: Estimate) -> None:
    unknown = np.flatnonzero(np.isnan(estimate.error))
    if len(unknown):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"The {objective.name} of {pool.labels[unknown[0]]}{more} is not known. Give it, or "
            "leave the candidate out."
        )


def _infeasible(pool: Pool, constraints: Sequence[Constraint], violations: Floats) -> str:
    """Say which constraint binds and by how much, and what comes nearest."""
    most = violations.max(axis=0)
    near = _order(pool, np.arange(len(pool)), most, violations.sum(axis=0))[0]
    missed = [
        pool.miss(constraint, near)
        for constraint, by in sorted(
            zip(constraints, violations[:, near], strict=True), key=lambda pair: -pair[1]
        )
        if by > 0
    ]
    said = [
        f"None of {len(pool)} candidates keeps every constraint.",
        f"The nearest is {pool.labels[near]}: {'; '.join(missed)}.",
    ]
    if len(constraints) > 1:
        kept = [
            f"{constraint.sentence} is kept by {int((row == 0).sum())}"
            for constraint, row in zip(constraints, violations, strict=True)
        ]
        said.append(f"Taken alone, {', '.join(kept)}.")
    return " ".join(said)

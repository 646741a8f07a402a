"""Why a series was chosen, in sentences for a design document. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convscale.selection.metrics import metric
from convscale.selection.reasons import shown_cost, shown_error
from convscale.selection.series import Line, SeriesChoice

_RIVALS = 3  # strategies that the paragraph names


def series_reason(choice: SeriesChoice, names: Sequence[str]) -> str:
    """Return one paragraph: the strategy, its networks, and what each budget would gain alone.

    Args:
        choice: The series.
        names: The network of each budget.

    Example:
        >>> import numpy as np
        >>> from convscale.selection.constraints import Constraint
        >>> from convscale.selection.objective import FlopsStandIn
        >>> from convscale.selection.pool import Pool
        >>> from convscale.selection.series import select_series
        >>> values = {"flops": np.array([1.2e9, 2e9, 9e8]), "acts": np.array([1e6, 2e6, 1e6])}
        >>> limits = [Constraint("acts", 1e6), Constraint("acts", 2e6)]
        >>> pool = Pool(("a", "b", "c"), ("",) * 3, values)
        >>> found = select_series(pool, FlopsStandIn(), [], limits, {"w": [0, 1], "d": [2]})
        >>> print(series_reason(found, ["a", "b"]))
        For acts at most 1.00M and 2.00M, w gives the best series of 2 strategies: in the geometric
        mean flops 1.55G. Its networks are a (flops 1.20G at acts 1.00M) and b (flops 2.00G at
        acts 2.00M). A strategy of its own for each budget would gain nothing. The series of d has
        flops -41.9 % in the mean. No errors were given: flops stand in for accuracy; within 5 %
        they are equal.
    """
    return " ".join(_sentences(choice, names))


def budgets_text(choice: SeriesChoice) -> str:
    """Write the budgets as one limit.

    Example:
        >>> budgets_text.__name__
        'budgets_text'
    """
    own = choice.budgets[0].metric
    limits = [own.show(one.limit) for one in choice.budgets]
    return f"{own.title} at {'least' if own.at_least else 'most'} {_joined(limits)}"


def mean_text(choice: SeriesChoice, line: Line) -> str:
    """Write the mean error of a line; of flops it is the geometric mean.

    Example:
        >>> mean_text.__name__
        'mean_text'
    """
    return choice.own[0].objective.show(line.error)


def _sentences(choice: SeriesChoice, names: Sequence[str]) -> Iterator[str]:
    own = choice.own[0]
    others = [own.pool.asked(one) for one in own.constraints[:-1]]
    beside = f", each with {' and '.join(others)}" if others else ""
    sure = f" with {100 * own.pool.confidence:g} % confidence" if _sure(choice) else ""
    asked = f"{budgets_text(choice)}{sure}{beside}"
    if choice.chosen is None:
        yield f"For {asked}, each budget has a network of its own: {_listed(choice, names)}."
        yield own.objective.says
        return
    yield from _chosen(choice, choice.chosen, asked)
    yield f"Its networks are {_listed(choice, names)}."
    yield from _shared(choice, names)
    yield _gains(choice)
    for line in choice.others[:_RIVALS]:
        loss = own.objective.show_loss(line.error, choice.chosen.error)
        yield f"The series of {line.name} has {loss} in the mean."
    yield from _lacking(choice)
    yield own.objective.says


def _sure(choice: SeriesChoice) -> bool:
    return choice.own[0].pool.sure(choice.budgets[0])


def _chosen(choice: SeriesChoice, line: Line, asked: str) -> Iterator[str]:
    of = choice.tried
    mean = "geometric mean" if choice.own[0].objective.name == "flops" else "mean"
    over = f"in the {mean} {mean_text(choice, line)}"
    if of == 1:
        yield f"For {asked}, {line.name} gives the only series: {over}."
    elif choice.equal == 1:
        yield f"For {asked}, {line.name} gives the best series of {of} strategies: {over}."
    else:
        yield (
            f"For {asked}, {choice.equal} of {of} strategies give series that differ at no budget "
            f"by more than the uncertainty, and that of {line.name} is the cheapest: {over}."
        )


def _shared(choice: SeriesChoice, names: Sequence[str]) -> Iterator[str]:
    """Name the budgets that have the same network: nothing between them is better."""
    for at, place in enumerate(choice.places):
        own = [row for row, other in enumerate(choice.places) if other == place]
        if len(own) > 1 and own[0] == at:
            limits = [choice.budgets[row] for row in own]
            shown = _joined([one.metric.show(one.limit) for one in limits])
            yield f"The budgets of {shown} have the same network, {names[at]}."


def _listed(choice: SeriesChoice, names: Sequence[str]) -> str:
    said = [
        f"{name} ({shown_error(own, place)} at {shown_cost(own, place)})"
        for name, own, place in zip(names, choice.own, choice.places, strict=True)
    ]
    return _joined(said)


def gain_text(choice: SeriesChoice, at: int) -> str:
    """Write what a strategy of its own would give a budget, beside its network in the series.

    Example:
        >>> gain_text.__name__
        'gain_text'
    """
    own, place = choice.own[at], choice.places[at]
    if own.chosen == place:
        return "nothing"
    error = own.estimate.error
    loss = own.objective.show_loss(float(error[own.chosen]), float(error[place]))
    cost = f"{metric(own.cost).title} {100 * (choice.cost_ratio(at) - 1):+.1f} %"
    return loss if own.cost == own.objective.name else f"{loss}, {cost}"


def _gains(choice: SeriesChoice) -> str:
    """Say what each budget would gain alone; equal gains are told together."""
    told = [gain_text(choice, at) for at in range(len(choice.own))]
    head = "A strategy of its own for each budget would gain"
    if all(one == "nothing" for one in told):
        return f"{head} nothing."
    said = []
    for at, text in enumerate(told):
        budget, own = choice.budgets[at], choice.own[at]
        where = f"at {budget.metric.show(budget.limit)}"
        near = ", within the uncertainty" if choice.same(at) and text != "nothing" else ""
        said.append(
            f"{where} nothing" if text == "nothing" else f"{where} {text}{near} ({own.label})"
        )
    return f"{head}: {'; '.join(said)}."


def _lacking(choice: SeriesChoice) -> Iterator[str]:
    """Say which strategies have no network for some budget."""
    if not choice.lacking:
        return
    names = [name for name, _ in choice.lacking]
    more = f"{len(names) - _RIVALS} more" if len(names) > _RIVALS else ""
    said = [*names[:_RIVALS], *([more] if more else [])]
    verb = "has" if len(names) == 1 else "have"
    yield f"{_joined(said)} {verb} no network for some budget."


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

"""Choose among the scaled versions of networks: search, select with reasons, build the winner.

A base answers as a `Source` (`source_of`), a `Search` finds candidates, `pool_of` makes the pool
of them, and `Source.built` builds any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, lcm, log, nan
from typing import TYPE_CHECKING

import numpy as np

from convscale.errors import BudgetError, ConvscaleError, InputError, UnscalableNetworkError
from convscale.selection.constraints import Constraint
from convscale.selection.metrics import METRICS
from convscale.selection.objective import Objective
from convscale.selection.pool import Pool
from convscale.selection.rays import limits_size, margin
from convscale.selection.select import TIMES, Selection, select
from convscale.strategy import Step, Strategy
from convscale.study.alpha import ALPHAS, alpha_curve
from convscale.study.costed import Conditions, check_can_tell, notes_on_times
from convscale.study.request import Request
from convscale.study.scaled_source import Found, Source
from convscale.study.search import Question, Search
from convscale.study.space import (
    MOST_FACTOR,
    OWN_LIMITS,
    Space,
    factors_of,
    options_of,
    strategies_of,
)
from convscale.study.trials import Progress
from convscale.study.zoo_selection import Entry, LeftOut, ScaledVersion, ZooSelection

if TYPE_CHECKING:
    from convscale.network import NetworkLike
    from convscale.scaling.results.scaled import ScaledNetwork

_FAR = log(1.5)  # beyond a limit
_NEAR_END = 0.95  # of the range of factors


def source_of(
    network: NetworkLike,
    wanted: frozenset[str],
    how: Conditions,
    limits: Sequence[Constraint],
    space: Space,
) -> Source:
    """Return a base network as a source of candidates: in closed form, or traced.

    Args:
        network: A name or a module.
        wanted: The quantities that are asked for.
        how: The conditions.
        limits: The constraints.
        space: Which scaled versions are candidates.

    Raises:
        InputError: If there is no such network or rule.
        UnscalableNetworkError: If the network cannot be traced.

    Example:
        >>> source_of("RegNetY-4.0GF", frozenset(), Conditions(), (), Space()).usual
        10000
    """
    from convscale.network.running.feeding import known_resolution
    from convscale.scaling import resolve
    from convscale.scaling.plans.asking import check_rounding
    from convscale.study.family_source import FamilySource
    from convscale.study.traced_source import TracedSource

    base = resolve(
        network,
        resolution=space.resolution,
        num_classes=space.num_classes,
        in_chans=space.in_chans,
    )
    rule = space.rounding
    if rule is not None:
        check_rounding(rule)
    if (
        base.family is not None
        and not base.origin.steps
        and rule in (None, "reference", "efficientnet")
    ):
        side = known_resolution(base, None)
        net = replace(base.family, resolution=side)
        return FamilySource(base, net, wanted, how, tuple(limits), rule or "reference")
    if rule == "reference":
        raise InputError(
            f"Rounding 'reference' is a rule for paper families, and {base.name} is none. Leave it "
            "out, or use a name such as RegNetY-4.0GF."
        )
    asked = [round(one.limit) for one in limits if one.sense == "%"]
    multiple = lcm(8, *asked) if rule in (None, "nearest") else 8
    return TracedSource(
        base,
        wanted,
        how,
        limits,
        width_multiple=multiple,
        rounding=rule,
    )


def check_searchable(limits: Sequence[Constraint]) -> None:
    """Refuse to search without any upper limit: the largest network would be the best.

    Raises:
        InputError: If none of the constraints sets one.

    Example:
        >>> check_searchable([Constraint("resolution_px", 320.0)])
        Traceback (most recent call last):
        convscale.errors.InputError: Nothing limits how large the network may become. ...
    """
    if not any(limits_size(one) and one.on not in OWN_LIMITS for one in limits):
        raise InputError(
            "Nothing limits how large the network may become. Give an upper limit: --flops 8G, "
            "--latency 8ms with a profile, --params, --acts, --memory or another."
        )


@dataclass(frozen=True)
class ErrorModel:
    """What tells the errors of scaled versions.

    Args:
        of: Returns the model of the error for the bases.
        notes: What there is to mind about it.
        needs: The quantities of candidates that it reads.

    Example:
        >>> from convscale.selection.objective import FlopsStandIn
        >>> ErrorModel(lambda _: FlopsStandIn()).needs
        frozenset()
    """

    of: Callable[[Sequence[Source]], Objective]
    notes: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


def search_networks(request: Request, errors: ErrorModel) -> ZooSelection:
    """Choose the best scaled version of one or several networks under constraints.

    Args:
        request: What was asked for.
        errors: What tells the errors of candidates.

    Raises:
        BudgetError: If no candidate keeps every constraint.
        InputError: If something is wrong or missing.
        UnscalableNetworkError: If no network can be scaled.
    """
    searches = searches_of(request, errors)
    for search in searches:
        search.run()
    return _chosen(searches, request, errors.notes)


def searches_of(request: Request, errors: ErrorModel) -> list[Search]:
    """Return a search for each base network, none of which has begun.

    Args:
        request: What was asked for; its limits are those of the searches.
        errors: What tells the errors of candidates.

    Raises:
        InputError: If something is wrong or missing.
        UnscalableNetworkError: If a network cannot be traced.

    Example:
        >>> from convscale.selection.objective import FlopsStandIn
        >>> from convscale.study.request import requested
        >>> request = requested("RegNetY-4.0GF", limits=["flops<=8G"])
        >>> asked = searches_of(request, ErrorModel(lambda _: FlopsStandIn()))
        >>> asked[0].source.name, asked[0].question.cost, len(asked[0].found)
        ('RegNetY-4.0GF', 'acts', 0)
    """
    limits, how, space, cost = request.limits, request.how, request.space, request.cost
    check_searchable(limits)
    if cost is None and not errors.needs:
        cost = _default_cost(limits, how)
    wanted = _wanted(limits, how, cost) | errors.needs
    check_can_tell(wanted, how)
    strategies = strategies_of(space.strategies)
    factors = factors_of(space, limits)
    sources = [source_of(one, wanted, how, limits, space) for one in request.bases]
    _check_names(sources)
    objective = errors.of(sources)
    searches: list[Search] = []
    for at, source in enumerate(sources):
        question = Question(
            limits,
            strategies,
            _series(strategies, space),
            space.between,
            objective,
            _pools(how, source if len(sources) > 1 else None),
            cost,
            space.candidates,
            factors,
        )
        searches.append(Search(source, question, _shared(request.progress, at, len(sources))))
    return searches


def _series(strategies: Sequence[Strategy], space: Space) -> frozenset[str]:
    """Return the strategies that are series of their own: not each α, unless it was asked for."""
    asked = space.strategies is not None
    return frozenset(one.name for one in strategies if asked or one.name not in ALPHAS)


def _default_cost(limits: Sequence[Constraint], how: Conditions) -> str | None:
    """Return what tells the cheaper where flops stand in for accuracy: acts, if nothing better.

    Of equal flops, what has less activations is faster on hardware that memory limits.
    """
    asked = {one.on for one in limits if one.sense == "<="}
    return None if how.profile is not None or asked & set(TIMES) else "acts"


def _wanted(limits: Sequence[Constraint], how: Conditions, cost: str | None) -> frozenset[str]:
    own = {one.on for one in limits} | ({cost} if cost is not None else set())
    own |= {"latency_ms"} if how.profile is not None else set()
    return frozenset(own)


def _check_names(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The network {twice} came twice. Name each once.")


def _shared(progress: Progress | None, at: int, of: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(at * total + done, of * total)


def _pools(how: Conditions, source: Source | None) -> Callable[[Sequence[Found]], Pool]:
    """Return what makes pools of candidates; of several bases, their names stand with series."""
    base = "" if source is None else f"{source.name} "
    return lambda found: pool_of(found, how, [f"{base}{one.ask.series}" for one in found])


def pool_of(found: Sequence[Found], how: Conditions, series: Sequence[str]) -> Pool:
    """Return candidates as columns.

    Args:
        found: What was found.
        how: The conditions.
        series: The series of each.

    Example:
        >>> from convscale.study.scaled_source import Ask
        >>> one = Found(Ask(None), "net", "net", 224, {"flops": 1e9})
        >>> pool_of([one], Conditions(), ["base"]).values["flops"].tolist()
        [1000000000.0]
    """
    names = [one.name for one in METRICS if any(one.name in own.values for own in found)]
    bounds = {name for own in found for name in own.bounds} if how.confidence > 0.5 else set()
    return Pool(
        tuple(own.label for own in found),
        tuple(series),
        {name: np.array([own.values.get(name, nan) for own in found]) for name in names},
        {name: np.array([own.bounds.get(name, nan) for own in found]) for name in sorted(bounds)},
        how.confidence,
    )


def _chosen(searches: Sequence[Search], request: Request, notes: Sequence[str]) -> ZooSelection:
    """Select from all that was found, and build the winner: it must count as planned."""
    how, options = request.how, options_of(request.space)
    kept = [(search, one) for search in searches for one in _near(search)]
    left_out = strategies_left_out(searches)
    if not kept:
        raise none_found(left_out)
    try:
        choice = _buildable(kept, how, left_out, several=len(searches) > 1)
    except BudgetError as error:
        hint = _hint_on_widths(searches[0], [one for _, one in kept])
        raise BudgetError(f"{error.line}{hint}") from None
    owner, winner = kept[choice.chosen]
    entries = [
        Entry(
            None, one.label, one.resolution, one.notes, ScaledVersion(own.source, one.ask, options)
        )
        for own, one in kept
    ]
    told = [
        *notes,
        *notes_on_times(how),
        *owner.source.notes(winner),
        *_told(winner, owner, request.space.factors is not None),
        *note_on_strategies(left_out),
    ]
    return ZooSelection(
        None,
        choice,
        tuple(entries),
        tuple(left_out),
        None if how.profile is None else how.profile.name,
        how.batch_size,
        tuple(told),
        bases=tuple(search.source.name for search in searches),
        alpha_curve=alpha_curve(owner, [one for _, one in kept], choice),
        train_profile=None if how.schedule is None else how.schedule.profile.name,
        ended=_ended(searches, winner, owner),
    )


def _hint_on_widths(search: Search, kept: Sequence[Found]) -> str:
    """Say which multiples widths may have, where no scaled version has the one asked for."""
    own = next((one for one in search.found.values() if one.ask.strategy is None), None)
    scaled = [one for one in kept if one.ask.strategy is not None]
    for limit in search.question.limits:
        if limit.sense != "%" or own is None or not scaled:
            continue
        if not limit.excess(np.array([one.held[limit.on] for one in scaled])).all():
            continue
        base = own.held[limit.on]
        said = f" The widths of {search.source.name} are multiples of {base:g}, and rounding "
        if limit.excess(np.array([base])).any():
            return f"{said}holds to no others: ask for one that divides {base:g}."
        if not (search.source.rounding or "nearest").startswith("nearest"):
            return f"{said}nearest holds to {limit.limit:g}: write --rounding nearest."
    return ""


def _buildable(
    kept: list[tuple[Search, Found]], how: Conditions, left_out: list[LeftOut], *, several: bool
) -> Selection:
    """Select what can be built; what cannot is moved from what is kept to what is left out."""
    question = kept[0][0].question
    while True:
        base = [f"{search.source.name} " if several else "" for search, _ in kept]
        series = [f"{name}{one.ask.series}" for name, (_, one) in zip(base, kept, strict=True)]
        pool = pool_of([one for _, one in kept], how, series)
        choice = select(pool, question.objective, question.limits, cost=question.cost)
        owner, winner = kept[choice.chosen]
        try:
            checked_version(winner, owner.source)
        except ConvscaleError as error:
            left_out.append(LeftOut(None, winner.label, error.line))
            del kept[choice.chosen]
            if not kept:
                raise
        else:
            return choice


def none_found(left_out: Sequence[LeftOut]) -> UnscalableNetworkError:
    """Return the error that no version of a network can be a candidate, with the first reason.

    Example:
        >>> none_found([LeftOut(None, "net@d", "It has no stages.")]).line
        'No scaled version can be a candidate. net@d: It has no stages.'
    """
    first = left_out[0] if left_out else None
    said = f" {first.model}: {first.reason}" if first else ""
    return UnscalableNetworkError(f"No scaled version can be a candidate.{said}")


def _near(search: Search) -> list[Found]:
    """Leave out what misses a limit by far, and was tried to find out where the limit binds.

    Where nothing else of a series was found, its nearest stays; where nothing fits, all does.
    """
    found = list(search.found.values())
    over = {id(one): margin(search.question.limits, one.held) for one in found}
    if min(over.values(), default=1.0) > 0:
        return found
    nearest: dict[str, Found] = {}
    for one in sorted(found, key=lambda each: over[id(each)]):
        nearest.setdefault(one.ask.series, one)
    first = {id(one) for one in nearest.values()}
    return [one for one in found if over[id(one)] <= _FAR or id(one) in first]


def checked_version(winner: Found, source: Source) -> ScaledNetwork | None:
    """Build a scaled version; what is said of it must be what it counts.

    Raises:
        UnscalableNetworkError: If it is not, or cannot be built.

    Example:
        >>> checked_version.__name__
        'checked_version'
    """
    if winner.ask.strategy is None:
        return None
    built = source.built(winner.ask)
    counted = built.achieved.as_dict()
    for name, value in counted.items():
        if value != winner.values[name]:
            raise UnscalableNetworkError(
                f"{winner.label} counts {value} {name}, but {winner.values[name]:.0f} were planned."
            )
    return built


def strategies_left_out(searches: Sequence[Search]) -> list[LeftOut]:
    """Return the strategies that gave no candidate, with the first reason.

    Example:
        >>> strategies_left_out([])
        []
    """
    found: dict[str, LeftOut] = {}
    for search in searches:
        for one in search.question.strategies:
            if one.name in search.failed and one.name not in search.asked:
                own = one.name.partition("@")[0] if isinstance(one, Step) else one.name
                label = f"{search.source.name}@{own}"
                found.setdefault(label, LeftOut(None, label, search.failed[one.name]))
    return list(found.values())


def note_on_strategies(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """Say which strategies gave no candidate, and why the first.

    Example:
        >>> note_on_strategies([LeftOut(None, "net@d", "It has no stages.")])
        ('Left out: net@d. net@d: It has no stages.',)
    """
    if not left_out:
        return ()
    names = ", ".join(one.model for one in left_out)
    return (f"Left out: {names}. {left_out[0].model}: {left_out[0].reason}",)


def _ended(searches: Sequence[Search], winner: Found, owner: Search) -> str:
    """Return what ended the search, where it was no limit; empty where something else did."""
    high, factor = owner.question.factors[1], winner.ask.factor
    if winner.ask.strategy is not None and factor is not None and factor >= _NEAR_END * high:
        return f"the range of factors, up to {high:g}"
    if any(len(search.found) >= search.most for search in searches):
        return f"the number of candidates, {owner.most:,} from a network"
    return ""


def _told(winner: Found, owner: Search, asked: bool) -> list[str]:
    """Say where the range of factors ends that of the winner, and no constraint.

    Args:
        winner: What was chosen.
        owner: The search that found it.
        asked: Whether the range was asked for.
    """
    factor, high = winner.ask.factor, owner.question.factors[1]
    if winner.ask.strategy is None or factor is None or factor < _NEAR_END * high:
        return []
    limits = [one for one in owner.question.limits if limits_size(one) and one.on not in OWN_LIMITS]
    near = max(limits, key=lambda one: margin([one], winner.held))
    share = 100 * exp(margin([near], winner.held))
    wider = "A wider range is written --factors 1..256"
    more = "." if asked else "; or limit flops, latency, acts or the resolution too."
    return [
        f"No limit ends the factor of {factor:g}, but the range that is tried, up to {high:g}: of "
        f"the limits that of the {near.metric.title} is nearest, {share:.2g} % of it are taken. "
        + (f"{wider}{more}" if high < MOST_FACTOR else "Begin with a larger base network.")
    ]

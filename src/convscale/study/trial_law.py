"""A law of the error fitted to a table of trials, for scaled versions that were not trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, nan

from convscale.errors import InputError
from convscale.network.naming import split_scaled
from convscale.selection.search_law import SearchLaw, fit_search_law
from convscale.strategy import Step, parse_strategy
from convscale.strategy.notation import named_strategies
from convscale.study.costed import Costs
from convscale.study.scaled_source import Source
from convscale.study.zoo_selection import Entry


def law_of_trials(
    entries: Sequence[Entry], costs: Sequence[Costs], name: str, several: bool = False
) -> Callable[[Sequence[Source]], SearchLaw]:
    """Return what fits the law to trials, for the bases that are searched.

    A trial is of the series that its line tells, else of the strategy in its name. Trials of other
    networks than the bases are left out, where there are some of the bases.

    Args:
        entries: The trials.
        costs: What they cost, with acts.
        name: What the error is.
        several: Whether several bases are searched, whose series are kept apart.
    """

    def fit(sources: Sequence[Source]) -> SearchLaw:
        names = {_plain(source.name): source.name for source in sources}
        own = [at for at, entry in enumerate(entries) if _plain(_root(entry.network)) in names]
        series, acts, errors = [], [], []
        for at in own or range(len(entries)):
            entry = entries[at]
            assert entry.row is not None
            of = _series(entry.row.series or _strategy(entry.network))
            base = names.get(_plain(_root(entry.network)))
            series.append(f"{base} {of}" if several and base and of else "" if several else of)
            acts.append(costs[at].values.get("acts", nan))
            errors.append(entry.row.error)
        if all(isnan(one) for one in errors):
            raise InputError(f"No trial of the table has a {name}. Give the errors of some.")
        return fit_search_law(series, acts, errors, name=name)

    return fit


def _root(network: str) -> str:
    while (parts := split_scaled(network)) is not None:
        network = parts.name
    return network


def _plain(name: str) -> str:
    return name.removeprefix("timm:").split(".")[0] if name.startswith("timm:") else name


def _strategy(network: str) -> str:
    parts = split_scaled(network)
    return "" if parts is None else parts.strategy


def _series(text: str) -> str:
    """Return the name that candidates of the same strategy have: d1_w8_r1 is dWr."""
    try:
        found = parse_strategy(text)
    except InputError:
        return text.partition("@")[0] if split_scaled(f"net@{text}") else text
    if isinstance(found, Step):
        return text.partition("@")[0]
    for one in named_strategies():
        shares = zip(
            (one.depth, one.width, one.resolution),
            (found.depth, found.width, found.resolution),
            strict=True,
        )
        alike = all(abs(a - b) < 1e-9 for a, b in shares) and found.rules == one.rules
        if alike and found.group_width in (None, found.width):
            return one.name
    return found.name

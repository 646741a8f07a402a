"""A law of the error fitted to a table of trials, for scaled versions that were not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isnan, nan

from convscale.errors import InputError
from convscale.network.sources.naming import NetworkLike, split_scaled
from convscale.selection.search_law import SearchLaw, fit_search_law
from convscale.strategy import Step, parse_strategy
from convscale.strategy.notation import named_strategies
from convscale.study.costed import Costs
from convscale.study.scaled_source import Source
from convscale.study.zoo_selection import Entry

_FEW = 3  # trials below which a law of three parameters is said to know little


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


def notes_on_trials(
    entries: Sequence[Entry], name: str, bases: Sequence[NetworkLike]
) -> Iterator[str]:
    """Say where trials tell less than they seem to: others' networks, empty cells, few of them.

    Args:
        entries: The trials.
        name: What the error is.
        bases: The networks that are scaled.

    Example:
        >>> from convscale.selection.zoo import ZooRow
        >>> trial = Entry(ZooRow(2, "resnet34", error=24.0), "timm:resnet34", 224)
        >>> next(notes_on_trials([trial], "top1_err", ["resnet18"]))
        'No trial is of resnet18: the law is that of other networks (timm:resnet34).'
    """
    roots = {_root(entry.network) for entry in entries}
    asked = [base for base in bases if isinstance(base, str)]
    known = {_plain(root) for root in roots}
    if len(asked) == len(bases) and not any(
        known & {base, _plain(base), _plain(f"timm:{base}")} for base in asked
    ):
        yield (
            f"No trial is of {' or '.join(asked)}: the law is that of other networks "
            f"({', '.join(sorted(roots)[:3])})."
        )
    held = [entry for entry in entries if entry.row is not None and not isnan(entry.row.error)]
    empty = len(entries) - len(held)
    if empty:
        yield f"{empty} of {len(entries)} trials have no {name}, and tell the law nothing."
    told = len({(entry.network, str(entry.resolution)) for entry in held})
    if 0 < told < _FEW:
        yield (
            f"The law is fitted to {told} network{'s' if told > 1 else ''} alone: how the error "
            f"falls with acts is a guess. Give {_FEW} or more that differ in size."
        )


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

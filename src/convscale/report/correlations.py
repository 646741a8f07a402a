"""The correlations of a study as a table for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from convscale.quantities import format_resolution
from convscale.report.association import (
    TIME_NAMES,
    agreement_sentence,
    format_estimate,
    model_sentence,
    verdict,
    within_sentence,
)
from convscale.report.layout import add_row, noted, table_of, titled
from convscale.report.sentences import conditions_text, format_r

if TYPE_CHECKING:
    from convscale.selection.association import Association
    from convscale.selection.statistics import Estimate
    from convscale.study.runtime_study import RuntimeStudy

HEADS = ("predictor", "linear r", "log-log r", "Spearman")


def correlations_table(study: RuntimeStudy) -> RenderableType:
    """Show the correlations in total and within each base, and what follows from them.

    Example:
        >>> from convscale.report.layout import plain_lines
        >>> from convscale.study.comparison import Row
        >>> from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
        >>> rows = [Row("net", None, 1.0, 8, flops, 9, 9) for flops in (100, 200, 400)]
        >>> timed = tuple(TimedNetwork(row, wall_s=((row.flops / 1e5,),)) for row in rows)
        >>> plain_lines(correlations_table(RuntimeStudy(timed, {"mode": "inference"})))[:3]
        ['all networks (3), wall time', 'predictor linear r log-log r Spearman',
        'flops 1.000 1.000 1.000']
    """
    parts: list[RenderableType] = []
    for scope, _ in _scopes(study):
        title, heads, lines = scope_lines(study, scope)
        table = table_of(*(f"{head}<" if column else head for column, head in enumerate(heads)))
        table.columns[0].no_wrap = True
        for line in lines:
            add_row(table, *line)
        parts.append(titled(title, table))
    return Group(*parts, *(Text(text) for text in sentences(study)), *noted(study.notes))


def scope_lines(
    study: RuntimeStudy, scope: str
) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Return the title, the heads and the lines of one scope's correlations.

    The last column is the other time's, where two were measured.

    Example:
        >>> from convscale.study.runtime_study import ALL_NETWORKS, RuntimeStudy, TimedNetwork
        >>> from convscale.study.comparison import Row
        >>> timed = TimedNetwork(Row("net", None, 1.0, 8, 9, 9, 9), wall_s=((0.1,),))
        >>> scope_lines(RuntimeStudy((timed,), {}), ALL_NETWORKS)[2][0]
        ('flops', '–', '–', '–')
    """
    found = study.associations[study.time][scope]
    title = f"{scope} ({found.networks}), {TIME_NAMES[study.time]}"
    others = [time for time in study.associations if time != study.time]
    heads = (*HEADS, *(f"{TIME_NAMES[time]}" for time in others))
    lines = [
        (
            predictor,
            *(format_estimate(by_name[name]) for name in ("linear", "log", "spearman")),
            *(_value(study.associations[time][scope].r[predictor]["log"]) for time in others),
        )
        for predictor, by_name in found.r.items()
    ]
    return title, heads, lines


def _value(r: Estimate | None) -> str:
    return format_r(None if r is None else r.value)


def _scopes(study: RuntimeStudy) -> Iterator[tuple[str, Association]]:
    yield from study.associations.get(study.time, {}).items()


def sentences(study: RuntimeStudy) -> list[str]:
    """Return what follows from the correlations, and what they hold under.

    Example:
        >>> from convscale.study.runtime_study import RuntimeStudy
        >>> sentences(RuntimeStudy((), {}))
        ['Nothing was measured.']
    """
    scopes = dict(_scopes(study))
    if not scopes:
        return ["Nothing was measured.", *_failed(study)]
    total, of = next(iter(scopes.values())), TIME_NAMES[study.time]
    said = [
        verdict(total, of=of),
        within_sentence(study),
        agreement_sentence(study),
        model_sentence(total, of=of),
        _interval_sentence(total),
        _setting_sentence(study),
        *_failed(study),
    ]
    return [sentence for sentence in said if sentence]


def _interval_sentence(total: Association) -> str:
    known = (one for by_name in total.r.values() for one in by_name.values() if one is not None)
    if all(one.low is None for one in known):
        return ""
    return "Intervals are of 95 %, by resampling the networks; one of few networks is rough."


def _failed(study: RuntimeStudy) -> list[str]:
    return [f"Left out: {found.failed}" for found in study.networks if found.failed]


def _setting_sentence(study: RuntimeStudy) -> str:
    """Say what was timed and under which conditions."""
    if study.conditions is None:
        return ""
    from dataclasses import replace

    settings = study.settings
    batch = settings.get("batch_size", 1)
    here = replace(study.conditions, rounds=study.rounds)
    text = conditions_text(here, batch_size=batch if isinstance(batch, int) else 1)
    what = "training step" if settings.get("mode") == "training" else "forward pass"
    passes = settings.get("passes", 1)
    return f"Time of a {what}, {passes} a visit, the bases at {_base_sides(study)} px. {text}"


def _base_sides(study: RuntimeStudy) -> str:
    """Return the base networks' input sides, each once."""
    bases = [network.row for network in study.networks if network.row.strategy is None]
    return ", ".join(dict.fromkeys(format_resolution(row.resolution) for row in bases))


def correlations_markdown(study: RuntimeStudy) -> str:
    """Write the same as `correlations_table` in Markdown.

    Example:
        >>> from convscale.study.runtime_study import RuntimeStudy, TimedNetwork
        >>> from convscale.study.comparison import Row
        >>> timed = TimedNetwork(Row("net", None, 1.0, 8, 9, 9, 9), wall_s=((0.1,),))
        >>> correlations_markdown(RuntimeStudy((timed,), {})).splitlines()[0]
        '**all networks (1), wall time**'
    """
    parts = []
    for scope, _ in _scopes(study):
        title, heads, lines = scope_lines(study, scope)
        rows = [heads, ("---", *("---:" for _ in heads[1:])), *lines]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"**{title}**\n\n{table}")
    parts += [*sentences(study), *(f"Note: {note}" for note in study.notes)]
    return "\n\n".join(parts) + "\n"

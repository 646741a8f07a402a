"""`convscale compare`: networks by strategies by factors, and the one to choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.progress import progress
from convscale.cli.values import (
    listed,
    optional_whole_number,
    report_file,
    time_limits,
    whole_number,
)
from convscale.errors import BudgetError, InputError
from convscale.quantities import parse_number, parse_resolution
from convscale.selection import LatencyBudget, best_predictor, choose, parse_latency_budget
from convscale.strategy import parse_strategy

if TYPE_CHECKING:
    from convscale.selection import Choice
    from convscale.study import Comparison
    from convscale.study.comparison import Row


def compare(
    networks: options.Networks,
    strategies: options.Strategies = "w,dwr,dWr",
    factors: options.Factors = "2,4",
    measure: options.Measure = False,
    profile: options.CompareProfile = None,
    latency_budget: options.Budget = None,
    batch_size: options.BatchSize = "1",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    repeats: options.Repeats = None,
    time_limit: options.TimeLimit = None,
    html: options.Html = None,
    resolution: options.Resolution = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Compare strategies and factors on one or several networks, and recommend.

    Example:
        >>> compare(["resnet18"], strategies=",")
        Traceback (most recent call last):
        convscale.errors.InputError: The list of strategies is empty. Write at least one, as
        in w,dwr,dWr.
    """
    names = listed(strategies, what="strategies", example="w,dwr,dWr")
    chosen = [parse_strategy(name) for name in names]
    texts = listed(factors, what="factors", example="2,4")
    scales = [parse_number(text, what="factor") for text in texts]
    budget = _budget(latency_budget, timed=measure or profile is not None)
    batch = whole_number(batch_size, what="batch size")
    cores = optional_whole_number(threads, what="number of threads")
    limits = time_limits(repeats, time_limit, repeats_as="rounds")
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    page = None if html is None else report_file(html)

    from convscale.study import compare as compare_networks

    with progress("Scaling and measuring" if measure else "Scaling") as report:
        found = compare_networks(
            networks,
            strategies=chosen,
            factors=scales,
            resolution=side,
            measure=measure,
            batch_size=batch,
            device=device,
            threads=cores,
            progress=report,
            num_classes=classes,
            in_chans=channels,
            profile=profile,
            **limits,
        )
    choices = [] if budget is None else _choices(found, budget)
    if page is not None:
        from convscale.report import write_report

        write_report(found, choices, page)
    _require_feasible(choices, page)
    return _answer(found, choices, page, json=json)


def _budget(text: str | None, *, timed: bool) -> LatencyBudget | None:
    if text is None:
        return None
    if not timed:
        raise InputError(
            f"The latency budget {text} needs latencies. Add --measure or --profile NAME, or leave "
            "the budget out."
        )
    return parse_latency_budget(text)


def _choices(found: Comparison, budget: LatencyBudget) -> list[Choice]:
    """Choose for each network of which there are scaled ones: by times measured, or predicted."""
    choices = []
    for network in found.networks:
        rows = found.of(network) if found.measured else [*map(_as_timed, found.of(network))]
        base = next((row.latency for row in rows if row.strategy is None), None)
        if base is not None and any(row.strategy for row in rows):
            choices.append(choose(rows, budget.limit_ms(base.median)))
    return choices


def _as_timed(row: Row) -> Row:
    """Return a row whose predicted latency stands for a measured one."""
    from convscale.runtime import Spread

    if row.predicted is None:
        return row
    return replace(row, latency=Spread(row.predicted.latency_ms, 0.0, 0))


def _require_feasible(choices: list[Choice], page: Path | None) -> None:
    """Refuse an answer in which no network fits its budget; a report stays written."""
    if choices and not any(choice.feasible for choice in choices):
        from convscale.report.sentences import recommendation_text

        reasons = " ".join(recommendation_text(choice) for choice in choices)
        written = "" if page is None else f" The report is in {page}."
        raise BudgetError(f"{reasons} Raise --latency-budget or add smaller factors.{written}")


def _answer(found: Comparison, choices: list[Choice], page: Path | None, *, json: bool) -> Answer:
    if json:
        document = found.as_document()
        document["best_predictor"] = best_predictor(found.correlation)
        document["recommendations"] = [choice.as_document() for choice in choices]
        return document

    from convscale.report import tables

    written = [] if page is None else [f"Report: {page}"]
    return [tables.comparison_table(found, choices), *written]

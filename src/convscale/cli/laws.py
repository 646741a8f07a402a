"""`convscale laws`: the exponents of the strategies, or those that a network shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number
from convscale.errors import InputError
from convscale.quantities import parse_resolution
from convscale.strategy import Strategy, named_strategies, parse_strategy

MaybeNetwork = Annotated[
    str | None,
    typer.Argument(
        metavar="NETWORK",
        help="A network whose exponents are fitted; without one, the law's own are shown.",
        show_default=False,
    ),
]
Chosen = Annotated[
    str | None,
    typer.Option(
        "--strategies", metavar="LIST", help="Separated by commas; by default the named ones."
    ),
]


def laws(
    network: MaybeNetwork = None,
    strategies: Chosen = None,
    resolution: options.Resolution = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Show how params and acts grow by the law, or how those of a network do, and why otherwise.

    Example:
        >>> [row["growth"]["acts"] for row in laws(strategies="w,dWr", json=True)["laws"]]
        [0.5, 0.6]
    """
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    chosen = _chosen(strategies)
    if network is None:
        for option, value in (
            ("--resolution", side),
            ("--num-classes", classes),
            ("--in-chans", channels),
        ):
            if value is not None:
                raise InputError(
                    f"{option} came without a network; the law's own exponents are the same for "
                    f"all. Name a network, or leave {option} out."
                )
        return _theory(chosen, json=json)

    from convscale.study.laws import laws as fit_laws

    found = fit_laws(
        network, strategies=chosen, resolution=side, num_classes=classes, in_chans=channels
    )
    if json:
        return {"schema_version": 1, **asdict(found)}

    from convscale.report.exponents import laws_table

    return [laws_table(found)]


def _chosen(listed: str | None) -> tuple[Strategy, ...]:
    if listed is None:
        return named_strategies()
    return tuple(parse_strategy(name) for name in listed.split(","))


def _theory(chosen: tuple[Strategy, ...], *, json: bool) -> Answer:
    """Return what the law says of each strategy."""
    from convscale.study.laws import law_of

    formulas = [law_of(one) for one in chosen]
    if json:
        return {"schema_version": 1, "network": None, "laws": [_row(one) for one in formulas]}

    from convscale.report import tables

    return [tables.strategies_table(formulas)]


def _row(strategy: Strategy) -> dict[str, object]:
    return {
        "strategy": strategy.name,
        "exponents": {
            "depth": strategy.depth,
            "width": strategy.width / 2,
            "resolution": strategy.resolution / 2,
        },
        "growth": {"flops": 1.0, **asdict(strategy.growth)},
    }

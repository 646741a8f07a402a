"""`convscale fit`: exponents of one's own from a table of trials."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import whole_number
from convscale.errors import InputError
from convscale.quantities import parse_number

if TYPE_CHECKING:
    import pandas as pd

Trials = Annotated[
    str,
    typer.Argument(
        metavar="TRIALS",
        help="CSV with columns depth, width, resolution (factors), error and, if known, flops.",
        show_default=False,
    ),
]
Level = Annotated[str, typer.Option("--level", metavar="P", help="Probability of the intervals.")]
Seed = Annotated[str, typer.Option("--seed", metavar="N", help="Seed of the bootstrap.")]


def fit(
    trials: Trials, level: Level = "0.95", seed: Seed = "0", json: options.Json = False
) -> Answer:
    """Fit how to share a factor s between depth, width and resolution, from trials of your own.

    Example:
        >>> fit("none.csv")
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file none.csv. Name a CSV file with trials.
    """
    probability = parse_number(level, what="level")
    start = whole_number(seed, what="seed", minimum=0)
    table = _read(Path(trials))

    from convscale.strategy.fitting import fit_exponents

    found = fit_exponents(table, level=probability, seed=start)
    if json:
        factors = dict(zip(("depth", "width", "resolution"), found.factors(2.0), strict=True))
        document = {**asdict(found), "strategy": found.notation, "factors_at_2": factors}
        return {"schema_version": 1, "network": None, **document}

    from convscale.report import tables

    return [tables.fit_table(found)]


def _read(path: Path) -> pd.DataFrame:
    """Read a CSV file, each row of which has a field a column."""
    import pandas as pd

    try:
        # in one column more than the first row has, pandas would see an index
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Name a CSV file with trials.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise InputError(f"{path} is no CSV file: {said}.") from error
    if not rows:
        raise InputError(f"{path} is no CSV file: it is empty. Name a CSV file with trials.")
    (_, header), *trials = rows
    for line, row in trials:
        if len(row) != len(header):
            raise InputError(
                f"Line {line} of {path} has {_fields(len(row))}, its header {_fields(len(header))} "
                f"({', '.join(header)}). Write a value for each column."
            )
    return pd.DataFrame([row for _, row in trials], columns=header)


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"

"""Scale every architecture of the list, and torchvision's, and write docs/coverage.md.

Run by `make coverage`. It can be stopped and started again: rows that are done, for the code as
it is, are not done again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.coverage_page import page
from benchmarks.coverage_rows import (
    FACTORS,
    STRATEGIES,
    Row,
    cases,
    code_version,
    read_rows,
    write_rows,
)
from benchmarks.coverage_run import Limits, Task, run_tasks
from convscale.cli.progress import progress

ROOT = Path(__file__).parent.parent
LIST = ROOT.parent / "shared" / "golden" / "timm_conv_architectures.txt"
TRANSFORMERS = ("vit", "swin", "maxvit")  # more than half of their flops are in attention


def torchvision_names() -> list[str]:
    """Return torchvision's convolutional classifiers and its segmentation networks.

    Example:
        >>> {"torchvision:resnet50", "torchvision:fcn_resnet50"} <= set(torchvision_names())
        True
    """
    from torchvision import models

    classifiers = models.list_models(module=models)
    names = [name for name in classifiers if not name.startswith(TRANSFORMERS)]
    return [f"torchvision:{name}" for name in (*names, *models.list_models(models.segmentation))]


def all_names(architectures: Path) -> list[str]:
    """Return the names of the study: timm's architectures in a file, one a line, and the rest."""
    return [f"timm:{name}" for name in architectures.read_text().split()] + torchvision_names()


def tasks(names: Iterable[str], done: Iterable[Row], strategies: Sequence[str]) -> tuple[Task, ...]:
    """Return what is still to do.

    Example:
        >>> tasks(["a"], [Row("a", "w", 2.0, "right")], ["w"])
        (Task(network='a', cases=(('w', 0.5), ('w', 4.0))),)
    """
    known = {row.key for row in done}
    left = (
        Task(name, tuple(case for case in cases(strategies) if (name, *case) not in known))
        for name in names
    )
    return tuple(task for task in left if task.cases)


def main(
    networks: Annotated[Path | None, typer.Option(help="A file of names, one a line.")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Take every n-th network only.")] = 1,
    strategies: Annotated[str, typer.Option(help="Strategies, by commas.")] = ",".join(STRATEGIES),
    processes: Annotated[int, typer.Option(min=1, help="Networks at a time.")] = 2,
    seconds: Annotated[int, typer.Option(min=1, help="Processor time a network (s).")] = 600,
    folder: Annotated[Path, typer.Option(help="Where the rows are kept.")] = ROOT / "coverage",
    output: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
) -> None:
    """Scale many networks by many strategies and factors, and write a page on what happened."""
    if networks is None and not LIST.exists():
        sys.exit(f"There is no list of architectures at {LIST}. Give one: --networks FILE.")
    names = all_names(LIST) if networks is None else networks.read_text().split()
    names = names[::sample]
    chosen = strategies.split(",")
    code = code_version(ROOT / "src" / "convscale")
    store = folder / "rows.jsonl"
    left = tasks(names, read_rows(store, code), chosen)
    with progress("Scaling networks") as report:
        for done, rows in enumerate(
            run_tasks(left, processes=processes, limits=Limits(seconds)), start=1
        ):
            write_rows(store, code, rows)
            report(done, len(left))
    wanted = {(name, *case) for name in names for case in cases(chosen)}
    rows = [row for row in read_rows(store, code) if row.key in wanted]
    whole = networks is None and sample == 1
    target = output or (ROOT / "docs" / "coverage.md" if whole else folder / "sample.md")
    target.write_text(page(sorted(rows, key=lambda row: row.key), _title(names, chosen, sample)))
    print(f"{len(rows)} rows; the page is {target}.")


def _title(names: Sequence[str], strategies: Sequence[str], sample: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "torchvision"))
    factors = ", ".join(f"{factor:g}" for factor in sorted(FACTORS))
    part = "" if sample == 1 else f", one in {sample} of the list"
    listed = ", ".join(strategies)
    return f"{len(names)} networks{part}; strategies {listed}; factors {factors}; {versions}."


if __name__ == "__main__":
    typer.run(main)

"""Scale every architecture of the list, and torchvision's, and write docs/coverage.md.

Run by `make coverage`. It can be stopped and started again: rows that are done, for the code as
it is, are not done again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.coverage_page import page
from benchmarks.coverage_rows import (
    STRATEGIES,
    Case,
    Row,
    cases,
    code_version,
    read_rows,
    write_rows,
)
from benchmarks.coverage_run import Limits, Task, run_tasks
from benchmarks.zoos import ZOOS, zoo_names
from convscale.cli.progress import progress

ROOT = Path(__file__).parent.parent
LIST = ROOT.parent / "shared" / "golden" / "timm_conv_architectures.txt"
_LIBRARIES = ("torch", "timm", "torchvision")
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


def tasks(
    names: Iterable[str], done: Iterable[Row], wanted: Sequence[Case], *, with_pass: bool = False
) -> tuple[Task, ...]:
    """Return what is still to do; with a pass, also what was done without.

    Example:
        >>> tasks(["a"], [Row("a", "w", 2.0, "right")], [("w", 2.0), ("w", 4.0)])
        (Task(network='a', cases=(('w', 4.0),), with_pass=False),)
    """
    known = {row.key for row in done if not with_pass or row.passed or not row.scaled}
    left = (
        Task(name, tuple(case for case in wanted if (name, *case) not in known), with_pass)
        for name in names
    )
    return tuple(task for task in left if task.cases)


def main(
    networks: Annotated[Path | None, typer.Option(help="A file of names, one a line.")] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Networks of another library, as modules: pytorchcv.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Take every n-th network only.")] = 1,
    wanted: Annotated[
        str, typer.Option("--cases", help="Strategies (all factors) or STRATEGY:FACTOR, by commas.")
    ] = ",".join(STRATEGIES),
    with_pass: Annotated[
        bool, typer.Option("--pass", help="Run scaled networks forward and backward too.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Networks at a time.")] = 2,
    seconds: Annotated[int, typer.Option(min=1, help="Processor time a network (s).")] = 600,
    folder: Annotated[Path, typer.Option(help="Where the rows are kept.")] = ROOT / "coverage",
    output: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
) -> None:
    """Scale many networks by many strategies and factors, and write a page on what happened."""
    names = _names(networks, zoo)[::sample]
    try:
        chosen = tuple(cases(wanted.split(",")))
    except ValueError as error:
        sys.exit(str(error))
    code = code_version(ROOT / "src" / "convscale")
    store = folder / "rows.jsonl"
    left = tasks(names, read_rows(store, code), chosen, with_pass=with_pass)
    with progress("Scaling networks") as report:
        for done, rows in enumerate(
            run_tasks(left, processes=processes, limits=Limits(seconds)), start=1
        ):
            write_rows(store, code, rows)
            report(done, len(left))
    keys = {(name, *case) for name in names for case in chosen}
    rows = [row for row in read_rows(store, code) if row.key in keys]
    whole = networks is None and zoo is None and sample == 1 and chosen == tuple(cases(STRATEGIES))
    target = output or (ROOT / "docs" / "coverage.md" if whole else folder / "sample.md")
    title = _title(names, chosen, sample, ("torch", zoo) if zoo else _LIBRARIES)
    about = {"heading": "Networks of another library", "target": "zoos"} if zoo else {}
    target.write_text(page(sorted(rows, key=lambda row: row.key), title, **about))
    print(f"{len(rows)} rows; the page is {target}.")


def _names(networks: Path | None, zoo: str | None) -> list[str]:
    """Return the names of a file, of another library, or of the whole list."""
    if zoo is not None and (zoo not in ZOOS or networks is not None):
        sys.exit(f"--zoo {zoo} is not known. Write {' or '.join(ZOOS)}, without --networks.")
    if zoo is not None:
        return zoo_names(zoo)
    if networks is not None:
        return networks.read_text().split()
    if not LIST.exists():
        sys.exit(f"There is no list of architectures at {LIST}. Give one: --networks FILE.")
    return all_names(LIST)


def loop_seconds(additions: int = 5_000_000) -> float:
    """Return the processor time (s) of a loop, by which times of other machines are compared.

    Example:
        >>> loop_seconds(1000) > 0
        True
    """
    started, total = time.process_time(), 0
    for number in range(additions):
        total += number
    return time.process_time() - started


def _title(
    names: Sequence[str], chosen: Sequence[Case], sample: int, libraries: Sequence[str]
) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    part = "" if sample == 1 else f", one in {sample} of the list"
    by_strategy: dict[str, list[str]] = {}
    for strategy, factor in sorted(chosen, key=lambda case: case[1]):
        by_strategy.setdefault(strategy, []).append(f"{factor:g}")
    listed = "; ".join(f"{name} by {', '.join(by_strategy[name])}" for name in by_strategy)
    speed = f"a loop of five million additions in Python took {loop_seconds():.2f} s there"
    return f"{len(names)} networks{part}; {listed}; {versions}; {speed}."


if __name__ == "__main__":
    typer.run(main)

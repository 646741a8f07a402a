"""Show on stderr how far a long piece of work is: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[int, int], None]
_EVERY_S = 10.0


@contextlib.contextmanager
def progress(title: str) -> Iterator[Report]:
    """Give a function that takes how many steps are done, and of how many.

    Example:
        >>> with progress("Measuring") as report:
        ...     report(1, 2)
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(line: str) -> None:
    """Write a line to stderr before long work begins.

    Example:
        >>> say("This takes 10 min at most.") is None
        True
    """
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _lines(title: str) -> Report:
    """Report with a line at most every few seconds, so that short work says nothing."""
    shown = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= _EVERY_S:
            shown = now
            say(f"{title}: {done} of {total}")

    return report

"""Show a training run on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from convscale.report.durations import format_duration

if TYPE_CHECKING:
    from convscale.training.progress import Row
    from convscale.training.watch import Tick

_EVERY_S = 10.0  # between lines where there is no terminal
_WINDOW_S = 15.0  # over which throughput is averaged


class Pace:
    """Throughput of late, and the time that is left at the pace so far.

    Time begins with the first update, which comes after what a run prepares.

    Args:
        clock: Tells the time in seconds.

    Example:
        >>> pace = Pace(iter([0.0, 1.0, 2.0]).__next__)
        >>> for update in (11, 12, 13):
        ...     pace.add(update=update, updates=20, images=32)
        >>> pace.images_per_second, pace.seconds_left
        (32.0, 7.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()
        self._begun = 0.0
        self._done = self._left = 0

    def add(self, *, update: int, updates: int, images: int) -> None:
        """Take an update that was made, of so many, and how many images it had."""
        now = self._clock()
        if not self._marks:
            self._begun = now
            self._marks.append((now, 0))
            return
        self._done += 1
        self._left = updates - update
        self._marks.append((now, self._marks[-1][1] + images))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()

    @property
    def images_per_second(self) -> float | None:
        """Images a second over the last seconds; None before the second update."""
        if len(self._marks) < 2:
            return None
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - start) if end > start else None

    @property
    def seconds_left(self) -> float | None:
        """The time that is left, evaluation included; None before the second update."""
        if not self._done:
            return None
        return (self._marks[-1][0] - self._begun) / self._done * self._left


class Display(Protocol):
    """What the training tells: a display of the command line, or nothing at all."""

    def on_update(self, tick: Tick) -> None:
        """Take an update."""

    def on_epoch(self, row: Row) -> None:
        """Take what came of an epoch."""

    def on_note(self, line: str) -> None:
        """Take something to know."""


class Silence:
    """Show nothing, as processes other than the first do.

    Example:
        >>> Silence().on_note("another process says it")
    """

    def on_update(self, tick: Tick) -> None:
        """Take an update."""

    def on_epoch(self, row: Row) -> None:
        """Take what came of an epoch."""

    def on_note(self, line: str) -> None:
        """Take something to know."""


class Lines:
    """Write a line at most every few seconds, so that short work says nothing.

    Example:
        >>> Lines(epochs=3).on_epoch({"epoch": 1, "train_loss": 0.5, "top1_error_pct": 3.0})
    """

    def __init__(self, epochs: int) -> None:
        self._epochs, self._pace, self._shown = epochs, Pace(), time.monotonic()

    def on_update(self, tick: Tick) -> None:
        """Take an update."""
        self._pace.add(update=tick.update, updates=tick.updates, images=tick.images)
        if self._due():
            self._write(
                f"epoch {tick.epoch + 1} of {self._epochs}, step {tick.update} of {tick.updates}: "
                f"loss {tick.loss:.3f}, {pace_text(self._pace)}"
            )

    def on_epoch(self, row: Row) -> None:
        """Take what came of an epoch."""
        if self._due():
            self._write(f"epoch {row['epoch']} of {self._epochs}: {epoch_text(row)}")

    def on_note(self, line: str) -> None:
        """Take something to know."""
        self._write(f"convscale: warning: {line}")

    def _due(self) -> bool:
        return time.monotonic() - self._shown >= _EVERY_S

    def _write(self, line: str) -> None:
        self._shown = time.monotonic()
        if sys.stderr is not None:
            with contextlib.suppress(BrokenPipeError):
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()


class Bar:
    """A bar with loss, throughput and the time that is left; a line of each epoch above it.

    Args:
        bar: Rich's.
        epochs: How many epochs there will be.
    """

    def __init__(self, bar: Progress, epochs: int) -> None:
        self._bar, self._epochs, self._pace = bar, epochs, Pace()
        self._task = bar.add_task("preparing", total=None, said="")

    def on_update(self, tick: Tick) -> None:
        """Take an update."""
        self._pace.add(update=tick.update, updates=tick.updates, images=tick.images)
        done = tick.update / tick.updates
        self._bar.update(
            self._task,
            description=f"epoch {tick.epoch + 1}/{self._epochs}",
            completed=tick.update,
            total=tick.updates,
            said=f"{done:4.0%} · loss {tick.loss:.3f} · {pace_text(self._pace)}",
        )

    def on_epoch(self, row: Row) -> None:
        """Take what came of an epoch."""
        width = len(str(self._epochs))
        line = f"epoch {row['epoch']:>{width}}/{self._epochs}  {epoch_text(row)}"
        self._bar.console.print(line, markup=False, highlight=False)

    def on_note(self, line: str) -> None:
        """Take something to know."""
        self._bar.console.print(f"convscale: warning: {line}", markup=False, highlight=False)


@contextlib.contextmanager
def watching(epochs: int, *, first: bool = True) -> Iterator[Display]:
    """Give what shows a run.

    Args:
        epochs: How many epochs there will be.
        first: Whether this is the process that shows anything.

    Example:
        >>> with watching(3, first=False) as display:
        ...     display.on_note("nobody sees it")
    """
    console = Console(stderr=True)
    if not first:
        yield Silence()
        return
    if not console.is_terminal:
        yield Lines(epochs)
        return
    columns = (TextColumn("{task.description}"), BarColumn(12), TextColumn("{task.fields[said]}"))
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        yield Bar(bar, epochs)


def pace_text(pace: Pace) -> str:
    """Say how fast it goes, and how long it takes.

    Example:
        >>> pace_text(Pace())
        'begins'
    """
    rate, left = pace.images_per_second, pace.seconds_left
    if rate is None or left is None:
        return "begins"
    return f"{rate:.4g} images/s · {format_duration(left)} left"


def epoch_text(row: Row) -> str:
    """Say what came of an epoch.

    Example:
        >>> epoch_text({"epoch": 1, "train_loss": 0.5, "top1_error_pct": 3.0})
        'loss 0.500 · top-1 error 3.00 %'
    """
    said = [f"loss {row['train_loss']:.3f}", f"top-1 error {row['top1_error_pct']:.2f} %"]
    if row.get("ema_top1_error_pct") is not None:
        said.append(f"EMA {row['ema_top1_error_pct']:.2f} %")
    if row.get("images_per_second") is not None:
        said.append(f"{row['images_per_second']:.4g} images/s")
    return " · ".join(said)

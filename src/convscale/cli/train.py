"""`convscale train`: train a base or scaled network by a recipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.recipe import Settings
from convscale.cli.values import optional_whole_number, writing
from convscale.cli.watch import Display, watching
from convscale.errors import ElsewhereError, InputError
from convscale.files import write_whole
from convscale.quantities import parse_resolution
from convscale.training.recipe_files import read_recipe
from convscale.training.signals import Stopped, Wish, heeding_signals, unbroken

if TYPE_CHECKING:
    from convscale.training.board import Board
    from convscale.training.outcome import TrainResult
    from convscale.training.progress import Row
    from convscale.training.watch import Tick

Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="A folder with train/CLASS/* and val/CLASS/*, one with the IDX files of MNIST, "
        "fashion-mnist, or digits.",
        show_default=False,
    ),
]
Recipe = Annotated[
    str, typer.Option("--recipe", metavar="RECIPE", help="basic, strong, or a YAML file.")
]
Epochs = Annotated[
    str | None,
    typer.Option(
        "--epochs", metavar="N", help="Stretch the recipe to N epochs, its warm-up in proportion."
    ),
]
Out = Annotated[
    str,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="The folder of the run; a run in it that was cut off goes on.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="cpu, cuda or mps; by default the fastest."),
]


def train(
    network: options.Network,
    data: Data,
    out: Out,
    recipe: Recipe = "basic",
    epochs: Epochs = None,
    set: Settings = None,
    resolution: options.Resolution = None,
    device: Device = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Train a base or scaled network by a recipe; a run that was cut off goes on.

    Example:
        >>> train("resnet18", "digits", "run", set=["lr=0"])
        Traceback (most recent call last):
        convscale.errors.InputError: Recipe basic with --set is wrong: lr: input should be greater
        than 0 (it is 0).
    """
    first = os.environ.get("RANK", "0") == "0"
    with _said_once(first=first):
        length = optional_whole_number(epochs, what="number of epochs")
        knobs = read_recipe(recipe, set or [], epochs=length)
        side = None if resolution is None else parse_resolution(resolution)
        classes = optional_whole_number(num_classes, what="number of classes")
        channels = optional_whole_number(in_chans, what="number of input channels")
        if not out:
            raise InputError("The name of the run's folder is empty. Write one, as in --out run/.")

    asked = (network, data, Path(out), knobs, side, classes, channels, device)
    try:
        with heeding_signals() as wish:  # before the imports, which take seconds
            result = _trained(asked, knobs.epochs, first=first, wish=wish)
            return _answer(result, json=json) if result.is_first else []
    except Stopped:
        return _not_begun(network, data, json=json) if first else []


def _trained(asked: tuple[Any, ...], epochs: int, *, first: bool, wish: Wish) -> TrainResult:
    """Train what is asked for, in the order of the fields of a request, and show how it goes."""
    with unbroken(wish):
        from convscale.training.board import Board
        from convscale.training.request import TrainRequest
        from convscale.training.running import train as train_network

    request = TrainRequest(*asked)
    with watching(epochs, first=first) as display, contextlib.ExitStack() as stack:
        board = stack.enter_context(contextlib.closing(Board(request.out))) if first else None
        return train_network(request, _Watch(display, board), wish=wish)


def _not_begun(network: str, data: str, *, json: bool) -> Answer:
    """Say that a run was asked to stop while it got ready."""
    if json:
        return {"schema_version": 1, "network": network, "data": data, "finished": False}
    return ["Stopped before training began, with nothing to save. Start the same command again."]


@contextlib.contextmanager
def _said_once(*, first: bool) -> Iterator[None]:
    """Let the first of several processes say what all of them find wrong."""
    try:
        yield
    except InputError as error:
        if first:
            raise
        raise ElsewhereError("Process 0 says it.", exit_status=error.exit_status) from error


class _Watch:
    """Tell the display and TensorBoard."""

    def __init__(self, display: Display, board: Board | None) -> None:
        self._display, self._board = display, board

    def on_update(self, tick: Tick) -> None:
        self._display.on_update(tick)
        if self._board is not None:
            self._board.on_update(tick)

    def on_epoch(self, row: Row) -> None:
        self._display.on_epoch(row)
        if self._board is not None:
            self._board.on_epoch(row)

    def on_note(self, line: str) -> None:
        self._display.on_note(line)


def _answer(result: TrainResult, *, json: bool) -> Answer:
    """Write what came of a run, unless it was over before, and show it."""
    from convscale.report.trained import result_table
    from convscale.training.results import result_of, write_result

    document = before = result_of(result)
    if document is None:
        with writing(result.folder):
            _draw(result)
            document = write_result(result)  # last, as it says that the run is over
    if json:
        return document
    return [result_table(document), _closing(result, again=before is not None)]


def _closing(result: TrainResult, *, again: bool) -> str:
    folder = result.folder
    if again:
        return (
            f"The run in {folder}/ is finished, and nothing in it was changed. For more epochs "
            f"write another --out: with {folder}/ as the network to go on from its weights, or "
            "with the same network to begin anew."
        )
    more = "" if result.finished else " Start the same command again to go on."
    return f"The run is in {folder}/.{more}"


def _draw(result: TrainResult) -> None:
    """Draw curves.png from the table of epochs."""
    if not result.rows:
        return

    from convscale.report.curves import CURVES, curves_figure, curves_frame
    from convscale.report.paper import rendered

    title = f"{result.subject.name} on {result.request.data}"
    figure = curves_figure(curves_frame(result.rows), title)
    write_whole(result.folder / CURVES, rendered(figure, "png"))

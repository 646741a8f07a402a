"""The program: parse, run one command, print its answer or the one line of its error."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import convscale
from convscale.cli.answer import Answer, Page, publish
from convscale.cli.calibrate import calibrate
from convscale.cli.compare import compare
from convscale.cli.correlate import correlate
from convscale.cli.count import count
from convscale.cli.diff import diff
from convscale.cli.eval import evaluate
from convscale.cli.failure import DEFECT, INTERRUPTED, Failure, failure_of
from convscale.cli.fit import fit
from convscale.cli.laws import laws
from convscale.cli.measure import measure
from convscale.cli.memory import memory
from convscale.cli.plan import plan
from convscale.cli.predict import predict
from convscale.cli.profiles import profiles
from convscale.cli.quiet import collected_warnings, stdout_kept_clean
from convscale.cli.recipe import list_recipes, show
from convscale.cli.scale import scale
from convscale.cli.select import select
from convscale.cli.stages import stages
from convscale.cli.strategies import strategies
from convscale.cli.train import train
from convscale.errors import InputError


class Group(TyperGroup):
    """The commands, without a type shown beside --help.

    Example:
        >>> issubclass(Group, TyperGroup)
        True
    """

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help, which like our own flags takes no value."""
        return _without_type(super().get_help_option(ctx))


class Command(TyperCommand):
    """A command during whose work nothing but its answer reaches stdout.

    Example:
        >>> issubclass(Command, TyperCommand)
        True
    """

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help, which like our own flags takes no value."""
        return _without_type(super().get_help_option(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command's function and return its answer."""
        try:
            with stdout_kept_clean():
                return super().invoke(ctx)
        except SystemExit as error:
            raise InputError(
                f"The code of the network ended the process (exit {error.code}). Guard what its "
                "file does when it runs as a script by if __name__ == '__main__'."
            ) from error


def _without_type(option: Any) -> Any:
    """Give a flag an empty metavar; typer would write its type."""
    if option is not None:
        option.metavar = ""
    return option


app = typer.Typer(
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
_EXAMPLES: dict[Callable[..., Answer], str] = {
    count: "count resnet50",
    scale: "scale resnet50 --strategy dWr --factor 4",
    compare: "compare resnet50 --measure --latency-budget 2.5x --html report.html",
    measure: "measure resnet50 --batch-size 1",
    correlate: "correlate resnet50 efficientnet_b0 --factors 1,2,4 --plot runtime.html",
    calibrate: "calibrate --name mybox",
    predict: "predict resnet50 --profile rtx3090-amp-nchw --batch-size 256",
    profiles: "profiles",
    plan: "plan resnet50 --profile rtx3090-train-amp-nhwc --images 1.28M --epochs 100 --devices 8",
    select: "select --table models.csv --error top1_err --latency 5ms --profile NAME",
    memory: "memory resnet50 --batch-size 32 --optimizer adamw --precision mixed",
    stages: "stages resnet50",
    diff: "diff resnet50 resnet50@dWr:4",
    strategies: "strategies",
    laws: "laws resnet50",
    fit: "fit trials.csv",
    train: "train resnet18@dWr:4 --data fashion-mnist --resolution 32 --epochs 10 --out run/",
    evaluate: "eval run/",
}
_NAMES: dict[Callable[..., Answer], str] = {evaluate: "eval"}
for _function, _example in _EXAMPLES.items():
    _summary = inspect.cleandoc(_function.__doc__ or "").partition("\n\n")[0]
    _add = app.command(
        _NAMES.get(_function), cls=Command, help=_summary, epilog=f"Example: convscale {_example}"
    )
    _add(_function)
recipes = typer.Typer(cls=Group, help="Show the recipes of training and their knobs.")
_ACTIONS: dict[str, Callable[..., Answer]] = {"show": show, "list": list_recipes}
for _name, _action in _ACTIONS.items():
    _summary = inspect.cleandoc(_action.__doc__ or "").partition("\n\n")[0]
    recipes.command(_name, cls=Command, help=_summary)(_action)
app.add_typer(recipes, name="recipe")


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"convscale {convscale.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Scale a convolutional network, count it, measure it, and choose for a budget."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; only a success writes to stdout.

    Example:
        >>> run(["--version"])  # doctest: +ELLIPSIS
        convscale ...
        0
    """
    page = Page(sys.stdout)
    try:
        with collected_warnings() as warned:
            status = _work(arguments, page)
        if status == 0:
            publish(page)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary of the program
        return _refuse(failure_of(error))
    for line in warned:
        _complain(f"warning: {line}")
    return status


def main() -> None:
    """Run the command line of this process and end it.

    Example:
        >>> callable(main)
        True
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # closed, or replaced by the caller
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status = run(sys.argv[1:])
    if status == INTERRUPTED:
        _end_at_once(status)
    sys.exit(status)


def _end_at_once(status: int) -> None:
    """End the process with a status, whatever an interruption has come upon.

    Where Ctrl-C came upon code in a text (exec, as dataclasses and imports use it), Python would
    end by the signal instead of the status.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):
            stream.flush()
    os._exit(status)


def _work(arguments: Sequence[str], page: Page) -> int:
    """Fill the page with the command's answer, or with the help, and return the status."""
    command = typer.main.get_command(app)
    with contextlib.redirect_stdout(page):
        answer = command.main(list(arguments), prog_name="convscale", standalone_mode=False)
    if answer == INTERRUPTED:  # what typer makes of an interruption
        raise KeyboardInterrupt
    if isinstance(answer, dict | list):
        page.show(answer)
    return answer if isinstance(answer, int) else 0


def _refuse(failure: Failure) -> int:
    if failure.status == DEFECT and os.environ.get("CONVSCALE_TRACEBACK"):
        traceback.print_exc()
    if failure.line:
        _complain(failure.line)
    return failure.status


def _complain(line: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"convscale: {line}\n")
            sys.stderr.flush()

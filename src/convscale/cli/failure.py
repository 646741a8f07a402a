"""What an exception says on the command line: one line and an exit status."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from convscale.errors import ConvscaleError, ElsewhereError

BAD_INPUT, INTERRUPTED, DEFECT = 2, 130, 1
_REPORT = "please report it; set CONVSCALE_TRACEBACK=1 to see the traceback"


@dataclass(frozen=True)
class Failure:
    """An exit status and the one line that goes with it; empty where another process says it.

    Example:
        >>> Failure(2, "Factor 0 is not positive.").status
        2
    """

    status: int
    line: str


def failure_of(error: BaseException) -> Failure:
    """Return the exit status and the line that stand for an exception.

    Example:
        >>> failure_of(ConvscaleError("Factor 0 is not positive."))
        Failure(status=2, line='Factor 0 is not positive.')
        >>> failure_of(KeyError("width")).line.split(";")[0]
        "internal error: KeyError: 'width'"
    """
    if isinstance(error, ElsewhereError):
        return Failure(error.exit_status, "")
    if isinstance(error, ConvscaleError):
        return Failure(error.exit_status, one_line(error.line))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Failure(INTERRUPTED, "interrupted")
    if is_parser_error(error):
        return Failure(BAD_INPUT, _parser_line(error))
    detail = one_line(f"{type(error).__name__}: {error}")
    return Failure(DEFECT, f"internal error: {detail}; {_REPORT}")


def is_parser_error(error: BaseException) -> bool:
    """Tell whether typer's parser raised it.

    Newer versions of typer bring click's exceptions along as their own, older ones raise
    click's: all of them, and nothing else, format their message.

    Example:
        >>> is_parser_error(typer.BadParameter("no")), is_parser_error(ValueError("no"))
        (True, False)
    """
    return callable(getattr(error, "format_message", None))


def one_line(text: str) -> str:
    r"""Write any text on one line that a terminal shows as it is.

    Example:
        >>> one_line("a\n  b\x1b[1m")
        'a b\\x1b[1m'
    """
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def _parser_line(error: BaseException) -> str:
    message = one_line(error.format_message())  # type: ignore[attr-defined]
    end = "" if message.endswith((".", "?")) else "."
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "convscale")
    commands = getattr(getattr(context, "command", None), "commands", None)
    choice = (
        f" The commands are {', '.join(commands)}." if commands and "command" in message else ""
    )
    return f"{message}{end}{choice} See '{path} --help'."

"""What a command returned: a JSON document, or tables and text for people, as a page."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType

from convscale.errors import InputError

Answer = dict[str, object] | list[RenderableType]
_PIPED_WIDTH = 160  # columns where nobody's window limits a line


class Page(io.StringIO):
    """Text for a stream, held back until all of it is there.

    It says of itself what the stream would say, so that colours and frames suit the stream.

    Example:
        >>> Page(None).isatty()
        False
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def show(self, answer: Answer) -> None:
        """Write an answer: a document as JSON, anything else as rich shows it.

        Lines are not cut where the output goes to a file or a pipe.

        Example:
            >>> page = Page(None)
            >>> page.show({"schema_version": 1})
            >>> page.getvalue().split()
            ['{', '"schema_version":', '1', '}']
        """
        if isinstance(answer, dict):
            self.write(json.dumps(answer, indent=2, allow_nan=False) + "\n")
            return
        console = Console(file=self, highlight=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _PIPED_WIDTH
        for part in answer:
            console.print(part, markup=False, soft_wrap=isinstance(part, str))


def publish(page: Page) -> None:
    r"""Write a page to stdout; a reader who has gone (as behind `| head`) is no error.

    Raises:
        InputError: If stdout takes nothing more, as on a full disk.

    Example:
        >>> page = Page(sys.stdout)
        >>> page.write("done\n")
        5
        >>> publish(page)
        done
    """
    if sys.stdout is None:  # closed by the caller: `>&-`
        return
    try:
        sys.stdout.write(page.getvalue())
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise InputError(f"Cannot write to the standard output: {error.strerror}.") from error


def _discard_stdout() -> None:
    """Send what is still buffered for stdout nowhere, so that the interpreter ends quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

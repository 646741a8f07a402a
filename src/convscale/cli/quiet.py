"""Hold back what libraries warn of, and keep stdout to ourselves, while a command works."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

from convscale.cli.failure import one_line


class _Collector(logging.Handler):
    """Keep the text of log records of at least level WARNING."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(one_line(record.getMessage()))


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect warnings and log messages as single lines, oldest first, each once at the end.

    An error is one line on stderr: what was collected is shown only after a success.

    Example:
        >>> with collected_warnings() as lines:
        ...     warnings.warn("old name", FutureWarning, stacklevel=1)
        >>> lines
        ['old name']
    """
    lines: list[str] = []
    handler = _Collector(lines)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: lines.append(one_line(str(message)))
            yield lines
    finally:
        root.removeHandler(handler)
        lines[:] = dict.fromkeys(lines)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send what other code prints (a factory's file, a library) to stderr.

    Example:
        >>> with stdout_kept_clean():
        ...     print("not in the document")
    """
    with contextlib.redirect_stdout(sys.stderr):
        yield

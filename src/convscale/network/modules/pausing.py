"""Let the garbage collector rest while a network is understood."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Pause the garbage collector, if it is on, and let it go on behind.

    A run on the meta device makes objects by the hundred thousand, nearly all of which stay to its
    end; the collector would go through them, and all others of the process, again and again: that
    takes a quarter of the time in which candidates are built. What arose is collected behind.

    Example:
        >>> with collector_at_rest():
        ...     gc.isenabled()
        False
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

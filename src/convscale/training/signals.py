"""Signals that ask a run to stop: it writes a checkpoint first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Wish:
    """Whether the run was asked to stop, and by which signal.

    Until `saves` is set there is nothing to write, so that Ctrl-C need not wait.

    Example:
        >>> Wish().signal is None
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.saves = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def interrupted(self) -> bool:
        """Whether a person pressed Ctrl-C."""
        return self.signal == signal.SIGINT


@contextmanager
def heeding_signals() -> Iterator[Wish]:
    """Note SIGTERM, and Ctrl-C once the run can write what it has; a second one interrupts.

    Signals reach the main thread alone: elsewhere nothing is noted.

    Example:
        >>> with heeding_signals() as wish:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     bool(wish), wish.interrupted
        (True, False)
    """
    wish, owner = Wish(), os.getpid()

    def note(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that loads images: its parent ends it
            return
        if number == signal.SIGINT and (wish.interrupted or not wish.saves):
            raise KeyboardInterrupt
        wish.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

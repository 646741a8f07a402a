"""Signals that ask a run to stop: it writes a checkpoint first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """End a run that was asked to stop; no error, and nothing that catches errors takes it."""


class Wish:
    """Whether the run was asked to stop, and by which signal.

    While `at_once` is set nothing would be lost: there is no step that a checkpoint lacks.

    Example:
        >>> Wish().signal is None
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = True

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def interrupted(self) -> bool:
        """Whether a person pressed Ctrl-C."""
        return self.signal == signal.SIGINT


class Noted:
    """A handler of signals that does nothing but note that one came.

    Example:
        >>> noted = Noted()
        >>> noted(signal.SIGTERM, None)
        >>> noted.signal == signal.SIGTERM
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.signal = number


def note_sigterm() -> None:
    """Note SIGTERM from now on, for `heeding_signals` to act on: what comes before is not lost.

    Example:
        >>> before = signal.getsignal(signal.SIGTERM)
        >>> note_sigterm()
        >>> os.kill(os.getpid(), signal.SIGTERM)
        >>> with heeding_signals():
        ...     print("it goes on")
        Traceback (most recent call last):
        convscale.training.signals.Stopped
        >>> _ = signal.signal(signal.SIGTERM, before)
    """
    signal.signal(signal.SIGTERM, Noted())


@contextmanager
def unbroken(wish: Wish) -> Iterator[None]:
    """Heed what comes meanwhile at the end: an import that is cut off leaves half a module.

    Raises:
        Stopped: Where SIGTERM came, and no other process waits.
        KeyboardInterrupt: Where Ctrl-C came.

    Example:
        >>> with heeding_signals() as wish, unbroken(wish):
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     print("imported")
        Traceback (most recent call last):
        convscale.training.signals.Stopped
    """
    wish.at_once = False
    yield
    wish.at_once = True
    if wish.interrupted:
        raise KeyboardInterrupt
    if wish and _is_alone():
        raise Stopped


def _is_alone() -> bool:
    return os.environ.get("WORLD_SIZE", "1") == "1"


@contextmanager
def heeding_signals() -> Iterator[Wish]:
    """Note SIGTERM and Ctrl-C, or end the run at once where that loses nothing.

    Of several processes each has to wait for the others, so that SIGTERM is noted alone there. A
    second Ctrl-C interrupts. Signals reach the main thread alone: elsewhere nothing is noted.
    What `note_sigterm` has noted before counts as if it came now.

    Raises:
        Stopped: Where SIGTERM comes and nothing would be lost.
        KeyboardInterrupt: Likewise by Ctrl-C, or by a second one.

    Example:
        >>> with heeding_signals() as wish:
        ...     wish.at_once = False
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     bool(wish), wish.interrupted
        (True, False)
    """
    wish, owner = Wish(), os.getpid()
    alone = _is_alone()

    def note(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that loads images: its parent ends it
            return
        if number == signal.SIGINT and (wish.interrupted or wish.at_once):
            raise KeyboardInterrupt
        first, wish.signal = not wish, number
        if first and wish.at_once and alone:
            raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        early = before[signal.SIGTERM]
        if isinstance(early, Noted) and early.signal is not None:
            note(early.signal, None)
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Record many networks of timm before they are read, in several processes.

A network is recorded by building and running it on the meta device, which keeps one core busy for
a second or so; the record stays in the cache, so that what was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence

from convscale.prediction.records import is_recorded
from convscale.study.trials import Progress

MOST = 4  # processes: each holds PyTorch and timm
FEW = 8  # networks for which no process is started

Wanted = tuple[str, int]  # an architecture of timm's, and a side


def unrecorded(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Return the networks and sides that the cache does not hold, each once.

    Example:
        >>> unrecorded([])
        []
    """
    return [each for each in dict.fromkeys(wanted) if not is_recorded(*each)]


def record_ahead(missing: Sequence[Wanted], *, progress: Progress | None = None) -> None:
    """Record networks into the cache by as many processes as there are cores, four at most.

    What cannot be recorded is left to whoever asks for it next, who is told why. So are few
    networks, and all that is left where processes cannot be started or end early.

    Args:
        missing: The networks and sides, each once.
        progress: Called with networks done and all.

    Example:
        >>> record_ahead([("resnet18", 64)]) is None  # one is not worth a process
        True
    """
    if len(missing) <= FEW:
        return
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    for each in missing:
        todo.put(each)
    done: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True a network, False a worker that ends
    workers = [_Worker(todo, done) for _ in range(min(_cores(), MOST))]
    try:
        for worker in workers:
            worker.start()
        running, finished = len(workers), 0
        while running:
            if done.get():
                finished += 1
                if progress is not None:
                    progress(finished, len(missing))
            else:
                running -= 1
    finally:
        for worker in workers:
            worker.stop()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One process, and the thread that asks it."""

    def __init__(self, todo: queue.SimpleQueue[Wanted], done: queue.SimpleQueue[bool]) -> None:
        self._todo, self._done = todo, done
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def start(self) -> None:
        """Start the process in a session of its own: Ctrl-C is for the program, which ends it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "convscale.study.record_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._thread.join()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # what it was not told any more
                        pipe.close()

    def _ask(self) -> None:
        try:
            while self._one(self._todo.get_nowait()):
                self._done.put(True)
        except queue.Empty:  # every network has been taken: the thread is done
            pass
        finally:
            self._done.put(False)

    def _one(self, each: Wanted) -> bool:
        """Let the process record a network; False where it has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{each[0]} {each[1]}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return bool(self._process.stdout.readline())

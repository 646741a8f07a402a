"""Run work on many networks in child processes, each with its own limits."""

from __future__ import annotations

import gc
import resource
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from benchmarks.coverage_rows import Case, Row

PRELOADED = ("benchmarks.coverage_check", "timm", "torchvision")


@dataclass(frozen=True)
class Task:
    """The cases of one network that are still to be answered, with a pass or without.

    Example:
        >>> Task("timm:resnet18", (("w", 2.0),)).network
        'timm:resnet18'
    """

    network: str
    cases: tuple[Case, ...]
    with_pass: bool = False


@dataclass(frozen=True)
class Limits:
    """What a child process may use: processor time (s), address space (bytes).

    Example:
        >>> Limits().seconds
        600
    """

    seconds: int = 600
    memory_bytes: int = 12 << 30


@dataclass
class _Child:
    task: Task
    process: BaseProcess
    rows: list[Row]


def run_tasks(tasks: Iterable[Task], *, processes: int, limits: Limits) -> Iterator[list[Row]]:
    """Yield the rows of one network after the other, as they are done.

    Every case gets a row: those that a child leaves out because it died are recorded as killed.

    Args:
        tasks: The networks and their cases.
        processes: How many children run at a time.
        limits: What each may use.
    """
    context = get_context("forkserver")  # forks from a process that has torch loaded
    context.set_forkserver_preload(list(PRELOADED))
    waiting = iter(tasks)
    running: dict[Connection, _Child] = {}
    while True:
        while len(running) < processes and (task := next(waiting, None)) is not None:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(sender, task, limits), daemon=True)
            process.start()
            sender.close()
            running[receiver] = _Child(task, process, [])
        if not running:
            return
        for ready in wait(list(running)):
            assert isinstance(ready, Connection)
            child = running[ready]
            try:
                child.rows.append(ready.recv())
            except EOFError:
                del running[ready]
                child.process.join()
                yield [*child.rows, *_missing(child)]


def _missing(child: _Child) -> Iterator[Row]:
    answered = {row.key for row in child.rows}
    for strategy, factor in child.task.cases:
        if (child.task.network, strategy, factor) not in answered:
            reason = _end(child.process.exitcode)
            yield Row(child.task.network, strategy, factor, "killed", reason)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return "more than the limit of processor time" if name == "SIGXCPU" else f"ended by {name}"
    return f"ended with status {code}"


def _work(sender: Connection, task: Task, limits: Limits) -> None:
    """Answer the cases of a network in a child process, each as soon as it is known."""
    import torch

    from benchmarks.coverage_check import check_network

    torch.set_num_threads(1)
    gc.freeze()  # a pass of the collector over what the imports made is no network's cost
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    for row in check_network(task.network, task.cases, with_pass=task.with_pass):
        sender.send(row)
    sender.close()

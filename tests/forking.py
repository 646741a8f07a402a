"""Processes of their own for tests, forked from one that has imported everything once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["tests.training_runs", "sklearn.datasets"])
PIPE = _FORKING.Pipe
_LONGEST_S = 120


def forked(work: Callable[..., None], *given) -> BaseProcess:
    """Begin some work in a process of its own."""
    return _begun(work, given, {}, None)


def ended(process: BaseProcess) -> int:
    """Wait for the end of a process and return its exit status, negative for a signal."""
    process.join(_LONGEST_S)
    assert process.exitcode is not None, f"it has not ended after {_LONGEST_S} seconds"
    return process.exitcode


def forked_together(work: Callable[..., None], *given, processes: int = 2) -> list[tuple[int, str]]:
    """Do some work in several processes as torchrun starts them: their exit status and stderr."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(rank)) for rank in range(processes)]
        begun = []
        for rank, file in enumerate(files):
            ranks = {"RANK": rank, "LOCAL_RANK": rank}
            worlds = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            begun.append(_begun(work, given, {**ranks, **worlds, **place}, file))
        return [(ended(each), file.read_text()) for each, file in zip(begun, files, strict=True)]


def _begun(work, given, environment, said) -> BaseProcess:
    process = _FORKING.Process(target=_do, args=(work, given, environment, said))
    process.start()
    return process


def _do(work, given, environment, said) -> None:
    import torch

    torch.set_num_threads(1)
    # loaders of images fork their workers, which then notice when their parent is killed
    multiprocessing.set_start_method("fork", force=True)
    os.environ.update({name: str(value) for name, value in environment.items()})
    if said is not None:
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 2)
    work(*given)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

"""A network in a process of its own, which may crash or hang without taking others along."""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from convscale.errors import InputError
from convscale.runtime.batch import Probe
from convscale.runtime.devices import PartTime, Pass
from convscale.runtime.setting import Setting
from convscale.runtime.sitting import Facts
from convscale.runtime.subject import Subject

# Time to import PyTorch and to build a network; to compile one; the least for any answer.
_START_S, _COMPILE_S, _LEAST_S = 180.0, 900.0, 10.0


@dataclass
class Lodger:
    """A network that another process runs; orders and answers are lines of JSON.

    Example:
        >>> Lodger.__name__
        'Lodger'
    """

    subject: Subject
    setting: Setting
    patience_s: float
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    files: ExitStack
    answers: queue.Queue[bytes]
    facts: Facts
    passes: list[Pass] = field(default_factory=list)
    last_s: float = 0.0
    peak_memory_bytes: int | None = None
    process_memory_bytes: int | None = None

    def warm_up(self, until: float, most: int) -> None:
        """Let it run until passes get no faster or the time has come."""
        seconds = max(0.0, until - time.monotonic())
        extra = _COMPILE_S if self.setting.compile else 0.0
        self._order({"do": "warm_up", "seconds": seconds, "most": most}, extra_s=extra)

    def visit(self, passes: int = 1, *, untimed: int = 0) -> None:
        """Let it time passes, after some that are not timed."""
        order = {"do": "visit", "passes": passes, "untimed": untimed}
        self._order(order, extra_s=(passes + untimed) * self.last_s)

    @property
    def killed(self) -> bool:
        """Whether the system ended the process by force, as where memory runs out."""
        status = self.process.poll()
        return status is not None and status == -signal.SIGKILL

    def joules(self) -> float | None:
        """Let it run for some seconds, and return the energy of a pass."""
        told = self.ask(b'{"do": "joules"}\n', self.patience_s)
        return told["joules"]  # type: ignore[no-any-return]

    def probe(self, batch_size: int) -> Probe | None:
        """Let it run a pass of another batch; None where memory is short."""
        order = {"do": "probe", "batch_size": batch_size}
        told = self.ask(json.dumps(order).encode() + b"\n", self.patience_s)
        return None if told["probe"] is None else Probe(**told["probe"])

    def close(self) -> None:
        """End the process; it has nothing that must be kept."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                _closed(pipe)
        self.files.close()

    def _order(self, order: dict[str, Any], *, extra_s: float = 0.0) -> None:
        told = self.ask(json.dumps(order).encode() + b"\n", self.patience_s + extra_s)
        self.passes += [_pass(fields) for fields in told["passes"]]
        self.last_s = told["last_s"]
        self.facts = _facts(told["facts"])
        self.peak_memory_bytes = told["peak_memory_bytes"]
        self.process_memory_bytes = told["process_memory_bytes"]

    def ask(self, content: bytes, patience_s: float) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            InputError: If the network fails, its process ends, or no answer comes in time.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(content)
            self.process.stdin.flush()
            line = self.answers.get(timeout=patience_s)
        except BrokenPipeError:
            line = b""
        except queue.Empty:
            raise InputError(
                f"{self.subject.name} gave no answer within {patience_s:.0f} s, and its process "
                "was ended. Raise the time limit, or use a smaller batch size."
            ) from None
        if not line:
            raise InputError(f"{self.subject.name} ended its process: {self._ending()}.")
        told: dict[str, Any] = json.loads(line)
        if "failed" in told:
            raise InputError(told["failed"])
        return told

    def _ending(self) -> str:
        """Say how the process ended, and the last that it said."""
        status = self.process.wait(timeout=_LEAST_S)
        self.said.seek(0)
        lines = [line.strip() for line in self.said.read().decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        if status >= 0:
            return f"exit status {status}" + (f" ({last})" if last else "")
        name = signal.Signals(-status).name
        hint = ", as where memory runs out" if name == "SIGKILL" else ""
        return f"signal {name}{hint}"


def lodge(
    subject: Subject,
    setting: Setting,
    *,
    time_limit_s: float,
    seed: int = 0,
    probing: bool = False,
) -> Lodger:
    """Start a process for a subject, and bring the subject there.

    A subject with a recipe is built there by name. Any other module is sent through the pipe
    in pickled form; nothing is written to a file. For probing alone nothing is seated.

    Raises:
        InputError: If the module cannot be sent, or does not run there.

    Example:
        >>> from torch import nn
        >>> subject = Subject("conv", nn.Conv2d(3, 4, 1), 8)
        >>> lodger = lodge(subject, Setting(), time_limit_s=10)
        >>> lodger.visit(2)
        >>> len(lodger.passes), lodger.facts.dtype
        (2, 'float32')
        >>> lodger.close()
    """
    content = b"" if subject.recipe is not None else _packed(subject)
    recipe = None if subject.recipe is None else asdict(subject.recipe)
    order = {
        "subject": {
            "name": subject.name,
            "resolution": subject.resolution,
            "in_chans": subject.in_chans,
            "dims": subject.dims,
        },
        "recipe": recipe,
        "setting": asdict(setting),
        "seed": seed,
        "probing": probing,
        "time_limit_s": time_limit_s,
        "module_bytes": len(content),
    }
    patience_s = max(_LEAST_S, time_limit_s)
    lodger = _started(subject, setting, patience_s)
    try:
        told = lodger.ask(json.dumps(order).encode() + b"\n" + content, _START_S)
    except BaseException:
        lodger.close()
        raise
    if told["facts"] is not None:
        lodger.facts = _facts(told["facts"])
    return lodger


def _packed(subject: Subject) -> bytes:
    module = subject.build()
    try:
        return pickle.dumps(module, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise InputError(
            f"{subject.name} cannot be sent to a process of its own ({type(error).__name__}: "
            f"{error}). Define its parts in a file that can be imported, or do not isolate it."
        ) from error


def _started(subject: Subject, setting: Setting, patience_s: float) -> Lodger:
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [sys.executable, "-m", "convscale.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "PYTHONPATH": paths},
        )
        files = stack.pop_all()
    answers: queue.Queue[bytes] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, answers), daemon=True).start()
    return Lodger(subject, setting, patience_s, process, said, files, answers, Facts("", ""))


def _read(pipe: IO[bytes], answers: queue.Queue[bytes]) -> None:
    """Pass lines on until the pipe ends, which an empty one tells."""
    for line in pipe:
        answers.put(line)
    answers.put(b"")


def _closed(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what the process did not read any more


def _facts(fields: dict[str, Any]) -> Facts:
    return Facts(**{**fields, "parts": tuple(fields["parts"])})


def _pass(fields: dict[str, Any]) -> Pass:
    parts = tuple(PartTime(**part) for part in fields["parts"])
    return Pass(**{**fields, "parts": parts})

"""The process of one network: take a request on stdin, and do as told, line by line.

Run as `python -m convscale.runtime.worker`; `isolation.py` is the other side. What arrives is a
JSON line, the bytes of a module behind the first where there is one; each is answered by a line.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

from convscale.errors import ConvscaleError, InputError
from convscale.runtime.batch import Probe, require_room
from convscale.runtime.devices import Device, open_device
from convscale.runtime.memory import process_peak_bytes, restart_process_peak
from convscale.runtime.running import backend
from convscale.runtime.seating import seat
from convscale.runtime.setting import Setting
from convscale.runtime.sitting import MemoryShortageError, Sitting
from convscale.runtime.state import process_state
from convscale.runtime.subject import Recipe, Subject


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Seat the network of the first order, then answer one order after another until none comes.

    Example:
        >>> import io
        >>> told = io.BytesIO()
        >>> serve(io.BytesIO(b""), told)
        >>> told.getvalue()
        b''
    """
    first = orders.readline()
    if not first:
        return
    order = json.loads(first)
    content = orders.read(order["module_bytes"])
    setting = Setting(**order["setting"])
    with process_state(setting.threads or 1, setting.device):
        try:
            desk = _opened(order, content, setting)
        except ConvscaleError as error:
            _tell(answers, {"failed": error.line})
            return
        _tell(answers, {"facts": None if desk.sitting is None else asdict(desk.sitting.facts)})
        for line in orders:
            try:
                told = desk.obey(json.loads(line))
            except ConvscaleError as error:
                told = {"failed": error.line}
            _tell(answers, told)


@dataclass
class _Desk:
    """What orders are about: a subject, and where passes are timed its sitting."""

    subject: Subject
    device: Device
    setting: Setting
    sitting: Sitting | None = None

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what an order says and return the answer."""
        if order["do"] == "probe":
            probe = self._probe(order["batch_size"])
            return {"probe": None if probe is None else asdict(probe)}
        assert self.sitting is not None
        if order["do"] == "joules":
            return {"joules": self.sitting.joules()}
        known = len(self.sitting.passes)
        if order["do"] == "warm_up":
            self.sitting.warm_up(time.monotonic() + order["seconds"], order["most"])
        else:
            self.sitting.visit(order["passes"], untimed=order["untimed"])
        return _progress(self.sitting, known)

    def _probe(self, batch_size: int) -> Probe | None:
        """Run one pass of a batch from nothing; None where memory is short."""
        memory = self.device.memory
        restart_process_peak()
        if memory is not None:
            memory.reset_peak_memory_stats()
        try:
            setting = replace(self.setting, batch_size=batch_size, compile=False)
            sitting = seat(self.subject, self.device, setting)
            try:
                sitting.warm_up(0.0, 0)
            finally:
                sitting.close()
        except MemoryShortageError:
            gc.collect()  # what the failed pass held
            return None
        taken = process_peak_bytes() if memory is None else memory.max_memory_allocated()
        return Probe(batch_size, sitting.last_s, taken or 0)


def _opened(order: dict[str, Any], content: bytes, setting: Setting) -> _Desk:
    device = open_device(setting.device)
    backend(setting.backend).check(setting)
    fields, recipe = dict(order["subject"]), order["recipe"]
    if isinstance(fields["resolution"], list):
        fields["resolution"] = tuple(fields["resolution"])
    module = _rebuilt(content, fields["name"]) if content else Recipe(**recipe).build()
    subject = Subject(**fields, module=module)
    if order["probing"]:
        return _Desk(subject, device, setting)
    require_room(subject, device, setting, order["time_limit_s"])
    sitting = seat(subject, device, setting, seed=order["seed"])
    return _Desk(subject, device, setting, sitting)


def _rebuilt(content: bytes, name: str) -> Any:
    """Make the module again that the parent process sent through the pipe."""
    try:
        return pickle.loads(content)
    except Exception as error:
        raise InputError(
            f"{name} cannot be made again in a process of its own ({type(error).__name__}: "
            f"{error}). Define its class in a file that can be imported."
        ) from error


def _progress(sitting: Sitting, known: int) -> dict[str, Any]:
    """Tell the passes since the known ones, and what is known of the network by now."""
    return {
        "passes": [asdict(timed) for timed in sitting.passes[known:]],
        "last_s": sitting.last_s,
        "facts": asdict(sitting.facts),
        "peak_memory_bytes": sitting.peak_memory_bytes,
        "process_memory_bytes": process_peak_bytes(),
    }


def _tell(answers: IO[bytes], told: dict[str, Any]) -> None:
    answers.write(json.dumps(told).encode() + b"\n")
    answers.flush()


def main() -> None:
    """Serve on the pipes that are stdin and stdout now; what networks print goes to stderr.

    Example:
        >>> callable(main)
        True
    """
    orders, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with os.fdopen(orders, "rb") as reader, os.fdopen(answers, "wb") as writer:
        serve(reader, writer)


if __name__ == "__main__":
    main()

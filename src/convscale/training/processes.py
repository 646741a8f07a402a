"""The processes of a run, by accelerate: one by itself, or those that torchrun started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from convscale.errors import ConvscaleError, ElsewhereError, InputError
from convscale.runtime.devices import open_device

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
# What gloo, NCCL and the store say where the other side of a connection is gone.
_LOST = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|connection.*lost|recv.*failed|"
    r"timed out waiting|remote process|socket|nccl",
    re.IGNORECASE,
)


class LostProcessError(ConvscaleError):
    """Say that another process of the run has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees them.

    Example:
        >>> with open_processes("cpu") as processes:
        ...     processes.world, processes.rank, processes.total([1.5, 2.0])
        (1, 0, [1.5, 2.0])
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.world == 1:
            return list(values)
        given = torch.tensor(values, dtype=self._widest, device=self.device)
        dist.all_reduce(given)
        return [float(value) for value in given]

    def summed(self, values: Tensor) -> Tensor:
        """Return a tensor summed over all processes, without waiting for it where that can be."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def shared(self, data: bytes | None) -> bytes:
        """Return the bytes that the first process gives, in all of them."""
        if self.world == 1:
            assert data is not None, "the only process is the first"
            return data
        length = int(self.total([float(len(data or b"")) if self.is_first else 0.0])[0])
        held = torch.zeros(length, dtype=torch.uint8, device=self.device)
        if self.is_first and data:
            held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        if length:
            dist.broadcast(held, src=0)
        return held.cpu().numpy().tobytes()

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Do a thing in all processes or end all of them: the first with a problem says it.

        Raises:
            ElsewhereError: In the other processes.
        """
        problem: ConvscaleError | None = None
        try:
            yield
        except ConvscaleError as error:
            if self.world == 1 or isinstance(error, LostProcessError):
                raise
            problem = error
        status = 0 if problem is None else problem.exit_status
        statuses = self.total([float(status * (rank == self.rank)) for rank in range(self.world)])
        speaker = next((rank for rank, told in enumerate(statuses) if told), None)
        if problem is not None and speaker == self.rank:
            raise problem
        if speaker is not None:
            raise ElsewhereError(
                f"Process {speaker} has ended the run.", exit_status=int(statuses[speaker])
            )

    def merged(self, found: dict[str, str]) -> dict[str, str]:
        """Return the entries of all processes together."""
        if self.world == 1:
            return found
        held: list[Any] = [None] * self.world
        with self.together():
            dist.all_gather_object(held, found)
        return {name: text for own in held for name, text in own.items()}

    def share_buffers(self, module: nn.Module) -> None:
        """Give the buffers of a module the values that they have in the first process."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def accelerator(self, precision: str, *, unused: bool = False) -> Accelerator:
        """Return accelerate's view of these processes, for a precision.

        Args:
            precision: fp32, bf16 or fp16.
            unused: Whether there are parameters that get no gradient.
        """
        parallel = DistributedDataParallelKwargs(
            find_unused_parameters=unused, gradient_as_bucket_view=True
        )
        return Accelerator(
            mixed_precision=_MIXED[precision],
            cpu=self.device.type == "cpu",
            kwargs_handlers=[parallel],
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one line that another process is gone, where that ends what is done inside.

        Raises:
            LostProcessError: If a collective operation finds the other side gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world > 1 and (isinstance(error, dist.DistError) or _LOST.search(str(error))):
                raise LostProcessError(
                    f"Another of the {self.world} processes has ended, so process {self.rank} "
                    "cannot go on."
                ) from error
            raise

    @property
    def _widest(self) -> torch.dtype:
        return torch.float32 if self.device.type == "mps" else torch.float64


@contextmanager
def open_processes(device: str | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: cpu, cuda or mps; by default what accelerate finds.

    Raises:
        InputError: If the device is not there.

    Example:
        >>> with open_processes("cpu") as processes:
        ...     str(processes.device), processes.is_first
        ('cpu', True)
    """
    if device is not None:
        open_device(device)
    ours = not dist.is_initialized()
    state = _partial_state(device)
    try:
        yield Processes(state.device, state.process_index, state.num_processes)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        if ours and dist.is_initialized():
            dist.destroy_process_group()


def _partial_state(device: str | None) -> Any:
    # Without being told so, accelerate joins no processes where there is nothing but a processor.
    alone = device is None and not torch.accelerator.is_available()
    try:
        state = PartialState(cpu=alone or device == "cpu")
    except (RuntimeError, ValueError) as error:
        AcceleratorState._reset_state(reset_partial_state=True)  # half of it is there
        if "WORLD_SIZE" not in os.environ:
            raise
        raise InputError(
            f"The processes cannot find one another: {str(error).splitlines()[0]}. Start them by "
            "torchrun."
        ) from error
    if device not in (None, state.device.type) and state.num_processes == 1:
        state.device = torch.device(str(device))
    return state

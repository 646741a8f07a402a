"""One module on one device with its input, while it is being timed."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.quantities import format_resolution, sides
from convscale.runtime.devices import Device, Pass

if TYPE_CHECKING:
    import torch
    from torch import nn

    from convscale.runtime.measure import Subject

# A network this short runs once untimed at each visit; longer ones do not notice.
_SHORT_S = 0.05
_MOST_WARM_UPS = 5
# Warm-up has settled once a pass is no longer this much faster than the one before.
_SETTLED = 0.9
# What a forward pass raises where input and network do not fit, or memory is short.
_FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    ArithmeticError,
    LookupError,
    MemoryError,
)


@dataclass
class Sitting:
    """A subject on the device, its input, and the passes timed so far.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import Subject, open_device
        >>> sitting = seat(Subject("conv", nn.Conv2d(3, 4, 1), 8), open_device("cpu"))
        >>> sitting.visit()
        >>> len(sitting.passes), sitting.dtype, sitting.peak_memory_bytes
        (1, 'float32', None)
    """

    subject: Subject
    device: Device
    module: nn.Module
    images: torch.Tensor
    memory_format: str
    held_bytes: int = 0
    passes: list[Pass] = field(default_factory=list)
    last_s: float = 0.0

    @property
    def dtype(self) -> str:
        """The input's type, as torch spells it without its package."""
        return str(self.images.dtype).removeprefix("torch.")

    @property
    def peak_memory_bytes(self) -> int | None:
        """The allocator's peak over all passes, or None where there is no counter."""
        peaks = [timed.memory_bytes for timed in self.passes if timed.memory_bytes is not None]
        return self.held_bytes + max(peaks) if peaks else None

    def warm_up(self, until: float) -> None:
        """Run once, then until passes get no faster, five have run or the time has come."""
        before = self._run().wall_s
        for _ in range(_MOST_WARM_UPS - 1):
            if time.monotonic() > until:
                break
            now = self._run().wall_s
            if now > _SETTLED * before:
                break
            before = now

    def visit(self) -> None:
        """Time one pass, after an untimed one if the network is short."""
        if self.last_s < _SHORT_S:
            self._run()
        self.passes.append(self._run())

    def _run(self) -> Pass:
        import torch

        try:
            with torch.inference_mode():
                timed = self.device.time(lambda: self.module(self.images))
        except _FAILURES as error:
            raise _refusal(self.subject, len(self.images), error) from error
        self.last_s = timed.wall_s
        return timed


def seat(subject: Subject, device: Device, *, batch_size: int = 1, seed: int = 0) -> Sitting:
    """Bring a subject and a random normal input to the device.

    A module that is elsewhere is copied there, so that the caller's stays where it is.

    Raises:
        InputError: If the module has no weights, or does not fit.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import Subject, open_device
        >>> subject = Subject("conv", nn.Conv2d(1, 4, 1), (8, 4), in_chans=1)
        >>> tuple(seat(subject, open_device("cpu"), batch_size=2).images.shape)
        (2, 1, 8, 4)
    """
    import torch

    tensors = [*subject.module.parameters(), *subject.module.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(
            f"{subject.name} is on the meta device and has no weights to run. Build it on the cpu."
        )
    memory_format = _memory_format(tensors)
    held = device.memory.memory_allocated() if device.memory else 0
    try:
        module = _module_on(subject.module, tensors, torch.device(device.name))
        images = _images(subject, batch_size, _dtype(tensors), seed)
        images = images.to(device.name, memory_format=memory_format)
    except (RuntimeError, MemoryError) as error:
        raise _refusal(subject, batch_size, error) from error
    if device.memory:
        held = device.memory.memory_allocated() - held
        if module is subject.module:
            held += sum(tensor.nbytes for tensor in tensors)
    name = "contiguous" if memory_format is torch.contiguous_format else "channels_last"
    return Sitting(subject, device, module, images, name, held_bytes=held)


def _module_on(module: nn.Module, tensors: list[torch.Tensor], device: torch.device) -> nn.Module:
    if all(tensor.device == device for tensor in tensors):
        return module
    return copy.deepcopy(module).to(device)


def _images(subject: Subject, batch_size: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    import torch

    from convscale.network.inputs import input_channels, input_shape

    chans = subject.in_chans if subject.in_chans is not None else input_channels(subject.module)
    generator = torch.Generator().manual_seed(seed)
    shape = input_shape(chans, sides(subject.resolution, subject.dims), batch=batch_size)
    return torch.randn(shape, generator=generator).to(dtype)


def _dtype(tensors: list[torch.Tensor]) -> torch.dtype:
    import torch

    floating = (tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point)
    return next(floating, torch.float32)


def _memory_format(tensors: list[torch.Tensor]) -> torch.memory_format:
    """Return the layout that the first convolution weight to tell has."""
    import torch

    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in tensors:
        layout = layouts.get(tensor.dim())
        if layout is None:
            continue
        last = tensor.is_contiguous(memory_format=layout)
        if tensor.is_contiguous() != last:
            return layout if last else torch.contiguous_format
    return torch.contiguous_format


def _refusal(subject: Subject, batch_size: int, error: BaseException) -> InputError:
    said = str(error).strip().splitlines()
    reason = said[0] if said else type(error).__name__
    return InputError(
        f"{subject.name} does not run at resolution {format_resolution(subject.resolution)} "
        f"with batch size {batch_size}: {reason}"
    )

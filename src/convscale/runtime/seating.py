"""Bring a module and its input to the device, as the setting asks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from convscale.errors import InputError
from convscale.quantities import sides
from convscale.runtime.devices import Device
from convscale.runtime.running import Runner, backend
from convscale.runtime.setting import Setting
from convscale.runtime.sitting import Facts, Sitting, refusal
from convscale.runtime.state import undisturbed
from convscale.runtime.subject import Subject

if TYPE_CHECKING:
    import torch
    from torch import nn


def seat(
    subject: Subject,
    device: Device,
    setting: Setting | None = None,
    *,
    seed: int = 0,
) -> Sitting:
    """Bring a subject and a random normal input to the device.

    The caller's module stays where it is and as it is: what is to train, to compile, or to be
    laid out or placed otherwise is a copy.

    Args:
        subject: The module.
        device: Where it runs.
        setting: How it runs; its batch size is a number.
        seed: For the input.

    Raises:
        InputError: If the module has no weights, or does not fit.

    Example:
        >>> from torch import nn
        >>> from convscale.runtime import Setting, Subject, open_device
        >>> subject = Subject("conv", nn.Conv2d(1, 4, 1), (8, 4), in_chans=1)
        >>> tuple(seat(subject, open_device("cpu"), Setting(batch_size=2)).images.shape)
        (2, 1, 8, 4)
    """
    import torch

    setting = Setting() if setting is None else setting
    assert isinstance(setting.batch_size, int)
    given = subject.build()
    tensors = _tensors(given)
    _require_weights(subject, tensors)
    memory = device.memory
    before = 0 if memory is None else memory.memory_allocated()
    with ExitStack() as stack:
        try:
            module = _placed(given, tensors, device, setting)
            tensors = tensors if module is given else _tensors(module)
            images = _images(subject, module, _dtype(tensors), setting, seed).to(device.name)
            layout = _channels_last(images) if setting.channels_last else _memory_format(tensors)
            images = images.to(memory_format=layout)
            if setting.mode == "training":
                module.train()
            else:
                stack.enter_context(undisturbed(module))
            runner = backend(setting.backend).prepare(module, images, setting)
        except Exception as error:
            raise refusal(subject, setting.batch_size, error) from error
        stack.callback(runner.close)
        held = sum(tensor.nbytes for tensor in tensors) + images.nbytes
        if memory is not None and module is not given:
            held = memory.memory_allocated() - before
        facts = _facts(runner, plain=layout is torch.contiguous_format)
        kept = stack.pop_all()
    return Sitting(subject, device, setting, module, images, runner, facts, held, stack=kept)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _require_weights(subject: Subject, tensors: list[torch.Tensor]) -> None:
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(
            f"{subject.name} is on the meta device and has no weights to run. Build it on the cpu."
        )


def _placed(
    module: nn.Module, tensors: list[torch.Tensor], device: Device, setting: Setting
) -> nn.Module:
    """Return the module, or a copy of it that is on the device and may be changed."""
    import torch

    from convscale.network.modules.copies import full_copy

    target = torch.device(device.name)
    there = all(tensor.device == target for tensor in tensors)
    changed = setting.mode == "training" or setting.channels_last or setting.compile
    if there and not changed:
        return module
    copied = full_copy(module).to(target)
    if setting.channels_last:
        for tensor in _tensors(copied):
            tensor.data = tensor.data.contiguous(memory_format=_channels_last(tensor))
    return copied


def _channels_last(tensor: torch.Tensor) -> torch.memory_format:
    """Return the layout with channels last, where a tensor's dimensions have one."""
    import torch

    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return layouts.get(tensor.dim(), torch.contiguous_format)


def _facts(runner: Runner, *, plain: bool) -> Facts:
    return Facts(
        runner.dtype,
        "contiguous" if plain else "channels_last",
        autocast=runner.autocast,
        compiled=runner.compiled,
        optimizer=runner.optimizer,
        versions=runner.versions,
        parts=runner.names,
    )


def _images(
    subject: Subject, module: nn.Module, dtype: torch.dtype, setting: Setting, seed: int
) -> torch.Tensor:
    import torch

    from convscale.network.sources.inputs import input_channels, input_shape

    assert isinstance(setting.batch_size, int)
    chans = subject.in_chans if subject.in_chans is not None else input_channels(module)
    generator = torch.Generator().manual_seed(seed)
    lengths = sides(subject.resolution, subject.dims)
    shape = input_shape(chans, lengths, batch=setting.batch_size)
    return torch.randn(shape, generator=generator).to(dtype)


def _dtype(tensors: list[torch.Tensor]) -> torch.dtype:
    import torch

    floating = (tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point)
    return next(floating, torch.float32)


def _memory_format(tensors: list[torch.Tensor]) -> torch.memory_format:
    """Return the layout that the first convolution weight to tell has."""
    import torch

    for tensor in tensors:
        layout = _channels_last(tensor)
        if layout is torch.contiguous_format:
            continue
        last = tensor.is_contiguous(memory_format=layout)
        if tensor.is_contiguous() != last:
            return layout if last else torch.contiguous_format
    return torch.contiguous_format

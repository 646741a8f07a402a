"""The backend PyTorch: eager or compiled, inference or a training step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from convscale.errors import InputError
from convscale.runtime.running import Runner, format_dtype
from convscale.runtime.setting import Setting

_LEARNING_RATE, _MOMENTUM, _DECAY = 1e-4, 0.9, 1e-4
# Small enough for a loss of this kind; a scale that overflows would skip the optimizer's steps.
_LOSS_SCALE = 256.0
Context = Callable[[], AbstractContextManager[object]]


class PyTorch:
    """Run modules by PyTorch itself.

    Example:
        >>> net = nn.Conv2d(3, 4, 1)
        >>> PyTorch().prepare(net, torch.zeros(1, 3, 8, 8), Setting()).names
        ('forward',)
    """

    def check(self, setting: Setting) -> None:
        """Refuse a dtype that the device lacks, and compiling where nothing compiles."""
        if setting.dtype in ("bfloat16", "float16"):
            _check_autocast(setting.device, setting.dtype)
        if setting.compile and setting.device == "cpu":
            _check_compiler()

    def prepare(self, module: nn.Module, images: torch.Tensor, setting: Setting) -> Runner:
        """Return the work of one pass: forward, or forward, backward and optimizer."""
        own = images.dtype
        lower = None if setting.dtype in (None, format_dtype(own)) else setting.dtype
        if lower is not None and (own is not torch.float32 or lower == "float32"):
            raise InputError(
                f"The network is in {format_dtype(own)} and cannot be measured in {lower}. Leave "
                "the dtype out, or give the network in float32."
            )
        context = _autocast(images.device.type, lower) if lower else contextlib.nullcontext
        call = _compiled(module) if setting.compile else module
        if setting.mode == "training":
            parts = _training(module, call, images, context, setting, scaled=lower == "float16")
        else:
            parts = {"forward": _inference(call, images, context)}
        return Runner(
            parts,
            dtype=lower or format_dtype(own),
            autocast=lower is not None,
            compiled=setting.compile,
            optimizer=setting.optimizer if setting.mode == "training" else None,
        )


def _inference(call: Callable[..., object], images: torch.Tensor, context: Context) -> Any:
    def forward() -> object:
        with torch.inference_mode(), context():
            return call(images)

    return forward


def _training(
    module: nn.Module,
    call: Callable[..., object],
    images: torch.Tensor,
    context: Context,
    setting: Setting,
    *,
    scaled: bool,
) -> dict[str, Callable[[], object]]:
    """Return the parts of a training step on the mean square of all that the network puts out."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if not weights:
        raise InputError("The network has no weights that require gradients: nothing to train.")
    optimizer = _optimizer(setting.optimizer, weights)
    scaler = torch.amp.GradScaler(images.device.type, init_scale=_LOSS_SCALE, enabled=scaled)
    loss: list[torch.Tensor] = []

    def forward() -> None:
        with torch.inference_mode(False), torch.enable_grad(), context():
            loss.append(_mean_square(call(images)))

    def backward() -> None:
        scaler.scale(loss.pop()).backward()  # type: ignore[no-untyped-call]

    def optimize() -> None:
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return {"forward": forward, "backward": backward, "optimizer": optimize}


def _optimizer(name: str, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=_LEARNING_RATE, weight_decay=_DECAY)
    return torch.optim.SGD(weights, lr=_LEARNING_RATE, momentum=_MOMENTUM, weight_decay=_DECAY)


def _mean_square(output: object) -> torch.Tensor:
    found = [tensor.float().square().mean() for tensor in _tensors(output)]
    if not found:
        raise InputError("The network puts out no floating tensor that a loss could be made of.")
    return torch.stack(found).sum()


def _tensors(output: object) -> Iterator[torch.Tensor]:
    """Yield the floating tensors that take part in a gradient, however they are nested."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() and output.requires_grad:
            yield output
    elif isinstance(output, dict):
        for entry in output.values():
            yield from _tensors(entry)
    elif isinstance(output, list | tuple):
        for entry in output:
            yield from _tensors(entry)


def _compiled(module: nn.Module) -> Callable[..., object]:
    """Compile a module; several of one class do not share the limit of recompilations."""
    alone = "isolate_recompiles" in inspect.signature(torch.compile).parameters
    options: dict[str, Any] = {"isolate_recompiles": True} if alone else {}
    return torch.compile(module, **options)


def _autocast(kind: str, dtype: str) -> Context:
    return lambda: torch.autocast(kind, dtype=getattr(torch, dtype))


def _check_autocast(device: str, dtype: str) -> None:
    """Run a small convolution in the dtype."""
    kind = device.partition(":")[0]
    lacking = kind == "cuda" and dtype == "bfloat16" and not torch.cuda.is_bf16_supported(False)
    reason = ""
    if not lacking:
        image, weight = (torch.zeros(1, 8, 4, 4, device=device) for _ in range(2))
        try:
            with torch.no_grad(), torch.autocast(kind, dtype=getattr(torch, dtype)):
                torch.nn.functional.conv2d(image, weight)
        except (RuntimeError, TypeError) as error:
            lacking, reason = True, f" ({str(error).splitlines()[0]})"
    if lacking:
        raise InputError(f"The device {device} lacks the dtype {dtype}{reason}. Use float32.")


def _check_compiler() -> None:
    """Refuse to compile for the processor where no C++ compiler is found."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError, OSError) as error:
        raise InputError(
            "torch.compile needs a C++ compiler for the cpu, and none was found. Install g++ or "
            "clang++, name one in CXX, or leave --compile out."
        ) from error

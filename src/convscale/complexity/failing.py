"""Say why a network did not run on the meta device, or at all, and what a count holds for."""

from __future__ import annotations

import re

from torch import nn

from convscale.errors import InputError
from convscale.network.modules.quantised import is_quantised
from convscale.network.running.execution import ForwardError
from convscale.network.sources.inputs import Inputs, convolution_inputs, input_channels
from convscale.quantities import Resolution, format_resolution

_LACKS_INPUTS = re.compile(r"required (?:positional|keyword-only) argument")
_TAKES_NAMES = re.compile(r"takes \d+ positional arguments? but")
_INTEGERS = re.compile(r"scalar types: (Long|Int)|must be (long|integer)|used as ind(ices|exes)")
_TAKES_OTHER = re.compile(r"(Type|Index|Key|Attribute)Error|ValueError: (not enough|too many)")
_CHANNELS = re.compile(r"Invalid channel dimensions|to have \d+ channels")
_HIGHER = re.compile(r"registered for HigherOrderOperator (\w+)")
_DEVICE = re.compile(r"NVIDIA|CUDA|Torch not compiled with|different devices|same device")


def real_pass(error: ForwardError) -> str:
    """Say in a note why a network ran with values, and what that means for the count.

    Example:
        >>> real_pass(ForwardError("stem", "Conv2d", ValueError("too small")))
        'Counted by a real forward pass: the meta device fails (ValueError: too small (in stem, ...'
    """
    said = "Counted by a real forward pass: the meta device fails"
    if error.lacks_shapes is not None:
        return f"{said}, since {error.lacks_shapes}."
    if error.needs_values is None:
        return f"{said} ({error.reason})."
    return f"{said}, since {error.needs_values}. Other values may execute other operators."


def several(inputs: Inputs) -> tuple[str, ...]:
    """Say in a note that inputs hold more than one image, where they do.

    Example:
        >>> import torch
        >>> several(Inputs((torch.zeros(2, 3, 8, 8),)))
        ('The numbers are for all of the inputs: the first has 2 entries along its first axis.',)
    """
    first = inputs.tensors[0] if inputs.tensors else None
    if first is None or first.ndim == 0 or len(first) == 1:
        return ()
    return (
        f"The numbers are for all of the inputs: the first has {len(first) or 'no'} entries along "
        "its first axis.",
    )


def unused_rules(names: tuple[str, ...]) -> tuple[str, ...]:
    """Say in notes which rules of the user's no operator was counted by.

    Example:
        >>> unused_rules(("aten::conv2d",))[0][:63]
        'The rule of aten::conv2d counted nothing: no operator of that n'
    """
    return tuple(
        f"The rule of {name} counted nothing: no operator of that name ran. The names are those of "
        "the dispatcher, as in aten::convolution; --by operator shows them."
        for name in names
    )


def cannot_run(
    name: str, resolution: Resolution | None, error: ForwardError, module: nn.Module
) -> InputError:
    """Say in one line that a network cannot run at a resolution, or on inputs given, and why.

    Example:
        >>> error = ForwardError("stem", "Conv2d", ValueError("too small"))
        >>> cannot_run("net", 3, error, nn.Conv2d(3, 8, 5)).line
        'net cannot run at 3 px: ValueError: too small (in stem, a Conv2d). Give another ...'
    """
    where = "on these inputs" if resolution is None else f"at {format_resolution(resolution)} px"
    if error.needs_values is not None or error.lacks_shapes is not None:
        where = "on the meta device"
    if higher := _HIGHER.search(error.reason):
        return InputError(
            f"{name or 'The network'} calls {higher[1]}, an operator that takes functions: nothing "
            "shows what it executes. Call scaled_dot_product_attention, or plain operators."
        )
    return InputError(
        f"{name or 'The network'} cannot run {where}: {error.told}. "
        f"{_advice(error, module, given=resolution is None)}"
    )


def _advice(error: ForwardError, module: nn.Module, *, given: bool) -> str:
    if any(map(is_quantised, module.modules())):
        return "Its layers are quantised: give the float network."
    if _TAKES_NAMES.search(error.reason) and not error.path and not given:
        return "Count it with its inputs by name, as in --input-size image=3x224x224."
    if _LACKS_INPUTS.search(error.reason) and not error.path:
        return (
            "Run count, memory, scale, stages or diff with all its inputs, as in --input-size "
            "3x224x224 --input-size 10:int64, or example_inputs=(image, ids) in Python; elsewhere "
            "wrap it in a module that makes the others."
        )
    if "Guard failed" in error.reason:
        return "An exported module runs at the sizes it was exported with."
    if not given and not convolution_inputs(module):
        return "It has no convolution; give a convolutional network."
    if error.needs_values is not None:
        part = _part_before(error.path, module)
        return "What its forward pass does must follow from shapes, not from values of tensors." + (
            f" Give what is before it by itself, such as its {part}." if part else ""
        )
    if error.lacks_shapes is not None:
        return "Give the operator one (torch.library.register_fake), or a network without it."
    if _DEVICE.search(error.reason):
        return "Its forward pass asks for a device that is not there."
    if _INTEGERS.search(error.reason):
        what = "the dtype of what is looked up" if given else "what it takes"
        return f"Give {what}, as in --input-size 10:int64."
    if given:
        return "Give other inputs."
    if _CHANNELS.search(error.reason):
        return (
            f"If it takes no {input_channels(module)} channels, give what it takes, as in "
            "--input-size 2x32x32, or example_inputs= in Python."
        )
    if error.path and not _TAKES_OTHER.match(error.reason):
        return "Give another resolution."
    return (
        "Give another resolution, or what it takes if that is no image, by --input-size "
        "or example_inputs= in Python."
    )


def _part_before(path: str, module: nn.Module) -> str:
    """Return the first part of a network that has convolutions and does not hold what failed."""
    failed = path.partition(".")[0]
    parts = ((name, part) for name, part in module.named_children() if name != failed)
    return next((name for name, part in parts if convolution_inputs(part)), "")

"""What must hold for every scaled network, whichever it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convscale.network.modules.copies import meta_copy
from convscale.network.sources.inputs import input_shape
from convscale.quantities import sides
from convscale.scaling.plans.plan import flat


def torch_flops(module: nn.Module, resolution, in_chans: int = 3) -> int:
    """Half of what PyTorch's counter says: it counts 2 a multiply-add."""
    return counted_run(module, resolution, in_chans)[0]


def counted_run(module: nn.Module, resolution, in_chans: int = 3) -> tuple[int, tuple[int, ...]]:
    """What `torch_flops` says, and the shape of what the same run puts out."""
    counter = FlopCounterMode(display=False)
    device = next(module.parameters()).device
    with torch.device(device), torch.no_grad(), counter:  # constants are made there too
        shape = input_shape(in_chans, sides(resolution), batch=1)
        output = module.eval()(torch.zeros(shape, device=device))
    total = counter.get_total_flops()
    assert total % 2 == 0
    return total // 2, tuple(output.shape)


def layer_widths(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Width (output channels) and group width of every convolution and linear layer."""
    found = {}
    for path, part in module.named_modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            found[path] = (part.out_channels, part.in_channels // part.groups)
        elif isinstance(part, nn.Linear):
            found[path] = (part.out_features, part.in_features)
    return found


def share_at_requested_width(base: nn.Module, scaled, layers) -> float:
    """Share of the scalable flops in layers within one multiple of the requested width.

    The multiple of a layer is that of its constraints: the asked 8 and, for a width that a
    grouped convolution works on, its group width.
    """
    before, after = layer_widths(base), layer_widths(scaled.module)
    factor = scaled.factors.width
    groups = {width: after[path][1] for path, width in group_widths(base).items() if path in after}
    classifier = list(before)[-1]
    good = total = 0
    for layer in layers:
        if layer.path not in before or layer.path not in after or layer.path == classifier:
            continue
        old, new = before[layer.path][0], after[layer.path][0]
        multiple = math.lcm(8, groups.get(old, 1))
        total += layer.flops
        good += layer.flops * (abs(new - factor * old) <= multiple)
    return good / total


def group_widths(module: nn.Module) -> dict[str, int]:
    """The widths that grouped convolutions (depthwise ones apart) work on, by path."""
    return {
        path: part.out_channels
        for path, part in module.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd) and 1 < part.groups < part.in_channels
    }


def check_equal_widths_stay_equal(base: nn.Module, scaled: nn.Module) -> None:
    before, after = layer_widths(base), layer_widths(scaled)
    seen: dict[int, Counter[int]] = {}
    classifier = list(before)[-1]
    for path, (width, _) in before.items():
        if path in after and path != classifier:
            seen.setdefault(width, Counter())[after[path][0]] += 1
    assert all(len(widths) == 1 for widths in seen.values()), seen


def check_state_dict_keys(base: nn.Module, scaled) -> None:
    """The keys are the base's, plus those of added or minus those of removed blocks."""
    before, after = set(base.state_dict()), set(scaled.module.state_dict())
    added, removed = changed_blocks(scaled)
    assert {key for key in after - before if not f"{key}.".startswith(added)} == set()
    assert {key for key in before - after if not f"{key}.".startswith(removed)} == set()


def changed_blocks(scaled) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the added and of the removed blocks and parameters, with a dot at the end."""
    edits = tuple(flat(scaled.plan.depth))
    added = tuple(f"{edit.container}.{name}.".lstrip(".") for edit in edits for name in edit.added)
    removed = tuple(
        f"{edit.container}.{name}.".lstrip(".") for edit in edits for name in edit.removed
    )
    return added, removed


def check_runs_forward_and_backward(module: nn.Module, resolution: int, in_chans: int = 3) -> None:
    """Numbers and gradients are finite; a batch of 2, so that batch norm has a variance."""
    torch.manual_seed(0)
    module.train()
    module.zero_grad(set_to_none=True)
    output = module(torch.randn(2, in_chans, resolution, resolution))
    assert bool(output.isfinite().all())
    output.square().mean().backward()
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert any(gradient is not None for gradient in gradients)
    assert all(bool(g.isfinite().all()) for g in gradients if g is not None)


def check_added_blocks_matter(scaled, resolution: int, in_chans: int = 3) -> int:
    """Perturbing any added block changes the output. Returns how many were perturbed."""
    module = scaled.module.eval()
    added, _ = changed_blocks(scaled)
    x = torch.randn(1, in_chans, resolution, resolution, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = module(x)
        for path in added:
            with perturbed(part_at(module, path[:-1])):
                assert not torch.equal(module(x), before), f"{path} does not matter"
        assert torch.equal(module(x), before)
    return len(added)


def part_at(module: nn.Module, path: str) -> nn.Module:
    """A block, or a parameter of a list, as a module."""
    owner, _, name = path.rpartition(".")
    own = module.get_submodule(owner)
    if isinstance(own, nn.ParameterList):
        return nn.ParameterList([own._parameters[name]])
    return module.get_submodule(path)


@contextmanager
def perturbed(block: nn.Module) -> Iterator[None]:
    """Change a block's parameters, or its output where it has none (the ReLU of a flat unit)."""
    backup = [p.clone() for p in block.parameters()]
    for parameter in block.parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape))
    hook = None if backup else block.register_forward_hook(lambda _, __, output: output + 1)
    yield
    if hook is not None:
        hook.remove()
    for parameter, value in zip(block.parameters(), backup, strict=True):
        parameter.copy_(value)


def output_shape(module: nn.Module, resolution, in_chans: int = 3) -> tuple[int, ...]:
    with torch.no_grad():
        x = torch.zeros(1, in_chans, *sides(resolution), device="meta")
        return tuple(meta_copy(module).eval()(x).shape)

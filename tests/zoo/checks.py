"""What must hold for a scaled network of the zoo, whatever it puts out."""

from __future__ import annotations

import torch
from torch import nn

from convscale.network.modules.copies import full_copy
from convscale.network.sources.inputs import input_shape
from convscale.quantities import sides
from tests.checks import changed_blocks, part_at, perturbed
from tests.zoo.parts import tensors

DRAWS = 8  # a ReLU behind a single channel is dead at one draw of its weights in four


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters and buffers by name, in order."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def image(resolution, chans: int, *, batch: int = 1) -> torch.Tensor:
    """A random image, the same each time."""
    generator = torch.Generator().manual_seed(1)
    shape = input_shape(chans, sides(resolution), batch=batch)
    return torch.randn(shape, generator=generator)


def outputs(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a network puts out for an image, as its mode is."""
    with torch.no_grad():
        return list(tensors(module(x)))


def output_shapes(module: nn.Module, resolution, chans: int) -> list[tuple[int, ...]]:
    return [tuple(y.shape) for y in outputs(module.eval(), image(resolution, chans))]


def check_runs_and_trains(module: nn.Module, resolution, chans: int) -> None:
    """Numbers and gradients are finite, and every parameter that the base trains is reached."""
    module = full_copy(module)  # running statistics and gradients stay out of the original
    x = image(resolution, chans, batch=2)
    assert all(bool(y.isfinite().all()) for y in outputs(module.eval(), x))
    torch.manual_seed(0)
    found = list(tensors(module.train()(x)))
    assert all(bool(y.isfinite().all()) for y in found)
    torch.stack([y.float().square().mean() for y in found if y.requires_grad]).sum().backward()
    missed = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert missed == []
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


def check_added_blocks_matter(scaled, chans: int) -> int:
    """Perturbing any added block changes an output. Returns how many were perturbed."""
    module, x = full_copy(scaled.module).eval(), image(scaled.resolution, chans)
    before = outputs(module, x)
    held = {name for name, _ in (*module.named_modules(), *module.named_parameters())}
    added = [path for path in changed_blocks(scaled)[0] if path[:-1] in held]  # a gap is nothing
    for path in added:
        part = part_at(module, path[:-1])
        assert any(changes(module, part, x, before) for _ in range(DRAWS)), (
            f"{path} does not matter"
        )
    return len(added)


def changes(module: nn.Module, part: nn.Module, x: torch.Tensor, before) -> bool:
    """Whether some other parameters of this part lead to another output."""
    with torch.no_grad(), perturbed(part):
        after = outputs(module, x)
    return any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))

"""Batch normalisation over the parts of a batch, against PyTorch's over the whole."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convscale.training.syncing import SyncedBatchNorm
from convscale.training.team import Team

SHAPES = [(6, 3), (6, 3, 5), (6, 3, 5, 4), (2, 3, 3, 4, 2)]


def _inputs(shape: tuple[int, ...], affine: bool) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    images = 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, shape[1], generator=generator, dtype=torch.float64)
    given = torch.randn(shape, generator=generator, dtype=torch.float64)
    return [images, *(weights if affine else [])], given


def _whole(tensors: list[Tensor], given: Tensor, statistics: Tensor) -> list[Tensor]:
    """Return PyTorch's output and gradients."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = functional.batch_norm(leaves[0], *statistics, *leaves[1:], training=True)
    return [out.detach(), *torch.autograd.grad(out, leaves, given)]


def _parted(
    tensors: list[Tensor], given: Tensor, statistics: Tensor, memory_format: torch.memory_format
) -> list[Tensor]:
    """Return the output and gradients of two halves; those of the weights are sums over both."""

    def half(part: int) -> list[Tensor]:
        images = tensors[0].chunk(2)[part].contiguous(memory_format=memory_format)
        leaves = [one.clone().requires_grad_() for one in (images, *tensors[1:])]
        own = statistics if part == 0 else statistics.clone()
        with SyncedBatchNorm(team.gather):
            out = functional.batch_norm(leaves[0], *own, *leaves[1:], training=True)
        gradients = torch.autograd.grad(out, leaves, given.chunk(2)[part].to(out.dtype))
        return [out.detach(), *gradients]

    team = Team(2)
    halves = list(zip(*team.run(half), strict=True))
    return [*map(torch.cat, halves[:2]), *map(sum, halves[2:])]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_halves_normalise_as_the_whole_batch(shape, affine):
    tensors, given = _inputs(shape, affine)
    formats = {4: [torch.channels_last], 5: [torch.channels_last_3d]}
    for memory_format in [torch.contiguous_format, *formats.get(len(shape), [])]:
        ours, theirs = (torch.ones(2, 3, dtype=torch.float64) for _ in range(2))
        whole = [*_whole(tensors, given, theirs), theirs]
        parted = [*_parted(tensors, given, ours, memory_format), ours]
        for one, other in zip(parted, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-6), (torch.bfloat16, 0.01)])
def test_statistics_of_half_precision_are_not_rounded_to_it(dtype, close):
    (images, *affine), given = _inputs((64, 3, 17, 13), affine=True)
    images, given = images.to(dtype), given.to(dtype)
    tensors = [images, *(one.float() for one in affine)]
    ours, theirs = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.float64)
    exact = _whole([one.double() for one in tensors], given.double(), theirs)
    parted = _parted(tensors, given, ours, torch.contiguous_format)
    assert [one.dtype for one in parted] == [dtype, dtype, torch.float32, torch.float32]
    for one, other in zip(parted, exact, strict=True):
        assert (one.double() - other).norm() <= close * other.norm()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)
    for one, other in zip(parted[2:], exact[2:], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_a_network_in_evaluation_keeps_its_own_statistics():
    norm = nn.BatchNorm2d(3).eval()
    images = torch.rand(4, 3, 2, 2)
    with SyncedBatchNorm(lambda own: pytest.fail("nothing is gathered")):
        assert torch.equal(norm(images), norm(images))

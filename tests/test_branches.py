"""Residual branches are found in any network by what is computed from what, and can be left out."""

from __future__ import annotations

import pytest
import torch
from timm.models.dla import DlaBasic, DlaBottleneck
from timm.models.dpn import DualPathBlock
from torch import nn
from torch.nn.functional import interpolate, relu
from torchvision.models import resnet18, resnet50

from convscale.network import resolve_base
from convscale.training.branches import Branch, find_branches
from convscale.training.recipe import Recipe
from convscale.training.regularising import DropBranch, regularise
from convscale.training.subject import prepare

SHAPE = (2, 3, 64, 64)
ALMOST = 1 - 1e-12


def hooks_of(module):
    return [
        hook
        for part in module.modules()
        for hook in part._forward_hooks.values()
        if isinstance(hook, DropBranch)
    ]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("timm:ghostnet_100", 16),  # the rows of the table of its paper
        ("timm:dla34", 12),
        ("timm:dpn68", 3 + 4 + 12 + 3),
        ("timm:dpn68b", 3 + 4 + 12 + 3),
        ("timm:convmixer_768_32", 32),
        ("timm:ghostnetv2_100", 16),
        ("timm:ghostnetv3_100", 16),
        ("timm:xception", 12),
        ("timm:inception_resnet_v2", 10 + 20 + 10),
        ("timm:hrnet_w18_small", None),
        ("timm:dla60x", None),
        ("torchvision:wide_resnet50_2", 16),
        ("torchvision:vgg11", 0),
        ("torchvision:densenet121", 0),
        ("torchvision:googlenet", 0),
        ("torchvision:shufflenet_v2_x0_5", 0),
        ("timm:selecsls42", 0),
    ],
)
def test_every_residual_block_has_one_branch(name, blocks):
    module = resolve_base(name).build("meta")
    kinds = ("BasicBlock", "Bottleneck", "DlaBottleneck", "DlaBasic")
    expected = sum(type(part).__name__ in kinds for part in module.modules())
    found = find_branches(module, (2, 3, 128, 128))
    assert len(found) == (expected if blocks is None else blocks)
    assert len({branch.block for branch in found}) == len(found)


@pytest.mark.parametrize("name", ["ghostnet_100@w:0.5", "dla34@d:2", "dpn68@dWr:0.5"])
def test_rates_reach_the_blocks_of_scaled_networks(name):
    found = prepare(name, Recipe(drop_path=0.3), classes=10, resolution=64)
    rates = [hook.rate for hook in hooks_of(found.module)]
    last = len(rates) - 1
    assert sorted(rates) == pytest.approx([0.3 * index / last for index in range(last + 1)])
    assert not any("Stochastic" in note for note in found.notes)
    found.module.train()(torch.rand(2, 3, 64, 64)).sum().backward()


@pytest.mark.parametrize(
    "name", ["ghostnet_050", "convmixer_768_32", "hrnet_w18_small", "xception"]
)
def test_a_branch_at_almost_one_leaves_the_shortcut_alone(name):
    """Identity shortcuts: what the block puts out is what it takes in, activated or not."""
    module = resolve_base(f"timm:{name}").build("cpu").train()
    found = find_branches(module, SHAPE)
    seen = {}

    def note(path):
        def noted(_, inputs, output):
            seen[path] = inputs[0].clone(), output

        return noted

    paths = {branch.block for branch in found}
    for path in paths:
        module.get_submodule(path).register_forward_hook(note(path))
    regularise(module, drop_path=0.5, dropout=0.0, classes=1000, inputs=SHAPE)
    for hook in hooks_of(module):
        hook.rate = ALMOST
    with torch.no_grad():
        module(torch.rand(SHAPE))
    assert seen.keys() == paths
    same = [
        torch.equal(output, taken) or torch.equal(output, relu(taken))
        for taken, output in seen.values()
        if taken.shape == output.shape
    ]
    assert len(same) > len(paths) // 4
    assert all(same)


@pytest.mark.parametrize("b", [False, True])
def test_of_dual_paths_the_dense_one_stays(b):
    torch.manual_seed(0)
    block = DualPathBlock(40, 16, 16, 32, 8, 4, block_type="normal", b=b).train()
    net = nn.Sequential(nn.Conv2d(3, 40, 1), block)
    (branch,) = find_branches(net, (2, 3, 8, 8))
    assert branch.channels == (None if b else (0, 32))
    taken = torch.rand(4, 40, 8, 8)
    with torch.no_grad():
        dense = block(taken)[:, 32:]
        net.get_submodule(branch.module).register_forward_hook(DropBranch(ALMOST, branch.channels))
        dropped = block(taken)
    assert torch.equal(dropped[:, :32], taken[:, :32])
    assert torch.equal(dropped[:, 32:], dense)


@pytest.mark.parametrize("kind", [DlaBasic, DlaBottleneck])
def test_a_shortcut_that_comes_from_outside_is_left(kind):
    block = kind(16, 16).train()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.project, self.block = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), block

        def forward(self, x):
            x = self.stem(x)
            return self.block(x, self.project(x))

    (branch,) = find_branches(Net(), (2, 3, 8, 8))
    block.get_submodule(branch.module.removeprefix("block.")).register_forward_hook(
        DropBranch(ALMOST)
    )
    taken, shortcut = torch.rand(2, 2, 16, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(taken, shortcut), shortcut.relu())


def conv(inputs=8, outputs=8, side=3, **how):
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, **how)


class Forms(nn.Module):
    """Additions of many forms in one forward pass."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = conv(3), conv(), conv()
        self.scaled, self.read, self.twice = conv(), conv(), conv()
        self.left, self.right, self.low, self.lateral = conv(), conv(), conv(stride=2), conv(side=1)
        self.parallel = nn.ModuleList([conv(), conv(), nn.Sequential(conv(side=1))])
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.one(x)  # a branch
        y = self.two(x)
        x = relu(y.add_(x))  # in place, the branch first
        x = x + self.scale * self.scaled(x)  # multiplied by a parameter
        y = self.read(x)
        x = torch.cat([x + y, y[:, :0]], 1)  # something else reads the branch
        x = x + self.twice(self.twice(x))  # a module that runs twice
        x = self.left(x) + self.right(x)  # as deep as each other
        x = self.parallel[0](x) + self.parallel[1](x) + self.parallel[2](x)  # likewise, of three
        return self.lateral(x) + interpolate(self.low(x), scale_factor=2)  # at low resolution


def test_additions_that_join_no_branch_are_none():
    found = find_branches(Forms(), (2, 3, 8, 8))
    assert [branch.module for branch in found] == ["one", "two", "scaled"]
    assert found[0] == Branch("one", "one")


@pytest.mark.parametrize("net", [resnet18, resnet50])
def test_modules_in_hand_have_their_blocks_found(net):
    module = net()
    found = regularise(module, drop_path=0.2, dropout=0.0, classes=1000, inputs=SHAPE)
    blocks = [
        f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in range(len(getattr(module, f"layer{s}")))
    ]
    assert list(found.drop_paths) == blocks

"""Laws that scaling keeps for any network, tried on random small ones."""

from __future__ import annotations

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import convscale as cs
from convscale.complexity.complexity import Complexity
from tests.checks import changed_blocks, layer_widths

SIDE = 16
MULTIPLE = 8  # of all widths below, so that a width moves in steps of it
few = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # networks are slow to shrink, and small already
)
fewer = settings(few, max_examples=20)  # of those that scale three times
factors = st.floats(0.5, 4.0)


class Block(nn.Module):
    """A convolution and perhaps an inner one, a norm, a way around them."""

    def __init__(self, ins, outs, stride, *, inner, depthwise, norm, residual):
        super().__init__()
        self.enter = nn.Conv2d(ins, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner if depthwise else 1)
        self.norm = nn.BatchNorm2d(inner) if norm else nn.Identity()
        self.leave = nn.Conv2d(inner, outs, 1)
        self.around = residual and (ins, stride) == (outs, 1)

    def forward(self, x):
        y = self.leave(self.norm(self.mix(self.enter(x))).relu())
        return x + y if self.around else y.relu()


class Drawn(nn.Module):
    """A stem, stages of blocks and a classifier; branches of a stage may be joined."""

    def __init__(self, stem, stages):
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, 2, 1)
        self.stages, ins = nn.ModuleList(), stem
        for width, depth, options in stages:
            strides = [2] + [1] * (depth - 1)
            widths = [ins] + [width] * (depth - 1)
            blocks = [Block(a, width, s, **options) for a, s in zip(widths, strides, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
            ins = width
        self.side, self.exit = nn.Conv2d(ins, 16, 1), nn.Linear(ins + 16, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        for stage in self.stages:
            x = stage(x)
        return self.exit(torch.cat([x, self.side(x)], 1).mean((2, 3)))


widths = st.integers(1, 8).map(lambda n: MULTIPLE * n)
options = st.fixed_dictionaries(
    {"inner": widths, "depthwise": st.booleans(), "norm": st.booleans(), "residual": st.booleans()}
)
stages = st.lists(st.tuples(widths, st.integers(2, 4), options), min_size=1, max_size=2)
networks = st.builds(Drawn, widths, stages)


def scaled(module, strategy, factor, *, weights=False):
    return cs.scale(module, strategy=strategy, factor=factor, resolution=SIDE, weights=weights)


def run_order(module):
    """Paths of the layers with weights, in the order in which they run."""
    order, handles = [], []
    for path, part in module.named_modules():
        if part._parameters:
            note = lambda *_, path=path: order.append(path)  # noqa: E731
            handles.append(part.register_forward_hook(note))
    with torch.no_grad():
        module.eval()(torch.zeros(1, 3, SIDE, SIDE, device=next(module.parameters()).device))
    for handle in handles:
        handle.remove()
    return order


@few
@given(networks, st.sampled_from(["d", "w", "r", "dwr", "dWr"]))
def test_factor_one_is_the_identity(module, strategy):
    same = scaled(module, strategy, 1.0, weights=True)
    assert same.resolution == SIDE
    base = same.base
    assert same.achieved == Complexity(base.flops, base.params, base.acts)
    before, after = module.state_dict(), same.module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@fewer
@given(networks, factors, factors)
def test_scaling_width_twice_comes_as_near_to_scaling_once_as_steps_allow(module, a, b):
    """Each scaling leaves a width within one step of its request; the second one widens that."""
    twice = layer_widths(scaled(scaled(module, "w", a).module, "w", b).module)
    once = layer_widths(scaled(module, "w", a * b).module)
    allowed = MULTIPLE * (1 + b**0.5) + MULTIPLE
    assert twice.keys() == once.keys()
    assert all(abs(twice[path][0] - once[path][0]) <= allowed for path in once)


@fewer
@given(networks, st.floats(1.0, 4.0), factors)  # a stage of one block shows none to repeat
def test_scaling_depth_twice_comes_as_near_to_scaling_once_as_blocks_allow(module, a, b):
    """Each scaling leaves a depth within half a block of its request, or at the one block."""
    twice = scaled(scaled(module, "d", a).module, "d", b).module
    once = scaled(module, "d", a * b).module
    for first, second in zip(twice.stages, once.stages, strict=True):
        assert abs(len(first) - len(second)) <= 1 + 0.5 * b


@few
@given(networks, st.sampled_from(["d", "w", "dwr", "dWr"]), factors)
def test_scaling_never_changes_the_order_of_layers(module, strategy, factor):
    net = scaled(module, strategy, factor)
    added, removed = changed_blocks(net)
    stayed = [path for path in run_order(module) if not path.startswith(removed or ("\0",))]
    assert [p for p in run_order(net.module) if not p.startswith(added or ("\0",))] == stayed

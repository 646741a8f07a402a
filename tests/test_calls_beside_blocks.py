"""Code that runs through blocks, and makes a call of its own for each: which block's one is.

A stack of cells gets the states that they begin with from the network around them, once for each
cell. With more cells, or fewer, it makes more such calls, or fewer.
"""

import pytest
import torch
from torch import nn

import convscale as cs


class Cell(nn.Module):
    """A convolutional LSTM of one step."""

    def __init__(self, taken, hidden):
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(taken + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x, state):
        before, cell = state
        taken, forgotten, shown, new = self.gates(torch.cat([x, before], 1)).chunk(4, 1)
        cell = forgotten.sigmoid() * cell + taken.sigmoid() * new.tanh()
        return shown.sigmoid() * cell.tanh(), cell


class Stack(nn.Module):
    """Cells one on the other, whose states begin as zeros, reshaped or not by fixed numbers."""

    def __init__(self, widths, *, written=False):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1)
        taken = (16, *widths)
        self.cells = nn.ModuleList(map(Cell, taken, widths))
        self.exit = nn.Conv2d(widths[-1], 4, 1)
        self.written = written

    def forward(self, x):
        states = [None] * len(self.cells)
        for step in range(x.shape[1]):
            y = self.stem(x[:, step])
            for place, cell in enumerate(self.cells):
                if states[place] is None:
                    zeros = y.new_zeros(len(y), cell.hidden, *y.shape[-2:])
                    zeros = zeros.unflatten(0, (1, -1)).flatten(0, 1) if self.written else zeros
                    states[place] = (zeros, zeros)
                states[place] = cell(y, states[place])
                y = states[place][0]
        return self.exit(y)


CLIP = (torch.zeros(1, 3, 1, 32, 32),)


def checked(scaled):
    """Check that every cell takes what the one before it gives, and return their widths."""
    cells = list(scaled.module.cells)
    widths = [cell.hidden for cell in cells]
    assert [cell.gates.out_channels for cell in cells] == [4 * width for width in widths]
    given = [scaled.module.stem.out_channels, *widths[:-1]]
    taken = [one + own for one, own in zip(given, widths, strict=True)]
    assert [cell.gates.in_channels for cell in cells] == taken
    return widths


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize(("strategy", "factor"), [("dWr", 2), ("dw", 4), ("dWr", 0.5), ("d", 2)])
def test_states_follow_the_cell_that_they_are_of(strategy, factor, written):
    net = Stack((16, 32), written=written)
    scaled = cs.scale(net, strategy=strategy, factor=factor, example_inputs=CLIP)
    widths = checked(scaled)
    (edit,) = scaled.plan.depth or (None,)
    first = 1 + (0 if edit is None else len(edit.added))
    assert len(widths) == first + 1  # the second changes the width, so that it is not repeated
    assert len(set(widths[:first])) == 1
    assert widths[-1] > widths[0]
    images = torch.rand(scaled.inputs[0].shape)
    output = scaled.module(images)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(cell.gates.weight.grad.isfinite().all() for cell in scaled.module.cells)


def test_more_cells_are_added_than_the_run_had_that_tells_of_them():
    net = Stack((16, 16, 32, 32))
    scaled = cs.scale(net, strategy="d", factor=3, example_inputs=CLIP, weights=False)
    assert checked(scaled) == [16] * 6 + [32] * 6


def test_cells_are_taken_away():
    net = Stack((16, 16, 16, 32, 32, 32))
    scaled = cs.scale(net, strategy="d", factor=0.3, example_inputs=CLIP, weights=False)
    assert checked(scaled) == [16, 32]

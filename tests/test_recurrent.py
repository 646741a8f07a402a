"""Recurrent layers: two steps stand for all, and their widths follow in training too."""

import pytest
import torch
from torch import nn

import convscale as cs
from convscale.errors import UnscalableNetworkError
from convscale.network import trace_module
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import Observer, run


class Read(nn.Module):
    """A signal that a recurrent layer reads, its steps first or second."""

    def __init__(self, cell, *, steps=40, **options):
        super().__init__()
        self.stem = nn.Conv1d(1, 12, 4, stride=4)
        self.cell = cell(12, 20, **options)
        self.exit = nn.Linear(20 * (1 + self.cell.bidirectional), 5)
        self.steps = steps

    def forward(self, x):
        x = self.stem(x)
        x = x.transpose(1, 2) if self.cell.batch_first else x.permute(2, 0, 1)
        return self.exit(self.cell(x)[0])


KINDS = [
    (nn.LSTM, 4, {}),
    (nn.LSTM, 4, {"batch_first": True, "num_layers": 2}),
    (nn.LSTM, 4, {"bidirectional": True, "num_layers": 3, "bias": False}),
    (nn.GRU, 3, {"batch_first": True, "bidirectional": True}),
    (nn.RNN, 1, {"num_layers": 2, "nonlinearity": "relu"}),
    (nn.RNN, 1, {}),
]


@pytest.mark.parametrize(("cell", "gates", "options"), KINDS)
def test_two_steps_count_as_all(cell, gates, options):
    net = Read(cell, **options)
    layers, ways = options.get("num_layers", 1), 1 + net.cell.bidirectional
    for steps in (2, 3, 40):
        trace = trace_module(meta_copy(net), (4 * steps,))
        found = sum(term.flops for term in trace.terms if term.path == "cell")
        widths = [12] + [20 * ways] * (layers - 1)
        assert found == steps * ways * gates * 20 * sum(width + 20 for width in widths)
        counted = cs.count(net, resolution=4 * steps).layers
        assert found == sum(layer.flops for layer in counted if layer.path == "cell")
        assert trace.output_shapes[0][-1] == 5


def test_few_operators_run_however_many_steps_there_are():
    class Seen(Observer):
        calls = 0

        def visit(self, *_):
            self.calls += 1

    net = Read(nn.LSTM).to("meta")
    seen = [Seen(), Seen()]
    for one, steps in zip(seen, (10, 1000), strict=True):
        output = run(net, (torch.empty(1, 1, 4 * steps, device="meta"),), one)
        assert output.shape == (steps, 1, 5)
    assert seen[0].calls == seen[1].calls


def test_channels_that_are_steps_keep_their_number():
    class Across(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv1d(1, 12, 4, stride=4)
            self.cell = nn.LSTM(10, 10)
            self.exit = nn.Conv1d(12, 3, 1)

        def forward(self, x):
            return self.exit(self.cell(self.stem(x).transpose(0, 1))[0].transpose(0, 1))

    with pytest.raises(UnscalableNetworkError, match=r"aten.unbind in cell"):
        cs.scale(Across(), strategy="w", factor=2, resolution=40)


class Spare(nn.Module):
    """A convolution of its own in training."""

    def __init__(self, width):
        super().__init__()
        self.more = nn.Conv1d(width, width, 1)

    def forward(self, x):
        return self.more(x) if self.training else x


class Over(nn.Module):
    def __init__(self, cell, width, state):
        super().__init__()
        self.cell, self.width, self.state = cell(width, width, 2), width, state

    def forward(self, x):
        x, given = x.permute(2, 0, 1), None
        if self.state:
            given = torch.zeros(2, x.shape[1], self.width, device=x.device)
        return self.cell(x, given)[0].permute(1, 2, 0)


@pytest.mark.parametrize(("cell", "state"), [(nn.LSTM, False), (nn.GRU, False), (nn.GRU, True)])
def test_widths_follow_beside_what_runs_in_training_only(cell, state):
    base = nn.Sequential(
        nn.Conv1d(1, 16, 4, stride=4), Over(cell, 16, state), Spare(16), nn.Conv1d(16, 4, 1)
    )
    scaled = cs.scale(base, strategy="w", factor=4, resolution=64)
    net = scaled.module
    assert net[0].out_channels == net[1].cell.hidden_size == net[2].more.out_channels == 32
    for mode in (True, False):
        assert net.train(mode)(torch.zeros(2, 1, 64)).shape == (2, 4, 16)


def test_constants_of_positions_keep_their_channels_():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.exit = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
            self.side = 8

        def forward(self, x):
            x = self.stem(x)
            return self.exit(x + torch.zeros(len(x), x.shape[1], self.side, self.side))

    scaled = cs.scale(Noisy(), strategy="w", factor=3, resolution=8)
    assert scaled.module.stem.out_channels > 16
    assert scaled.module(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 8, 8)


@pytest.mark.parametrize(("cell", "gates", "options"), KINDS)
def test_a_count_of_two_steps_is_that_of_all(cell, gates, options):
    del gates
    net = Read(cell, **options)
    short, long = (cs.count(net, resolution=4 * steps) for steps in (20, 200))
    assert long.flops == 10 * short.flops
    assert long.acts == 10 * short.acts
    assert long.excluded.keys() == short.excluded.keys()
    assert not {"aten.clone", "aten.expand", "aten.narrow"} & long.excluded.keys()


class Cells(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.stem, self.cell = nn.Conv1d(1, 16, 4, stride=4), cell(16, 16)
        self.exit = nn.Linear(16, 3)

    def forward(self, x):
        state = None
        for step in self.stem(x).unbind(2):
            state = self.cell(step, state)
        return self.exit(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_say_how_wide_they_are(cell):
    net = cs.scale(Cells(cell), strategy="w", factor=4, resolution=32).module
    assert net.cell.input_size == net.cell.hidden_size == 32
    assert net.cell.weight_ih.shape[1] == net.stem.out_channels == 32
    assert net(torch.zeros(2, 1, 32)).shape == (2, 3)

"""Values on the meta device: those that follow from constants are known, all others are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, Observer, run

HELD = torch.tensor([3.0, 5.0])


class Asks(nn.Module):
    """Gives what a function makes of a tensor that the module holds and of its input."""

    def __init__(self, ask):
        super().__init__()
        self.ask, self.held = ask, HELD.clone()
        self.register_buffer("count", torch.tensor(1))

    def forward(self, x):
        return self.ask(self, x)


def written(net, x):
    y = net.held * 1
    y[0] = 7
    return (y[0] + y[1]).item()


def written_through_a_view(net, x):
    y = torch.zeros(4)
    y.view(2, 2)[1].copy_(net.held)
    return y.tolist()


def counted(net, x):
    net.count += 1
    return int(net.count)


KNOWN = {
    "held": lambda net, x: net.held[1].item(),
    "a range": lambda net, x: torch.arange(1, x.ndim).tolist(),
    "arithmetic": lambda net, x: float((net.held * 2 - torch.tensor([1, 1])).sum()),
    "compared": lambda net, x: bool(net.held.max() > 4),
    "searched": lambda net, x: (net.held > 4).nonzero().tolist(),
    "masked": lambda net, x: net.held[net.held > 4].shape[0],
    "an array": lambda net, x: net.held.cpu().numpy().tolist(),
    "written": written,
    "written through a view": written_through_a_view,
    "counted": counted,
}


def overwritten(net, x):
    y = net.held * 1
    y.copy_(x[0, 0, 0])
    return y[0].item()


def overwritten_through_a_view(net, x):
    y = net.held * 1
    y[:1].add_(x[0, 0, 0, 0])
    return y[0].item()


UNKNOWN = {
    "of the input": lambda net, x: x.sum().item(),
    "of both": lambda net, x: (net.held * x.sum()).tolist(),
    "random": lambda net, x: torch.rand(1).item(),
    "dropped": lambda net, x: nn.functional.dropout(net.held, training=True).tolist(),
    "overwritten": overwritten,
    "overwritten through a view": overwritten_through_a_view,
}


@pytest.mark.parametrize("what", KNOWN)
def test_values_that_follow_from_constants_are_those_of_a_real_run(what):
    net, x = Asks(KNOWN[what]), torch.zeros(1, 3, 2, 2)
    copied = meta_copy(net)
    again = [run(copied, (x.to("meta"),), Observer()) for _ in range(2)]
    real = [KNOWN[what](net, x) for _ in range(2)]
    assert again == [real[0], real[0]]  # each run begins with the values that the network has
    assert net.held.tolist() == HELD.tolist()


@pytest.mark.parametrize("what", UNKNOWN)
def test_other_values_are_not_guessed(what):
    copied = meta_copy(Asks(UNKNOWN[what]))
    with pytest.raises(ForwardError) as caught:
        run(copied, (torch.zeros(1, 3, 2, 2, device="meta"),), Observer())
    assert caught.value.needs_values is not None


def test_large_tensors_and_parameters_have_no_values():
    class Larger(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.table = nn.Parameter(torch.ones(1)), torch.zeros(5000)

        def forward(self, name):
            return getattr(self, name)[0].item()

    for name in ("weight", "table"):
        with pytest.raises(ForwardError, match="item"):
            run(meta_copy(Larger()), (name,), Observer())

"""The memory of candidates from what their parts do: equal to the dry run of the built network."""

from math import prod

import numpy as np
import pytest
import torch
from torch import nn

from convscale.complexity.dryrun import DryRun
from convscale.complexity.part_log import Change, Part, PartLog, UnlikeError, UnnamedError
from convscale.scaling import resolve
from convscale.selection.constraints import Constraint
from convscale.strategy import parse_strategy
from convscale.study.costed import Conditions
from convscale.study.scaled_source import Ask, Failed, Found
from convscale.study.selecting import select
from convscale.study.traced_source import TracedSource

BOTH = frozenset(("memory_bytes", "training_memory_bytes"))
ASKS = [("w", 1.7), ("d", 0.4), ("d", 1.6), ("d", 2.6), ("r", 0.7), ("dwr", 3.0), ("dWr", 0.4)]
LATER = [("dwr", 2.0), ("dWr", 2.6), ("wr", 1.5), ("dr", 4.0), ("d", 3.1)]
# Plain blocks; squeeze-and-excitation; layer norms; trees whose blocks let go what others made.
NETWORKS = {
    "resnet18": ("adamw", "mixed", 2),
    "mobilenetv3_small_050": ("sgd", "mixed", 4),
    "regnety_002": ("sgd", "bfloat16", 3),
    "convnext_atto": ("adamw", "float32", 1),
    "dla34": ("sgd", "float32", 2),
}


def source_of(network, how, side=64):
    limits = [Constraint(name, 1e12) for name in sorted(BOTH)]
    return TracedSource(resolve(network, resolution=side), BOTH, how, limits)


def by_dry_runs(source, ask):
    """The memory of a candidate as the dry runs of the built network tell it."""
    network = source.base if ask.strategy is None else source.built(ask).as_network()
    how = source.how
    run = DryRun(network, batch_size=how.batch_size, precision=how.precision)
    return {
        "memory_bytes": run.inference().peak_bytes,
        "training_memory_bytes": run.training(how.optimizer).peak_bytes,
    }


def asked(pairs):
    return [Ask(parse_strategy(name), factor, name) for name, factor in pairs]


@pytest.mark.parametrize("network", NETWORKS)
def test_memory_of_candidates_is_that_of_dry_runs(network):
    optimizer, precision, batch = NETWORKS[network]
    how = Conditions(batch_size=batch, optimizer=optimizer, precision=precision)
    source = source_of(network, how)
    found = source.answers([Ask(None), *asked([*ASKS, *LATER[:2]])])
    found = [one for one in found if isinstance(one, Found)]
    assert len(found) > len(ASKS)
    for one in found:
        own = {name: value for name, value in one.values.items() if name in BOTH}
        assert own == by_dry_runs(source, one.ask), one.label


@pytest.mark.parametrize("network", ["resnet18", "convnext_atto"])
def test_candidates_are_not_built_once_their_parts_are_known(network, monkeypatch):
    source = source_of(network, Conditions(batch_size=2))
    source.answers(asked([*ASKS, ("d", 3.6), ("d", 0.6)]))
    scale, built = source._scaler.scale, []
    monkeypatch.setattr(
        source._scaler, "scale", lambda *args, **more: built.append(1) or scale(*args, **more)
    )
    found = source.answers(asked(LATER))
    assert all(isinstance(one, Found) for one in found)
    assert len(built) < len(LATER) / 2


class Moody(nn.Module):
    """A network that makes another tensor, and keeps it for the gradient, where it is wide."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()) for _ in "ab"))
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x))
        if x.shape[1] > 20:
            x = x * x.sigmoid()
        return self.head(x.mean((2, 3)))


def test_a_network_that_does_something_else_when_wide_is_built():
    how = Conditions(batch_size=2)
    source = TracedSource(
        resolve(Moody(), resolution=16), BOTH, how, [Constraint("memory_bytes", 1e12)]
    )
    found = source.answers(asked([("d", 2.0), ("w", 4.0), ("w", 0.5), ("dw", 6.0), ("w", 20.0)]))
    for one in found:
        assert isinstance(one, Failed) or (
            {name: one.values[name] for name in BOTH} == by_dry_runs(source, one.ask)
        )


def test_a_step_that_a_norm_cannot_make_with_one_image_is_refused_as_it_is_when_built():
    source = source_of("resnet18", Conditions(batch_size=1), side=40)
    source.answers(asked(ASKS))
    small, large = source.answers(asked([("r", 0.5), ("wr", 2.0)]))
    assert isinstance(small, Failed)
    assert "more than 1 value per channel" in small.reason
    assert isinstance(large, Found)


def test_a_size_that_two_tensors_may_have_is_told_once_they_differ():
    def part(channels, others):
        shapes = ((1, channels, 8, 8), (1, others, 8, 8))
        return Part(shapes, ((), (Change(1, 4, (2, others, 8, 8)),), ()))

    log = PartLog(part(16, 16), 2)
    elements = part(24, 32).shapes
    assert log.known(_elements(elements)) is None
    log.learn(part(16, 24))
    assert log.known(_elements(elements)).runs[1].tolist() == [4 * 2 * 32 * 64]
    with pytest.raises(UnnamedError):
        log.learn(Part(elements, ((), (Change(1, 4, (2, 24, 8, 8)),), ())))
    with pytest.raises(UnlikeError):
        log.learn(Part(elements, ((), (Change(-1, 4, (2, 32, 8, 8)),), ())))


def _elements(shapes):
    return np.array([prod(shape) for shape in shapes])


@pytest.mark.parametrize("limit", ["memory<=600MB", "training-memory<=3GB"])
def test_a_search_with_a_limit_on_memory_reports_what_dry_runs_tell(limit):
    found = select("resnet18", limits=[limit], resolution=64, batch_size=32, candidates=30)
    pool = found.found.pool
    name = "training_memory_bytes" if limit.startswith("training") else "memory_bytes"
    own = resolve(pool.labels[found.found.chosen], resolution=64)
    run = DryRun(own, batch_size=32)
    told = run.inference() if name == "memory_bytes" else run.training("sgd")
    assert pool.values[name][found.found.chosen] == told.peak_bytes

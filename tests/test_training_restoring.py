"""A checkpoint that is whole and of another run is refused in one line, whatever it holds."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

from convscale.errors import InputError
from convscale.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from convscale.training.parts import make_optimizer
from convscale.training.states import module_bytes, packed
from tests.training_runs import Tiny, run, short

KNOBS = {"ema": 0.9}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The last checkpoint of a run of one epoch, and what the run was asked for."""
    folder = tmp_path_factory.mktemp("good") / "run"
    run(folder, epochs=1, **KNOBS)
    found = read_checkpoint(folder / "state", warn=pytest.fail)
    assert found is not None
    return found, (folder / "run.json").read_text()


def with_values(found, **changes):
    return Checkpoint(found.number, found.files, {**found.values, **changes})


def without_value(found, name):
    values = {key: value for key, value in found.values.items() if key != name}
    return Checkpoint(found.number, found.files, values)


def with_file(found, name, data):
    files = {**found.files, name: data}
    if data is None:
        del files[name]
    return Checkpoint(found.number, files, found.values)


def with_optimizer(found, net, optimizer):
    net(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    values, tensors = packed(optimizer.state_dict())
    return with_file(with_values(found, optimizer=values), "optimizer.safetensors", tensors)


def of_one_group(found):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    return with_optimizer(found, net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))


def of_a_wider_head(found):
    net = Tiny()
    net.head = nn.Linear(32, 12)
    return with_optimizer(found, net, make_optimizer(short(**KNOBS), net))


def moved(found, **changes):
    return with_values(found, progress={**found.values["progress"], **changes})


FOREIGN = {
    "no progress": (lambda c: without_value(c, "progress"), "it lacks 'progress'"),
    "another progress": (lambda c: with_values(c, progress=[1, 2]), ""),
    "beyond the end": (lambda c: moved(c, updates=10**6), "it is at step 1000000 and epoch 1"),
    "no table": (lambda c: moved(c, rows=[]), "has 0 epochs in its table"),
    "steps in words": (lambda c: moved(c, updates="many"), ""),
    "no choice": (lambda c: without_value(c, "choice"), "it lacks 'choice'"),
    "another precision": (
        lambda c: with_values(c, choice={**c.values["choice"], "precision": "fp99"}),
        "'fp99' is no precision",
    ),
    "broken images in a number": (lambda c: with_values(c, broken=3), ""),
    "other settings": (
        lambda c: with_values(c, asked={**c.values["asked"], "lr": 7.0}),
        "lr is 7.0 there, not ",
    ),
    "another network": (
        lambda c: with_file(c, "model.safetensors", module_bytes(nn.Linear(2, 3))),
        "model.safetensors does not fit the network",
    ),
    "weights in half precision": (
        lambda c: with_file(c, "model.safetensors", module_bytes(Tiny().half())),
        "model.safetensors does not fit the network",
    ),
    "no safetensors": (lambda c: with_file(c, "model.safetensors", b"PK\x03\x04 a zip"), ""),
    "no average": (lambda c: with_file(c, "ema.safetensors", None), "it lacks 'ema.safetensors'"),
    "no optimiser": (lambda c: without_value(c, "optimizer"), "it lacks 'optimizer'"),
    "an optimiser of one group": (of_one_group, "parameter group"),
    "an optimiser of other shapes": (of_a_wider_head, "of the optimiser has another shape"),
    "an optimiser in words": (lambda c: with_values(c, optimizer="sgd"), ""),
}


@pytest.mark.parametrize(("change", "told"), FOREIGN.values(), ids=FOREIGN)
def test_a_checkpoint_of_another_run_is_refused_in_one_line(tmp_path, good, change, told):
    found, asked = good
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(asked)
    path = write_checkpoint(folder / "state", change(found))
    with pytest.raises(InputError) as refused:
        run(folder, epochs=1, **KNOBS)
    line = refused.value.line
    shape = (
        rf"The checkpoint {path} is not of this run: [^\n]+\. Remove {path.parent} to begin anew\."
    )
    assert re.fullmatch(shape, line)
    assert told in line


def test_the_good_one_is_taken(tmp_path, good):
    found, asked = good
    (tmp_path / "run.json").write_text(asked)
    write_checkpoint(tmp_path / "state", found)
    assert run(tmp_path, epochs=1, **KNOBS).rows == tuple(found.values["progress"]["rows"])


def test_values_without_names_are_no_checkpoint(tmp_path):
    write_checkpoint(tmp_path, Checkpoint(1, {}, json.loads("[1, 2]")))
    with pytest.raises(InputError, match=r"checkpoint-00001 is not complete: state.json cannot be"):
        read_checkpoint(tmp_path, warn=pytest.fail)

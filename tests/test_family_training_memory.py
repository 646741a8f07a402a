"""The memory of training steps of many networks of a family, against the dry run of each."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import convscale as cs
from convscale import families
from convscale.complexity.dryrun import DryRun
from convscale.complexity.family_memory import StepMemory
from convscale.complexity.training_log import TrainingLog
from convscale.errors import InputError
from convscale.network.sources.network import from_family
from convscale.scaling import resolve
from tests.test_family_memory import together
from tests.test_paper_modules import random_anynet, random_efficientnet

PRECISIONS = ("float32", "mixed", "bfloat16", "float16")
# Every kind of block and stem, with and without squeeze-and-excitation, and a head convolution.
BASES = ("RegNetX-400MF", "RegNetY-400MF", "RegNetZ-500MF", "ResNet-18", "ResNet-50")
BASES += ("ResNeXt-50-32x4d", "EfficientNet-B0", "MobileNetV2")


def dry(net, *, batch_size, optimizer, precision):
    """The peak of a step by the dry run of the built network."""
    built = resolve(net) if isinstance(net, str) else from_family("built", net, {})
    run = DryRun(built, batch_size=batch_size, precision=precision)
    return run.training(optimizer).peak_bytes


def small(name, draw, count):
    """Members of a family at small sides, scaled down and up."""
    net = replace(families.named(name), resolution=draw.choice([64, 97, (66, 80)]))
    shares = [(d, (1 - d) * w, (1 - d) * (1 - w)) for d, w in ((draw.random(),) * 2,) * count]
    factors = [draw.choice([0.1, 0.25, 0.5, 1.5, 2]) for _ in range(count)]
    return families.scale_many(net, shares, factor=factors)


@pytest.mark.parametrize("name", BASES)
def test_memory_of_scaled_members_is_that_of_dry_runs(name):
    draw = random.Random(name)
    asked = {"optimizer": draw.choice(["sgd", "adamw"]), "precision": draw.choice(PRECISIONS)}
    steps, many = StepMemory(**asked), small(name, draw, 3)
    for batch in (1, 3):
        found = steps.peaks(many.candidates, batch_size=batch)
        some = range(len(many)) if batch > 1 else [0]
        for at in some:
            expected = dry(many.description(at), batch_size=batch, **asked)
            assert int(found[at]) == expected, (asked, batch, many.description(at))
    assert None not in steps.logs.values()  # no network was built alone


@pytest.mark.parametrize("seed", range(9))
def test_memory_of_a_random_network_is_that_of_its_dry_run(seed):
    draw = random.Random(seed)
    net = random_anynet(draw) if seed % 3 else random_efficientnet(draw)
    asked = {"optimizer": draw.choice(["sgd", "adamw"]), "precision": draw.choice(PRECISIONS)}
    steps, batch = StepMemory(**asked), draw.randint(2, 4)
    found = steps.peaks(together(net), batch_size=batch)
    assert int(found[0]) == dry(net, batch_size=batch, **asked)
    assert None not in steps.logs.values()


@pytest.mark.parametrize("name", BASES)
def test_memory_of_inference_of_scaled_members_is_that_of_dry_runs(name):
    draw = random.Random(name)
    many, steps = small(name, draw, 4), StepMemory(None, "mixed")
    for batch in (1, 3):
        found = steps.peaks(many.candidates, batch_size=batch)
        for at in range(len(many)):
            asked = {"batch_size": batch, "optimizer": None, "precision": "mixed"}
            expected = cs.memory(many.description(at), **asked).inference.peak_bytes
            assert int(found[at]) == expected, many.description(at)
    assert None not in steps.logs.values()


@pytest.mark.parametrize("seed", range(6))
def test_memory_of_inference_of_random_networks_is_that_of_dry_runs(seed):
    draw = random.Random(seed)
    net = random_anynet(draw) if seed % 3 else random_efficientnet(draw)
    asked = {"batch_size": draw.randint(1, 4), "precision": draw.choice(["mixed", "float32"])}
    found = StepMemory(None, asked["precision"]).peaks(
        together(net), batch_size=asked["batch_size"]
    )
    assert int(found[0]) == cs.memory(net, optimizer=None, **asked).inference.peak_bytes


def test_memory_of_inference_from_dry_runs_equals_the_closed_form():
    draw = random.Random(0)
    for name in ("RegNetY-400MF", "EfficientNet-B0"):
        many = small(name, draw, 8).candidates
        closed = families.inference_bytes(many, batch_size=2)
        assert StepMemory(None).peaks(many, batch_size=2).tolist() == closed.tolist()


def test_depths_repeat_what_one_block_does():
    """Of a stage that is longer by one block each, the memory grows by equal steps."""
    net = families.named("RegNetX-400MF")
    depths = [(1, 2, 7, more) for more in (10, 11, 12, 40)]
    many = families.read_candidates(
        net, depths=depths, widths=[net.widths] * 4, group_widths=[net.group_widths] * 4
    )
    a, b, c, d = map(int, cs.step_bytes(many, batch_size=2))
    assert c - b == b - a > 0
    assert d - c == 28 * (b - a)


def test_a_step_without_two_values_a_channel_has_no_memory():
    tiny = replace(families.named("RegNetY-400MF"), resolution=32)
    steps = StepMemory("sgd")
    assert steps.peaks(together(tiny), batch_size=1).tolist() == [0]
    with pytest.raises(InputError, match="cannot be trained on one image at a time"):
        dry(tiny, batch_size=1, optimizer="sgd", precision=None)
    expected = dry(tiny, batch_size=2, optimizer="sgd", precision=None)
    assert steps.peaks(together(tiny), batch_size=2).tolist() == [expected]


def test_what_the_log_does_not_tell_is_run_dry(monkeypatch):
    net = replace(families.named("ResNet-18"), resolution=64)
    monkeypatch.setattr(TrainingLog, "fits", lambda *_: False)
    expected = dry(net, batch_size=2, optimizer="sgd", precision=None)
    assert StepMemory("sgd").peaks(together(net), batch_size=2).tolist() == [expected]


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match=r"^Unknown optimizer 'lion'\. Use sgd, adamw or none\.$"):
        StepMemory("lion")
    with pytest.raises(InputError, match=r"^Unknown precision 'half'\. Use float32, .*$"):
        StepMemory("sgd", "half")


def test_a_search_tells_the_training_memory_that_the_built_network_needs():
    found = cs.select(
        "RegNetX-400MF",
        limits=["training_memory<=2GB"],
        batch_size=16,
        optimizer="adamw",
        precision="mixed",
        strategies=["dWr", "w", "d"],
    )
    told = found.found.pool.values["training_memory_bytes"]
    assert np.isfinite(told).all()
    assert len(told) > 30
    chosen = int(told[found.found.chosen])
    assert chosen <= 2_000_000_000
    asked = {"batch_size": 16, "optimizer": "adamw", "precision": "mixed"}
    assert chosen == dry(found.chosen.network, **asked)

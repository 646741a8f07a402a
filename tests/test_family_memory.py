"""The memory of inference in closed form, against the prediction for built networks."""

from __future__ import annotations

import random

import numpy as np
import pytest

import convscale as cs
from convscale import families
from convscale.errors import InputError
from convscale.families.memory import inference_bytes
from tests.test_described import NAMES
from tests.test_paper_modules import random_anynet, random_efficientnet


def together(net, copies=1):
    """Copies of a network as candidates."""
    grouped = isinstance(net, families.AnyNet)
    return families.read_candidates(
        net,
        depths=[net.depths] * copies,
        widths=[net.widths] * copies,
        group_widths=net.group_widths if grouped else None,
        bottleneck_multipliers=net.bottleneck_multipliers if grouped else None,
    )


def of_module(net, **settings):
    return cs.memory(net, optimizer=None, **settings).inference.peak_bytes


@pytest.mark.parametrize("name", NAMES)
def test_memory_of_a_published_network_is_that_of_its_module(name):
    net = families.named(name)
    assert int(inference_bytes(together(net), batch_size=2)[0]) == of_module(net, batch_size=2)


@pytest.mark.parametrize("seed", range(24))
def test_memory_of_a_random_network_is_that_of_its_module(seed):
    draw = random.Random(seed)
    net = random_anynet(draw) if seed % 3 else random_efficientnet(draw)
    asked = {"batch_size": draw.randint(1, 3), "precision": draw.choice(["float32", "float16"])}
    assert int(inference_bytes(together(net), **asked)[0]) == of_module(net, **asked)


def test_memory_of_many_is_that_of_each():
    draw = random.Random(1)
    net = families.named("RegNetY-400MF")
    shares = [(d, 1 - d, 0) for d in (draw.random() for _ in range(6))]
    many = families.scale_many(net, shares, factor=[0.3, 0.5, 1, 2, 3, 4])
    found = inference_bytes(many.candidates, batch_size=4)
    expected = [
        int(inference_bytes(together(many.description(i)), batch_size=4)[0]) for i in range(6)
    ]
    assert np.array_equal(found, expected)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="^Unknown precision 'half'. Use float32, .*$"):
        inference_bytes(together(families.named("ResNet-18")), precision="half")

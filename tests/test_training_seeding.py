"""Randomness of training follows from the seed and from what it is for."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from convscale.errors import InputError
from convscale.training.seeding import (
    Batches,
    Draw,
    Order,
    derived,
    seed_generators,
    seed_image,
    seed_update,
)


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_shows_every_image_once(epoch):
    order = Order(images=12, batch_size=4, epochs=8, seed=3)
    batches = list(Batches(order))[epoch * 3 : epoch * 3 + 3]
    assert sorted(draw.index for batch in batches for draw in batch) == list(range(12))
    assert {draw.epoch for batch in batches for draw in batch} == {epoch}


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(Order(images=50, batch_size=5, epochs=2, seed=seed).permutation(epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_parts_of_all_processes_are_the_batch_of_one(world):
    order = Order(images=40, batch_size=12, epochs=2, seed=0)
    parts = zip(*(Batches(order, world=world, rank=rank) for rank in range(world)), strict=True)
    assert [list(itertools.chain(*part)) for part in parts] == list(Batches(order))


@pytest.mark.parametrize("first", range(7))
def test_a_run_goes_on_with_the_batches_that_are_left(first):
    order = Order(images=11, batch_size=5, epochs=3, seed=0)
    assert list(Batches(order, first=first)) == list(Batches(order))[first:]
    assert len(Batches(order, first=first)) == 6 - first


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(
        InputError,
        match=r"^A batch of 64 is larger than the 10 images to train on\. "
        r"Use a batch size of at most 10\.$",
    ):
        Order(images=10, batch_size=64, epochs=1, seed=0)


def test_a_batch_that_cannot_be_parted_is_refused():
    order = Order(images=100, batch_size=10, epochs=1, seed=0)
    with pytest.raises(
        InputError,
        match=r"^A batch of 10 cannot be parted evenly among 3 processes\. Use a multiple of 3\.$",
    ):
        Batches(order, world=3)


def test_the_numbers_of_every_library_begin_anew():
    seed_generators(5)
    first = drawn()
    seed_generators(5)
    assert drawn() == first
    seed_generators(6)
    assert all(a != b for a, b in zip(drawn(), first, strict=True))


def test_what_is_drawn_depends_on_all_that_it_is_for():
    seen = []
    for begin in (
        lambda: seed_image(0, Draw(0, 1)),
        lambda: seed_image(0, Draw(1, 0)),
        lambda: seed_image(1, Draw(0, 1)),
        lambda: seed_update(0, 0, 0),
        lambda: seed_update(0, 0, 1),
        lambda: seed_update(0, 1, 0),
        lambda: seed_update(1, 0, 0),
    ):
        begin()
        seen.append(drawn())
    assert len(set(seen)) == len(seen)


def test_neighbouring_seeds_share_no_purpose():
    assert derived(1, 11) != derived(11, 1)
    assert (
        len({derived(seed, "image", 0, index) for seed in range(20) for index in range(20)}) == 400
    )

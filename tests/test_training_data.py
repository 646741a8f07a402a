"""Batches of a run: seeded image by image, whole though images are broken; errors counted."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import nn

from convscale.errors import InputError
from convscale.training.datasets import read_data
from convscale.training.loading import BrokenImages, training_loader, validation_loader
from convscale.training.metrics import evaluate, wrong
from convscale.training.recipe import Recipe
from convscale.training.recipe_files import read_recipe
from convscale.training.seeding import Batches, Order
from convscale.training.transforms import posterized, training_transform
from tests.test_datasets import write_images


@pytest.fixture(scope="module")
def digits():
    return read_data("digits")


def batches(data, recipe, *, first=0, world=1, rank=0, epochs=2, batch=16):
    order = Order(images=len(data.train.targets), batch_size=batch, epochs=epochs, seed=3)
    sampler = Batches(order, first=first, world=world, rank=rank)
    return training_loader(data, recipe, sampler, resolution=16)


def first_of(loader, count):
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


@pytest.mark.parametrize("augment", ["flip-crop", "rand-m9-mstd0.5-inc1"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_goes_on_sees_the_batches_it_would_have_seen(digits, augment, workers):
    recipe = Recipe(augment=augment, workers=workers, random_erase=0.5, color_jitter=0.2)
    alone = Recipe(**{**recipe.model_dump(), "workers": 0})
    whole = first_of(batches(digits, alone), 8)
    later = first_of(batches(digits, recipe, first=5), 3)
    for (a, b), (c, d) in zip(whole[5:], later, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_processes_see_the_parts_of_one_batch(digits):
    recipe = Recipe(augment="rand-m9", workers=0)
    whole = first_of(batches(digits, recipe), 3)
    parts = [first_of(batches(digits, recipe, world=2, rank=rank), 3) for rank in (0, 1)]
    for (images, targets), *halves in zip(whole, *parts, strict=True):
        assert torch.equal(images, torch.cat([half[0] for half in halves]))
        assert torch.equal(targets, torch.cat([half[1] for half in halves]))


def test_an_image_is_augmented_otherwise_in_another_epoch_and_by_another_seed(digits):
    def epoch(number, seed):
        """Return the images that are in the first batch of both epochs, by their numbers."""
        recipe = Recipe(augment="rand-m9-mstd0.5", workers=0, seed=seed, crop_scale=(0.1, 1.0))
        order = Order(images=1438, batch_size=500, epochs=2, seed=3)
        loader = training_loader(digits, recipe, Batches(order, first=2 * number), resolution=64)
        images, _ = next(iter(loader))
        firsts = [order.permutation(epoch)[:500].tolist() for epoch in (0, 1)]
        shared = sorted(set(firsts[0]) & set(firsts[1]))
        return images[[firsts[number].index(index) for index in shared]]

    def differing(one, other):
        return float((one != other).flatten(1).any(1).double().mean())

    first = epoch(0, 0)
    assert len(first) > 100
    assert torch.equal(first, epoch(0, 0))
    assert differing(first, epoch(1, 0)) > 0.95  # some crops of an 8 px image are equal
    assert differing(first, epoch(0, 1)) > 0.95


def test_loading_leaves_the_random_numbers_of_the_process_alone(digits):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = float(torch.rand(1)), random.random(), float(np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    iterator = iter(batches(digits, Recipe(augment="rand-m9", workers=0)))
    state = torch.get_rng_state()
    next(iterator)
    torch.set_rng_state(state)  # a loader draws a base seed when it begins
    found = float(torch.rand(1)), random.random(), float(np.random.rand())
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("grow", ["", "-inc1"])
@pytest.mark.parametrize("policy", ["rand-m0", "rand-m9-mstd0.5", "rand-m10", "rand-m15-mmax20"])
def test_policies_work_at_every_magnitude(digits, policy, grow):
    transform = training_transform(Recipe(augment=policy + grow), digits.traits, 16)
    image = digits.train.read(0)
    for _ in range(200):
        assert transform(image).shape == (3, 16, 16)


@pytest.mark.parametrize("policy", ["original", "originalr", "v0", "v0r", "3a", "augmix-m5-w4-d2"])
def test_the_other_policies_of_timm_work(digits, policy):
    transform = training_transform(Recipe(augment=policy), digits.traits, 16)
    for _ in range(100):
        assert transform(digits.train.read(0)).shape == (3, 16, 16)


POLICIES = [
    *("rand", "rand-m9-n3-mstd0.5-mmax12-inc1-p0.5", "augmix-m3-w4-d2-a0.5-b1-mstd0", "v0-mstd0.5"),
    *("rand-m9.5", "rand-foo1", "rand-w3", "augmix-p1", "augmix-m1.5", "v0-m9", "v1", "3b"),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_recipe_takes_the_policies_that_timm_takes(policy):
    try:
        create_transform(16, is_training=True, auto_augment=policy)
        timm_takes = True
    except (AssertionError, ValueError):
        timm_takes = False
    try:
        found = read_recipe("basic", [f"augment={policy}"]).augment == policy
    except InputError:
        found = False
    assert found is timm_takes


@pytest.mark.parametrize("policy", ["rand-q9", "rand-m", "augmix-x3", "augmix-w0", "augmix-a0.0"])
def test_a_policy_that_timm_does_not_know_is_refused(digits, policy):
    with pytest.raises(InputError, match="augment"):
        training_transform(read_recipe("basic", [f"augment={policy}"]), digits.traits, 16)


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
def test_posterising_is_pillows_and_black_without_bits(bits):
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    pillows = np.asarray(ImageOps.posterize(image, bits))
    assert (np.asarray(posterized(image, bits)) == pillows).all()
    assert not np.asarray(posterized(image, 0)).any()


def test_digits_are_not_mirrored_unless_asked(digits):
    recipe = Recipe(augment="flip-crop", crop_scale=(1.0, 1.0), workers=0)
    order = Order(images=1438, batch_size=64, epochs=1, seed=3)

    def images(recipe):
        found, _ = next(iter(training_loader(digits, recipe, Batches(order), resolution=8)))
        return found

    plain = images(Recipe(augment="none", workers=0))
    mirrored = images(Recipe(**{**recipe.model_dump(), "flip": 1.0}))
    assert torch.allclose(images(recipe), plain, atol=0.02)
    assert torch.allclose(mirrored, plain.flip(-1), atol=0.02)


def test_images_to_judge_by_are_resized_cropped_and_normalised(tmp_path):
    write_images(tmp_path, "train", {"a": 1, "b": 1})
    write_images(tmp_path, "val", {"a": 1, "b": 1})
    picture = Image.new("RGB", (80, 40), (255, 0, 0))
    picture.paste((0, 0, 255), (20, 0, 60, 40))  # the middle is blue
    picture.save(tmp_path / "val" / "a" / "0.png")
    data = read_data(str(tmp_path))
    recipe = Recipe(workers=0, crop_pct=1.0)
    images, targets = next(iter(validation_loader(data, recipe, resolution=40)))
    assert images.shape == (2, 3, 40, 40)
    assert targets.tolist() == [0, 1]
    blue = [
        (value - mean) / std
        for value, mean, std in zip((0, 0, 1), data.traits.mean, data.traits.std, strict=True)
    ]
    assert images[0].mean((1, 2)).tolist() == pytest.approx(blue, abs=1e-5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_is_judged_once_by_however_many_processes(digits, world):
    seen = [
        targets
        for rank in range(world)
        for _, targets in validation_loader(
            digits, Recipe(workers=0, batch_size=60), resolution=8, world=world, rank=rank
        )
    ]
    assert sorted(torch.cat(seen).tolist()) == sorted(digits.validation.targets)


def test_grey_images_have_one_channel(digits):
    recipe = Recipe(workers=0)
    grey = next(iter(validation_loader(digits, recipe, resolution=16, in_chans=1)))[0]
    colours = next(iter(validation_loader(digits, recipe, resolution=16)))[0]
    assert grey.shape[1:] == (1, 16, 16)
    assert torch.allclose(grey, colours[:, :1], atol=1e-6)


def broken_folder(tmp_path, broken, *, of=6):
    write_images(tmp_path, "train", {"a": of, "b": of})
    write_images(tmp_path, "val", {"a": of, "b": of})
    for split in ("train", "val"):
        for index in range(broken):
            (tmp_path / split / "a" / f"{index}.png").write_bytes(b"no image")
    return read_data(str(tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_skipped_and_counted_once(tmp_path, workers):
    data = broken_folder(tmp_path, 3)
    recipe = Recipe(workers=workers, broken_limit=3)
    broken = BrokenImages(recipe.broken_limit)
    order = Order(images=12, batch_size=4, epochs=4, seed=0)
    loader = training_loader(data, recipe, Batches(order), resolution=8, broken=broken)
    sizes = {len(images) for images, _ in loader}
    assert sizes == {4}
    assert sorted(broken.found) == ["train/a/0.png", "train/a/1.png", "train/a/2.png"]
    validation = validation_loader(data, recipe, resolution=8)
    assert sum(len(images) for images, _ in validation) == 9
    assert len(validation.broken.found) == 3


@pytest.mark.parametrize("limit", [0, 2])
def test_more_broken_images_than_the_limit_end_the_run(tmp_path, limit):
    data = broken_folder(tmp_path, 3)
    recipe = Recipe(workers=0, broken_limit=limit)
    order = Order(images=12, batch_size=12, epochs=1, seed=0)
    told = rf"images cannot be read; broken_limit is {limit}"
    with pytest.raises(InputError, match=told):
        list(training_loader(data, recipe, Batches(order), resolution=8))
    with pytest.raises(InputError, match=told):
        list(validation_loader(data, recipe, resolution=8))


@pytest.mark.parametrize("workers", [0, 1])
def test_where_no_image_can_be_read_nothing_is_trained_on(tmp_path, workers):
    data = broken_folder(tmp_path, 3, of=3)
    for file in (tmp_path / "train" / "b").iterdir():
        file.write_bytes(b"")
    recipe = Recipe(workers=workers, broken_limit=10)
    loader = training_loader(
        data, recipe, Batches(Order(images=6, batch_size=2, epochs=1, seed=0)), resolution=8
    )
    with pytest.raises(InputError, match=r"^No image to train on can be read. The first is train/"):
        list(loader)


@pytest.mark.parametrize("top", [1, 2, 5])
def test_wrong_answers_are_those_that_torchs_topk_misses(top):
    torch.manual_seed(0)
    logits, targets = torch.randn(200, 8), torch.randint(8, (200,))
    best = logits.topk(top).indices
    missed = int((best != targets[:, None]).all(1).sum())
    assert int(wrong(logits, targets, top=top)) == missed


def test_no_number_is_never_right_and_ties_are_wrong():
    nan = torch.full((3, 4), float("nan"))
    assert int(wrong(nan, torch.tensor([0, 1, 2]), top=1)) == 3
    assert int(wrong(torch.zeros(3, 4), torch.tensor([0, 1, 2]), top=1)) == 3


def test_errors_are_counted_over_all_batches_and_the_mode_stays():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 6, bias=False)).train()
    with torch.no_grad():
        net[2].weight.copy_(torch.eye(6))
    net[1].eval()
    images = torch.eye(6)[:, :, None, None]
    targets = torch.tensor([0, 1, 2, 3, 4, 0])  # the last is wrong
    parts = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    found = evaluate(net, parts, classes=6)
    assert (found.images, found.wrong1, found.top1_error_pct) == (6, 1, 100 / 6)
    assert found.wrong5 == 1  # it ties with the four others that are 0
    logits = torch.eye(6)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, targets)))
    assert (net.training, net[1].training, net[2].training) == (True, False, True)


def test_top5_of_five_classes_or_fewer_says_nothing():
    batch = (torch.eye(5)[:, :, None, None], torch.arange(5))
    assert evaluate(nn.Flatten(), [batch], classes=5).top5_error_pct is None
    with pytest.raises(InputError, match="no image to judge by"):
        evaluate(nn.Flatten(), [], classes=5)

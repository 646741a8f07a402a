"""The loop does what a loop written by hand does, and its parts follow their formulas."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from convscale.errors import InputError
from convscale.training.datasets import read_data
from convscale.training.loading import training_loader
from convscale.training.loop import fit
from convscale.training.parts import (
    learning_rate,
    make_average,
    make_loss,
    make_mix,
    make_optimizer,
    make_schedule,
)
from convscale.training.recipe import Recipe
from convscale.training.seeding import Batches, Order, seed_update
from convscale.training.states import fill_module, module_bytes, packed, unpacked
from convscale.training.variants import Variant, candidates_of, choose_variant
from tests.training_runs import Tiny, run, short


def by_hand(recipe: Recipe) -> tuple[nn.Module, list[float]]:
    """Train the tiny network by a loop written with PyTorch alone."""
    torch.manual_seed(0)
    net = Tiny().train()
    order = Order(1438, recipe.batch_size, recipe.epochs, recipe.seed)
    loader = training_loader(read_data("digits"), recipe, Batches(order), resolution=8)
    plain = [w for w in net.parameters() if w.dim() < 2]
    decayed = [w for w in net.parameters() if w.dim() >= 2]
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": recipe.weight_decay},
    ]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    warm = round(recipe.warmup_epochs * order.steps)
    losses = []
    for update, (images, targets) in enumerate(loader):
        if update < warm:
            begin = recipe.warmup_start * recipe.lr
            lr = begin + update * ((recipe.lr - begin) / warm)
        else:
            share = (update - warm) / (order.updates - warm)
            lr = 0.5 * recipe.lr * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = lr
        seed_update(recipe.seed, update)
        loss = cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def test_the_loop_gives_the_weights_of_one_written_by_hand(tmp_path):
    run(tmp_path)
    net, losses = by_hand(short())
    found = load_file(tmp_path / "last.safetensors")
    lines = (tmp_path / "steps.csv").read_text().splitlines()[1:]
    assert [float(line.split(",")[2]) for line in lines] == pytest.approx(losses, rel=1e-6)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_loop_fits_one_screen():
    assert len(inspect.getsource(fit).splitlines()) <= 40


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (0, 0.1),
        (5, 0.1 + 0.9 * 5 / 20),
        (20, 1.0),
        (60, 0.2 + 0.5 * 0.8 * (1 + math.cos(math.pi / 2))),
        (100, 0.2),
    ],
)
def test_the_learning_rate_warms_up_and_falls_by_half_a_cosine(update, expected):
    recipe = Recipe(epochs=10, warmup_epochs=2.0, lr=0.5, lr_batch=64, lr_end=0.2)
    schedule = make_schedule(recipe, make_optimizer(recipe, nn.Linear(2, 3)), steps=10)
    assert learning_rate(schedule, update) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shall", "expected"), [(False, {"0.weight": 0.1}), (True, dict.fromkeys(range(4)))]
)
def test_norms_and_biases_decay_only_where_they_shall(shall, expected):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    recipe = Recipe(weight_decay=0.1, decay_norms_and_biases=shall)
    groups = make_optimizer(recipe, net).param_groups
    decayed = sum(len(group["params"]) for group in groups if group["weight_decay"] == 0.1)
    assert decayed == len(expected)


def test_label_smoothing_is_that_of_pytorch():
    scores, targets = torch.randn(6, 5), torch.randint(5, (6,))
    expected = cross_entropy(scores, targets, label_smoothing=0.1)
    torch.testing.assert_close(make_loss(Recipe(label_smoothing=0.1))(scores, targets), expected)


def test_mixed_targets_have_the_smoothed_share_of_both_images():
    images, targets = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    mix = make_mix(Recipe(mixup=1.0, label_smoothing=0.1), classes=4, batch_size=4)
    mixed, shares = mix(images.clone(), targets)
    lam = float((mixed[0] - images[3]).mean() / (images[0] - images[3]).mean())
    off, on = 0.1 / 4, 0.9 + 0.1 / 4
    expected = torch.tensor([lam * on + (1 - lam) * off, off, off, lam * off + (1 - lam) * on])
    torch.testing.assert_close(shares[0], expected, rtol=1e-4, atol=1e-4)


def test_an_odd_batch_cannot_be_mixed():
    with pytest.raises(
        InputError,
        match=r"^Mixup and cutmix need an even batch in every process, not 15. Change batch_size, "
        r"or set mixup and cutmix to 0.$",
    ):
        make_mix(Recipe(mixup=0.2), classes=3, batch_size=15)


def test_the_average_follows_its_decay():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = make_average(Recipe(ema=0.5), net)
    nn.init.ones_(net.weight)
    for step, expected in ((1_000_001, 0.5), (1_000_002, 0.75)):
        average.update(net, step=step)
        assert average.module.weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "rmsproptf"])
def test_the_state_of_an_optimiser_comes_back_with_its_strides(name):
    net = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(Recipe(optimizer=name), net)
    net(torch.randn(2, 4, 8, 8)).square().mean().backward()
    optimizer.step()
    before = optimizer.state_dict()
    after = unpacked(*packed(before))
    assert after["param_groups"] == before["param_groups"]
    for key, state in before["state"].items():
        for entry, value in state.items():
            found = after["state"][key][entry]
            if isinstance(value, torch.Tensor):
                assert torch.equal(found, value)
                assert found.stride() == value.stride()
            else:
                assert found == value


def test_weights_of_another_network_are_refused():
    with pytest.raises(
        InputError, match=r"^The checkpoint does not fit the network: bias, weight differ\.$"
    ):
        fill_module(nn.Linear(3, 3), module_bytes(nn.Linear(2, 2)))


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    data = module_bytes(net)
    nn.init.zeros_(net[0].weight)
    fill_module(net, data)
    assert net[1].weight is net[0].weight
    assert bool(net[0].weight.any())


def test_what_the_recipe_says_is_not_measured():
    recipe = Recipe(precision="bf16", channels_last=True)
    net, images = nn.Conv2d(3, 4, 1), torch.rand(2, 3, 4, 4)
    found = choose_variant(recipe, net, images, images, lambda a, b: a.sum())
    assert (found.variant, found.step_ms) == (Variant("bf16", channels_last=True), {})


def test_the_variant_of_least_time_is_chosen_and_all_are_told(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 3))
    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 2])
    found = choose_variant(Recipe(), net, images, targets, cross_entropy)
    assert set(found.step_ms) == set(map(str, candidates_of(Recipe(), "cpu")))
    fastest = min(found.step_ms.values())
    assert found.step_ms[str(found.variant)] <= 1.06 * fastest
    assert next(net.parameters()).grad is None


def test_a_variant_that_does_not_run_is_left_out_and_said():
    class Narrow(nn.Linear):
        def forward(self, images):
            scores = super().forward(images.flatten(1))
            if scores.dtype is torch.bfloat16:
                raise RuntimeError("no bfloat16 here")
            return scores

    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 2])
    found = choose_variant(Recipe(), Narrow(48, 3), images, targets, cross_entropy)
    assert found.variant.precision == "fp32"
    assert found.notes == (
        "bf16, contiguous does not run: no bfloat16 here",
        "bf16, channels-last does not run: no bfloat16 here",
    )

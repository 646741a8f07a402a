"""A batch in parts: one process computes them as several processes do, to the last bit."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from convscale.errors import InputError
from convscale.training.part_checks import check_parts
from convscale.training.parting import Parted
from convscale.training.recipe_files import read_recipe
from convscale.training.team import Team, UnevenPartsError
from tests.forking import ended, forked, forked_together
from tests.training_runs import Tiny, assert_equal_runs, kill_at_random, run, run_with, state_of

KNOBS = {"dropout": 0.0, "augment": "none", "ema": 0.9, "lr": 0.2}


def losses(folder):
    lines = (folder / "steps.csv").read_text().splitlines()[1:]
    return [float(line.split(",")[2]) for line in lines]


@pytest.mark.parametrize("network", ["resnet10t", "mobilenetv3_small_050", "resnet10t@dWr:2"])
def test_one_process_in_two_parts_trains_as_two_processes(tmp_path, network):
    """At a learning rate at which, without parts, their losses differ by more than half."""
    knobs = {**KNOBS, "network": network, "resolution": 32, "batch_size": 64, "epochs": 1}
    assert ended(forked(run_with, tmp_path / "one", {**knobs, "parts": 2})) == 0
    for status, said in forked_together(run_with, tmp_path / "two", {**knobs, "parts": 2}):
        assert status == 0, said
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) >= 20
    assert two == pytest.approx(one, rel=1e-6, abs=0)
    assert state_of(tmp_path / "one") == state_of(tmp_path / "two")


@pytest.mark.parametrize("synced", [True, False])
def test_one_process_in_four_parts_trains_as_four_processes(tmp_path, synced):
    knobs = {**KNOBS, "parts": 4, "sync_batchnorm": synced, "grad_clip": 1.0}
    assert ended(forked(run_with, tmp_path / "one", knobs)) == 0
    for status, said in forked_together(run_with, tmp_path / "four", knobs, processes=4):
        assert status == 0, said
    assert state_of(tmp_path / "one") == state_of(tmp_path / "four")


def test_a_run_in_parts_that_is_killed_ends_as_one_that_is_not(tmp_path):
    knobs = {**KNOBS, "parts": 2, "checkpoint_steps": 3}
    assert kill_at_random(tmp_path, seed=3, times=2, knobs=knobs) > 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


class Several(nn.Module):
    """Put out a dictionary with a tuple in it; a convolution is used twice, a head is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6, momentum=None)])
        self.groups = nn.GroupNorm(2, 6)
        self.frozen, self.head = nn.Linear(6, 4), nn.Linear(6, 4)
        self.frozen.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, images):
        x = self.norms[0](self.stem(images)).relu()
        x = self.norms[1](self.twice(x)) + self.groups(self.twice(x))
        pooled = x.mean((2, 3))
        return {"out": self.head(pooled), "aux": (self.frozen(pooled), x), "name": "several"}


def squares(output):
    return output["out"].square().mean() + sum(one.square().mean() for one in output["aux"])


@pytest.mark.parametrize("parts", [2, 4])
def test_gradients_and_statistics_are_those_of_the_whole_batch(parts):
    torch.manual_seed(0)
    whole = Several().double().train()
    split = copy.deepcopy(whole)
    images = torch.randn(8, 3, 5, 4, dtype=torch.float64) * 2 + 1
    parted = Parted(split, parts=parts)
    for _ in range(2):
        own, found = whole(images), parted(images)
        assert found["name"] == "several"
        torch.testing.assert_close(found["aux"][1], own["aux"][1], rtol=1e-11, atol=1e-11)
        squares(own).backward()
        squares(found).backward()
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        if one.grad is None:
            assert other.grad is None
        else:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-10, atol=1e-11)
    for one, other in zip(whole.buffers(), split.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)
    assert parted.state_dict().keys() == {f"module.{name}" for name in whole.state_dict()}


def test_in_evaluation_the_network_is_the_network():
    net = Several().train()
    parted = Parted(net, parts=2).eval()
    images = torch.randn(3, 3, 4, 4)
    assert torch.equal(parted(images)["out"], net.eval()(images)["out"])


class Choosing(nn.Module):
    """Normalise again where the images are bright."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        found = self.norm(images)
        return self.norm(found) if images.mean() > 0 else found


def test_parts_that_run_otherwise_than_one_another_end_with_a_sentence():
    images = torch.cat([torch.ones(2, 3, 2, 2), -torch.ones(2, 3, 2, 2)])
    with pytest.raises(UnevenPartsError, match="do not run the same"):
        Parted(Choosing().train(), parts=2)(images)


def test_what_fails_in_a_part_is_said_and_no_part_waits_for_it():
    team = Team(2)

    def work(part):
        if part == 1:
            raise ValueError("the second fails")
        return team.gather(torch.zeros(1))

    with pytest.raises(ValueError, match="the second fails"):
        team.run(work)
    assert team.run(lambda part: part) == [0, 1]
    assert threading.active_count() < 20


class Routing(nn.Module):
    """Send a batch one way or the other by its content, and put the scores out twice."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])

    def forward(self, images):
        pooled = images.mean((2, 3))
        scores = self.ways[int(images.mean() > 0)](pooled)
        return {"out": scores, "same": scores}


def test_a_weight_that_one_part_alone_uses_has_that_parts_gradient():
    torch.manual_seed(0)
    net = Routing().train()
    images = torch.cat([torch.rand(2, 3, 2, 2) + 1, -torch.rand(2, 3, 2, 2) - 1])
    found = Parted(net, parts=2)(images)
    assert found["same"] is found["out"]
    found["out"].square().mean().backward()
    halves = [net(half)["out"].square().mean() / 2 for half in images.chunk(2)]
    weights = list(net.parameters())
    for weight, own in zip(weights, torch.autograd.grad(sum(halves), weights), strict=True):
        torch.testing.assert_close(weight.grad, own)


class Odd(nn.Module):
    """Do one thing that parts cannot share."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.head = what, nn.Linear(3, 4)
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, images):
        if self.what == "torch":
            images = images + torch.rand(1)
        if self.what == "python":
            images = images * random.random()
        if self.what == "numpy":
            images = images * float(np.random.rand())
        if self.what == "weight":
            self.head.weight.data = self.head.weight.data * 0.9
        scores = self.head(images.mean((2, 3)))
        if self.what == "buffer":
            self.seen = torch.cat([self.seen, scores.detach()[:, 0]])
        if self.what == "scalar":
            return scores, scores.mean()
        return scores


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("torch", "has drawn random numbers"),
        ("python", "has drawn random numbers"),
        ("numpy", "has drawn random numbers"),
        ("weight", r"replaces its weight head\.weight while it runs"),
        ("buffer", "changes the shape of its buffer seen"),
        ("scalar", "tensors with a row for each image can"),
    ],
)
def test_what_parts_cannot_share_is_refused(what, said):
    with pytest.raises(InputError, match=said):
        Parted(Odd(what).train(), parts=2)(torch.ones(4, 3, 2, 2))


def test_hooks_on_weights_are_refused():
    net = nn.Linear(3, 4)
    net.weight.register_hook(lambda gradient: gradient)
    with pytest.raises(InputError, match="hooks on weights"):
        Parted(net, parts=2)


class Rerun(nn.Module):
    """Run its layers again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))

    def forward(self, images):
        kept = self.stem(images)
        return checkpoint(self.body, kept, use_reentrant=self.reentrant).mean((2, 3))


@pytest.mark.parametrize("reentrant", [True, False])
def test_batch_norm_that_runs_again_backwards_is_refused_or_each_parts_own(reentrant):
    net, images = Rerun(reentrant).train(), torch.rand(4, 3, 5, 5)
    with pytest.raises(InputError, match=r"Turn that off in the network, or set sync_batchnorm"):
        Parted(net, parts=2)(images)
    other = copy.deepcopy(net)
    Parted(net, parts=2, synced=False)(images).square().mean().backward()
    other.requires_grad_(True)
    sum(other(half).square().mean() / 2 for half in images.chunk(2)).backward()
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert net.body[0].num_batches_tracked == 2  # forwards and again backwards


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["parts=3"], "write a power of 2, from 2 on, or null"),
        (["parts=2", "batch_size=33"], "it must be a multiple of parts, which is 2"),
        (["parts=2", "mixup=0.2", "dropout=0.1"], "null where there is mixup, dropout"),
    ],
)
def test_recipes_whose_parts_cannot_be_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        read_recipe("basic", settings)


class Dropping(Tiny):
    """Drop channels behind the stem, too, where no recipe reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.append(nn.Dropout2d(0.1))


def test_networks_that_draw_random_numbers_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"\(bernoulli_ in stem\.3\), and parts is 2"):
        run(tmp_path / "run", network=Dropping, dropout=0.0, parts=2)
    assert not (tmp_path / "run").exists()


def test_parts_on_another_device_take_a_process_each():
    check_parts(4, 4, "cuda")
    with pytest.raises(InputError, match="Start 4 processes"):
        check_parts(4, 1, "cuda")

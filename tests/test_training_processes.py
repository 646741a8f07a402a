"""Two processes by torchrun train as one does, end together, and go on."""

from __future__ import annotations

import csv
import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from tests.forking import forked_together
from tests.test_datasets import write_images
from tests.training_runs import (
    assert_equal_runs,
    by_torchrun,
    norm_images,
    norms,
    run_command,
    run_dying,
    run_with,
    run_without_chance,
    write_norms,
)

NET = """
from torch import nn


def net(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(),
        nn.Linear(128, num_classes),
    )
"""
CUT = {"epochs": 1, "augment": "none", "ema": 0.9, "checkpoint_steps": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Where two processes have written what they normalised."""
    folder = tmp_path_factory.mktemp("norms")
    for status, said in forked_together(write_norms, folder):
        assert status == 0, said
    return folder


@pytest.mark.parametrize("name", norms())
def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(written, name):
    parts = [load_file(written / f"{name} {rank}.safetensors") for rank in (0, 1)]
    module, (images, times) = norms()[name], norm_images()
    images.requires_grad_()
    output = module(images)
    (output * times).sum().backward()
    whole = {"output": output, "images": images.grad}
    for key, tensor in whole.items():
        found = torch.cat([part[key] for part in parts])
        torch.testing.assert_close(found, tensor.detach(), rtol=1e-11, atol=1e-11)
    for key, weight in module.named_parameters():
        found = sum(part[f"gradient of {key}"] for part in parts)
        torch.testing.assert_close(found, weight.grad, rtol=1e-11, atol=1e-11)
    for key, buffer in module.named_buffers():
        for part in parts:
            torch.testing.assert_close(part[key], buffer, rtol=1e-11, atol=1e-11)


def losses(folder):
    with (folder / "steps.csv").open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def test_two_processes_have_the_losses_of_one(tmp_path):
    """With batch norm at a low learning rate; with norms of groups at that of the recipe."""
    run_without_chance(tmp_path / "one")
    done = by_torchrun(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for norms_of in ("batches", "groups"):
        one, two = (losses(tmp_path / count / norms_of) for count in ("one", "two"))
        assert len(one) == len(two) == 22
        assert two[:20] == pytest.approx(one[:20], rel=1e-5, abs=0)


def test_a_process_that_dies_ends_the_run_which_goes_on(tmp_path):
    (first, said), (second, _) = forked_together(run_dying, tmp_path / "cut", CUT)
    assert (first, second) == (1, -signal.SIGKILL)
    assert said.splitlines()[-1] == (
        "Another of the 2 processes has ended, so process 0 cannot go on. The last good checkpoint "
        f"is {tmp_path}/cut/state/checkpoint-00001: start the same command again to go on from it."
    )
    for folder in ("cut", "whole"):
        for status, said in forked_together(run_with, tmp_path / folder, CUT):
            assert status == 0, said
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ("lr=0", "Recipe basic with --set is wrong: lr: input should be greater than 0"),
        ("batch_size=127", "A batch of 127 cannot be parted evenly among 2 processes."),
        ("lr=1e9 warmup_epochs=0 precision=fp32 channels_last=false", "The loss is nan at step"),
    ],
)
def test_one_process_says_why_all_of_them_end(tmp_path, knobs, line):
    file = tmp_path / "nets.py"
    file.write_text(NET)
    words = f"train {file}:net --data digits --resolution 8 --device cpu --out {tmp_path / 'run'}"
    settings = [word for knob in ("workers=0", *knobs.split()) for word in ("--set", knob)]
    (first, said), (second, nothing) = forked_together(run_command, [*words.split(), *settings])
    assert (first, second) == (2, 2)
    assert f"convscale: {line}" in said
    assert nothing == ""


@pytest.mark.parametrize("limit", [5, 6])
def test_the_limit_on_broken_images_is_one_for_all_processes(tmp_path, limit):
    """Of 16 images in one batch six are broken, so that each process sees at most five or none."""
    data = write_images(tmp_path / "data", "train", {"a": 8, "b": 8})
    write_images(data, "val", {"a": 2, "b": 2})
    for index in range(6):
        (data / "train" / "ab"[index % 2] / f"{index}.png").write_bytes(b"no image")
    file = tmp_path / "nets.py"
    file.write_text(NET)
    words = f"train {file}:net --data {data} --resolution 8 --device cpu --out {tmp_path / 'run'}"
    knobs = f"batch_size=16 epochs=2 workers=0 broken_limit={limit} warmup_epochs=0"
    settings = [word for knob in knobs.split() for word in ("--set", knob)]
    (first, said), (second, nothing) = forked_together(run_command, [*words.split(), *settings])
    assert nothing == ""
    if limit == 6:
        assert (first, second) == (0, 0)
        assert len(json.loads((tmp_path / "run" / "result.json").read_text())["broken_images"]) == 6
    else:
        assert (first, second) == (2, 2)
        assert "convscale: 6 images cannot be read; broken_limit is 5." in said

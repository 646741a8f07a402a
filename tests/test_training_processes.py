"""Two processes by torchrun train as one does, end together, and go on."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from tests.training_runs import assert_equal_runs, norm_images, norms, run, started

CALM = {"dropout": 0.0, "augment": "none", "lr": 0.02}
CUT = {"epochs": 1, "augment": "none", "ema": 0.9, "checkpoint_steps": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Where two processes have written what they normalised."""
    folder = tmp_path_factory.mktemp("norms")
    done = started("norm", folder, processes=2)
    assert done.returncode == 0, done.stderr
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
    run(tmp_path / "one", **CALM)
    done = started("train", tmp_path / "two", json.dumps(CALM), processes=2)
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 22
    assert two[:20] == pytest.approx(one[:20], rel=1e-5, abs=0)


def test_a_process_that_dies_ends_the_run_which_goes_on(tmp_path):
    done = started("dies", tmp_path / "cut", json.dumps(CUT), processes=2)
    assert done.returncode != 0
    assert (
        "Another of the 2 processes has ended, so process 0 cannot go on. The last good checkpoint "
        f"is {tmp_path}/cut/state/checkpoint-00001: start the same command again to go on from it."
    ) in done.stderr
    for folder in ("cut", "whole"):
        done = started("train", tmp_path / folder, json.dumps(CUT), processes=2)
        assert done.returncode == 0, done.stderr
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")

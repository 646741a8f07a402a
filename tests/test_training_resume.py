"""A run that is cut off goes on and ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convscale.errors import InputError
from convscale.training import checkpoint as checkpoints
from convscale.training import updates_log
from convscale.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from convscale.training.failing import NonFiniteLossError, going_on
from convscale.training.request import TrainRequest, begin_or_go_on
from convscale.training.updates_log import UpdatesLog
from tests.training_runs import Silent, Tiny, assert_equal_runs, kill_at_random, rows_of, run

LOWER = {"precision": "bf16", "channels_last": True}
ALL = {"mixup": 0.2, "ema": 0.9, "augment": "rand-m9-mstd0.5", "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("seed", "knobs"),
    [
        (1, {**ALL, "checkpoint_steps": 2, "workers": 1}),
        (2, {"optimizer": "adamw", "lr": 0.01, "checkpoint_steps": 3, **LOWER}),
    ],
    ids=["mixing, average and a worker", "AdamW in bf16 and channels-last"],
)
def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path, seed, knobs):
    assert kill_at_random(tmp_path, seed=seed, times=4, knobs=knobs) >= 3
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(folder)
    return folder


def cut_off(folder: Path, epoch: int, **knobs):
    """Train and stop as by SIGTERM after an epoch's second update."""
    result = run(folder, Stopping(epoch), **knobs)
    assert not result.finished
    return result


class Stopping(Silent):
    """A watch that sends its own process SIGTERM in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_update(self, tick):
        super().on_update(tick)
        if tick.epoch == self.epoch and len(self.losses) >= 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on(tmp_path, whole):
    for epoch in (0, 1):
        assert cut_off(tmp_path / "cut", epoch).updates < 22
    assert run(tmp_path / "cut").finished
    assert_equal_runs(whole, tmp_path / "cut")


class Asked(Tiny):
    """A network that is asked to stop within its first step of training."""

    def forward(self, images):
        if self.training and len(images) > 2:  # the first pass over a whole batch
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(images)


def test_sigterm_within_the_first_step_does_not_wait_for_its_end(tmp_path):
    watch = Silent()
    found = run(tmp_path / "cut", watch, network=Asked())
    assert (found.finished, found.updates, watch.losses) == (False, 0, [])
    assert not (tmp_path / "cut" / "state").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Interrupting(Stopping):
    """A watch that presses Ctrl-C in the middle of an epoch."""

    def on_update(self, tick):
        Silent.on_update(self, tick)
        if tick.epoch == self.epoch and len(self.losses) == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_control_c_writes_a_checkpoint_and_the_run_goes_on(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Interrupting(0))
    assert [path.name for path in (tmp_path / "cut" / "state").iterdir()] == ["checkpoint-00001"]
    run(tmp_path / "cut")
    assert_equal_runs(whole, tmp_path / "cut")


class StoppingAll(Stopping):
    """A watch that sends SIGTERM to the workers too, as one to the group of processes does."""

    def on_update(self, tick):
        super().on_update(tick)
        if tick.epoch == self.epoch and len(self.losses) == 2:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGTERM)


def test_sigterm_to_all_processes_of_a_run_is_heeded_likewise(tmp_path, whole):
    watch = StoppingAll(0)
    assert not run(tmp_path / "cut", watch, workers=1).finished
    assert run(tmp_path / "cut", workers=1).finished
    assert_equal_runs(whole, tmp_path / "cut")


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    watch = Silent()
    again = run(tmp_path / "run", watch)
    assert watch.losses == []
    assert list(again.rows) == rows_of(whole)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, whole):
    cut_off(tmp_path / "cut", 1)
    newest = max((tmp_path / "cut" / "state").glob("checkpoint-*"))
    weights = newest / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size // 2)
    watch = Silent()
    run(tmp_path / "cut", watch)
    assert watch.notes == [
        f"The checkpoint {newest} is not complete: model.safetensors has {size // 2} of its {size} "
        "bytes. The one before it is taken."
    ]
    assert_equal_runs(whole, tmp_path / "cut")


def test_with_no_complete_checkpoint_a_run_says_what_to_do(tmp_path):
    cut_off(tmp_path, 0)
    for path in (tmp_path / "state").glob("checkpoint-*/state.json"):
        path.write_text("{")
    with pytest.raises(
        InputError,
        match=rf"^The checkpoint {tmp_path}/state/checkpoint-00001 is not complete: state.json "
        rf"cannot be read. No checkpoint is left to go on from: remove {tmp_path}/state to begin "
        r"anew.$",
    ):
        run(tmp_path)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, whole):
    cut_off(tmp_path / "cut", 1)
    newest = max((tmp_path / "cut" / "state").glob("checkpoint-*"))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", full)
        with pytest.raises(
            CheckpointError,
            match=rf"^Cannot write the checkpoint {newest.parent}/checkpoint-00003: No space left "
            rf"on device. The last good one is {newest}: make room and start the same command "
            r"again to go on from it.$",
        ):
            run(tmp_path / "cut")
    assert sorted(newest.parent.iterdir())[-1] == newest
    run(tmp_path / "cut")
    assert_equal_runs(whole, tmp_path / "cut")


def test_a_loss_that_is_no_number_ends_the_run_with_what_is_good(tmp_path):
    with pytest.raises(
        NonFiniteLossError,
        match=r"^(The loss is nan|A weight is not finite) at step \d+, at a learning rate of "
        rf"[\d.e+]+. The last good checkpoint is {tmp_path}/state/checkpoint-0000\d. Begin "
        r"anew with a lower lr, a longer warm-up, or grad_clip.$",
    ):
        run(tmp_path, lr=1e8, warmup_epochs=1.0, warmup_start=1e-9, checkpoint_steps=1)
    newest = max((tmp_path / "state").glob("checkpoint-*"))
    weights = load_file(newest / "model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_a_run_with_other_settings_is_not_gone_on_with(whole):
    with pytest.raises(
        InputError,
        match=rf"^The run in {whole} has other settings: epochs is 2 there, not 3. Ask for the "
        r"same to go on with it, or write the name of a new folder.$",
    ):
        run(whole, epochs=3)


def test_how_images_are_loaded_may_change_when_a_run_goes_on(tmp_path, whole):
    cut_off(tmp_path / "cut", 0)
    run(tmp_path / "cut", workers=2, checkpoint_steps=7)
    assert_equal_runs(whole, tmp_path / "cut")


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(
        InputError,
        match=rf"^The folder {tmp_path} exists and holds no run. Write the name of a new one.$",
    ):
        run(tmp_path)


def test_images_that_have_come_since_are_refused(tmp_path):
    request = TrainRequest("resnet18", "digits", tmp_path / "run")
    begin_or_go_on(request.out, request.identity("timm:resnet18", images=1438, digest="0a"))
    with pytest.raises(InputError, match=r"other settings: images is 1438 there, not 1439\."):
        begin_or_go_on(request.out, request.identity("timm:resnet18", images=1439, digest="0b"))


def test_a_checkpoint_that_is_not_complete_is_not_called_good(tmp_path):
    for number in (1, 2):
        write_checkpoint(tmp_path, Checkpoint(number, {"model": b"abc"}, {}))
    (tmp_path / "checkpoint-00002" / "model").write_bytes(b"ab")
    assert going_on(tmp_path) == (
        f"The last good checkpoint is {tmp_path}/checkpoint-00001: start the same command again to "
        "go on from it."
    )


def test_a_file_in_the_place_of_a_checkpoint_makes_room(tmp_path):
    (tmp_path / "checkpoint-00001").write_text("")
    path = write_checkpoint(tmp_path, Checkpoint(1, {"model": b"abc"}, {}))
    assert read_checkpoint(tmp_path, warn=pytest.fail).files == {"model": b"abc"}
    assert path.is_dir()


@pytest.mark.parametrize("content", [b"step,epoch,loss,lr\nhello\n", b"step\n1,\xff\n"])
def test_losses_that_cannot_be_read_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "steps.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path} is no table of losses: .*Remove it to go on"):
        UpdatesLog(path, updates=3)


def test_losses_on_a_full_disk_name_the_last_good_checkpoint(tmp_path, monkeypatch):
    """steps.csv is written every hundred steps, between checkpoints too."""

    def full(self):
        raise InputError(f"Cannot write {self._path}: No space left on device.")

    monkeypatch.setattr(updates_log, "_EVERY", 5)
    monkeypatch.setattr(UpdatesLog, "flush", full)
    with pytest.raises(
        CheckpointError,
        match=rf"^Cannot write {tmp_path}/run/steps.csv: No space left on device. There is no "
        r"checkpoint yet: start the same command again to begin anew.$",
    ):
        run(tmp_path / "run")

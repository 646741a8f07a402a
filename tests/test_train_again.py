"""`convscale train` started again: a finished run stays, one that was cut off goes on."""

from __future__ import annotations

import json

import pytest

from convscale.cli.main import run
from convscale.cli.watch import Lines
from tests.test_datasets import write_images
from tests.training_commands import QUICK, trained, write_nets


@pytest.fixture
def nets(tmp_path):
    return write_nets(tmp_path)


def contents(folder) -> dict:
    """Return the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_that_is_started_again_leaves_its_folder_as_it_is(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    words = [nets, "--data", "digits", "--resolution", 16, "--epochs", 2, "--out", folder]
    found = trained(capsys, *words)
    before = contents(folder)
    assert trained(capsys, *words) == found
    assert run(["train", *map(str, words), *QUICK]) == 0
    printed = capsys.readouterr()
    said = " ".join(printed.out.split())
    assert f"The run in {folder}/ is finished, and nothing in it was changed." in said
    assert "For more epochs write another --out" in said
    assert contents(folder) == before


def test_a_run_that_ended_before_its_result_was_written_gets_it(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    words = [nets, "--data", "digits", "--resolution", 16, "--epochs", 2, "--out", folder]
    found = trained(capsys, *words)
    (folder / "result.json").unlink()
    again = trained(capsys, *words)
    timed = ("peak_memory_bytes",)
    assert {k: v for k, v in again.items() if k not in timed} == {
        k: v for k, v in found.items() if k not in timed
    }
    assert json.loads((folder / "result.json").read_text()) == again


def test_a_run_that_goes_on_knows_the_broken_images_of_before(tmp_path, nets, capsys, monkeypatch):
    data = write_images(tmp_path / "data", "train", {"a": 8, "b": 8}, side=16)
    write_images(data, "val", {"a": 3, "b": 3}, side=16)
    file = data / "train" / "b" / "3.png"
    whole = file.read_bytes()
    file.write_bytes(b"no image".ljust(len(whole)))  # as many bytes: it stays the same file
    asked = [nets, "--data", data, "--resolution", 16, "--epochs", 3, "--out", tmp_path / "run"]
    asked += ["--set", "batch_size=8"]

    def stop(display, row):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lines, "on_epoch", stop)
        assert run(["train", *map(str, asked), *QUICK]) == 130
    capsys.readouterr()
    file.write_bytes(whole)
    found = trained(capsys, *asked)
    assert found["broken_images"] == ["train/b/3.png"]
    assert found["epochs"] == 3

"""What train and eval refuse, in one line."""

from __future__ import annotations

import json

import pytest

import convscale as cs
from tests.test_datasets import write_images
from tests.training_commands import QUICK, judged, refused, trained, write_nets


@pytest.fixture
def nets(tmp_path):
    return write_nets(tmp_path)


def test_a_result_without_its_parts_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "result.json").write_text('{"schema_version": 1, "network": "n", "data": "digits"}')
    assert refused(capsys, "eval", tmp_path) == (
        f"convscale: {tmp_path}/result.json lacks finished, classes, evaluation, variant, recipe, "
        "which every run writes."
    )


def test_too_many_broken_images_end_the_run_in_one_line(tmp_path, nets, capsys):
    data = write_images(tmp_path / "data", "train", {"a": 8, "b": 8}, side=16)
    write_images(data, "val", {"a": 3, "b": 3}, side=16)
    for index in range(4):
        (data / "train" / "b" / f"{index}.png").write_bytes(b"no image")
    line = refused(
        capsys, "train", nets, "--data", data, "--resolution", 16, "--epochs", 4,
        "--out", tmp_path / "run", "--set", "batch_size=8", "--set", "broken_limit=3", *QUICK,
    )  # fmt: skip
    assert "4 images cannot be read; broken_limit is 3" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{nets}:seven", "--data", "digits"], "puts out 7 scores an image and the data have 10"),
        (["{nets}:texts", "--data", "digits"], "puts out a tuple in evaluation"),
        (["resnet5", "--data", "digits"], "Unknown network 'resnet5'"),
        (["{nets}:net", "--data", "digit"], "Unknown data 'digit'. Did you mean digits?"),
        (["{nets}:net", "--data", "digits", "--recipe", "weak"], "Unknown recipe 'weak'."),
        (["{nets}:net", "--data", "digits", "--num-classes", "7"], "The data have 10 classes"),
        (["{nets}:net", "--data", "digits", "--epochs", "0"], "The number of epochs is 0"),
        (["{nets}:net", "--data", "digits", "--set", "lr"], "'lr' is no setting"),
        (["{nets}:net", "--data", "digits", "--set", "batch_size=2000"], "than the 1438 images"),
        (["{nets}:net", "--data", "digits", "--device", "tpu"], "tpu"),
        (["{nets}:net", "--data", "digits", "--set", "augment=rand-m9..5"], "'rand-m9..5'"),
        (["{nets}:net", "--data", "digits", "--in-chans", "4"], "4 input channels; images have 3"),
        (["resnet10t", "--data", "digits", "--set", "batch_size=1"], "in batches of 1: ValueError"),
        (["torchvision:r3d_18", "--data", "digits"], "3-dimensional"),
        (["torchvision:alexnet", "--data", "digits", "--set", "test_resolution=16"], "at 16 px"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, nets, capsys, arguments, told):
    file = nets.removesuffix(":net")
    filled = [text.replace("{nets}", file) for text in arguments]
    size = ["--resolution", "32"] if filled[0].startswith((file, "resnet10t")) else []
    line = refused(capsys, "train", *filled, *size, "--out", tmp_path / "run", *QUICK)
    assert told in line
    assert not (tmp_path / "run").exists()


def test_half_precision_on_a_processor_is_refused(tmp_path, nets, capsys):
    line = refused(
        capsys, "train", nets, "--data", "digits", "--resolution", 16, "--out", tmp_path / "run",
        "--device", "cpu", "--set", "precision=fp16",
    )  # fmt: skip
    assert "Precision fp16 takes a GPU" in line
    assert not (tmp_path / "run").exists()


def test_eval_says_where_to_name_data_that_were_moved(tmp_path, nets, capsys, monkeypatch):
    for split in ("train", "val"):
        write_images(tmp_path / "pictures", split, {"a": 4, "b": 4})
    monkeypatch.chdir(tmp_path)
    trained(
        capsys, nets, "--data", "pictures", "--resolution", 16, "--epochs", 1, "--out", "run",
        "--set", "batch_size=4",
    )  # fmt: skip
    (tmp_path / "pictures").rename(tmp_path / "moved")
    line = refused(capsys, "eval", "run", "--base", nets)
    assert "Unknown data 'pictures'" in line
    assert "--data (data=) tells where they are now" in line
    assert judged(capsys, "run", "--base", nets, "--data", "moved")["images"] == 8


@pytest.mark.parametrize("place", ["/proc/no/run", "file/run", "full", ""])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(
    tmp_path, nets, capsys, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    refused(
        capsys, "train", nets, "--data", "digits", "--resolution", 16, "--out", place, *QUICK
    )  # fmt: skip
    assert (tmp_path / "full" / "thesis.txt").read_text() == "all of it"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_saved_network_of_other_classes_is_refused(tmp_path, capsys):
    saved = cs.scale("resnet10t", strategy="w", factor=0.1, num_classes=5, resolution=32)
    saved.save(tmp_path / "saved")
    line = refused(
        capsys, "train", tmp_path / "saved", "--data", "digits", "--out", tmp_path / "run", *QUICK
    )
    assert "puts out 5 scores an image and the data have 10 classes" in line


def test_eval_refuses_what_is_no_run_and_other_classes(tmp_path, nets, capsys):
    assert "holds no result.json" in refused(capsys, "eval", tmp_path)
    (tmp_path / "file").write_text("")
    assert "file holds no result.json" in refused(capsys, "eval", tmp_path / "file")
    data = write_images(tmp_path / "data", "train", {"a": 2, "b": 2}, side=8)
    write_images(data, "val", {"a": 1, "b": 1}, side=8)
    folder = tmp_path / "run"
    trained(capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 1, "--out", folder)
    line = refused(capsys, "eval", folder, "--data", data, "--base", nets)
    assert "trained on 10 classes (0, 1, 2, …) and the data have 2 (a, b)" in line
    assert "no code that a folder names is run" in refused(capsys, "eval", folder)
    written = json.loads((folder / "result.json").read_text())
    for part, told in (({"recipe": {"lr": "a"}}, "lr Input"), ({"evaluation": {}}, "it lacks")):
        (folder / "result.json").write_text(json.dumps({**written, **part}))
        line = refused(capsys, "eval", folder, "--base", nets)
        assert f"{folder}/result.json is not what a run of this version writes: " in line
        assert told in line


def test_loading_takes_no_weights_from_elsewhere(tmp_path, capsys):
    folder = cs.scale("resnet10t", strategy="w", factor=0.1).save(tmp_path / "saved")
    document = json.loads((folder / "convscale.json").read_text())
    for name in ("../model.safetensors", "/etc/passwd", "model.bin", ""):
        (folder / "convscale.json").write_text(json.dumps({**document, "weights": name}))
        with pytest.raises(cs.InputError, match="is no file of weights"):
            cs.load(folder)

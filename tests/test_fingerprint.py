"""What images are known by: a run goes on with the same ones alone, wherever they are."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from convscale.errors import InputError
from convscale.training.datasets import read_data
from convscale.training.fingerprint import Fingerprint, of_pixels
from convscale.training.request import TrainRequest, begin_or_go_on
from tests.test_datasets import write_idx, write_images
from tests.training_runs import run


def flowers(folder):
    write_images(folder, "train", {"iris": 3, "rose": 4})
    write_images(folder, "val", {"iris": 1, "rose": 1})
    return folder


def enlarge(path):
    path.write_bytes(path.read_bytes() + b"\n")


CHANGES = {
    "a size": (
        lambda data: enlarge(data / "train/iris/1.png"),
        "images: train/iris has others there (by name or size)",
    ),
    "a name": (
        lambda data: (data / "val/rose/0.png").rename(data / "val/rose/00.png"),
        "images: validation/rose has others there (by name or size)",
    ),
    "one more": (
        lambda data: shutil.copy(data / "train/rose/0.png", data / "train/rose/9.png"),
        "images: train/rose has 4 images there, not 5",
    ),
    "one less and another": (
        lambda data: ((data / "train/rose/0.png").unlink(), enlarge(data / "train/iris/0.png")),
        "images: train/iris has others there (by name or size), train/rose has 4 images there, "
        "not 3",
    ),
    "a class more": (
        lambda data: [
            shutil.copytree(data / s / "rose", data / s / "lily") for s in ("train", "val")
        ],
        "images: train/lily has no images there, not 4, validation/lily has no images there, not 1",
    ),
}


def begun(folder, data):
    """Begin a run on data, or go on with it, as far as to see whether it is the same."""
    found = read_data(str(data))
    request = TrainRequest("resnet18", str(data), folder)
    known = found.fingerprint
    identity = request.identity("timm:resnet18", len(found.train.targets), known.digest)
    begin_or_go_on(folder, identity, known)


@pytest.mark.parametrize("change", CHANGES)
def test_images_that_have_changed_are_named_by_their_class(tmp_path, change):
    data = flowers(tmp_path / "data")
    begun(tmp_path / "run", data)
    alter, told = CHANGES[change]
    alter(data)
    with pytest.raises(InputError) as caught:
        begun(tmp_path / "run", data)
    assert caught.value.line == (
        f"The run in {tmp_path}/run has other {told}. Ask for the same to go on with it, or write "
        "the name of a new folder."
    )


def test_a_later_copy_of_the_images_elsewhere_is_the_same(tmp_path):
    data = flowers(tmp_path / "data")
    begun(tmp_path / "run", data)
    shutil.copytree(data, tmp_path / "copy")
    os.utime(tmp_path / "copy/train/iris/0.png", (1, 1))
    written = (tmp_path / "run/run.json").read_bytes()
    begun(tmp_path / "run", tmp_path / "copy")
    assert (tmp_path / "run/run.json").read_bytes() == written


def test_other_data_are_told_by_their_name(tmp_path):
    begun(tmp_path / "run", flowers(tmp_path / "data"))
    with pytest.raises(InputError, match=r"other settings: data is .*data there, not digits, im"):
        begun(tmp_path / "run", "digits")


def test_only_names_and_sizes_are_read(tmp_path, monkeypatch):
    data = flowers(tmp_path)
    (data / "train/iris/nowhere.png").symlink_to("gone.png")
    monkeypatch.setattr(Image, "open", None)
    splits = read_data(str(data)).fingerprint.splits
    assert {name: count for name, (count, _) in splits["train"].items()} == {"iris": 4, "rose": 4}


def test_a_pixel_a_label_and_the_order_of_arrays_tell(tmp_path):
    images, labels = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3), (0, 1, 0, 1)
    one = of_pixels(images, labels, "ab")
    assert {name: count for name, (count, _) in one.items()} == {"a": 2, "b": 2}
    other = images.copy()
    other[1, 2, 2] += 1
    assert of_pixels(other, labels, "ab")["a"] == one["a"]
    assert of_pixels(other, labels, "ab")["b"] != one["b"]
    assert of_pixels(images[::-1], labels[::-1], "ab") != one
    assert of_pixels(images, (0, 1, 1, 0), "ab") != one


def test_packed_idx_files_are_the_same_images(tmp_path):
    for name, packed in (("plain", False), ("packed", True)):
        (tmp_path / name).mkdir()
        write_idx(tmp_path / name, packed=packed)
    plain, packed = (read_data(str(tmp_path / name)) for name in ("plain", "packed"))
    assert plain.fingerprint.digest == packed.fingerprint.digest


def test_many_changed_classes_are_counted():
    classes = {f"c{index}": (1, "0a") for index in range(9)}
    told = Fingerprint({"train": classes}).differences(
        {"train": {name: [2, ""] for name in classes}}
    )
    assert told[-1] == "and 6 classes more"
    assert len(told) == 4


def test_a_run_does_not_go_on_with_other_images(tmp_path, monkeypatch):
    run(tmp_path / "run", epochs=1)
    from sklearn import datasets

    digits = datasets.load_digits()
    digits.images[0] = 16 - digits.images[0]
    monkeypatch.setattr(datasets, "load_digits", lambda: digits)
    with pytest.raises(InputError, match=r"other images: train/0 has others there"):
        run(tmp_path / "run", epochs=1)


def test_a_run_from_before_images_were_known_goes_on(tmp_path):
    data = flowers(tmp_path / "data")
    old = TrainRequest("resnet18", str(data), tmp_path).identity("timm:resnet18", 7, "")
    del old["images_digest"]
    begin_or_go_on(tmp_path / "run", old)
    written = (tmp_path / "run/run.json").read_bytes()
    begun(tmp_path / "run", data)
    assert (tmp_path / "run/run.json").read_bytes() == written

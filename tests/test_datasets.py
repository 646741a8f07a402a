"""Data sets: folders, IDX files and digits; what is wrong with one is told in one line."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

from convscale.errors import InputError
from convscale.training import datasets
from convscale.training.datasets import read_data
from convscale.training.idx import read_idx
from convscale.training.images import BrokenImageError, FileImages


def write_images(folder, split, counts, *, side=8, mode="RGB"):
    """Write that many images of each class, each in a colour of its own."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / split / name).mkdir(parents=True)
        for index in range(count):
            colour = (40 * number + 10, 20 * index, 90) if mode == "RGB" else 40 * number
            image = Image.new(mode, (side, side), colour)
            image.save(folder / split / name / f"{index}.png")
    return folder


def idx_bytes(values):
    """Return an array as an IDX file, after the description of the format."""
    head = bytes((0, 0, 8, values.ndim))
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + sizes + values.astype(np.uint8).tobytes()


def write_idx(folder, *, packed, labels=(0, 1, 2), later=(2, 1, 0), side=4):
    """Write a small data set of the form of MNIST."""
    rng = np.random.default_rng(0)
    parts = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (len(labels), side, side)),
        "train-labels-idx1-ubyte": np.array(labels),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (len(later), side, side)),
        "t10k-labels-idx1-ubyte": np.array(later),
    }
    for name, values in parts.items():
        data = idx_bytes(values)
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return parts


def test_a_folder_of_images_gives_its_classes_in_the_order_of_their_names(tmp_path):
    write_images(tmp_path, "train", {"rose": 3, "iris": 2})
    write_images(tmp_path, "val", {"rose": 1, "iris": 1})
    data = read_data(str(tmp_path))
    assert data.classes == ("iris", "rose")
    assert data.train.targets == (0, 0, 1, 1, 1)
    assert data.train.name(4) == "train/rose/2.png"
    assert data.train.read(4).getpixel((0, 0)) == (10, 40, 90)
    assert data.validation.targets == (0, 1)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_second_folder_has_any_of_its_usual_names(tmp_path, name):
    write_images(tmp_path, "train", {"a": 1, "b": 1})
    write_images(tmp_path, name, {"a": 1, "b": 1})
    assert len(read_data(str(tmp_path)).validation.targets) == 2


def test_links_to_folders_are_followed_and_none_leads_back(tmp_path):
    write_images(tmp_path, "train", {"a": 2, "b": 3})
    write_images(tmp_path, "elsewhere", {"c": 1})
    (tmp_path / "val").symlink_to("train")
    (tmp_path / "train" / "a" / "up").symlink_to("..")
    (tmp_path / "train" / "a" / "same").symlink_to(".")
    (tmp_path / "train" / "b" / "more").symlink_to(tmp_path / "elsewhere" / "c")
    data = read_data(str(tmp_path))
    expected = ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.png", "b/more/0.png")
    assert data.train.files == data.validation.files == expected


def test_images_may_lie_deeper_and_other_files_beside_them(tmp_path):
    write_images(tmp_path, "train", {"a": 1, "b": 1})
    write_images(tmp_path, "val", {"a": 1, "b": 1})
    (tmp_path / "train" / "a" / "deep").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "a" / "deep" / "x.JPG", format="JPEG")
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "a" / ".cache").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "a" / ".cache" / "x.png")
    data = read_data(str(tmp_path))
    assert data.train.files == ("a/0.png", "a/deep/x.JPG", "b/0.png")


@pytest.mark.parametrize(
    ("train", "val", "told"),
    [
        ({"a": 1, "b": 0}, {"a": 1, "b": 1}, ["no images (.jpg, .jpeg, .png, …) in train/b"]),
        ({"a": 1, "b": 1}, {"a": 1, "b": 0}, ["in val/b"]),
        ({"a": 1, "b": 1}, {"a": 1}, ["the classes differ (2 and 1): b in train/ alone"]),
        ({"a": 1}, {"a": 1, "c": 1}, ["c in val/ alone"]),
        ({"a": 1, "b": 1}, {"b": 1, "c": 1}, ["a in train/ alone and c in val/ alone"]),
        ({"a": 1}, {"a": 1}, ["holds 1 class"]),
        ({"a": 0, "b": 1}, {"b": 0, "c": 1}, ["train/a", "val/b", "a in train/ alone"]),
        ({f"c{i}": 0 for i in range(6)}, {"a": 1}, ["train/c2 and 3 more"]),
    ],
)
def test_what_is_wrong_with_a_folder_is_told_at_once(tmp_path, train, val, told):
    write_images(tmp_path, "train", train)
    write_images(tmp_path, "val", val)
    with pytest.raises(InputError) as found:
        read_data(str(tmp_path))
    for part in told:
        assert part in found.value.line


def test_a_folder_without_splits_is_refused(tmp_path):
    with pytest.raises(InputError, match=re.escape("holds no train/ and no val/ (nor valid")):
        read_data(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=re.escape("holds no val/")):
        read_data(str(tmp_path))
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match="holds no class folders"):
        read_data(str(tmp_path))


@pytest.mark.parametrize("text", ["", "digit", "no/such/folder", "Fashion-MNIST"])
def test_unknown_data_are_refused(text):
    with pytest.raises(InputError, match="Unknown data"):
        read_data(text)


def test_missing_fashion_mnist_is_one_line_that_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path)
    with pytest.raises(InputError, match="dataset-fashion-mnist") as found:
        read_data("fashion-mnist")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_packed_or_not(tmp_path, packed):
    parts = write_idx(tmp_path, packed=packed)
    data = read_data(str(tmp_path))
    assert data.classes == ("0", "1", "2")
    assert data.train.targets == (0, 1, 2)
    assert data.validation.targets == (2, 1, 0)
    for index in range(3):
        pixels = np.asarray(data.train.read(index))
        assert (pixels == parts["train-images-idx3-ubyte"][index][:, :, None]).all()


@pytest.mark.skipif(
    not (datasets.DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").is_file(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_is_whole():
    data = read_data("fashion-mnist")
    parts = ((data.train, 60_000), (data.validation, 10_000))
    assert data.classes[0] == "T-shirt/top"
    for images, count in parts:
        assert images.pixels.shape == (count, 28, 28)
        assert np.bincount(images.targets).tolist() == 10 * [count // 10]
    assert read_data(str(datasets.DEBIAN_FOLDER)).classes == data.classes


def test_damaged_idx_files_are_refused(tmp_path):
    file = tmp_path / "labels"
    whole = idx_bytes(np.arange(20))
    for data, told in (
        (whole[:-1], "holds 19 bytes of values; its shape 20 needs 20"),
        (whole + b"x", "its shape 20 needs 20"),
        (b"", "is no IDX file of bytes"),
        (b"\x00\x00\x0d\x01", "is no IDX file of bytes: it begins with 00000d01"),
        (idx_bytes(np.zeros((2, 2))), "has 2 dimensions"),
        (whole[:6], "dimensions"),
        (gzip.compress(whole)[:-4], "cut off or damaged"),
        (gzip.compress(whole)[:12], "cut off or damaged"),
    ):
        file.write_bytes(data)
        with pytest.raises(InputError, match=re.escape(told)):
            read_idx(file, dims=1)


def test_idx_folders_that_do_not_fit_together_are_refused(tmp_path):
    write_idx(tmp_path, packed=False, labels=(0, 2))
    with pytest.raises(InputError, match="has no train images of the classes 1"):
        read_data(str(tmp_path))
    write_idx(tmp_path, packed=False, later=(0, 1, 2, 5))
    with pytest.raises(InputError, match="has validation labels 5, which no training image has"):
        read_data(str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 1])))
    with pytest.raises(InputError, match="4 images and 2 labels for validation"):
        read_data(str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="holds no t10k-labels-idx1-ubyte"):
        read_data(str(tmp_path))


def test_digits_are_all_there_and_none_is_in_both_parts():
    from sklearn.datasets import load_digits

    found, data = load_digits(), read_data("digits")
    assert len(data.train.targets) + len(data.validation.targets) == len(found.target)
    assert sorted((*data.train.targets, *data.validation.targets)) == sorted(found.target)
    pixels = np.concatenate([data.train.pixels, data.validation.pixels]).astype(float)
    whole = np.rint(found.images * 255 / 16)
    assert sorted(map(tuple, pixels.reshape(-1, 64))) == sorted(map(tuple, whole.reshape(-1, 64)))


def test_an_image_of_real_numbers_is_broken_since_nothing_tells_its_colours(tmp_path):
    write_images(tmp_path, "train", {"a": 1, "b": 1})
    write_images(tmp_path, "val", {"a": 1, "b": 1})
    Image.new("F", (4, 4), 0.5).save(tmp_path / "train" / "a" / "depth.tiff")
    with pytest.raises(BrokenImageError, match="train/a/depth.tiff: its values are real numbers"):
        read_data(str(tmp_path)).train.read(1)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "bomb"])
def test_a_broken_image_is_named(tmp_path, damage, monkeypatch):
    write_images(tmp_path, "train", {"a": 1, "b": 1}, side=64)
    write_images(tmp_path, "val", {"a": 1, "b": 1})
    file = tmp_path / "train" / "a" / "0.png"
    whole = file.read_bytes()
    if damage == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) - 30], "text": b"no"}[damage])
    with pytest.raises(BrokenImageError, match=re.escape("train/a/0.png: ")):
        read_data(str(tmp_path)).train.read(0)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),  # nothing is seen of it
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("I;16", 77 * 256, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (77, 255), (77, 77, 77)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_images_of_every_mode_come_as_rgb(tmp_path, mode, colour, expected):
    write_images(tmp_path, "train", {"a": 1, "b": 1})
    write_images(tmp_path, "val", {"a": 1, "b": 1})
    Image.new(mode, (4, 4), colour).save(tmp_path / "train" / "a" / "0.png")
    image = read_data(str(tmp_path)).train.read(0)
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", expected)


@pytest.mark.parametrize(
    ("suffix", "mode", "told"),
    [("tif", "I", "its values are of 32 bits"), ("tiff", "F", "its values are real numbers")],
)
def test_images_of_which_nothing_tells_the_white_are_broken(tmp_path, suffix, mode, told):
    Image.new(mode, (4, 4), 200).save(tmp_path / f"0.{suffix}")
    with pytest.raises(BrokenImageError, match=told):
        FileImages(tmp_path, (f"0.{suffix}",), (0,)).read(0)


@pytest.mark.parametrize("white", [65535, 1023])
def test_grey_maps_of_more_than_eight_bits_keep_the_upper_ones(tmp_path, white):
    values = np.array([0, white, white // 2 + 1, 0], dtype=">u2")
    (tmp_path / "0.pgm").write_bytes(f"P5 2 2 {white}\n".encode() + values.tobytes())
    image = FileImages(tmp_path, ("0.pgm",), (0,)).read(0)
    assert np.asarray(image)[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_pillow_turns_them(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
    with Image.open(tmp_path / "0.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert (np.asarray(FileImages(tmp_path, ("0.png",), (0,)).read(0)) == expected).all()


def test_exif_notes_that_cannot_be_read_leave_the_picture_as_it_is(tmp_path):
    image = Image.new("RGB", (6, 9), (10, 20, 30))
    image.save(tmp_path / "0.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffnonsense")
    assert FileImages(tmp_path, ("0.png",), (0,)).read(0).size == (6, 9)

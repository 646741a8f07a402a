"""Data sets to train on: folders of images, Fashion-MNIST and its relatives, and digits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convscale.errors import InputError, few, near_names
from convscale.training.fingerprint import Fingerprint, of_files, of_pixels
from convscale.training.idx import find_idx, read_idx
from convscale.training.images import ArrayImages, FileImages, Images

NAMES = ("fashion-mnist", "digits")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_VALIDATION = ("val", "valid", "validation", "test")
_GARMENTS = tuple(
    "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
)
_IDX = {"train": "train", "validation": "t10k"}
_EVERY = 5  # digits: every fifth image is for validation
Split = Literal["train", "validation"]
_Files = dict[str, int]  # names, from the folder of the split on, and bytes


@dataclass(frozen=True)
class Traits:
    """What images of a kind bear: how recipes that leave it open crop, mirror and normalise.

    Example:
        >>> Traits().crop_pct, Traits(flip=0.0).flip
        (0.875, 0.0)
    """

    crop_pct: float = 0.875
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


_MIDDLE, _SPREAD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# Small images are all object: nothing of them is cut off, and a mirrored 3 is no 3.
_SMALL = Traits(crop_pct=1.0, crop_scale=(0.6, 1.0), mean=_MIDDLE, std=_SPREAD)
_DIGITS = Traits(crop_pct=1.0, crop_scale=(0.6, 1.0), flip=0.0, mean=_MIDDLE, std=_SPREAD)


@dataclass(frozen=True)
class Data:
    """Images to train on, images to judge by, the classes of both, and what all are known by.

    Example:
        >>> data = read_data("digits")
        >>> data.classes[:3], len(data.train.targets), len(data.validation.targets)
        (('0', '1', '2'), 1438, 359)
    """

    name: str
    train: Images
    validation: Images
    classes: tuple[str, ...]
    fingerprint: Fingerprint
    traits: Traits = Traits()

    def of(self, split: Split) -> Images:
        """Return the images of a split."""
        return self.train if split == "train" else self.validation


def read_data(text: str) -> Data:
    """Find the data set that a user names.

    Args:
        text: fashion-mnist, digits, or a folder: of images, train/CLASS/* and val/CLASS/*, or of
            the four IDX files of MNIST and its relatives.

    Raises:
        InputError: If there is no such data set, or it is not as it must be.

    Example:
        >>> read_data("digit")
        Traceback (most recent call last):
        convscale.errors.InputError: Unknown data 'digit'. Did you mean digits? Write a folder,
        fashion-mnist or digits.
    """
    if text == "digits":
        return _digits()
    if text == "fashion-mnist":
        if find_idx(DEBIAN_FOLDER, "train-images-idx3-ubyte") is None:
            raise InputError(
                "Fashion-MNIST is not there. Install Debian's package dataset-fashion-mnist "
                "(apt install dataset-fashion-mnist), or give a folder with its four IDX files."
            )
        return _idx_data(DEBIAN_FOLDER, "fashion-mnist")
    folder = Path(text)
    if not text or not folder.is_dir():
        raise InputError(
            f"Unknown data {text!r}.{near_names(text, NAMES)} Write a folder, fashion-mnist or "
            "digits."
        )
    if find_idx(folder, "train-images-idx3-ubyte") is not None:
        return _idx_data(folder, text)
    return _image_folder(folder, text)


def _digits() -> Data:
    """Return the digits of scikit-learn, 8 px a side."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "The digits come with scikit-learn, which is not installed: pip install scikit-learn."
        ) from error
    import numpy as np

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    later = np.arange(len(pixels)) % _EVERY == _EVERY - 1
    train, validation = (
        ArrayImages(f"digits {part}", pixels[chosen], tuple(map(int, found.target[chosen])))
        for part, chosen in (("train", ~later), ("validation", later))
    )
    return _array_data("digits", train, validation, tuple(map(str, range(10))), _DIGITS)


def _idx_data(folder: Path, name: str) -> Data:
    train, validation = (_idx_images(folder, split) for split in ("train", "validation"))
    own = {index: str(index) for index in range(max(train.targets) + 1)}
    fashion = len(own) == len(_GARMENTS) and "fashion" in folder.resolve().name.lower()
    classes = _GARMENTS if fashion else tuple(own.values())
    _check_targets(name, classes, train.targets, validation.targets)
    return _array_data(name, train, validation, classes, _SMALL if fashion else _DIGITS)


def _array_data(
    name: str,
    train: ArrayImages,
    validation: ArrayImages,
    classes: tuple[str, ...],
    traits: Traits,
) -> Data:
    known = {
        split: of_pixels(images.pixels, images.targets, classes)
        for split, images in (("train", train), ("validation", validation))
    }
    return Data(name, train, validation, classes, Fingerprint(known), traits)


def _idx_images(folder: Path, split: str) -> ArrayImages:
    found = []
    for kind, dims in (("images", 3), ("labels", 1)):
        name = f"{_IDX[split]}-{kind}-idx{dims}-ubyte"
        path = find_idx(folder, name)
        if path is None:
            raise InputError(f"{folder} holds no {name}, nor {name}.gz. Give all four IDX files.")
        found.append(read_idx(path, dims=dims))
    pixels, labels = found
    if len(pixels) != len(labels) or not pixels.size:
        raise InputError(
            f"{folder} holds {len(pixels)} images and {len(labels)} labels for {split}; there must "
            "be as many of both, and some."
        )
    return ArrayImages(f"{split} image", pixels, tuple(map(int, labels)))


def _check_targets(
    name: str, classes: Sequence[str], train: Sequence[int], validation: Sequence[int]
) -> None:
    """Refuse labels that name classes without images."""
    for split, targets in (("train", train), ("validation", validation)):
        absent = sorted(set(range(len(classes))) - set(targets))
        beyond = sorted(set(targets) - set(range(len(classes))))
        if absent:
            listed = few([classes[index] for index in absent])
            raise InputError(f"{name} has no {split} images of the classes {listed}.")
        if beyond:
            raise InputError(
                f"{name} has {split} labels {few(map(str, beyond))}, which no training image has."
            )


def _image_folder(folder: Path, name: str) -> Data:
    """Read a folder of images; everything that is wrong with it is told at once."""
    parts = _splits(folder)
    found = {split: _classes(path) for split, path in parts.items()}
    mistakes = [
        *_empty_classes(folder, parts, found),
        *_differing_classes(parts, found["train"], found["validation"]),
    ]
    if not mistakes and len(found["train"]) < 2:
        mistakes = [f"{parts['train']} holds 1 class; to tell classes apart takes two"]
    if mistakes:
        raise InputError(f"{name} is no data to train on: {'; '.join(mistakes)}.")
    classes = tuple(found["train"])
    images = {split: _file_images(parts[split], found[split]) for split in parts}
    known = {
        split: {name: of_files(files) for name, files in classes.items()}
        for split, classes in found.items()
    }
    return Data(name, images["train"], images["validation"], classes, Fingerprint(known))


def _splits(folder: Path) -> dict[str, Path]:
    """Return the folders of both splits."""
    train = folder / "train"
    later = next((folder / name for name in _VALIDATION if (folder / name).is_dir()), None)
    if not train.is_dir() or later is None:
        missing = [
            *([] if train.is_dir() else ["train/"]),
            *([] if later is not None else [f"val/ (nor {', '.join(_VALIDATION[1:])})"]),
        ]
        raise InputError(
            f"{folder} holds no {' and no '.join(missing)}. Lay images out as "
            "train/CLASS/image.jpg and val/CLASS/image.jpg."
        )
    return {"train": train, "validation": later}


def _classes(folder: Path) -> dict[str, _Files]:
    """Return the image files of each class, below the folder, in the order of their names."""
    found: dict[str, _Files] = {}
    for entry in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        if entry.startswith("."):
            continue
        files = [
            os.path.join(where, file)
            for where, names in _walk(folder / entry)
            for file in names
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
        sizes = {os.path.relpath(file, folder): _size(file) for file in files}
        found[entry] = dict(sorted(sizes.items()))
    return found


def _size(file: str) -> int:
    """Return the bytes of a file; of one that is not there, as a link to nowhere, none."""
    try:
        return os.stat(file).st_size
    except OSError:
        return -1


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below one, with their files; links are followed, but to none above it."""
    for where, below, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(where)
        below[:] = [
            name
            for name in below
            if not name.startswith(".") and not _leads_back(os.path.join(where, name), here)
        ]
        yield where, names


def _leads_back(path: str, here: str) -> bool:
    """Tell whether a link leads to the folder that it is in, or to one above it."""
    found = os.path.realpath(path)
    return os.path.commonpath((found, here)) == found


def _empty_classes(
    folder: Path, parts: dict[str, Path], found: dict[str, dict[str, _Files]]
) -> list[str]:
    mistakes = []
    for split, path in parts.items():
        if not found[split]:
            mistakes.append(f"{path} holds no class folders")
        without = [path / name for name, files in found[split].items() if not files]
        empty = [str(one.relative_to(folder)) for one in without]
        if empty:
            mistakes.append(f"no images ({', '.join(SUFFIXES[:3])}, …) in {few(empty)}")
    return mistakes


def _differing_classes(
    parts: dict[str, Path], train: dict[str, _Files], validation: dict[str, _Files]
) -> list[str]:
    if not train or not validation:
        return []
    differing = {
        f"{parts['train'].name}/ alone": sorted(set(train) - set(validation)),
        f"{parts['validation'].name}/ alone": sorted(set(validation) - set(train)),
    }
    told = [f"{few(names)} in {where}" for where, names in differing.items() if names]
    if not told:
        return []
    return [f"the classes differ ({len(train)} and {len(validation)}): {' and '.join(told)}"]


def _file_images(folder: Path, classes: dict[str, _Files]) -> FileImages:
    files = [file for names in classes.values() for file in names]
    targets = [index for index, names in enumerate(classes.values()) for _ in names]
    return FileImages(folder, tuple(files), tuple(targets))

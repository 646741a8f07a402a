"""What images are known by: of each class how many there are, and a digest of names and sizes.

Of images in files the names, from the folder of the split on, and the numbers of bytes are taken,
which the system tells without reading any; of those in arrays their places and values. So copies
of the same data are the same data, wherever and from whenever they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_BYTES = 8  # of a digest: to notice changes, not to withstand those who hide them
_MOST_TOLD = 3


@dataclass(frozen=True)
class Fingerprint:
    """The number of images of each class of each split, and their digest.

    Example:
        >>> one = Fingerprint({"train": {"cat": (12, "0a"), "dog": (9, "1b")}})
        >>> one.differences({"train": {"cat": [11, "2c"], "dog": [9, "3d"]}})
        ['train/cat has 11 images there, not 12', 'train/dog has others there (by name or size)']
    """

    splits: Mapping[str, Mapping[str, tuple[int, str]]] = field(repr=False)

    @property
    def digest(self) -> str:
        """One digest of all."""
        return _digest([json.dumps(self.as_document(), sort_keys=True).encode()])

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            split: {name: list(entry) for name, entry in classes.items()}
            for split, classes in self.splits.items()
        }

    def has_classes(self, there: Mapping[str, Any]) -> bool:
        """Tell whether a document (`as_document`) is of the same classes.

        Example:
            >>> Fingerprint({"train": {"cat": (12, "0a")}}).has_classes({"train": {"dog": [9, ""]}})
            False
        """
        return {split: set(classes) for split, classes in there.items()} == {
            split: set(classes) for split, classes in self.splits.items()
        }

    def differences(self, there: Mapping[str, Any]) -> list[str]:
        """Say in what the images of a document (`as_document`) differ from these, class by class.

        Example:
            >>> Fingerprint({"train": {"cat": (12, "0a")}}).differences({"train": {}})
            ['train/cat has no images there, not 12']
        """
        told = [
            _difference(f"{split}/{name}", there.get(split, {}).get(name), classes.get(name))
            for split, classes in self.splits.items()
            for name in sorted(classes.keys() | there.get(split, {}).keys())
        ]
        found = [line for line in told if line is not None]
        more = len(found) - _MOST_TOLD
        return found[:_MOST_TOLD] + ([f"and {more} classes more"] if more > 0 else [])


def of_files(files: Mapping[str, int]) -> tuple[int, str]:
    """Return the number of files and a digest of their names and sizes, in their order.

    Example:
        >>> of_files({"cat/1.png": 310, "cat/2.png": 295})[0]
        2
        >>> of_files({"cat/1.png": 310}) == of_files({"cat/1.png": 311})
        False
    """
    return len(files), _digest(
        b"%b\0%d\n" % (os.fsencode(name), size) for name, size in files.items()
    )


def of_pixels(
    pixels: np.ndarray[Any, Any], targets: Sequence[int], classes: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """Return the number of pictures of each class, and a digest of their places and values.

    Example:
        >>> import numpy as np
        >>> of_pixels(np.zeros((3, 8, 8), np.uint8), (0, 1, 0), ("cat", "dog"))["cat"][0]
        2
    """
    import numpy as np

    found = {}
    for index, name in enumerate(classes):
        places = np.flatnonzero(np.asarray(targets) == index).astype("<i8")
        shape = repr(pixels.shape[1:]).encode()
        found[name] = len(places), _digest([shape, places.tobytes(), pixels[places].tobytes()])
    return found


def _digest(parts: Any) -> str:
    made = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        made.update(part)
    return made.hexdigest()


def _difference(where: str, there: Sequence[Any] | None, here: Sequence[Any] | None) -> str | None:
    before, now = (list(entry) if entry else [0, ""] for entry in (there, here))
    if before == now:
        return None
    if before[0] != now[0]:
        return f"{where} has {before[0] or 'no'} images there, not {now[0] or 'any'}"
    return f"{where} has others there (by name or size)"

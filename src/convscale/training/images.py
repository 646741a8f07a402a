"""Images with their classes: in files, or in an array. A picture is read when it is asked for."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


# Formats of which Pillow gives 16 bits as integers of 32.
_OF_16_BITS = ("PNG", "PPM")
_ORIENTATION = 0x0112  # the tag of EXIF


class BrokenImageError(Exception):
    """Say which image cannot be read, and why.

    Example:
        >>> str(BrokenImageError("a.png", "it is empty"))
        'a.png: it is empty'
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Images(Protocol):
    """Pictures by number, and the class of each."""

    @property
    def targets(self) -> Sequence[int]:
        """The number of each picture's class."""

    def name(self, index: int) -> str:
        """Return what a person finds the picture by."""

    def read(self, index: int) -> Image:
        """Return a picture in RGB.

        Raises:
            BrokenImageError: If it cannot be read.
        """


@dataclass(frozen=True)
class FileImages:
    """Pictures in files.

    Example:
        >>> images = FileImages(Path("flowers"), ("rose/1.png",), (0,))
        >>> images.name(0)
        'flowers/rose/1.png'
    """

    folder: Path
    files: tuple[str, ...] = field(repr=False)
    targets: tuple[int, ...] = field(repr=False)

    def name(self, index: int) -> str:
        """Return the path, from the folder of the split on."""
        return f"{self.folder.name}/{self.files[index]}"

    def read(self, index: int) -> Image:
        """Return a picture in RGB.

        Raises:
            BrokenImageError: If it cannot be read.
        """
        from PIL import Image

        path = self.folder / self.files[index]
        try:
            with Image.open(path) as opened:
                return _upright(_as_rgb(opened), opened)
        # What Pillow raises for broken files: PNG's chunks bring SyntaxError and struct.error.
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BrokenImageError(self.name(index), reason) from error
        except Image.DecompressionBombError as error:
            raise BrokenImageError(self.name(index), str(error)) from error


def _as_rgb(image: Image) -> Image:
    """Return a picture in RGB; what it shows through is white, and 16 bits become 8.

    Raises:
        ValueError: If its values are no colours.
    """
    if image.mode == "F":
        raise ValueError("its values are real numbers, of which nothing tells what is white")
    if image.mode == "I" and image.format not in _OF_16_BITS:
        raise ValueError("its values are of 32 bits, of which nothing tells what is white")
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        from PIL import Image as Pillow

        seen = image.convert("RGBA")
        white = Pillow.new("RGBA", seen.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, seen).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image, opened: Image) -> Image:
    """Return a picture turned as the camera was held, where its file tells."""
    from PIL import Image as Pillow

    turns = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_270,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(opened))
    return image if turn is None else image.transpose(turn)


def _orientation(opened: Image) -> int:
    """Return the orientation of a file; of notes that cannot be read, that of none."""
    try:
        found = opened.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1
    return found if isinstance(found, int) else 1


@dataclass(frozen=True)
class ArrayImages:
    """Grey pictures in an array of bytes, shape (pictures, height, width).

    Example:
        >>> import numpy as np
        >>> images = ArrayImages("digits", np.zeros((2, 8, 8), np.uint8), (3, 4))
        >>> images.name(1), images.read(1).size
        ('digits 1', (8, 8))
    """

    title: str
    pixels: np.ndarray[Any, Any] = field(repr=False, compare=False)
    targets: tuple[int, ...] = field(repr=False)

    def name(self, index: int) -> str:
        """Return the title and the number."""
        return f"{self.title} {index}"

    def read(self, index: int) -> Image:
        """Return a picture in RGB."""
        from PIL import Image

        return Image.fromarray(self.pixels[index]).convert("RGB")

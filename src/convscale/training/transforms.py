"""From an image to a tensor: timm's augmentation for training, a resized middle to judge by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convscale.errors import InputError
from convscale.quantities import Resolution, sides
from convscale.training.datasets import Traits
from convscale.training.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

_Three = tuple[float, float, float]


def training_transform(
    recipe: Recipe, traits: Traits, resolution: Resolution, *, in_chans: int = 3
) -> Any:
    """Return what makes the tensor of an image for training; timm's parts.

    Example:
        >>> from PIL import Image
        >>> transform = training_transform(Recipe(), Traits(), (16, 24))
        >>> transform(Image.new("RGB", (40, 40))).shape
        torch.Size([3, 16, 24])
    """
    from timm.data.transforms_factory import create_transform

    mean, std = norm(recipe, traits)
    policy = None if recipe.augment in ("none", "flip-crop") else recipe.augment
    try:
        made = create_transform(
            input_size=(3, *_pair(resolution)),
            is_training=True,
            no_aug=recipe.augment == "none",
            scale=recipe.crop_scale or traits.crop_scale,
            hflip=traits.flip if recipe.flip is None else recipe.flip,
            color_jitter=recipe.color_jitter,
            auto_augment=policy,
            interpolation=recipe.interpolation,
            re_prob=recipe.random_erase,
            crop_pct=crop_pct(recipe, traits),
            mean=mean,
            std=std,
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"timm knows no augmentation {recipe.augment!r}: {error}. Write one such as "
            "rand-m9-mstd0.5."
        ) from error
    for operation in _operations(made):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterized
    return made if in_chans == 3 else _Grey(made)


def posterized(image: Image, bits: int, **_: object) -> Image:
    """Keep the highest bits of every colour; of none, an image is black.

    timm's own function gives Pillow 0 bits, which newer versions of it refuse.

    Example:
        >>> from PIL import Image
        >>> grey = Image.new("L", (1, 1), 200)
        >>> [posterized(grey, bits).getpixel((0, 0)) for bits in (0, 1, 2, 8)]
        [0, 128, 192, 200]
    """
    mask = 255 & ~(255 >> max(0, bits))
    return image.point(lambda value: value & mask)


def _operations(part: Any) -> Iterator[Any]:
    """Yield timm's augmenting operations in a transform."""
    if hasattr(part, "aug_fn"):
        yield part
    held = part if isinstance(part, list | tuple) else vars(part).values()
    for inner in held:
        if isinstance(inner, list | tuple) or type(inner).__module__.startswith("timm.data"):
            yield from _operations(inner)


def validation_transform(
    recipe: Recipe, traits: Traits, resolution: Resolution, *, in_chans: int = 3
) -> Any:
    """Return what makes the tensor of an image for evaluation: resized, its middle cut out.

    Example:
        >>> from PIL import Image
        >>> transform = validation_transform(Recipe(), Traits(), 16, in_chans=1)
        >>> transform(Image.new("RGB", (40, 40))).shape
        torch.Size([1, 16, 16])
    """
    from timm.data.transforms_factory import create_transform

    mean, std = norm(recipe, traits)
    made = create_transform(
        input_size=(3, *_pair(resolution)),
        interpolation=recipe.interpolation,
        crop_pct=crop_pct(recipe, traits),
        mean=mean,
        std=std,
    )
    return made if in_chans == 3 else _Grey(made)


class _Grey:
    """Make one channel of three: all that a grey image has."""

    def __init__(self, transform: Any) -> None:
        self._transform = transform

    def __call__(self, image: Any) -> Tensor:
        made: Tensor = self._transform(image)
        return made.mean(0, keepdim=True)


def crop_pct(recipe: Recipe, traits: Traits) -> float:
    """Return the share of the side that evaluation sees.

    Example:
        >>> crop_pct(Recipe(), Traits()), crop_pct(Recipe(crop_pct=0.95), Traits())
        (0.875, 0.95)
    """
    return traits.crop_pct if recipe.crop_pct is None else recipe.crop_pct


def norm(recipe: Recipe, traits: Traits) -> tuple[_Three, _Three]:
    """Return what is subtracted from colours and what they are divided by.

    Example:
        >>> norm(Recipe(mean=(0.5, 0.5, 0.5)), Traits())[0]
        (0.5, 0.5, 0.5)
    """
    return recipe.mean or traits.mean, recipe.std or traits.std


def _pair(resolution: Resolution) -> tuple[int, int]:
    lengths = sides(resolution)
    return (lengths[0], lengths[-1])

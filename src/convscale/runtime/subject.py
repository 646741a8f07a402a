"""What is to be timed: a module, or the recipe of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscale.quantities import Resolution

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Recipe:
    """A name from which a module is built where it is needed, and the options that go with it.

    Example:
        >>> Recipe("resnet18", num_classes=7).build().fc.out_features
        7
    """

    network: str
    resolution: Resolution | None = None
    num_classes: int | None = None
    in_chans: int | None = None

    def build(self) -> nn.Module:
        """Build the module with fresh weights, on the processor."""
        from convscale.scaling import resolve

        options = {"num_classes": self.num_classes, "in_chans": self.in_chans}
        return resolve(self.network, resolution=self.resolution, **options).build("cpu")


@dataclass(frozen=True)
class Subject:
    """A module to be timed at a resolution, and the name it is reported under.

    Without in_chans, the input channels are read from the module's first convolution. `dims` is
    the number of spatial dimensions, for a resolution that is one side. Without a module, the
    recipe builds it when its turn comes.

    Example:
        >>> from torch import nn
        >>> Subject("tiny", nn.Conv2d(3, 4, 1), resolution=16).name
        'tiny'
    """

    name: str
    module: nn.Module | None
    resolution: Resolution
    in_chans: int | None = None
    dims: int = 2
    recipe: Recipe | None = None

    def build(self) -> nn.Module:
        """Return the module, or build it."""
        if self.module is not None:
            return self.module
        if self.recipe is None:
            raise ValueError(f"{self.name} has neither a module nor a recipe.")
        return self.recipe.build()

"""Control: the parts of a network that stay as they are, and factors of single stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from convscale.errors import InputError, near_names
from convscale.quantities import check_positive

PARTS = ("stem", "head")


@dataclass(frozen=True)
class Control:
    """What a scaling leaves alone, and what it multiplies in single stages.

    `keep` names parts whose widths stay: the stem (what runs before the first stage) and the
    head (what runs after the last). `freeze` holds patterns of module paths, as a shell
    writes them, whose tensors keep their shapes. `stage_depth` and `stage_width` hold a number
    for each stage, by which the factor of the strategy is multiplied there. `literals` are sizes
    that the code writes out: the path of a module, the number of its call that names sizes, and
    which of the sizes it is. `unfollowed` are calls that fail where what they read has another
    width: the path of a module, and the number of its call of a function. `stored` are tensors of
    which nothing tells new values, as training does not change them. `overrun` are stages, by the
    paths of their first blocks, in which the network fails with the blocks that were asked for.

    Raises:
        InputError: If a part is unknown or a stage's factor is not positive and finite.

    Example:
        >>> Control(freeze=("layer1",)).freezes("layer1.0.conv1.weight")
        True
        >>> Control(stage_depth=(1, 1, 3, 1)).depth_of(2)
        3.0
    """

    keep: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    stage_depth: tuple[float, ...] = ()
    stage_width: tuple[float, ...] = ()
    literals: tuple[tuple[str, int, int], ...] = ()
    unfollowed: tuple[tuple[str, int], ...] = ()
    stored: tuple[str, ...] = ()
    overrun: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for axis, factors in (("depth", self.stage_depth), ("width", self.stage_width)):
            for factor in factors:
                check_positive(factor, what=f"{axis} factor of a stage")

    @property
    def by_stage(self) -> bool:
        """Whether any stage has a factor of its own."""
        return any(factor != 1 for factor in (*self.stage_depth, *self.stage_width))

    @property
    def default_factor(self) -> float | None:
        """The scale factor where no target is given: 1 if stages have their own, else none."""
        return 1.0 if self.stage_depth or self.stage_width else None

    def depth_of(self, stage: int) -> float:
        """Return what the depth factor is multiplied by in a stage."""
        return float(self.stage_depth[stage]) if self.stage_depth else 1.0

    def freezes(self, path: str) -> bool:
        """Tell whether a pattern matches a path, or the path of a module around it."""
        parts = path.split(".")
        around = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        return any(fnmatchcase(own, pattern) for pattern in self.freeze for own in around)

    def check_patterns(self, paths: Iterable[str]) -> None:
        """Refuse a pattern that no path matches.

        Args:
            paths: The paths of the network's modules.

        Raises:
            InputError: With near paths.

        Example:
            >>> Control(freeze=("layer",)).check_patterns(["layer1"])
            Traceback (most recent call last):
            convscale.errors.InputError: No module matches 'layer' ... write layer*.
        """
        known = [path for path in paths if path]
        for pattern in self.freeze:
            if not any(fnmatchcase(path, pattern) for path in known):
                near = near_names(pattern, known)
                raise InputError(
                    f"No module matches {pattern!r} of the modules to freeze.{near} Write a "
                    f"module's path or a pattern of it; for all that begin so, write {pattern}*."
                )

"""What a strategy asks for beside its factors: how sizes round, what stays, and caps."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from convscale.errors import InputError

_LIMIT = 0.9  # a width that rounds below this part of its request goes up instead
PARTS = ("stem", "head")


@dataclass(frozen=True)
class Rounding:
    """How widths and depths become sizes that can be built.

    `width` says to which multiple a width goes: the nearest, the nearest that is at least 0.9
    of the exact value ("limited"), or the next ("up"). `depth` says how blocks round;
    `lone_blocks` whether stages of one block are deepened. Where `inner_follow`, widths inside
    a block keep their ratio to the block's width instead of being rounded by themselves.

    Example:
        >>> rule = ROUNDINGS["efficientnet"]
        >>> rule.to_width(24 * 1.1, 8), rule.to_width(80 * 1.4, 8), rule.to_depth(2, 1.1)
        (24, 112, 3)
    """

    name: str
    width: str = "nearest"
    depth: str = "nearest"
    lone_blocks: bool = True
    inner_follow: bool = False

    def to_width(self, value: float, step: int) -> int:
        """Return the multiple of a step that stands for a width, at least one step.

        Example:
            >>> ROUNDINGS["efficientnet"].to_width(18.0, 16), ROUNDINGS["yolo"].to_width(17, 8)
            (32, 24)
        """
        if self.width == "up":
            return max(1, ceil(value / step - 1e-9)) * step
        rounded = max(1, floor(value / step + 0.5)) * step
        return rounded + step if self.width == "limited" and rounded < _LIMIT * value else rounded

    def to_depth(self, blocks: int, factor: float) -> int:
        """Return the blocks of a stage times a factor, at least one.

        Example:
            >>> ROUNDINGS["yolo"].to_depth(9, 0.33), ROUNDINGS["yolo"].to_depth(1, 3.0)
            (3, 1)
        """
        if blocks == 1 and not self.lone_blocks:
            return 1
        value = blocks * factor
        return max(1, ceil(value - 1e-9) if self.depth == "up" else round(value))


ROUNDINGS = {
    rule.name: rule
    for rule in (
        Rounding("nearest"),
        Rounding("efficientnet", width="limited", depth="up", inner_follow=True),
        Rounding("efficientnetv2", depth="up", inner_follow=True),
        Rounding("tinynet", width="limited", inner_follow=True),
        Rounding("yolo", width="up", lone_blocks=False, inner_follow=True),
    )
}


@dataclass(frozen=True)
class Rules:
    """What a strategy fixes beside its factors.

    `rounding` names a rule of `ROUNDINGS`; `keep` the parts whose width stays, of stem (what
    the first convolution puts out) and head (what the classifier takes in); `head_at_least` is
    the smallest width of the head; `max_resolution` caps the longer side (px).

    Raises:
        InputError: If the rounding or a part is unknown, or a number is not positive.

    Example:
        >>> Rules(rounding="efficientnet").rounding
        'efficientnet'
    """

    rounding: str = "nearest"
    keep: tuple[str, ...] = ()
    head_at_least: int | None = None
    max_resolution: int | None = None

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise InputError(f"Unknown rounding {self.rounding!r}. Use {', '.join(ROUNDINGS)}.")
        for part in self.keep:
            if part not in PARTS:
                raise InputError(f"Cannot keep the {part!r}. Parts that can be kept: stem, head.")

    @property
    def rule(self) -> Rounding:
        """The rounding as a value."""
        return ROUNDINGS[self.rounding]

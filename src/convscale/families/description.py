"""Networks of the literature as values: depths, widths and strides, stage by stage."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any, ClassVar

from convscale.errors import InputError
from convscale.quantities import Resolution, whole

BLOCKS = ("bottleneck", "linear_bottleneck", "basic", "vanilla")
STEMS = ("simple", "pooled", "small")
ACTIVATIONS = ("relu", "relu6", "silu", "gelu")
GROUPED = ("bottleneck", "linear_bottleneck")
BLOCKS_IN_ALL = 4096  # what builds and runs in half a minute
MOST_CHANNELS, MOST_SIDE = 1 << 20, 1 << 15
# How large values a stage may be that are no channels.
_LIMITS = {"strides": MOST_SIDE, "kernels": MOST_SIDE}


@dataclass(frozen=True, kw_only=True)
class Border:
    """What every family has around its stages, and the input sides it is meant for.

    `se_ratio` is the inner width of squeeze-and-excitation over the width of the block's
    input, 0 without. `head_width` is that of a last 1×1 convolution, 0 where there is none.
    `resolution` and `test_resolution` are the input sides of training and test (px).

    Example:
        >>> Border(num_classes=10).stem_width
        32
    """

    stem_width: int = 32
    head_width: int = 0
    se_ratio: float = 0.0
    activation: str = "relu"
    num_classes: int = 1000
    in_chans: int = 3
    resolution: Resolution = 224
    test_resolution: Resolution = 256

    def __post_init__(self) -> None:
        take_plain(self)


@dataclass(frozen=True, kw_only=True)
class AnyNet(Border):
    """A network of stages of equal residual blocks: ResNet, ResNeXt, RegNetX, Y and Z.

    A bottleneck block is 1×1, grouped 3×3 and 1×1 convolution, its inner width the bottleneck
    multiplier times the width; `linear_bottleneck` has no activation after the block, and a
    shortcut only where shapes match. `basic` is two 3×3 convolutions with a shortcut,
    `vanilla` without; they have no multiplier but 1 and one group. Stems: `simple` is a 3×3
    convolution of stride 2, `pooled` 7×7 of stride 2 and max-pooling, `small` 3×3 of stride 1.

    Args:
        depths: Blocks of each stage, a tuple or a list like the others.
        widths: Widths of the stages.
        strides: Strides of the stages' first blocks.
        bottleneck_multipliers: Inner width over width.
        group_widths: Channels a group of the 3×3 convolution.

    Raises:
        InputError: If values do not make a network; all mistakes are named.

    Example:
        >>> net = AnyNet(depths=(1, 2), widths=(32, 64), strides=(2, 2),
        ...              bottleneck_multipliers=(1.0, 1.0), group_widths=(16, 16))
        >>> net.architecture()["group_widths"]
        [16, 16]

    Source: arXiv 2003.13678, section 3.
    """

    family: ClassVar[str] = "anynet"
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    bottleneck_multipliers: tuple[float, ...]
    group_widths: tuple[int, ...]
    block: str = "bottleneck"
    stem: str = "simple"
    stride_in_1x1: bool = False

    def __post_init__(self) -> None:
        _hold_tuples(self)
        take_plain(self)
        refuse(self.family, anynet_mistakes(vars(self)))

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Widths of the 3×3 convolutions."""
        return tuple(
            inner_width(width, multiplier)
            for width, multiplier in zip(self.widths, self.bottleneck_multipliers, strict=True)
        )

    def architecture(self) -> dict[str, Any]:
        """Return the description as the command line's JSON has it."""
        return {
            "depths": list(self.depths),
            "widths": list(self.widths),
            "bottleneck_multipliers": list(self.bottleneck_multipliers),
            "group_widths": list(self.group_widths),
            "stem_width": self.stem_width,
            "head_width": self.head_width,
        }


@dataclass(frozen=True, kw_only=True)
class EfficientNet(Border):
    """A network of inverted bottlenecks: EfficientNet, and MobileNetV2 without SE.

    A block is a 1×1 expansion (left out at ratio 1), a depthwise k×k, squeeze-and-excitation
    and a linear 1×1 convolution, with a shortcut where shapes match.

    Args:
        depths: Blocks of each stage, a tuple or a list like the others.
        widths: Widths of the stages.
        strides: Strides of the stages' first blocks.
        expansion_ratios: Inner width over the width of the block's input.
        kernels: Sides of the depthwise kernels.

    Raises:
        InputError: If values do not make a network; all mistakes are named.

    Example:
        >>> net = EfficientNet(depths=(1, 2), widths=(16, 24), strides=(1, 2),
        ...                    expansion_ratios=(1, 6), kernels=(3, 5))
        >>> net.architecture()["group_widths"] is None
        True

    Source: arXiv 1905.11946, table 1; arXiv 1801.04381, section 3.
    """

    family: ClassVar[str] = "efficientnet"
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    expansion_ratios: tuple[float, ...]
    kernels: tuple[int, ...]
    head_width: int = 1280
    se_ratio: float = 0.25
    activation: str = "silu"

    def __post_init__(self) -> None:
        _hold_tuples(self)
        take_plain(self)
        refuse(self.family, efficientnet_mistakes(vars(self)))

    def architecture(self) -> dict[str, Any]:
        """Return the description as the command line's JSON has it."""
        return {
            "depths": list(self.depths),
            "widths": list(self.widths),
            "bottleneck_multipliers": list(self.expansion_ratios),
            "group_widths": None,
            "stem_width": self.stem_width,
            "head_width": self.head_width,
        }


Description = AnyNet | EfficientNet


def _hold_tuples(net: Border) -> None:
    """Hold lists as tuples, so that they stay."""
    for name, value in vars(net).items():
        if isinstance(value, list):
            object.__setattr__(net, name, tuple(value))


def inner_width(width: int, multiplier: float) -> int:
    """Return the width inside a bottleneck block.

    Example:
        >>> inner_width(256, 0.25)
        64
    """
    return width if multiplier == 1 else round(width * multiplier)


def take_plain(description: object) -> None:
    """Make integers and numbers of NumPy in a description those of Python.

    Example:
        >>> import numpy as np
        >>> Border(num_classes=np.int64(10)).num_classes
        10
    """
    for name, value in tuple(vars(description).items()):
        object.__setattr__(description, name, _plain(value))


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, float):
        return float(value)
    number = whole(value)
    return value if number is None else number


def refuse(family: str, mistakes: list[str]) -> None:
    """Raise one error that names all mistakes of a description, if there are any.

    Raises:
        InputError: If there are mistakes.

    Example:
        >>> refuse("anynet", ["depths is empty", "stem is 'x'"])
        Traceback (most recent call last):
        convscale.errors.InputError: This is no anynet: depths is empty; stem is 'x'.
    """
    if mistakes:
        raise InputError(f"This is no {family}: {'; '.join(mistakes)}.")


def anynet_mistakes(values: dict[str, Any]) -> list[str]:
    """Name everything that keeps values from being an AnyNet.

    Example:
        >>> anynet_mistakes({"depths": (1,), "widths": (8,), "strides": (3.5,),
        ...                  "bottleneck_multipliers": (1.0,), "group_widths": (5,)})[:1]
        ['strides is (3.5,), it must be a list of integers of at least 1']
    """
    found = _stage_mistakes(
        values,
        whole=("depths", "widths", "strides", "group_widths"),
        real=("bottleneck_multipliers",),
    )
    found += border_mistakes(values)
    found += _choice(values, "block", BLOCKS) + _choice(values, "stem", STEMS)
    strided = values.get("stride_in_1x1", False)
    if not isinstance(strided, bool):
        found.append(f"stride_in_1x1 is {shown(strided)}, it must be True or False")
    return found or _group_mistakes(values)


def efficientnet_mistakes(values: dict[str, Any]) -> list[str]:
    """Name everything that keeps values from being an EfficientNet.

    Example:
        >>> efficientnet_mistakes({"depths": (1,), "widths": (8,), "strides": (1,),
        ...                        "expansion_ratios": (6,), "kernels": (4,)})
        ['kernels is (4,), they must be odd']
    """
    integers = ("depths", "widths", "strides", "kernels")
    found = _stage_mistakes(values, whole=integers, real=("expansion_ratios",))
    found += border_mistakes(values)
    if not found and any(kernel % 2 == 0 for kernel in values["kernels"]):
        found.append(f"kernels is {values['kernels']}, they must be odd")
    if not found and any(ratio < 1 for ratio in values["expansion_ratios"]):
        found.append(f"expansion_ratios is {values['expansion_ratios']}, they must be at least 1")
    return found or _expansion_mistakes(values)


def _expansion_mistakes(values: dict[str, Any]) -> list[str]:
    """Refuse inner widths beyond the limit; they are multiples of the width before a block."""
    found, before = [], values.get("stem_width", 32)
    stages = zip(values["widths"], values["expansion_ratios"], strict=True)
    for number, (width, ratio) in enumerate(stages, start=1):
        if max(before, width) * ratio >= MOST_CHANNELS + 1:
            found.append(
                f"the inner widths of stage {number} are {ratio:g} times its widths, they must be "
                f"at most {MOST_CHANNELS}"
            )
        before = width
    return found


def border_mistakes(values: dict[str, Any]) -> list[str]:
    """Name what is wrong in the values around the stages.

    Example:
        >>> border_mistakes({"head_width": -1})
        ['head_width is -1, it must be an integer of at least 0']
    """
    found: list[str] = []
    for name in ("stem_width", "num_classes", "in_chans"):
        found += _whole(values, name, 1)
    found += _whole(values, "head_width", 0)
    ratio = values.get("se_ratio", 0.0)
    if not is_real(ratio) or not 0 <= ratio <= 1:
        found.append(f"se_ratio is {shown(ratio)}, it must be a number in [0, 1]")
    for name in ("resolution", "test_resolution"):
        side = values.get(name, 1)
        given = side if isinstance(side, tuple) and len(side) == 2 else (side,)
        if not all(is_whole(s) and s >= 1 for s in given):
            found.append(f"{name} is {shown(side)}, it must be a side or (height, width) in px")
        elif max(given) > MOST_SIDE:
            found.append(f"{name} is {shown(side)}, it must be at most {MOST_SIDE} px")
    return found + _choice(values, "activation", ACTIVATIONS)


def _stage_mistakes(
    values: dict[str, Any], *, whole: tuple[str, ...], real: tuple[str, ...]
) -> list[str]:
    found = []
    for name in (*whole, *real):
        given, what = values.get(name, ()), "integers of" if name in whole else "numbers above 0,"
        fits = is_whole if name in whole else is_real
        if not isinstance(given, tuple) or not given:
            found.append(f"{name} is {shown(given)}, it must be a list with a value a stage")
        elif not all(fits(value) and value > 0 for value in given):
            rule = f"{what} at least 1" if name in whole else "numbers above 0"
            found.append(f"{name} is {shown(given)}, it must be a list of {rule}")
        elif name in whole and name != "depths" and max(given) > _most(name):
            found.append(f"{name} is {shown(given)}, they must be at most {_most(name)}")
    if not found and (blocks := sum(values["depths"])) > BLOCKS_IN_ALL:
        found.append(
            f"depths have {shown(blocks)} blocks in all, they must be at most {BLOCKS_IN_ALL}"
        )
    lengths = {name: len(values[name]) for name in (*whole, *real)} if not found else {}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        found.append(f"all lists must have a value a stage, but their lengths are {listed}")
    return found


def _group_mistakes(values: dict[str, Any]) -> list[str]:
    """Refuse group widths that do not divide the inner widths."""
    found = []
    if values.get("se_ratio") and values.get("block", "bottleneck") not in GROUPED:
        found.append(
            f"se_ratio is {values['se_ratio']:g}, {values['block']} blocks have none: it must be 0"
        )
    stages = zip(
        values["widths"], values["bottleneck_multipliers"], values["group_widths"], strict=True
    )
    for number, (width, multiplier, group) in enumerate(stages, start=1):
        if width * multiplier >= MOST_CHANNELS + 1:
            found.append(
                f"the inner width of stage {number} is {multiplier:g} times {width}, it must be at "
                f"most {MOST_CHANNELS}"
            )
            continue
        inner = inner_width(width, multiplier)
        if values.get("block", "bottleneck") not in GROUPED:
            if multiplier != 1 or group != width:
                found.append(
                    f"stage {number} of {values['block']} blocks has multiplier {multiplier:g} and "
                    f"group width {group}, they must be 1 and the width {width}"
                )
        elif inner < 1 or inner % group:
            found.append(
                f"the group width {group} of stage {number} does not divide its inner width {inner}"
            )
    return found


def _choice(values: dict[str, Any], name: str, known: tuple[str, ...]) -> list[str]:
    value = values.get(name, known[0])
    if value in known:
        return []
    return [f"{name} is {shown(value)}, it must be one of {', '.join(known)}"]


def _whole(values: dict[str, Any], name: str, least: int) -> list[str]:
    value = values.get(name, least)
    if not is_whole(value) or value < least:
        return [f"{name} is {shown(value)}, it must be an integer of at least {least}"]
    if value > MOST_CHANNELS:
        return [f"{name} is {shown(value)}, it must be at most {MOST_CHANNELS}"]
    return []


def _most(name: str) -> int:
    return _LIMITS.get(name, MOST_CHANNELS)


def is_whole(value: object) -> bool:
    """Tell whether a value is an integer, and no truth value.

    Example:
        >>> is_whole(3), is_whole(True), is_whole(3.0)
        (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Tell whether a value is a finite number.

    Example:
        >>> is_real(0.25), is_real(float("nan"))
        (True, False)
    """
    return (is_whole(value) or isinstance(value, float)) and abs(value) < float("inf")  # type: ignore[arg-type]


def shown(value: object) -> str:
    """Write a value shortly, whatever a file holds.

    Example:
        >>> shown((1, 2))
        '(1, 2)'
    """
    return reprlib.repr(value)

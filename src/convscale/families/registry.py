"""The networks that have a name, from their published parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from convscale.errors import UnknownNetworkError, near_names
from convscale.families.description import AnyNet, Description, EfficientNet
from convscale.families.regnet import RegNet
from convscale.families.rounding import efficientnet_depth, efficientnet_width

# depth, w0, wa, wm, group width. Source: arXiv 2003.13678, appendix, and the authors' model zoo.
_REGNETX = {
    "200MF": (13, 24, 36.44, 2.49, 8),
    "400MF": (22, 24, 24.48, 2.54, 16),
    "600MF": (16, 48, 36.97, 2.24, 24),
    "800MF": (16, 56, 35.73, 2.28, 16),
    "1.6GF": (18, 80, 34.01, 2.25, 24),
    "3.2GF": (25, 88, 26.31, 2.25, 48),
    "4.0GF": (23, 96, 38.65, 2.43, 40),
    "6.4GF": (17, 184, 60.83, 2.07, 56),
    "8.0GF": (23, 80, 49.56, 2.88, 120),
    "12GF": (19, 168, 73.36, 2.37, 112),
    "16GF": (22, 216, 55.59, 2.1, 128),
    "32GF": (23, 320, 69.86, 2.0, 168),
}
_REGNETY = {
    "200MF": (13, 24, 36.44, 2.49, 8),
    "400MF": (16, 48, 27.89, 2.09, 8),
    "600MF": (15, 48, 32.54, 2.32, 16),
    "800MF": (14, 56, 38.84, 2.4, 16),
    "1.6GF": (27, 48, 20.71, 2.65, 24),
    "3.2GF": (21, 80, 42.63, 2.66, 24),
    "4.0GF": (22, 96, 31.41, 2.24, 64),
    "6.4GF": (25, 112, 33.22, 2.27, 72),
    "8.0GF": (17, 192, 76.82, 2.19, 56),
    "12GF": (19, 168, 73.36, 2.37, 112),
    "16GF": (18, 200, 106.23, 2.48, 112),
    "32GF": (20, 232, 115.89, 2.53, 232),
}
# depth, w0, wa, wm, group width, head width, input side. Source: arXiv 2103.06877, appendix.
_REGNETZ = {
    "500MF": (21, 16, 10.7, 2.51, 4, 1024, 224),
    "4GF": (28, 48, 14.5, 2.226, 8, 1536, 256),
}
# depths, and groups and their width in the first stage; one group of 64 is ResNet.
_RESNETS = {
    "ResNet-50": ((3, 4, 6, 3), 1, 64),
    "ResNet-101": ((3, 4, 23, 3), 1, 64),
    "ResNet-152": ((3, 8, 36, 3), 1, 64),
    "ResNeXt-50-32x4d": ((3, 4, 6, 3), 32, 4),
    "ResNeXt-101-32x4d": ((3, 4, 23, 3), 32, 4),
    "ResNeXt-101-32x8d": ((3, 4, 23, 3), 32, 8),
    "ResNeXt-101-64x4d": ((3, 4, 23, 3), 64, 4),
}
_BASIC = {"ResNet-18": (2, 2, 2, 2), "ResNet-34": (3, 4, 6, 3)}
# width, depth, input side (px). Source: arXiv 1905.11946, the authors' code.
_EFFICIENTNETS = {
    "B0": (1.0, 1.0, 224),
    "B1": (1.0, 1.1, 240),
    "B2": (1.1, 1.2, 260),
    "B3": (1.2, 1.4, 300),
    "B4": (1.4, 1.8, 380),
    "B5": (1.6, 2.2, 456),
    "B6": (1.8, 2.6, 528),
    "B7": (2.0, 3.1, 600),
}


def regnet(name: str) -> RegNet:
    """Return the parameters of a named RegNet.

    Raises:
        UnknownNetworkError: If no RegNet has the name.

    Example:
        >>> regnet("RegNetY-4.0GF").group_width
        64
    """
    series, _, size = name.partition("-")
    if series == "RegNetX" and size in _REGNETX:
        depth, w0, wa, wm, group = _REGNETX[size]
        return RegNet(depth=depth, w0=w0, wa=wa, wm=wm, group_width=group)
    if series == "RegNetY" and size in _REGNETY:
        depth, w0, wa, wm, group = _REGNETY[size]
        return RegNet(depth=depth, w0=w0, wa=wa, wm=wm, group_width=group, se_ratio=0.25)
    if series == "RegNetZ" and size in _REGNETZ:
        depth, w0, wa, wm, group, head, side = _REGNETZ[size]
        return RegNet(
            depth=depth,
            w0=w0,
            wa=wa,
            wm=wm,
            group_width=group,
            bottleneck_multiplier=4.0,
            block="linear_bottleneck",
            se_ratio=0.25,
            activation="silu",
            head_width=head,
            resolution=side,
            test_resolution=test_side(side),
        )
    known = [entry for entry in names() if entry.startswith("RegNet")]
    raise UnknownNetworkError(f"Unknown RegNet {name!r}.{near_names(name, known)}")


def test_side(side: int) -> int:
    """Return the input side of the test that goes with one of training: 256 with 224 (px).

    Example:
        >>> test_side(224), test_side(240)
        (256, 274)
    """
    return round(side * 256 / 224)


test_side.__test__ = False  # type: ignore[attr-defined]  # the name is no test's


def resnet(
    depths: tuple[int, ...], *, groups: int = 1, group_width: int = 64, stride_in_1x1: bool = False
) -> AnyNet:
    """Return a ResNet or ResNeXt of bottleneck blocks as stages of an AnyNet.

    Example:
        >>> resnet((3, 4, 6, 3)).group_widths
        (64, 128, 256, 512)

    Source: arXiv 1512.03385, table 1; arXiv 1611.05431, table 1.
    """
    widths = tuple(256 * 2**index for index in range(len(depths)))
    return AnyNet(
        depths=depths,
        widths=widths,
        strides=(1, *(2,) * (len(depths) - 1)),
        bottleneck_multipliers=(groups * group_width / 256,) * len(depths),
        group_widths=tuple(group_width * 2**index for index in range(len(depths))),
        stem="pooled",
        stem_width=64,
        stride_in_1x1=stride_in_1x1,
    )


def basic_resnet(depths: tuple[int, ...]) -> AnyNet:
    """Return a ResNet of basic blocks.

    Example:
        >>> basic_resnet((2, 2, 2, 2)).widths
        (64, 128, 256, 512)

    Source: arXiv 1512.03385, table 1.
    """
    widths = tuple(64 * 2**index for index in range(len(depths)))
    return AnyNet(
        depths=depths,
        widths=widths,
        strides=(1, *(2,) * (len(depths) - 1)),
        bottleneck_multipliers=(1.0,) * len(depths),
        group_widths=widths,
        block="basic",
        stem="pooled",
        stem_width=64,
    )


def efficientnet(width: float, depth: float, side: int) -> EfficientNet:
    """Return an EfficientNet by its multipliers of width and depth, and its input side (px).

    Example:
        >>> efficientnet(1.1, 1.2, 260).widths
        (16, 24, 48, 88, 120, 208, 352)

    Source: arXiv 1905.11946, the authors' code.
    """
    depths, widths = (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)
    return EfficientNet(
        depths=tuple(efficientnet_depth(blocks * depth) for blocks in depths),
        widths=tuple(efficientnet_width(channels * width) for channels in widths),
        strides=(1, 2, 2, 2, 1, 2, 1),
        expansion_ratios=(1, 6, 6, 6, 6, 6, 6),
        kernels=(3, 3, 5, 3, 5, 5, 3),
        stem_width=efficientnet_width(32 * width),
        head_width=efficientnet_width(1280 * width),
        resolution=side,
        test_resolution=test_side(side),
    )


def mobilenet() -> EfficientNet:
    """Return MobileNetV2.

    Example:
        >>> mobilenet().se_ratio
        0.0

    Source: arXiv 1801.04381, table 2.
    """
    return EfficientNet(
        depths=(1, 2, 3, 4, 3, 3, 1),
        widths=(16, 24, 32, 64, 96, 160, 320),
        strides=(1, 2, 2, 2, 1, 2, 1),
        expansion_ratios=(1, 6, 6, 6, 6, 6, 6),
        kernels=(3,) * 7,
        se_ratio=0.0,
        activation="relu6",
    )


@cache
def _makers() -> dict[str, Callable[[], Description]]:
    makers: dict[str, Callable[[], Description]] = {
        name: partial(resnet, depths, groups=groups, group_width=width)
        for name, (depths, groups, width) in _RESNETS.items()
    }
    makers |= {name: partial(basic_resnet, depths) for name, depths in _BASIC.items()}
    for series, sizes in (("X", [*_REGNETX]), ("Y", [*_REGNETY]), ("Z", [*_REGNETZ])):
        for name in (f"RegNet{series}-{size}" for size in sizes):
            makers[name] = partial(_staged, name)
    for size, multipliers in _EFFICIENTNETS.items():
        makers[f"EfficientNet-{size}"] = partial(efficientnet, *multipliers)
    makers["MobileNetV2"] = mobilenet
    return makers


def _staged(name: str) -> AnyNet:
    return regnet(name).anynet()


def names() -> tuple[str, ...]:
    """Return the names of the networks, as they are matched.

    Example:
        >>> "RegNetY-4.0GF" in names(), "regnety-4.0gf" in names()
        (True, False)
    """
    return tuple(_makers())


def name_of(description: Description) -> str | None:
    """Return the name of a network; None where no network that has a name equals it.

    Example:
        >>> name_of(named("ResNet-50")), name_of(basic_resnet((1, 1, 1, 1)))
        ('ResNet-50', None)
    """
    return next((name for name in names() if named(name) == description), None)


def named(name: str) -> Description:
    """Return the network that has a name, stage by stage.

    Raises:
        UnknownNetworkError: If none has; near names are suggested.

    Example:
        >>> named("RegNetX-400MF").depths
        (1, 2, 7, 12)
    """
    make = _makers().get(name)
    if make is None:
        raise UnknownNetworkError(
            f"Unknown network {name!r}.{near_names(name, names())} "
            f"Write one of {', '.join(names()[:3])}…"
        )
    return make()

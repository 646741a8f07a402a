"""RegNet: stages from a line of block widths, by six numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convscale.families.description import (
    BLOCKS,
    BLOCKS_IN_ALL,
    GROUPED,
    MOST_CHANNELS,
    MOST_SIDE,
    STEMS,
    AnyNet,
    Border,
    border_mistakes,
    is_real,
    is_whole,
    refuse,
    shown,
    take_plain,
)
from convscale.families.rounding import compatible

WIDTH_MULTIPLE = 8
MOST_BLOCKS = BLOCKS_IN_ALL
_LIMITS = {
    "depth": MOST_BLOCKS,
    "w0": MOST_CHANNELS,
    "group_width": MOST_CHANNELS,
    "stride": MOST_SIDE,
}
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RegNet(Border):
    """A RegNet: the widths of its blocks lie on a line, quantised to powers of a base.

    Block j has the width u_j = w0 + wa·j, which becomes w0·wm^k with k = round(log(u_j/w0) /
    log(wm)), rounded to a multiple of 8; neighbours of one width form a stage.

    Args:
        depth: Blocks in all.
        w0: Width of the first block, a multiple of 8.
        wa: Slope of the widths.
        wm: Base of the quantisation, above 1.
        group_width: Channels a group of the 3×3 convolutions; basic and vanilla blocks have one
            group, but widths are made to fit it, as in the authors' code.
        bottleneck_multiplier: Inner width over width, likewise.

    Raises:
        InputError: If values do not make a network; all mistakes are named.

    Example:
        >>> net = RegNet(depth=22, w0=24, wa=24.48, wm=2.54, group_width=16)
        >>> net.anynet().depths, net.anynet().widths
        ((1, 2, 7, 12), (32, 64, 160, 384))

    Source: arXiv 2003.13678, section 3.3.
    """

    family: ClassVar[str] = "regnet"
    depth: int
    w0: int
    wa: float
    wm: float
    group_width: int
    bottleneck_multiplier: float = 1.0
    stride: int = 2
    block: str = "bottleneck"
    stem: str = "simple"

    def __post_init__(self) -> None:
        take_plain(self)
        refuse(self.family, regnet_mistakes(vars(self)))

    def anynet(self) -> AnyNet:
        """Return the same network stage by stage, widths and group widths made to fit."""
        depths, widths = stages(*(np.array([v]) for v in (self.depth, self.w0, self.wa, self.wm)))
        pairs = [
            compatible(int(width), self.bottleneck_multiplier, self.group_width)
            for width in widths[:, 0]
        ]
        multiplier = self.bottleneck_multiplier
        if self.block not in GROUPED:  # their widths are made to fit all the same
            pairs, multiplier = [(width, width) for width, _ in pairs], 1.0
        shared = {entry.name: getattr(self, entry.name) for entry in fields(Border)}
        return AnyNet(
            depths=tuple(map(int, depths[:, 0])),
            widths=tuple(width for width, _ in pairs),
            strides=(self.stride,) * len(pairs),
            bottleneck_multipliers=(multiplier,) * len(pairs),
            group_widths=tuple(group for _, group in pairs),
            block=self.block,
            stem=self.stem,
            **shared,
        )


def regnet_mistakes(values: dict[str, Any]) -> list[str]:
    """Name everything that keeps values from being a RegNet.

    Example:
        >>> regnet_mistakes({"depth": 22, "w0": 20, "wa": 24.48, "wm": 1, "group_width": 16})
        ['w0 is 20, it must be a multiple of 8', 'wm is 1, it must be a number above 1']
    """
    found = []
    for name, most in _LIMITS.items():
        value = values.get(name, 1 if name == "stride" else "")
        if not is_whole(value) or value < 1:
            found.append(f"{name} is {shown(value)}, it must be an integer of at least 1")
        elif name == "w0" and value % WIDTH_MULTIPLE:
            found.append(f"w0 is {value}, it must be a multiple of {WIDTH_MULTIPLE}")
        elif value > most:
            found.append(f"{name} is {shown(value)}, it must be at most {most}")
    if not is_real(wa := values.get("wa", "")) or wa < 0:
        found.append(f"wa is {shown(wa)}, it must be a number of at least 0")
    elif wa > MOST_CHANNELS:
        found.append(f"wa is {shown(wa)}, it must be at most {MOST_CHANNELS}")
    if not is_real(wm := values.get("wm", "")) or wm <= 1:
        found.append(f"wm is {shown(wm)}, it must be a number above 1")
    elif wm > MOST_CHANNELS:
        found.append(f"wm is {shown(wm)}, it must be at most {MOST_CHANNELS}")
    multiplier = values.get("bottleneck_multiplier", 1.0)
    if not is_real(multiplier) or multiplier <= 0 or (multiplier > 1 and multiplier % 1):
        found.append(
            f"bottleneck_multiplier is {shown(multiplier)}, it must lie above 0 and be an integer "
            "above 1"
        )
    elif multiplier > MOST_CHANNELS:
        found.append(
            f"bottleneck_multiplier is {shown(multiplier)}, it must be at most {MOST_CHANNELS}"
        )
    for name, known in (("block", BLOCKS), ("stem", STEMS)):
        if values.get(name, known[0]) not in known:
            found.append(f"{name} is {shown(values[name])}, it must be one of {', '.join(known)}")
    return found + border_mistakes(values)


def stages(depth: Ints, w0: Ints, wa: Floats, wm: Floats) -> tuple[Ints, Ints]:
    """Return the depths and widths of the stages of many RegNets, before they are made to fit.

    Args:
        depth: Blocks, shape (n,).
        w0: First widths, shape (n,).
        wa: Slopes, shape (n,).
        wm: Bases of the quantisation, shape (n,).

    Returns:
        Depths and widths, shape (most stages, n); 0 where a network has no more stages.

    Example:
        >>> depths, widths = stages(*(np.array([v]) for v in (22, 24, 24.48, 2.54)))
        >>> depths[:, 0].tolist(), widths[:, 0].tolist()
        ([1, 2, 7, 12], [24, 64, 152, 392])
    """
    if most_levels(depth, w0, wa, wm) > int(depth.max(initial=0)):
        return packed(*_block_by_block(depth, w0, wa, wm))
    counts = level_counts(depth, w0, wa, wm)
    return packed(counts, level_widths(w0, wm, len(counts)))


def most_levels(depth: Ints, w0: Ints, wa: Floats, wm: Floats) -> int:
    """Return how many levels the network with the most of them has, to one or two.

    A base near 1 makes more levels than blocks, most of them without any.

    Example:
        >>> most_levels(*(np.array([v]) for v in (22, 24, 24.48, 2.54)))
        4
    """
    last = np.log1p(wa * (depth - 1) / w0) / np.log(wm)
    return 1 + int(np.rint(last.max(initial=0.0)))


def _block_by_block(depth: Ints, w0: Ints, wa: Floats, wm: Floats) -> tuple[Ints, Ints]:
    """Return each block as a stage of its own, and its width."""
    block = np.arange(int(depth.max()))[:, None]
    level = np.rint(np.log((block * wa + w0) / w0) / np.log(wm))
    steps = np.rint(w0 * np.power(wm, level) / WIDTH_MULTIPLE)
    present = block < depth
    return present.astype(np.int64), np.where(present, steps, 1).astype(np.int64) * WIDTH_MULTIPLE


def level_counts(depth: Ints, w0: Ints, wa: Floats, wm: Floats) -> Ints:
    """Return how many blocks have the level k = 0, 1, …, shape (levels, n).

    The level of a block does not fall with j, so that level k begins where u_j reaches
    w0·wm^(k − 1/2). Where that is within rounding errors of a block, the blocks themselves
    are quantised.

    Example:
        >>> level_counts(*(np.array([v]) for v in (22, 24, 24.48, 2.54)))[:, 0].tolist()
        [1, 2, 7, 12]
    """
    counts, close = _counts_by_borders(depth, w0, wa, wm)
    rows = np.flatnonzero(close)
    if rows.size:
        exact = _counted_blocks(depth[rows], w0[rows], wa[rows], wm[rows])
        if len(exact) > len(counts):
            counts = np.pad(counts, ((0, len(exact) - len(counts)), (0, 0)))
        counts[:, rows] = 0
        counts[: len(exact), rows] = exact
    return counts


def level_widths(w0: Ints, wm: Floats, count: int) -> Ints:
    """Return the rounded widths w0·wm^k of the levels, shape (count, n).

    Example:
        >>> level_widths(np.array([24]), np.array([2.54]), 3)[:, 0].tolist()
        [24, 64, 152]
    """
    exact = np.stack([w0 * np.power(wm, float(k)) for k in range(count)])
    # levels that a network does not reach may be wider than any integer
    steps = np.minimum(np.rint(exact / WIDTH_MULTIPLE), 2.0**58).astype(np.int64)
    return steps * WIDTH_MULTIPLE


def _counts_by_borders(
    depth: Ints, w0: Ints, wa: Floats, wm: Floats
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the blocks of each level, and where rounding errors might decide them."""
    slope = np.maximum(wa / w0, 1e-30)
    last = np.log1p(slope * (depth - 1)) / np.log(wm)
    top = int(np.rint(last.max(initial=0.0)))
    close = np.zeros(len(depth), bool)
    counts = np.empty((top + 2, len(depth)), np.int64)
    counts[0] = 0
    power = np.sqrt(wm)
    for k in range(1, top + 1):
        begin = (power - 1) / slope
        start = np.ceil(begin)
        close |= (np.abs(begin - np.rint(begin)) < 1e-7 * (1 + begin)) & (begin < depth)
        counts[k] = np.minimum(start, depth)
        power = power * wm
    counts[top + 1] = depth
    return np.diff(counts, axis=0), close


def _counted_blocks(depth: Ints, w0: Ints, wa: Floats, wm: Floats) -> Ints:
    """Quantise every block and count those of each level."""
    block = np.arange(int(depth.max()))[:, None]
    quantised = np.rint(np.log((block * wa + w0) / w0) / np.log(wm)).astype(np.int64)
    present = block < depth
    top = int(np.where(present, quantised, 0).max())
    return np.stack([(present & (quantised == k)).sum(axis=0) for k in range(top + 1)])


def packed(counts: Ints, widths: Ints) -> tuple[Ints, Ints]:
    """Leave out levels without a block, and join neighbours of one width, shape (stages, n).

    Example:
        >>> depths, found = packed(np.array([[2], [0], [3], [1]]), np.array([[8], [8], [16], [16]]))
        >>> depths[:, 0].tolist(), found[:, 0].tolist()
        ([2, 4], [8, 16])
    """
    absent = counts == 0
    late = absent[:-1] & ~absent[1:]  # a level without a block, and one with blocks behind it
    joined = (widths[1:] == widths[:-1]) & ~absent[1:]
    rows = np.flatnonzero((late | joined).any(axis=0))
    depths, found = counts, np.where(absent, 0, widths)
    if rows.size:  # elsewhere the levels are the stages
        depths = depths.copy()
        depths[:, rows], found[:, rows] = _joined(counts[:, rows], widths[:, rows])
    most = int((depths > 0).sum(axis=0).max(initial=0))
    return depths[:most], found[:most]


def _joined(counts: Ints, widths: Ints) -> tuple[Ints, Ints]:
    depths, found = np.zeros_like(counts), np.zeros_like(widths)
    slot = np.full(counts.shape[1], -1)
    last = np.zeros(counts.shape[1], np.int64)
    for count, width in zip(counts, widths, strict=True):
        rows = np.flatnonzero(count)
        slot[rows] += width[rows] != last[rows]
        last[rows] = width[rows]
        depths[slot[rows], rows] += count[rows]
        found[slot[rows], rows] = width[rows]
    return depths, found

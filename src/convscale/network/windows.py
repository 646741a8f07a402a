"""Operators that lay positions out as channels, or channels as positions."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from convscale.network.labels import vector
from convscale.network.ties import Ties, channel_units


def _pixel_shuffle(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Every r² channels become one: they stay together, and their number stays."""
    x, square = bound["self"], bound["upscale_factor"] ** 2
    units = channel_units(ties, x, -3)
    if units is None:
        ties.set_labels(output, ())
        return
    ties.tie(units.reshape(-1, square)[:, :1], units.reshape(-1, square)[:, 1:])
    ties.set_labels(output, (vector(units[::square], output.ndim - 3, output.ndim),))


def _pixel_unshuffle(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Every channel becomes r² of them."""
    x, square = bound["self"], bound["downscale_factor"] ** 2
    units = channel_units(ties, x, -3)
    if units is None:
        ties.set_labels(output, ())
        return
    ties.set_labels(output, (vector(np.repeat(units, square), output.ndim - 3, output.ndim),))


def _im2col(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Lay the pixels of every window beside each other: each channel becomes as many."""
    units = channel_units(ties, bound["self"], -3)
    times = prod(bound["kernel_size"])
    known = () if units is None else (vector(np.repeat(units, times), -2, output.ndim),)
    ties.set_labels(output, known)


def _col2im(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Add the pixels of windows up: as many channels become one, and their number stays."""
    units = channel_units(ties, bound["self"], -2)
    if units is None:
        ties.set_labels(output, ())
        return
    windows = units.reshape(-1, prod(bound["kernel_size"]))
    ties.tie(windows[:, :1], windows[:, 1:])
    ties.set_labels(output, (vector(windows[:, 0], -3, output.ndim),))


def _unpool(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["self"]
    ties.set_labels(output, ties.joined([ties.labels(x), ties.labels(bound["indices"])], x.ndim))


WINDOWS: dict[str, Callable[[Ties, Any, dict[str, Any], Any], None]] = {
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "im2col": _im2col,
    "col2im": _col2im,
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), _unpool),
}

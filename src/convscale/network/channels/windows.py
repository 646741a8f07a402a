"""Operators that lay positions out as channels, or channels as positions; spectra."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch

from convscale.network.channels.labels import varying, vector
from convscale.network.channels.ties import Ties, channel_units


def _joined(ties: Ties, x: torch.Tensor, dim: int, times: int, output: torch.Tensor) -> None:
    """So many channels become one: they stay together, and their number stays."""
    units = channel_units(ties, x, dim)
    if units is None:
        ties.set_labels(output, ())
        return
    rows = units.reshape(-1, times)
    if len(rows) == 1:  # a lone channel stays one, as everywhere
        ties.pin(units)
        ties.set_labels(output, ())
        return
    ties.tie(rows[:, :1], rows[:, 1:])
    ties.set_labels(output, (vector(rows[:, 0], -3, output.ndim),))


def _spread(ties: Ties, x: torch.Tensor, times: int, output: torch.Tensor, *, dim: int) -> None:
    """Every channel becomes so many of them, along a dimension of the output."""
    units = channel_units(ties, x, -3)
    known = () if units is None else (vector(np.repeat(units, times), dim, output.ndim),)
    ties.set_labels(output, known)


def _pixel_shuffle(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    _joined(ties, bound["self"], -3, bound["upscale_factor"] ** 2, output)


def _pixel_unshuffle(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    _spread(ties, bound["self"], bound["downscale_factor"] ** 2, output, dim=-3)


def _im2col(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Lay the pixels of every window beside each other."""
    _spread(ties, bound["self"], prod(bound["kernel_size"]), output, dim=-2)


def _col2im(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Add the pixels of windows up."""
    _joined(ties, bound["self"], -2, prod(bound["kernel_size"]), output)


def _unpool(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    x = bound["self"]
    ties.set_labels(output, ties.joined([ties.labels(x), ties.labels(bound["indices"])], x.ndim))


def _as_complex(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Take the two entries of the last dimension for one number: what they are of is one, too."""
    x, kept = bound["self"], []
    for label in ties.labels(x):
        first = label[..., 0]
        if varying(label) == {x.ndim - 1}:
            ties.pin(label)
        else:
            ties.tie(first[..., None], label)
            kept.append(first)
    ties.set_labels(output, tuple(kept))


def _as_real(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Part numbers into two entries, along a dimension behind the others."""
    labels = ties.labels(bound["self"])
    ties.set_labels(output, tuple(label[..., None] for label in labels))


def _spectrum(ties: Ties, _func: Any, bound: dict[str, Any], output: Any) -> None:
    """Mix what lies along some dimensions; channels along others stay what they are."""
    x, kept = bound["self"], []
    mixed = {dim % x.ndim for dim in bound["dim"]}
    for label in ties.labels(x):
        if varying(label) & mixed:
            ties.pin(label)
        else:
            kept.append(label)
    ties.set_labels(output, tuple(kept))


WINDOWS: dict[str, Callable[[Ties, Any, dict[str, Any], Any], None]] = {
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "im2col": _im2col,
    "col2im": _col2im,
    "view_as_complex": _as_complex,
    "view_as_real": _as_real,
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), _spectrum),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), _unpool),
}

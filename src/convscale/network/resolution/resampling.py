"""Carry the weights of a network over to the same network built for another input size.

Tensors that do not depend on the size keep their values. Position tables are resampled over their
grid, as timm does it: bicubic. What a size determines, such as an index of relative positions, is
the new constructor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import ceil, floor, isqrt, log, prod

import torch
from torch import nn
from torch.nn.functional import interpolate

from convscale.quantities import Resolution, sides

PREFIXES = (0, 1, 2)  # tokens before those of positions: classes, distillation
_ROUNDED = 2  # by how much the length of a side differs from its share of the image's


@dataclass(frozen=True)
class Grid:
    """Axes of a table that run over positions, and their sizes before and after.

    Where positions are written in a row, `axes` is that one axis; before them stand `prefix`
    entries of no position.

    Example:
        >>> Grid((1,), (14, 14), (16, 16)).prefix
        0
    """

    axes: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    prefix: int = 0


@dataclass(frozen=True)
class Fates:
    """What becomes of the tensors that depend on the size; all others keep their values.

    Example:
        >>> Fates().any
        False
    """

    resampled: dict[str, Grid] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether the shape of any tensor depends on the size."""
        return bool(self.resampled or self.fresh or self.computed)


def fates(
    base: nn.Module, told: nn.Module, growth: tuple[Resolution, Resolution] | None = None
) -> Fates | None:
    """Compare a network with the same built for another size.

    Args:
        base: The network.
        told: The network built for the other size.
        growth: The resolutions (px); tables are fresh where they are not known.

    Returns:
        What becomes of the tensors, None where the layers themselves differ: then it is not
        the same network.

    Example:
        >>> fates(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 16, 3)) is None
        True
        >>> fates(nn.Embedding(49, 8), nn.Embedding(64, 8), (224, 256)).resampled["weight"].after
        (8, 8)
    """
    before, after = dict(base.named_parameters()), dict(told.named_parameters())
    buffers, others = dict(base.named_buffers()), dict(told.named_buffers())
    if before.keys() != after.keys() or buffers.keys() != others.keys():
        return None
    resampled, fresh = {}, []
    for name, old in before.items():
        new = after[name]
        if old.shape == new.shape:
            continue
        owner = base.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, nn.modules.conv._ConvNd) or old.ndim != new.ndim:
            return None
        grid = None
        if holds_tables(owner) and growth is not None:
            grid = grid_of(tuple(old.shape), tuple(new.shape), *growth)
        if grid is None:
            fresh.append(name)
        else:
            resampled[name] = grid
    computed = tuple(name for name, old in buffers.items() if old.shape != others[name].shape)
    return Fates(resampled, tuple(fresh), computed)


def holds_tables(owner: nn.Module) -> bool:
    """Tell whether parameters of a module may be tables: those of PyTorch's layers multiply.

    Example:
        >>> holds_tables(nn.Linear(2, 3)), holds_tables(nn.Embedding(2, 3))
        (False, True)
    """
    holders = nn.Embedding | nn.ParameterList | nn.ParameterDict
    return isinstance(owner, holders) or not type(owner).__module__.startswith("torch.nn.")


def grid_of(
    old: tuple[int, ...], new: tuple[int, ...], before: Resolution, after: Resolution
) -> Grid | None:
    """Return the grid that a table's entries lie on, as its growth shows it.

    Args:
        old: The shape of the table for the resolution `before`.
        new: Its shape for the resolution `after`.
        before: A resolution in px.
        after: The other resolution in px.

    Example:
        >>> grid_of((1, 197, 64), (1, 257, 64), 224, 256)
        Grid(axes=(1,), before=(14, 14), after=(16, 16), prefix=1)
        >>> grid_of((31, 16), (63, 16), 256, 512)
        Grid(axes=(0,), before=(31,), after=(63,), prefix=0)
        >>> grid_of((8, 13, 13), (8, 19, 19), 224, 320)
        Grid(axes=(1, 2), before=(13, 13), after=(19, 19), prefix=0)
    """
    axes = tuple(dim for dim, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
    if len(axes) == 2 or len(axes) == len(sides(before)) > 1:
        return Grid(axes, tuple(old[dim] for dim in axes), tuple(new[dim] for dim in axes))
    if len(axes) != 1:
        return None
    sizes = old[axes[0]], new[axes[0]]
    lengths = sides(before), sides(after)
    area = prod(lengths[1]) / prod(lengths[0])
    line = Grid(axes, sizes[:1], sizes[1:])
    is_line = abs(sizes[1] - sizes[0] * area ** (1 / len(lengths[0]))) <= _ROUNDED
    grid = _flattened(axes[0], sizes, before, after)
    if grid is None or (is_line and abs(log(sizes[1] / sizes[0])) < 0.75 * abs(log(area))):
        return line if is_line else None
    return grid


def _flattened(
    axis: int, sizes: tuple[int, int], before: Resolution, after: Resolution
) -> Grid | None:
    """Return the grid whose positions are written in a row along an axis."""
    for prefix in PREFIXES:
        grids = _grids(sizes[0] - prefix, sizes[1] - prefix, before, after)
        if grids is not None:
            return Grid((axis,), *grids, prefix)
    return None


def _grids(
    old: int, new: int, before: Resolution, after: Resolution
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return two grids of so many positions, shaped like the images or grown as their sides do."""
    if len(sides(before)) > 2:
        return _boxes(old, new, sides(before), sides(after))
    grids = _rectangle(old, before), _rectangle(new, after)
    return None if grids[0] is None or grids[1] is None else (grids[0], grids[1])


def _boxes(
    old: int, new: int, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return grids of more than two axes, each of a stride of its own; equal sides stay equal."""
    found = []
    for box in _factors(old, len(before)):
        grown = [size * b / a for size, a, b in zip(box, before, after, strict=True)]
        near = [sorted({floor(size + 1e-9), ceil(size - 1e-9)}) for size in grown]
        for moved in product(*near):
            alike = len(set(zip(before, after, box, moved, strict=True))) == len(
                set(zip(before, after, strict=True))
            )
            if prod(moved) == new and alike:
                off = sum(abs(log(a / b)) for a, b in zip(moved, grown, strict=True))
                found.append((off, box, moved))
    return min(found)[1:] if found else None


def _factors(count: int, axes: int) -> Iterator[tuple[int, ...]]:
    """Yield the sides of all grids of so many positions."""
    if axes == 1:
        yield (count,)
        return
    for size in range(1, count + 1):
        if count % size == 0:
            for rest in _factors(count // size, axes - 1):
                yield (size, *rest)


def _rectangle(count: int, resolution: Resolution) -> tuple[int, int] | None:
    """Return the height and width of a grid of so many positions, shaped like the image."""
    if count < 1 or len(sides(resolution)) != 2:
        return None
    height, width = sides(resolution)
    if height == width:
        side = isqrt(count)
        return (side, side) if side * side == count else None
    pairs = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    near = min(pairs, key=lambda pair: abs(log(pair[0] * width / (pair[1] * height))))
    return near if abs(log(near[0] * width / (near[1] * height))) < 0.2 else None


def resample(table: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return a table on another grid, by bicubic interpolation.

    Example:
        >>> resample(torch.ones(1, 50, 8), Grid((1,), (7, 7), (8, 8), prefix=1)).shape
        torch.Size([1, 65, 8])
    """
    rows = table.detach().float().movedim(grid.axes, tuple(range(len(grid.axes))))
    rest = rows.shape[len(grid.axes) :]
    if len(grid.axes) == 1:
        kept, rows = rows[: grid.prefix], rows[grid.prefix :]
    new = _interpolated(rows.reshape(*grid.before, -1), grid.after)
    if len(grid.axes) == 1:
        new = torch.cat((kept, new.reshape(-1, *rest)))
    else:
        new = new.reshape(*grid.after, *rest)
    return new.movedim(tuple(range(len(grid.axes))), grid.axes).to(table.dtype)


def _interpolated(rows: torch.Tensor, after: tuple[int, ...]) -> torch.Tensor:
    """Resample all axes but the last, one after another, which is what bicubic does to planes."""
    for dim, size in enumerate(after):
        lines = rows.movedim(dim, -1)
        flat = lines.reshape(1, -1, 1, lines.shape[-1])
        flat = interpolate(flat, size=(1, size), mode="bicubic", antialias=True)
        rows = flat.reshape(*lines.shape[:-1], size).movedim(-1, dim)
    return rows


def carry(base: nn.Module, told: nn.Module, found: Fates) -> nn.Module:
    """Give a network built for another size the values, mode and dtype of the base.

    Args:
        base: The network; it is not changed.
        told: The same built for another size; it is changed, and returned.
        found: What becomes of the tensors that depend on the size.

    Example:
        >>> base, told = nn.Embedding(49, 8), nn.Embedding(64, 8)
        >>> nn.init.constant_(base.weight, 3.0)[0, 0].item()
        3.0
        >>> carry(base, told, fates(base, told, (224, 256))).weight.mean().round().item()
        3.0
    """
    weight = next((p for p in base.parameters() if p.is_floating_point()), None)
    told.to(None if weight is None else weight.dtype).train(base.training)
    lost = {*found.fresh, *found.computed}
    values = {**dict(told.named_parameters()), **dict(told.named_buffers())}
    with torch.no_grad():
        for name, old in (*base.named_parameters(), *base.named_buffers()):
            if name in found.resampled:
                values[name].copy_(resample(old, found.resampled[name]))
            elif name not in lost and _is_state(base, name, old):
                values[name].copy_(old)
    return told


def _is_state(module: nn.Module, name: str, tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds what was learned; integers beside norms are indices, computed."""
    if tensor.is_floating_point():
        return True
    owner = module.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.modules.batchnorm._NormBase)

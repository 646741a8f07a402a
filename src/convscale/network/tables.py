"""Find the position tables of a network that has no constructor at hand, by running it.

At another resolution it fails where a table meets a map of another size. What the maps have become
up to there is known, so that the table can be given their size, and the run goes on to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import nn

from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError, Observer, run
from convscale.network.inputs import example_inputs
from convscale.network.lookups import Lookups
from convscale.network.resampling import PREFIXES, holds_tables
from convscale.quantities import Resolution

_Shape = tuple[int, ...]
_Shapes = dict[str, list[_Shape]]
_MOST = 200  # tables


@dataclass(frozen=True)
class Maps:
    """What a run at the base resolution shows: the shapes at the borders of modules, and lookups.

    Example:
        >>> Maps({"": [(1, 3, 8, 8)]}, set()).lookups
        set()
    """

    shapes: dict[str, list[tuple[int, ...]]]
    lookups: set[str]


class _Watch(Observer):
    """Note the shapes at the borders of modules, and how many operators ran."""

    def __init__(self) -> None:
        self.shapes: _Shapes = {}
        self.operators = 0

    def visit(self, *_: Any) -> None:
        self.operators += 1

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del module
        self._note(path, inputs)

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        del module, inputs
        self._note(path, output if isinstance(output, tuple) else (output,))

    def _note(self, path: str, tensors: tuple[Any, ...]) -> None:
        shapes = (tuple(tensor.shape) for tensor in tensors if isinstance(tensor, torch.Tensor))
        self.shapes.setdefault(path, []).extend(shapes)


class _Attempt:
    """One run of a module at a resolution: how far it came, and where it failed."""

    def __init__(
        self,
        module: nn.Module,
        resolution: Resolution,
        in_chans: int | None,
        known: set[str] | None = None,
    ) -> None:
        self.watch = _Watch()
        self.lookups = Lookups(known)
        self.failed: str | None = None
        copied = meta_copy(module)
        try:
            run(
                copied,
                example_inputs(copied, resolution, in_chans=in_chans),
                self.watch,
                self.lookups,
            )
        except ForwardError as error:
            self.failed = error.path


def maps_of(
    module: nn.Module, resolution: Resolution, *, in_chans: int | None = None
) -> Maps | None:
    """Return the maps of a network; None where it does not run, or nothing may be a table.

    Args:
        module: The network, on the meta device.
        resolution: The sides in px.
        in_chans: Input channels; read from the module if not given.

    Example:
        >>> maps_of(nn.Conv2d(3, 8, 3, device="meta"), 8) is None
        True
    """
    if not any(holds_tables(p) and (p._parameters or p._buffers) for p in module.modules()):
        return None
    attempt = _Attempt(module, resolution, in_chans)
    if attempt.failed is not None:
        return None
    return Maps(attempt.watch.shapes, attempt.lookups.positions)


def with_moved_tables(
    module: nn.Module, maps: Maps, resolution: Resolution, *, in_chans: int | None = None
) -> nn.Module | None:
    """Return a copy whose position tables have the size for which it runs at a resolution.

    Args:
        module: The network, on the meta device.
        maps: Its maps at a resolution at which it runs.
        resolution: The other, in px.
        in_chans: Input channels; read from the module if not given.

    Returns:
        The copy, None if it does not run so.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.stem = nn.Conv2d(3, 8, 4, 4)
        ...         self.table = nn.Parameter(torch.zeros(1, 8, 16, 16))
        ...     def forward(self, x):
        ...         return self.stem(x) + self.table
        >>> net = Net().to("meta")
        >>> with_moved_tables(net, maps_of(net, 64), 96).table.shape
        torch.Size([1, 8, 24, 24])
    """
    moved, now = meta_copy(module), _Attempt(module, resolution, in_chans, maps.lookups)
    for _ in range(_MOST):
        if now.failed is None:
            return moved
        grown = _grown(maps.shapes, now.watch.shapes)
        attempt = partial(_Attempt, resolution=resolution, in_chans=in_chans, known=maps.lookups)
        found = _furthered(moved, now, grown, attempt)
        if found is None:
            break
        moved, now = found
    return None


def _grown(before: _Shapes, after: _Shapes) -> dict[_Shape, _Shape]:
    """Return what the sizes over positions have become: rectangles, rows, and sides."""
    found: dict[_Shape, _Shape] = {}
    for path, shapes in after.items():
        for old, new in zip(before.get(path, ()), shapes, strict=False):
            if len(old) != len(new):
                continue
            axes = [dim for dim, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
            if len(axes) in (1, 2):
                found[tuple(old[dim] for dim in axes)] = tuple(new[dim] for dim in axes)
    for old, new in list(found.items()):
        if len(old) == 2:
            for prefix in PREFIXES:
                found.setdefault((old[0] * old[1] + prefix,), (new[0] * new[1] + prefix,))
            for a, b in zip(old, new, strict=True):
                found.setdefault((a,), (b,))
    return found


def _furthered(
    module: nn.Module,
    now: _Attempt,
    grown: dict[_Shape, _Shape],
    attempt: Callable[[nn.Module], _Attempt],
) -> tuple[nn.Module, _Attempt] | None:
    """Give a table in the module that failed another size, so that more operators run."""
    assert now.failed is not None
    for name in _tables(module, now.failed):
        for shape in _resized(tuple(table_of(module, name).shape), grown):
            changed = meta_copy(module)
            reshaped(changed, {name: torch.empty(shape, device="meta")})
            then = attempt(changed)
            if then.failed is None or then.watch.operators > now.watch.operators:
                return changed, then
    return None


def _tables(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the tensors that a module owns, itself or in what it does not run but reads.

    Whole numbers are no values at positions.
    """
    owner = module.get_submodule(path)
    for name, tensor in (*owner.named_parameters(), *owner.named_buffers()):
        if not tensor.is_floating_point():
            continue
        holder = owner.get_submodule(name.rpartition(".")[0])
        if name.count(".") <= 1 and holds_tables(holder):
            yield f"{path}.{name}".lstrip(".")


def _resized(shape: _Shape, grown: dict[_Shape, _Shape]) -> Iterator[_Shape]:
    """Yield the shapes that a table may have now, over two axes first, and the last ones first."""
    for count in (2, 1):
        for axes in reversed(list(combinations(range(len(shape)), count))):
            new = grown.get(tuple(shape[dim] for dim in axes))
            if new is not None:
                sizes = dict(zip(axes, new, strict=True))
                yield tuple(sizes.get(dim, size) for dim, size in enumerate(shape))


def table_of(module: nn.Module, name: str) -> torch.Tensor:
    """Return a parameter or a buffer.

    Example:
        >>> table_of(nn.BatchNorm2d(3), "running_var").sum().item()
        3.0
    """
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    tensor = owner._parameters.get(leaf)
    found = owner._buffers.get(leaf) if tensor is None else tensor
    assert found is not None
    return found


def reshaped(module: nn.Module, tables: dict[str, torch.Tensor]) -> nn.Module:
    """Put other tensors in the place of those of a module of our own, and return it.

    Example:
        >>> reshaped(nn.Linear(2, 3), {"bias": torch.ones(3)}).bias.sum().item()
        3.0
    """
    for name, value in tables.items():
        path, _, leaf = name.rpartition(".")
        owner, old = module.get_submodule(path), table_of(module, name)
        if leaf in owner._buffers:
            owner._buffers[leaf] = value.to(old.dtype)
            continue
        owner._parameters[leaf] = nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad)
    return module

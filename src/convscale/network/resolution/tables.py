"""Find the position tables of a network that has no constructor at hand, by running it.

At another resolution it fails where a table meets a map of another size. What the maps have become
up to there is known, so that the table can be given their size, and the run goes on to the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from math import prod
from typing import Any

import torch
from torch import nn

from convscale.network.modules.copies import meta_copy
from convscale.network.modules.walking import walk
from convscale.network.resolution.resampling import PREFIXES, holds_tables
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.running.feeding import Feed
from convscale.network.running.lookups import Lookups

_Shape = tuple[int, ...]
_Shapes = dict[str, list[_Shape]]
_Grown = dict[_Shape, dict[_Shape, None]]  # sizes, and what they may have become, in order
_Change = dict[str, _Shape]  # other shapes of tables, by their names
_MOST = 200  # tables
_MOST_JOINED = 24  # changes of several tables that are tried at one place


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
    """One run of a module: how far it came, and where it failed."""

    def __init__(self, module: nn.Module, feed: Feed, known: set[str] | None = None) -> None:
        self.watch = _Watch()
        self.lookups = Lookups(known)
        self.failed: str | None = None
        copied = meta_copy(module)
        given = feed.inputs(copied)
        try:
            run(copied, given.args, self.watch, self.lookups, keywords=given.kwargs)
        except ForwardError as error:
            self.failed = error.path


def maps_of(module: nn.Module, feed: Feed) -> Maps | None:
    """Return the maps of a network; None where it does not run, or nothing may be a table.

    Args:
        module: The network, on the meta device.
        feed: What it runs on.

    Example:
        >>> maps_of(nn.Conv2d(3, 8, 3, device="meta"), Feed(8)) is None
        True
    """
    if not any(holds_tables(p) and (p._parameters or p._buffers) for _, p in walk(module)):
        return None
    attempt = _Attempt(module, feed)
    if attempt.failed is not None:
        return None
    return Maps(attempt.watch.shapes, attempt.lookups.positions)


def with_moved_tables(module: nn.Module, maps: Maps, feed: Feed) -> nn.Module | None:
    """Return a copy whose position tables have the size for which it runs on other inputs.

    Args:
        module: The network, on the meta device.
        maps: Its maps at a resolution at which it runs.
        feed: What it shall run on, at another resolution.

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
        >>> with_moved_tables(net, maps_of(net, Feed(64)), Feed(96)).table.shape
        torch.Size([1, 8, 24, 24])
    """
    moved, now = meta_copy(module), _Attempt(module, feed, maps.lookups)
    for _ in range(_MOST):
        if now.failed is None:
            return moved
        grown = _grown(maps.shapes, now.watch.shapes)
        attempt = partial(_Attempt, feed=feed, known=maps.lookups)
        found = _furthered(moved, now, grown, attempt)
        if found is None:
            break
        moved, now = found
    return None


def _grown(before: _Shapes, after: _Shapes) -> _Grown:
    """Return what sizes over positions may have become: grids, rows of their entries, and sides.

    One size may be of several kinds: 16 x 16 positions of a patch of 16 px are as many as the
    image's side has pixels.
    """
    found: _Grown = defaultdict(dict)
    for path, shapes in after.items():
        for old, new in zip(before.get(path, ()), shapes, strict=False):
            if len(old) != len(new):
                continue
            axes = [dim for dim, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
            if len(axes) in (1, 2, 3):
                found[tuple(old[dim] for dim in axes)][tuple(new[dim] for dim in axes)] = None
    for old, new in [(old, new) for old, several in found.items() for new in several]:
        if len(old) > 1:
            for prefix in PREFIXES:
                found[(prod(old) + prefix,)][(prod(new) + prefix,)] = None
        for count in range(1, len(old)):
            for some in combinations(range(len(old)), count):
                found[tuple(old[dim] for dim in some)][tuple(new[dim] for dim in some)] = None
    return found


def _furthered(
    module: nn.Module,
    now: _Attempt,
    grown: _Grown,
    attempt: Callable[[nn.Module], _Attempt],
) -> tuple[nn.Module, _Attempt] | None:
    """Give tables in the module that failed other sizes, so that more operators run.

    One table at first; then several, each over a side of its own, which make one by broadcasting.
    """
    assert now.failed is not None
    level: list[_Change] = []
    for name in _tables(module, now.failed):
        for shape in _resized(tuple(table_of(module, name).shape), grown):
            change = {name: shape}
            changed, then = _changed(module, change, attempt)
            if _is_further(then, now):
                return changed, then
            if then.watch.operators == now.watch.operators:
                level.append(change)
    for change in islice(_joined(level), _MOST_JOINED):
        changed, then = _changed(module, change, attempt)
        if _is_further(then, now):
            return changed, then
    return None


def _changed(
    module: nn.Module, change: _Change, attempt: Callable[[nn.Module], _Attempt]
) -> tuple[nn.Module, _Attempt]:
    changed = meta_copy(module)
    blank = {name: torch.empty(shape, device="meta") for name, shape in change.items()}
    reshaped(changed, blank)
    return changed, attempt(changed)


def _is_further(then: _Attempt, now: _Attempt) -> bool:
    return then.failed is None or then.watch.operators > now.watch.operators


def _joined(changes: list[_Change]) -> Iterator[_Change]:
    """Yield changes of two tables at once, and then of three: those of height, width and time."""
    for count in (2, 3):
        for some in combinations(changes, count):
            joined = {name: shape for change in some for name, shape in change.items()}
            if len(joined) == count:
                yield joined


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


def _resized(shape: _Shape, grown: _Grown) -> Iterator[_Shape]:
    """Yield the shapes that a table may have now, over most axes first, and the last ones first."""
    for count in (3, 2, 1):
        for axes in reversed(list(combinations(range(len(shape)), count))):
            for new in grown.get(tuple(shape[dim] for dim in axes), ()):
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

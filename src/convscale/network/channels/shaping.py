"""Functions whose arguments name sizes: what they must be told when widths change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from convscale.network.channels.channels import Channels, Sizes
from convscale.network.channels.grids import lay
from convscale.network.channels.labels import Label, distinct, varying, vector
from convscale.network.channels.ties import Ties
from convscale.network.modules.numbers import Number, Size

RESHAPES = frozenset(("view", "reshape", "unflatten", "expand", "_unsafe_view"))
CUTS = frozenset(("tensor_split",))  # told where parts begin, or how many there are
SPLITS = frozenset(("split", "split_with_sizes", "chunk")) | CUTS
READS, WRITES = frozenset(("__getitem__",)), frozenset(("__setitem__",))
SLICES = READS | WRITES
PADS = frozenset(("pad",))
_CONSTANTS = ("zeros", "ones", "full", "empty")  # the last for what is drawn into it
RANGES = frozenset(("arange", "randperm"))
FILLS = frozenset((*_CONSTANTS, *(f"new_{name}" for name in _CONSTANTS), "eye")) | RANGES
TILES = frozenset(("repeat",))
NARROWS = frozenset(("narrow",))
SPREADS = frozenset(("repeat_interleave",))
NORMS = frozenset(("group_norm",))
ENDS = frozenset(("layer_norm", "rms_norm"))  # told the last dimensions of what they norm
SHAPING = ENDS | NORMS | RESHAPES | SPLITS | SLICES | PADS | TILES | FILLS | NARROWS | SPREADS


@dataclass(frozen=True)
class Shaped:
    """One call of a function that names sizes, as the base network made it.

    `dims` holds, for a reshape, what each dimension of the output is made of; for a split,
    what each part's size along the split dimension is: units, or None for a constant; for
    a slice, the same for what lies before it and what it takes, dimension by dimension; for a
    padding, for what it adds at each end, and for a repetition how often, as arguments list it.
    Where a reshape cuts one axis, its units are shared by `over` other parts; `cut` holds the
    units by the two dimensions it is cut into, the second of which grows unless its units are
    one. `told_by` are the modules of whose attributes the sizes were made.

    Example:
        >>> Shaped("view", (1, 8), (None, None)).function
        'view'
    """

    function: str
    sizes: tuple[int, ...]
    dims: tuple[Label | None, ...]
    over: int = 1
    cut: tuple[int, int, Label] | None = None
    told_by: frozenset[str] = frozenset()

    def expected(self, channels: Channels, sizes: Sizes) -> tuple[int, ...]:
        """Return the sizes that the call must give when the groups have new sizes."""
        new = [
            base if units is None else channels.size(units, sizes) // self.over
            for base, units in zip(self.sizes, self.dims, strict=True)
        ]
        if self.function in NORMS and self.dims[0] is not None:
            return (channels.norm_groups(self.dims[0], self.sizes[0], sizes),)
        if self.cut is not None:
            other, free, units = self.cut
            if channels.is_one(units, 1):  # parts of a fixed size: their number grows
                new[other] = channels.size(units.reshape(-1), sizes) // self.sizes[free]
                new[free] = self.sizes[free]
        return tuple(new)


def shaped_call(ties: Ties, function: str, args: Sequence[Any], output: Any) -> Shaped | None:
    """Note a call that names sizes, and tie what it says about units.

    Args:
        ties: The ties of the run; those of the outputs are known already.
        function: Name of the function of PyTorch.
        args: Its positional arguments.
        output: Its result.

    Example:
        >>> x = torch.zeros(1, 4)
        >>> shaped_call(Ties(), "view", (x, 4), x.view(4)).sizes
        (4,)
    """
    found = _shaped(ties, function, args, output)
    told_by = frozenset(tellers(args))
    return replace(found, told_by=told_by) if found is not None and told_by else found


def tellers(args: Iterable[Any]) -> Iterator[str]:
    """Yield the modules of whose attributes the numbers among a call's arguments were made.

    Example:
        >>> from convscale.network.modules.numbers import Place
        >>> width = Number.at(8, Place("stem", "width", None))
        >>> list(tellers((torch.zeros(2), [1, 2 * width], slice(0, 4))))
        ['stem']
    """
    for value in args:
        if isinstance(value, Number):
            yield from (leaf.place.module for leaf in value.leaves() if leaf.place is not None)
        elif isinstance(value, slice):
            yield from tellers((value.start, value.stop))
        elif isinstance(value, list | tuple):
            yield from tellers(value)


def _shaped(ties: Ties, function: str, args: Sequence[Any], output: Any) -> Shaped | None:
    if function in FILLS and isinstance(output, torch.Tensor):
        if function == "eye" and isinstance(args[0], Number):
            both = ties.fill(output.shape[0])
            ties.set_labels(output, (vector(both, 0, 2), vector(both, 1, 2)))
            ties.mark_product(output)
        if function in RANGES and not (isinstance(args[0], int) and int(args[0]) == len(output)):
            return None  # from one number to another
        _fill(ties, args, output)
        known = [along_dimension(ties, output, dim) for dim in range(output.ndim)]
        return Shaped(function, tuple(output.shape), tuple(known))
    if function in NORMS and isinstance(output, torch.Tensor):
        units = along_dimension(ties, output, 1)
        place = args[1].place if isinstance(args[1], Number) else None
        if units is not None and place is not None:
            ties.name_norm(units, place)
        follows = units is not None and (place is not None or len(units) == args[1])
        return Shaped(function, (int(args[1]),), (units if follows else None,))
    if function in ENDS and isinstance(output, torch.Tensor):
        return _ends(ties, function, args, output)
    if function in RESHAPES and isinstance(output, torch.Tensor):
        return _reshaped(ties, function, args, output)
    if function in SPLITS and isinstance(output, list | tuple) and len(output) > 1:
        return _parted(ties, function, args, output)
    if function in WRITES or (function in READS and isinstance(output, torch.Tensor)):
        return _sliced(ties, function, args)
    if function in NARROWS and isinstance(args[2], int):
        x, dim, start, length = args
        stop = start + (length if isinstance(length, int) else int(length))
        index = (*((slice(None),) * (dim % x.ndim)), slice(start, stop))
        return _sliced(ties, function, (x, index))
    if function in PADS and isinstance(output, torch.Tensor):
        return _padded(ties, function, args, output)
    if function in TILES and isinstance(output, torch.Tensor):
        return _tiled(ties, function, args, output)
    if function in SPREADS and len(args) > 2 and isinstance(args[2], int):
        return _spread_out(ties, function, args, output)
    return None


def _ends(ties: Ties, function: str, args: Sequence[Any], output: torch.Tensor) -> Shaped | None:
    """Note a norm of the last dimensions: the sizes that it is told, and what they count."""
    if not isinstance(args[1], list | tuple):
        return None
    first = output.ndim - len(args[1])
    known = [along_dimension(ties, output, dim) for dim in range(first, output.ndim)]
    return Shaped(function, tuple(int(size) for size in args[1]), tuple(known))


def _fill(ties: Ties, args: Sequence[Any], output: torch.Tensor) -> None:
    """Let constants be as many along a dimension as an attribute says, of which there are any.

    So the state that a recurrent layer begins with is as wide as the layer.
    """
    args = args[1:] if isinstance(args[0], torch.Tensor) else args
    given = args[0] if isinstance(args[0], list | tuple) else args[: output.ndim]
    if len(given) != output.ndim:
        return
    known = ties.labels(output)  # where maps have their channels, whatever tells their number
    placed = {dim for label in known for dim in varying(label)}
    own = [
        vector(ties.fill(int(size)), dim, output.ndim)
        for dim, size in enumerate(given)
        if isinstance(size, Number) and size.place is not None and size > 1 and dim not in placed
    ]
    if output.ndim == 1 and isinstance(given[0], Size) and given[0].units is not None:
        own = [given[0].units.reshape(-1)]  # a number for each channel
    ties.set_labels(output, (*known, *own))


def cut(ties: Ties, x: torch.Tensor, output: torch.Tensor) -> None:
    """Tie what a reshape says about units where nobody sees its arguments.

    Example:
        >>> ties, x = Ties(), torch.zeros(8)
        >>> ties.set_labels(x, (ties.fresh(8),))
        >>> y = x.view(2, 4)
        >>> ties.set_labels(y, (ties.labels(x)[0].reshape(2, 4),))
        >>> cut(ties, x, y)
        >>> ties.edges[0][1].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7]
    """
    _reshaped(ties, "view", (x, ()), output)


def _reshaped(ties: Ties, function: str, args: Sequence[Any], output: torch.Tensor) -> Shaped:
    """Note a reshape. An axis that is cut into several grows along one of them.

    The others (heads, groups) keep their number: the units of every head are tied to those
    of the first, which from here on stand for all.
    """
    labels = []
    dims: list[Label | None] = [None] * output.ndim
    seen: set[int] = set()
    over, cut_at = 1, None
    given = _given(args)
    for label in ties.labels(output):
        spread = sorted(varying(label))
        if len(given) == output.ndim:
            _same_size(ties, {dim: given[dim] for dim in spread}, label)
        if len(spread) > 1 and _is_shuffle(ties, args, label, output):
            free = _free_dimension(args, label, spread)
            dims[free] = label.reshape(-1)
            over = label.size // output.shape[free]
            ties.dealt.append((label.reshape(-1), over))
            if len(spread) == 2:
                other = sum(spread) - free
                rows = np.moveaxis(label, (other, free), (0, 1)).reshape(label.shape[other], -1)
                cut_at = (other, free, rows)
            labels.append(label)
            continue
        if len(spread) > 1 and (parts := _grid_parts(ties, args[0], given, label, spread)):
            for dim, units in parts.items():
                dims[dim] = units
                labels.append(vector(units, dim, output.ndim))
            continue
        if len(spread) > 1:
            free = _free_dimension(args, label, spread)
            first = label
            for dim in spread:
                first = first if dim == free else first.take([0], axis=dim)
            ties.tie(first, label)
            label, spread = first, [free]
        labels.append(label)
        units = label.reshape(-1)
        dims[spread[0]] = units if spread[0] not in seen else None
        seen.add(spread[0])
    ties.set_labels(output, tuple(labels))
    for label in ties.merged(output):  # the first stands for a dimension that several share
        spread = sorted(varying(label))
        if len(spread) == 1 and dims[spread[0]] is None:
            dims[spread[0]] = label.reshape(-1)
    return Shaped(function, tuple(output.shape), tuple(dims), over, cut_at)


def _grid_parts(
    ties: Ties, x: torch.Tensor, given: Sequence[Any], label: Label, spread: list[int]
) -> dict[int, Label] | None:
    """Return new units of the dimensions that an axis is cut into, where all of them may grow.

    They are where one number tells two of them, and where a row of weights becomes a kernel.
    """
    sizes = [given[dim] for dim in spread] if len(given) == label.ndim else []
    square = len(sizes) == 2 and _is_one_number(*sizes)
    mixed = ties.mixed_in(x)
    kernel = spread[0] == 0 and label.ndim > 2 and (mixed is not None or ties.is_table(x))
    if not (square or kernel) or len(distinct(label)) < label.size:
        return None
    parts = {dim: ties.fresh(label.shape[dim]) for dim in spread}
    lay(ties, label.reshape(-1), parts.values())
    if square:
        ties.tie(*parts.values())
    elif mixed is not None and (rows := along_dimension(ties, mixed, 0)) is not None:
        ties.pin(rows)  # kernels of several experts: their number stays
    return parts


def _is_one_number(left: Any, right: Any) -> bool:
    """Tell whether two numbers are one: from one place, or read off one tensor."""
    if isinstance(left, Size) and isinstance(right, Size):
        return left.units is not None and left.units is right.units
    own = [size.place if isinstance(size, Number) else None for size in (left, right)]
    return own[0] is not None and own[0] == own[1]


def _tiled(ties: Ties, function: str, args: Sequence[Any], output: torch.Tensor) -> Shaped | None:
    """Note how often a map of one channel is repeated, where an attribute tells it.

    Or a kernel along its outputs, as often as a tensor has channels: there are as many outputs of
    each, whatever their number.
    """
    x, given = args[0], _given(args)
    if not x.ndim == output.ndim == len(given) > 0:
        return None
    times = given[0]
    if isinstance(times, Size) and times.units is not None and x.ndim > 2 and times > 1:
        dim, over = 0, x.shape[0]
    elif x.ndim == ties.map_ndim and x.shape[1] <= 1 and isinstance(given[1], Number):
        dim, over = 1, 1
        if isinstance(given[1], Size) or output.shape[1] < 2:
            return None
    else:
        return None
    units = ties.fill(output.shape[0]) if dim == 0 else ties.fresh(output.shape[1])
    others = tuple(label for label in ties.labels(output) if dim not in varying(label))
    ties.set_labels(output, (*others, vector(units, dim, output.ndim)))
    dims = [units if own == dim else None for own in range(output.ndim)]
    return Shaped(function, tuple(int(times) for times in given), tuple(dims), over)


def _spread_out(
    ties: Ties, function: str, args: Sequence[Any], output: torch.Tensor
) -> Shaped | None:
    """Note numbers that are repeated for as many channels each as the code computes.

    How many they are stays; what they are repeated to is a multiple of it.
    """
    x, times, dim = args[0], args[1], args[2] % args[0].ndim
    label = next((own for own in ties.labels(x) if varying(own) == {dim}), None)
    if label is None or not _counts_channels(times):
        return None
    ties.pin(label)
    units = ties.fill(output.shape[dim])
    others = tuple(own for own in ties.labels(output) if dim not in varying(own))
    ties.set_labels(output, (*others, vector(units, dim, output.ndim)))
    _divide(ties, (times,), units)
    return Shaped(function, (int(times),), (units,), x.shape[dim])


def _given(args: Sequence[Any]) -> Sequence[Any]:
    """Return the sizes that a reshape was given, one by one or as a list."""
    packed = len(args) == 2 and isinstance(args[1], list | tuple)
    return args[1] if packed else args[1:]


def _same_size(ties: Ties, given: Mapping[int, Any], label: Label) -> None:
    """Note that channels are as many as those of the tensor that their size was read off.

    Or each of several parts of them, such as the queries, keys and values of all heads.
    """
    for dim, size in given.items():
        whole, parts = size, 1
        if isinstance(whole, Number) and whole.parts is not None and whole.parts[0] == "*":
            left, right = whole.parts[1:]
            whole, parts = (left, int(right)) if isinstance(left, Number) else (right, int(left))
        if isinstance(whole, Number) and whole.parts is not None and whole.parts[0] == "//":
            whole = whole.parts[1]  # heads were split off it
        if isinstance(whole, Size) and label.size == int(whole) * parts:
            for part in np.split(label, parts, axis=dim):
                ties.same.append((whole.units, part.reshape(-1)))


def _keeps_positions(ties: Ties, x: torch.Tensor, output: torch.Tensor) -> bool:
    """Tell whether a reshape cuts the channels of a feature map and keeps its positions.

    Then it shuffles channels or stacks branches: unlike heads, the parts are no copies. In
    one dimension heads are cut just so: nothing tells them apart.
    """
    cuts = x.ndim == ties.map_ndim > 3 and output.ndim == x.ndim + 1
    return cuts and x.shape[2:] == output.shape[3:]


def _is_shuffle(ties: Ties, args: Sequence[Any], label: Label, output: torch.Tensor) -> bool:
    """Tell whether parts of the channels of a map are laid out apart, which are no copies.

    Their positions may be laid into one axis: then pairs of channels are laid out, half of these
    in the batch, until a later reshape keeps all of that as it is.
    """
    x, given = args[0], _given(args)
    if _keeps_positions(ties, x, output):
        return True
    if ties.map_ndim <= 3 or len(given) != output.ndim:
        return False
    spread = varying(label)
    if x.ndim == ties.map_ndim and output.ndim == 3:
        return spread == {0, 1} and _counts_channels(given[0]) and output.shape[1] == 2
    before = [own for own in ties.labels(x) if len(varying(own)) == 2] if x.ndim == 3 else []
    kept = [label.shape[dim] for dim in sorted(spread)]
    return any([own.shape[dim] for dim in sorted(varying(own))] == kept for own in before)


def _free_dimension(args: Sequence[Any], label: Label, spread: list[int]) -> int:
    """Choose which of the dimensions that an axis is cut into grows with it.

    The one given as -1; else one that was computed from others; else the one with the most
    units, images of a batch apart, and of equal ones the last: heads stand before their widths.
    Heads that are laid into the batch are none of them.
    """
    given = _given(args)
    if 0 in spread and len(given) == label.ndim and _counts_channels(given[0]):
        return 0  # kernels that are made for each channel
    spread = [dim for dim in spread if dim > 0]
    if len(given) == label.ndim:
        for dim in spread:
            if isinstance(given[dim], int) and int(given[dim]) == -1:
                return dim
        computed = [d for d in spread if isinstance(given[d], Number) and given[d].parts]
        plain = [d for d in spread if isinstance(given[d], Number) and not given[d].parts]
        if len(computed) == 1 and len(plain) == len(spread) - 1:
            return computed[0]
    return max(spread, key=lambda dim: (_units_along(label, dim), label.shape[dim], dim))


def _counts_channels(size: Any) -> bool:
    """Tell whether a size was computed from that of an axis of channels."""
    if isinstance(size, Size):
        return size.units is not None
    operands = size.parts[1:] if isinstance(size, Number) and size.parts else ()
    return any(_counts_channels(part) for part in operands)


def _units_along(label: Label, dim: int) -> int:
    """Return how many units stand along one dimension, at the first index of the others."""
    at = tuple(slice(None) if own == dim else 0 for own in range(label.ndim))
    return len(distinct(label[at]))


def _sliced(ties: Ties, function: str, args: Sequence[Any]) -> Shaped | None:
    """Note a slice of an axis with units: what lies before it, and what it takes."""
    x, index = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
    sizes: list[int] = []
    dims: list[Label | None] = []
    if index and type(index[0]) is int:
        _part_taken(ties, x)
    for dim, entry in slice_dimensions(index, x.ndim):
        start, stop, _ = entry.indices(x.shape[dim])
        label = next((lb for lb in ties.labels(x) if varying(lb) == {dim}), None)
        units = None if label is None else label.reshape(-1)
        sizes += [start, stop - start]
        if units is not None and x.shape[dim] == 2 * (stop - start) and start in (0, stop - start):
            ties.equal.append([units[: len(units) // 2], units[len(units) // 2 :]])  # halves
        elif units is not None and 0 < (at := start or stop) < len(units):
            ties.cut.append(units[:at])
        _divide(ties, (entry.start, entry.stop), units)
        before = None if units is None or start == 0 else units[:start]
        dims += [before, None if units is None or stop <= start else units[start:stop]]
    return Shaped(function, tuple(sizes), tuple(dims)) if sizes else None


def _part_taken(ties: Ties, x: torch.Tensor) -> None:
    """Note that channels are taken apart into equal parts, which stand one after the other."""
    for label in ties.labels(x):
        if 0 in varying(label) and len(varying(label)) > 1:
            ties.equal.append([part.reshape(-1) for part in label])


def _divide(ties: Ties, numbers: Sequence[Any], units: Label | None) -> None:
    """Note parts of an axis that the code computes from its size: quarters stay quarters."""
    if units is None:
        return
    for number in numbers:
        if isinstance(number, Number):
            ties.divided += [
                (units, by) for by in number.divisors(len(units)) if by and len(units) % by == 0
            ]


def _share(ties: Ties, sizes: Sequence[Any], parts: Sequence[Label | None]) -> None:
    """Note parts of an axis whose sizes are so many times one attribute: they keep their shares."""
    known = [label.reshape(-1) for label in parts if label is not None]
    numbers = [size for size in sizes if isinstance(size, Number)]
    if not len(known) == len(numbers) == len(sizes):
        return
    for leaf in numbers[0].leaves():
        times = [number.times(leaf.place) for number in numbers]
        if None not in times and len(set(times)) > 1:
            ties.shared.append(known)
            return


def slice_dimensions(index: Sequence[Any], ndim: int) -> list[tuple[int, slice]]:
    """Return the slices of step 1 in an index that name a start or a stop, by dimension.

    Example:
        >>> slice_dimensions((slice(None), slice(None, 8)), 4)
        [(1, slice(None, 8, None))]
    """
    if any(isinstance(entry, torch.Tensor | list) for entry in index):
        return []
    plain = sum(entry is not None and entry is not Ellipsis for entry in index)
    dim, found = 0, []
    for entry in index:
        if entry is Ellipsis:
            dim += ndim - plain
        elif entry is not None:
            named = isinstance(entry, slice) and entry.step in (None, 1)
            if named and (entry.start is not None or entry.stop is not None):
                found.append((dim, entry))
            dim += 1
    return found


def along_dimension(ties: Ties, tensor: torch.Tensor, dim: int) -> Label | None:
    """Return the units of the first label that varies along one dimension only, or None.

    Example:
        >>> along_dimension(Ties(), torch.zeros(3), 0) is None
        True
    """
    label = next((lb for lb in ties.labels(tensor) if varying(lb) == {dim}), None)
    return None if label is None else label.reshape(-1)


def _padded(ties: Ties, function: str, args: Sequence[Any], output: torch.Tensor) -> Shaped | None:
    """Note a padding: the units that it adds before and behind the channels."""
    given = args[1]
    if not isinstance(given, list | tuple):
        return None
    dims: list[Label | None] = [None] * len(given)
    for position in range(0, len(given) - 1, 2):
        dim = output.ndim - 1 - position // 2
        label = next((lb for lb in ties.labels(output) if varying(lb) == {dim}), None)
        before, after = int(given[position]), int(given[position + 1])
        if label is not None and before >= 0 and after >= 0:
            units = label.reshape(-1)
            dims[position] = units[:before] if before else None
            dims[position + 1] = units[len(units) - after :] if after else None
    return Shaped(function, tuple(int(size) for size in given), tuple(dims))


def _parted(ties: Ties, function: str, args: Sequence[Any], output: Sequence[Any]) -> Shaped | None:
    parts = [part for part in output if isinstance(part, torch.Tensor)]
    x = args[0]
    dim = next((d for d in range(x.ndim) if parts[0].shape[d] != x.shape[d]), None)
    if dim is None:
        return None
    found = [next((lb for lb in ties.labels(part) if varying(lb) == {dim}), None) for part in parts]
    whole = next((lb for lb in ties.labels(x) if varying(lb) == {dim}), None)
    if function != "chunk" and isinstance(args[1], list | tuple):
        _divide(ties, args[1], None if whole is None else whole.reshape(-1))
        _share(ties, args[1], found)
    equal = len({part.shape[dim] for part in parts}) == 1
    by_number = function == "chunk" or not isinstance(args[1], list | tuple | torch.Tensor)
    if equal and by_number:  # one size for all parts: they stay of equal size
        known = [label for label in found if label is not None]
        if len(known) > 1:
            ties.equal.append([label.reshape(-1) for label in known])
    elif function == "chunk" and found[0] is not None and found[-1] is not None:
        ties.chunked.append((found[0].reshape(-1), found[-1].reshape(-1), len(parts)))
    elif by_number and found[0] is not None:
        ties.cut.append(found[0].reshape(-1))
    sizes = tuple(int(part.shape[dim]) for part in parts)
    units = tuple(None if label is None else label.reshape(-1) for label in found)
    return Shaped(function, sizes, units)

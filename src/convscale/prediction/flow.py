"""What tensors are while a network runs: their precision under autocast, their layout. No torch.

PyTorch's autocast runs products in half precision and a list of operators in full precision; all
others keep what comes, or take the wider of several. Weights are kept in full precision. The code
of a network may cast tensors too, or turn autocast off, which its calls tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import (
    CONVOLUTIONS,
    FUSED_ATTENTION,
    LINEAR,
    MATRIX_PRODUCT,
    OperatorCall,
)

Floats = npt.NDArray[np.float64]
_PRODUCTS = frozenset((*CONVOLUTIONS, LINEAR, MATRIX_PRODUCT, FUSED_ATTENTION))
# Those of autocast's list for full precision that convolutional networks call.
_FULL = frozenset(
    "native_layer_norm native_group_norm _softmax _log_softmax sum prod cumsum cumprod pow exp log "
    "norm linalg_vector_norm softplus rsqrt reciprocal grid_sampler_2d".split()
)
# Those that a GPU runs with channels first alone.
_FIRST = frozenset("native_group_norm reflection_pad2d replication_pad2d".split())


@dataclass(frozen=True)
class Flow:
    """How the tensors of each operator are held; shares of elements, shape (operators,).

    Args:
        names: The operators' names, without namespace and without the mark of in-place.
        full_read: The share of what is read that is in full precision under autocast.
        full_written: The share of what is written.
        cast: The share of what is read that autocast copies to another precision first.
        last: 1 where the input has its channels last though the network's has them first.
        first_nhwc: 1 where a convolution runs with channels first though the network's input has
            them last.
        moved: 1 where the input must be copied to have its channels elsewhere, in a network
            whose input has them first.
        moved_nhwc: The same, in a network whose input has them last.
        mixed: 1 where two operands, both as large as the result, are laid out differently, in a
            network whose input has its channels first.
        mixed_nhwc: The same, in a network whose input has them last.
    """

    names: tuple[str, ...]
    full_read: Floats
    full_written: Floats
    cast: Floats
    last: Floats
    first_nhwc: Floats
    moved: Floats
    moved_nhwc: Floats
    mixed: Floats
    mixed_nhwc: Floats

    def only(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Flow:
        """Return the part of some of the operators."""
        names = tuple(np.asarray(self.names, dtype=object)[which])
        return Flow(names, *(getattr(self, entry.name)[which] for entry in fields(self)[1:]))


class _Held(NamedTuple):
    """A tensor: in full precision or not, its channels last or not by the layout of the input.

    Of what attention puts out no more is known than that the next layer can read it.
    """

    full: bool
    last: bool
    last_nhwc: bool
    loose: bool = False


_GIVEN = (_Held(full=True, last=False, last_nhwc=True),)  # what the network is given


def flow(calls: Sequence[OperatorCall]) -> Flow:
    """Follow precision and layout along the calls of a forward pass.

    Example:
        >>> conv = OperatorCall("a", "aten.convolution", "convolution 1x1", bytes_read=9)
        >>> norm = OperatorCall("b", "aten.native_layer_norm", "norm", bytes_read=9, sources=(0,))
        >>> found = flow([conv, norm])
        >>> found.names, found.cast.tolist(), found.full_written.tolist()
        (('convolution', 'native_layer_norm'), [1.0, 1.0], [0.0, 1.0])
    """
    held: list[_Held | None] = []
    halved: set[int] = set()  # what is computed of weights, and held in half precision
    plain: set[int] = set()  # weights that are computed, and have lost their layout by it
    rows: list[_Row] = []
    names = kernels(calls)
    follow = cache(_follow)  # operators alike that read what is held alike: most of a network
    for place, (name, call) in enumerate(zip(names, calls, strict=True)):
        mine = tuple([one for place in call.sources if (one := held[place]) is not None])
        if not mine and call.bytes_read > call.weight_bytes:
            mine = _GIVEN
        half = not halved.isdisjoint(call.sources)
        weighted = call.weight_bytes > 0 and () not in call.input_shapes and not half
        first = not plain.isdisjoint(call.sources) or _shared(call)
        in_place = call.operator.endswith("_")
        whole = call.kind == "elementwise" and _whole(call)
        state, row = follow(name, call.kind, mine, weighted, in_place, call.autocast, first, whole)
        if call.cast:
            state, row = _cast(call.cast == "full", state, row)
        if state is None and (call.cast == "half" or (half and not call.cast)):
            halved.add(place)
        if state is None and (first or call.kind == "norm"):  # a norm lays them out in its own way
            plain.add(place)
        held.append(state)
        rows.append(row)
    columns = np.array(rows, dtype=np.float64).reshape(len(calls), len(fields(Flow)) - 1).T
    return Flow(names, *columns)


def _shared(call: OperatorCall) -> bool:
    """Tell whether a depthwise convolution has one filter for all channels: it has no layout."""
    own = call.geometry
    if own is None or call.kind != "convolution depthwise":
        return False
    return call.weight_bytes < own.out_channels * prod(own.kernel)


def _whole(call: OperatorCall) -> bool:
    """Tell whether an operator reads two tensors that are as large as its result."""
    return call.bytes_read - call.weight_bytes >= 2 * call.bytes_written


def bare(operator: str) -> str:
    """Return an operator's name without its namespace and the mark of in-place.

    Example:
        >>> bare("aten.relu_")
        'relu'
    """
    return operator.rsplit(".", 1)[-1].rstrip("_")


def kernels(calls: Sequence[OperatorCall]) -> tuple[str, ...]:
    """Return the operators' names, with what runs as one kernel on a device told apart.

    A run without memory takes some operators apart: attention into two products (`attention`)
    and a softmax (`_safe_softmax`, which attention alone calls), a linear layer into a product
    and the addition of its bias (`bias`). What the network's own code casts is `cast`.

    Example:
        >>> product = OperatorCall("a", "aten.mm", "linear")
        >>> bias = OperatorCall("a", "aten.add", "elementwise", weight_bytes=4, sources=(0,))
        >>> kernels([product, bias])
        ('mm', 'bias')
    """
    known = cache(bare)
    names = ["cast" if call.cast else known(call.operator) for call in calls]
    for place, call in enumerate(calls):
        if names[place] == "add" and call.weight_bytes and len(call.sources) == 1:
            names[place] = "bias" if names[call.sources[0]] == "mm" else "add"
        elif names[place] == "_safe_softmax":
            for source in _through(calls, names, place, "bmm"):
                names[source] = "attention"
        elif names[place] == "bmm" and _through(calls, names, place, "_safe_softmax"):
            names[place] = "attention"
    return tuple(names)


def _through(
    calls: Sequence[OperatorCall], names: Sequence[str], place: int, wanted: str, hops: int = 3
) -> list[int]:
    """Return the calls of a name that a call reads from, directly or by pointwise operators."""
    found = []
    for source in calls[place].sources:
        if names[source] == wanted:
            found.append(source)
        elif hops and calls[source].kind in ("elementwise", "copy"):
            found += _through(calls, names, source, wanted, hops - 1)
    return found


_Row = tuple[float, ...]  # as the arrays of a flow


def _follow(
    name: str,
    kind: str,
    mine: tuple[_Held, ...],
    weighted: bool,
    in_place: bool,
    automatic: bool,
    plain: bool,
    whole: bool,
) -> tuple[_Held | None, _Row]:
    """Return how an operator's result is held, and its row of the flow.

    Args:
        name: Its name.
        kind: Its kind.
        mine: How what it reads is held.
        weighted: Whether it reads weights, beside tensors that are all more than numbers.
        in_place: Whether its result takes the place of what it read.
        automatic: Whether autocast casts what it reads.
        plain: Whether its weights have their channels first in any network.
        whole: Whether it takes two tensors position by position.
    """
    if not mine:  # of weights alone
        return None, (1.0, 1.0, *[0.0] * 7)
    share = sum([one.full for one in mine]) / len(mine)
    if automatic and kind in _PRODUCTS:
        read, full, cast = 0.0, False, share
    elif automatic and (name in _FULL or name.startswith("upsample_")):
        read, full, cast = 1.0, True, 1.0 - share
    else:
        read, cast = share, 0.0
        full = share > 0 or (weighted and kind != "norm" and name != "bias")
        if in_place:  # the result is as the first operand was
            full = mine[-1].full
    own = mine[0]
    wanted = _wanted(name, kind)
    moved = wanted is not None and own.last != wanted and not own.loose
    convolves = kind in CONVOLUTIONS
    # the weights of a network in nhwc have their channels last; cuDNN follows either operand
    wanted_nhwc = True if convolves and not plain else wanted
    first_nhwc = convolves and plain and not own.last_nhwc
    moved_nhwc = wanted_nhwc is not None and own.last_nhwc != wanted_nhwc
    moved_nhwc = moved_nhwc and not (own.loose and kind == LINEAR)
    attends = kind in (MATRIX_PRODUCT, FUSED_ATTENTION)
    state = _Held(
        full,
        last=not attends and (own.last if wanted is None else wanted),
        last_nhwc=not attends and (own.last_nhwc if wanted_nhwc is None else wanted_nhwc),
        loose=attends or (own.loose and wanted_nhwc is None),
    )
    fixed = [one for one in mine if not one.loose] if whole else []
    mixed = len({one.last for one in fixed}) > 1, len({one.last_nhwc for one in fixed}) > 1
    layout = own.last, first_nhwc, moved, moved_nhwc, *mixed
    return state, (read, float(full), cast, *map(float, layout))


def _cast(full: bool, state: _Held | None, row: _Row) -> tuple[_Held | None, _Row]:
    """Return how the result of a cast is held, and its row: one precision is read, one written."""
    told = (float(not full), float(full))
    return state and state._replace(full=full), (*told, 0.0, *row[3:])


def _wanted(name: str, kind: str) -> bool | None:
    """Tell whether an operator wants its input's channels last, or first; None for either."""
    if kind == LINEAR or name == "native_layer_norm":
        return True
    return False if name in _FIRST else None

"""What tensors are while a network runs: their precision under autocast, their layout. No torch.

PyTorch's autocast runs products in half precision and a list of operators in full precision; all
others keep what comes, or take the wider of several. Weights are kept in full precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
_ROWS_LAST = frozenset((LINEAR, MATRIX_PRODUCT, FUSED_ATTENTION))


@dataclass(frozen=True)
class Flow:
    """How the tensors of each operator are held; shares of elements, shape (operators,).

    Args:
        names: The operators' names, without namespace and without the mark of in-place.
        full_read: The share of what is read that is in full precision under autocast.
        full_written: The share of what is written.
        cast: The share of what is read that autocast copies to another precision first.
        last: 1 where the input has its channels last though the network's has them first.
        moved: 1 where an input with its channels first must be copied to have them last.
    """

    names: tuple[str, ...]
    full_read: Floats
    full_written: Floats
    cast: Floats
    last: Floats
    moved: Floats

    def only(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Flow:
        """Return the part of some of the operators."""
        names = tuple(np.asarray(self.names, dtype=object)[which])
        return Flow(names, *(getattr(self, entry.name)[which] for entry in fields(self)[1:]))


@dataclass(frozen=True)
class _Held:
    full: bool
    last: bool


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
    rows: list[tuple[float, ...]] = []
    for call in calls:
        mine = [one for place in call.sources if (one := held[place]) is not None]
        if not mine and call.bytes_read > call.weight_bytes:
            mine = [_Held(full=True, last=False)]  # what the network is given
        state, row = _follow(call, mine)
        held.append(state)
        rows.append(row)
    columns = np.array(rows, dtype=np.float64).reshape(len(calls), 5).T
    return Flow(tuple(bare(call.operator) for call in calls), *columns)


def bare(operator: str) -> str:
    """Return an operator's name without its namespace and the mark of in-place.

    Example:
        >>> bare("aten.relu_")
        'relu'
    """
    return operator.rsplit(".", 1)[-1].rstrip("_")


def _follow(call: OperatorCall, mine: list[_Held]) -> tuple[_Held | None, tuple[float, ...]]:
    if not mine:  # of weights alone
        return None, (1.0, 1.0, 0.0, 0.0, 0.0)
    name = bare(call.operator)
    share = sum(one.full for one in mine) / len(mine)
    last = mine[0].last
    if call.kind in _PRODUCTS:
        read, full, cast = 0.0, False, share
    elif name in _FULL or name.startswith("upsample_"):
        read, full, cast = 1.0, True, 1.0 - share
    else:
        read, cast = share, 0.0
        full = share > 0 or (call.kind != "norm" and call.weight_bytes > 0)
    needs_last = call.kind in _ROWS_LAST or (name == "native_layer_norm")
    moved = needs_last and not last and call.kind not in (MATRIX_PRODUCT, FUSED_ATTENTION)
    state = _Held(full, last or needs_last)
    return state, (read, float(full), cast, float(last), float(moved))

"""The memory of inference of paper families in closed form, of one network or of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convscale.errors import InputError
from convscale.families.candidates import Candidates
from convscale.families.forms import Sizes, forms
from convscale.families.many import chunks
from convscale.families.operators import terms
from convscale.families.regnet import Floats, Ints
from convscale.families.terms import Form, Term
from convscale.quantities import check_count

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_CHUNK = 1024  # candidates whose intermediate arrays stay in the cache
_INDEX_BYTES = 8  # of a pooled element's place, and of the batches that a norm has seen


def inference_bytes(
    candidates: Candidates, *, batch_size: int = 1, precision: str = "float32"
) -> Ints:
    """Return the peak memory of one forward pass without gradients, shape (n,).

    It is that of weights and of the tensors that live at once, as `convscale memory` predicts
    it for the built network.

    Args:
        candidates: The networks.
        batch_size: Images in the pass.
        precision: float32, bfloat16 or float16, the weights too.

    Raises:
        InputError: If an argument is wrong.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> net = named("ResNet-18")
        >>> found = read_candidates(net, depths=[net.depths], widths=[net.widths])
        >>> one, three = (int(inference_bytes(found, batch_size=n)[0]) for n in (1, 3))
        >>> three - one == 2 * 4 * (3 * 224**2 + 2 * 64 * 112**2)  # maps of the stem
        True
    """
    images = check_count(batch_size, what="batch size")
    if precision not in ITEM_BYTES:
        raise InputError(f"Unknown precision {precision!r}. Use {', '.join(ITEM_BYTES)}.")
    item = ITEM_BYTES[precision]
    found = np.empty(len(candidates), np.int64)
    known: dict[Form, _Lives] = {}
    for rows in chunks(len(candidates), _CHUNK):
        part = candidates.part(rows)
        for form, which in forms(candidates, part):
            if form not in known:
                known[form] = _Lives(terms(form), item)
            found[rows.start + which] = known[form].peak(Sizes(form, part.take(which)), images)
    return found


class _Lives:
    """Which tensors live while each term runs, as matrices."""

    def __init__(self, lines: Sequence[Term], item: int) -> None:
        self._lines, self._item = lines, item
        self._alive = np.zeros((len(lines), len(lines) + 1))  # the last is the image
        for place, term in enumerate(lines):
            self._alive[place, [*term.held, place]] = 1.0
        self._norms = np.array([term.kind == "norm" for term in lines], float)
        self._indexed = np.array([_INDEX_BYTES * (term.copies > 1) for term in lines], float)

    def peak(self, sizes: Sizes, images: int) -> Ints:
        """Return the most bytes that live at once."""
        times = _stacked([sizes.of(term.times) for term in self._lines])
        extents = [term.writes for term in self._lines]
        image = self._lines[0].reads[0]
        elements = _stacked(
            [sizes.of(each.channels) * sizes.of(each.positions) for each in (*extents, image)]
        )
        live = self._item * (self._alive @ elements) + self._indexed[:, None] * elements[:-1]
        largest = (live * (times > 0)).max(axis=0)
        weights = _stacked([_weights(term, sizes) for term in self._lines])
        held = (self._item * weights + _INDEX_BYTES * self._norms[:, None]) * times
        total: Ints = np.rint(held.sum(axis=0) + images * largest).astype(np.int64)
        return total


def _weights(term: Term, sizes: Sizes) -> Floats:
    """Return the weights of a term."""
    count, channels = term.vectors
    found = count * sizes.of(channels)
    if term.product is None:
        return found
    product = term.product
    return found + sizes.of(product.inputs) * sizes.of(product.outs) * product.kernel**2


def _stacked(rows: Sequence[npt.NDArray[np.float64]]) -> Floats:
    return np.stack(np.broadcast_arrays(*rows))

"""The operators of a class with all that the form reads of them, but for coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscale.prediction.classes import classes_of
from convscale.prediction.execution import Execution
from convscale.prediction.workload import Workload

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The operators of one class, with how their tensors are held; all for one image.

    Args:
        name: The class.
        places: Where the operators stand among all.
        work: The operators.
        batch: Images, one number or one an operator.
        item_read: Bytes of an element that is read.
        item_written: Bytes of an element that is written.
        item_once: Bytes of an element of weights.
        wide: 1 where autocast leaves what is written in full precision.
        cast: The share of what is read that is copied to another precision first.
        first: 1 where tensors have their channels first.
        moved: 1 where the input is copied to have its channels elsewhere.
        mixed: 1 where two operands are laid out differently.
        channels_last: Whether the network's input has them last.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> [(part.name, part.read.tolist()) for part in parts(workload([call]), Execution(), 1.0)]
        [('relu', [256.0])]
    """

    name: str
    places: npt.NDArray[np.intp]
    work: Workload
    batch: Floats | float
    item_read: Floats
    item_written: Floats
    item_once: float
    wide: Floats
    cast: Floats
    first: Floats
    moved: Floats
    mixed: Floats
    channels_last: bool

    @property
    def read(self) -> Floats:
        """Bytes read an image, weights apart."""
        return self.work.read * self.item_read

    @property
    def written(self) -> Floats:
        """Bytes written an image."""
        return self.work.written * self.item_written


def parts(work: Workload, run: Execution, batch_size: Floats | float) -> tuple[Part, ...]:
    """Return the operators class by class.

    Args:
        work: The operators.
        run: How they run.
        batch_size: Images, one number or one an operator.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [part.name for part in parts(work, Execution(), 1.0)]
        ['relu']
    """
    return tuple(
        _part(name, places, work, run, batch_size)
        for name, places in classes_of(work, run.layout).items()
    )


def _part(
    name: str,
    places: npt.NDArray[np.intp],
    work: Workload,
    run: Execution,
    batch_size: Floats | float,
) -> Part:
    own = work.only(places)
    shape = (len(places),) + (1,) * (np.ndim(own.read) - 1)
    zero, flow = np.zeros(shape), own.flow
    full_read = full_written = cast = moved = mixed = zero
    first = zero + float(run.layout == "nchw")
    if flow is not None:
        full_read, full_written, cast, first, moved, mixed = (
            one.reshape(shape)
            for one in (
                flow.full_read,
                flow.full_written,
                flow.cast,
                1.0 - flow.last if run.layout == "nchw" else flow.first_nhwc,
                flow.moved if run.layout == "nchw" else flow.moved_nhwc,
                flow.mixed if run.layout == "nchw" else flow.mixed_nhwc,
            )
        )
    if run.dtype == "amp":
        item_read, item_written = 2.0 + 2.0 * full_read, 2.0 + 2.0 * full_written
    else:
        item_read = item_written = zero + (4.0 if run.dtype == "float32" else 2.0)
        cast = full_written = zero
    return Part(
        name=name,
        places=places,
        work=own,
        batch=batch_size[places] if isinstance(batch_size, np.ndarray) else batch_size,
        item_read=item_read,
        item_written=item_written,
        item_once=2.0 if run.dtype in ("float16", "bfloat16") else 4.0,
        wide=full_written,
        cast=cast,
        first=first,
        moved=moved,
        mixed=mixed,
        channels_last=run.layout == "nhwc",
    )

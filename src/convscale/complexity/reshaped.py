"""A run that was followed, at another resolution: the same calls with other sizes of maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from convscale.complexity.recording import LateRecorder, Moved, Recorder
from convscale.complexity.shapes import Sized, SizedCall, SizedCalls


class ReshapingRecorder(LateRecorder):
    """Record a run whose calls are those of a run that was followed, at another resolution.

    Args:
        known: The calls of the run that was followed.
        item_bytes: Bytes of a floating element.

    Example:
        >>> from convscale.complexity.shapes import ShapeRecorder
        >>> from convscale.network import trace_module
        >>> from convscale.network.running.execution import run
        >>> net, first = nn.Conv2d(3, 8, 3, device="meta"), ShapeRecorder()
        >>> channels = trace_module(net, 8, watch=(first,)).channels
        >>> again = ReshapingRecorder(first.sized(channels))
        >>> _ = run(net, (torch.empty(1, 3, 16, 16, device="meta"),), again)
        >>> [call.flops for call in again.sized().at(channels.sizes)]
        [42336]
    """

    def __init__(self, known: SizedCalls, *, item_bytes: int = 4) -> None:
        super().__init__(item_bytes=item_bytes)
        self._known = known

    def recorder(
        self, module: nn.Module, given: tuple[torch.Tensor, ...], item_bytes: int
    ) -> Recorder:
        """Return what records the run of a network."""
        return _Recorder(module, given, item_bytes=item_bytes, known=self._known)

    def sized(self) -> SizedCalls | None:
        """Return the calls of the run; None where they are not those of the one before."""
        found = self._recorder
        if not isinstance(found, _Recorder) or found.differs:
            return None
        if not len(found.sized) == len(found.calls) == len(self._known.calls):
            return None
        return self._known.reshaped(found.sized)


class _Recorder(Recorder):
    """Give each call the widths that it had before, and the sizes that it has now."""

    def __init__(
        self,
        module: nn.Module,
        given: tuple[torch.Tensor, ...],
        *,
        item_bytes: int,
        known: SizedCalls,
    ) -> None:
        super().__init__(module, given, item_bytes=item_bytes)
        self.sized: list[SizedCall] = []
        self.differs = False
        self._known, self._base = known.calls, known.base
        self._parameters = {id(one): one for one in module.parameters()}

    def noted(self, moved: Moved) -> None:
        """Keep a call with its new sizes."""
        if self.differs or len(self.sized) == len(self._known):
            self.differs = True
            return
        known = self._known[len(self.sized)]
        found = known.again(self.calls[-1], moved, self._parameters)
        tensors = None if found is None else _reshaped(known.tensors, found[1], self._base)
        if found is None or tensors is None:
            self.differs = True
            return
        self.sized.append(found[0].with_tensors(tensors))


def _reshaped(
    known: Sequence[Sized], tensors: Sequence[torch.Tensor], base: Sequence[int]
) -> tuple[Sized, ...] | None:
    """Return tensors with the widths that they had; None where their sizes do not tell."""
    if len(known) != len(tensors):
        return None
    found = []
    for own, tensor in zip(known, tensors, strict=True):
        if len(own.dims) != tensor.ndim or own.floating != tensor.is_floating_point():
            return None
        dims = []
        for dim, size in zip(own.dims, tensor.shape, strict=True):
            width = dim.part(base)
            if size % width:
                return None
            dims.append(dim._replace(number=size // width))
        repeated = tuple([not stride for stride in tensor.stride()])
        found.append(Sized(tuple(dims), repeated, own.item_bytes, own.floating))
    return tuple(found)

"""The multiply-adds of a training step: what the forward and the backward pass execute."""

from __future__ import annotations

from collections import Counter
from typing import Any

from convscale.complexity.liveness import BACKWARD, FORWARD, Liveness, Whereabouts
from convscale.complexity.memory import StepFlops
from convscale.network.channels.products import bind, may_multiply, product


class StepCost(Liveness):  # type: ignore[no-untyped-call]
    """Follow the memory of a training step, and add up its multiply-adds.

    Example:
        >>> import torch
        >>> cost = StepCost(Whereabouts())
        >>> with cost:
        ...     _ = torch.zeros(2, 3, device="meta") @ torch.zeros(3, 4, device="meta")
        >>> cost.flops()
        StepFlops(forward=24, backward=0, recomputed=0)
    """

    def __init__(self, where: Whereabouts) -> None:
        super().__init__(where)
        self._flops: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()

    def visit(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Add up a call that multiplies, and note one that may and has no rule."""
        bound = bind(func, args, kwargs)
        found = product(func, bound, output)
        if found is not None and found.flops:
            again = self.phase == BACKWARD and self.where.recomputing
            self._flops["recomputed" if again else self.phase] += found.flops
        elif may_multiply(func):
            self.uncounted[f"{func.namespace}.{func._opname}"] += 1

    def forget_flops(self) -> None:
        """Begin to count anew."""
        self._flops.clear()
        self.uncounted.clear()

    def flops(self) -> StepFlops:
        """Return what was executed."""
        return StepFlops(self._flops[FORWARD], self._flops[BACKWARD], self._flops["recomputed"])

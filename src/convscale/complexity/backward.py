"""The multiply-adds of a training step: what the forward and the backward pass execute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

from convscale.complexity.liveness import BACKWARD, FORWARD, Liveness, Whereabouts
from convscale.complexity.memory import StepFlops
from convscale.network.products import bind, may_multiply, product


def _convolution(bound: dict[str, Any]) -> int:
    """As many as the forward pass for each of the gradients of input and weight that is asked."""
    image, weight, gradient = bound["input"], bound["weight"], bound["grad_output"]
    positions = image.numel() if bound["transposed"] else gradient.numel()
    return int(positions * prod(weight.shape[1:]) * sum(bound["output_mask"][:2]))


def _attention(bound: dict[str, Any]) -> int:
    """Scores again, and the gradients of values, of scores, of queries and of keys."""
    query, key, value = bound["query"], bound["key"], bound["value"]
    scores = prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (3 * query.shape[-1] + 2 * value.shape[-1]))


GRADIENTS: dict[str, Callable[[dict[str, Any]], int]] = {
    "convolution_backward": _convolution,
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            "_scaled_dot_product_flash_attention_backward",
            "_scaled_dot_product_efficient_attention_backward",
            "_scaled_dot_product_cudnn_attention_backward",
        ),
        _attention,
    ),
}


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
        rule = GRADIENTS.get(func._opname) if func.namespace == "aten" else None
        found = product(func, bound, output) if rule is None else None
        flops = rule(bound) if rule is not None else found.flops if found is not None else 0
        if flops:
            again = self.phase == BACKWARD and self.where.recomputing
            self._flops["recomputed" if again else self.phase] += flops
        elif func.namespace != "profiler" and may_multiply(func):
            self.uncounted[f"{func.namespace}.{func._opname}"] += 1

    def forget_flops(self) -> None:
        """Begin to count anew."""
        self._flops.clear()
        self.uncounted.clear()

    def flops(self) -> StepFlops:
        """Return what was executed."""
        return StepFlops(self._flops[FORWARD], self._flops[BACKWARD], self._flops["recomputed"])

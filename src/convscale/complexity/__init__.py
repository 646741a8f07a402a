"""Complexity: flops, params and acts. The values import no torch; counting does."""

from convscale.complexity.complexity import (
    METRICS,
    Complexity,
    Count,
    EdgeCount,
    LayerCount,
    Uncounted,
)

__all__ = ["METRICS", "Complexity", "Count", "EdgeCount", "LayerCount", "Uncounted"]

"""Runtime predicted from coefficients fitted to measurements."""

from __future__ import annotations

from convscale.prediction.fusion import fused
from convscale.prediction.workload import Workload, workload

__all__ = ["Workload", "fused", "workload"]

"""Runtime predicted from coefficients fitted to measurements."""

from __future__ import annotations

from convscale.prediction.execution import Execution
from convscale.prediction.fitting import FitOptions, fit
from convscale.prediction.form import (
    Coefficients,
    coefficients_of,
    network_seconds,
    operator_seconds,
)
from convscale.prediction.fusion import executed, fused, kernels
from convscale.prediction.timing import Timing
from convscale.prediction.workload import Workload, workload

__all__ = [
    "Coefficients",
    "Execution",
    "FitOptions",
    "Timing",
    "Workload",
    "coefficients_of",
    "executed",
    "fit",
    "fused",
    "kernels",
    "network_seconds",
    "operator_seconds",
    "workload",
]

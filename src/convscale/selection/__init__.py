"""Which network to build inside a budget, and which metric tells its latency. No torch here."""

from convscale.selection.budget import LatencyBudget, parse_latency_budget
from convscale.selection.choice import STAND_IN, Candidate, Choice, Violation, choose
from convscale.selection.correlation import TIMES, Costed, best_predictor, correlation

__all__ = [
    "STAND_IN",
    "TIMES",
    "Candidate",
    "Choice",
    "Costed",
    "LatencyBudget",
    "Violation",
    "best_predictor",
    "choose",
    "correlation",
    "parse_latency_budget",
]

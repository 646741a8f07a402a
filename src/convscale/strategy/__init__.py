"""How a flops scale factor is shared between depth, width and resolution. No torch here."""

from convscale.strategy.notation import named_strategies, parse_strategy
from convscale.strategy.strategy import AXES, Factors, Growth, Strategy, fast, without

__all__ = [
    "AXES",
    "Factors",
    "Growth",
    "Strategy",
    "fast",
    "named_strategies",
    "parse_strategy",
    "without",
]

"""How a flops scale factor is shared between depth, width and resolution. No torch here."""

from convscale.strategy.notation import named_strategies, parse_strategy
from convscale.strategy.strategy import Factors, Growth, Strategy, fast

__all__ = ["Factors", "Growth", "Strategy", "fast", "named_strategies", "parse_strategy"]

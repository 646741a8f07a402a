"""How a flops scale factor is shared between depth, width and resolution. No torch here."""

from convscale.strategy.keeping import without
from convscale.strategy.notation import named_strategies, parse_strategy
from convscale.strategy.registry import Published, published, published_strategies
from convscale.strategy.rules import Rules
from convscale.strategy.step import Step
from convscale.strategy.strategy import AXES, Factors, Growth, Strategy, fast

__all__ = [
    "AXES",
    "Factors",
    "Growth",
    "Published",
    "Rules",
    "Step",
    "Strategy",
    "fast",
    "named_strategies",
    "parse_strategy",
    "published",
    "published_strategies",
    "without",
]

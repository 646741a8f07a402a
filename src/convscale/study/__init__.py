"""Compare strategies and factors on networks, and networks stage by stage.

torch is imported only to compare.
"""

from convscale.study.compare import compare
from convscale.study.comparison import Comparison, Row
from convscale.study.diff import Difference, StagePair, diff

__all__ = ["Comparison", "Difference", "Row", "StagePair", "compare", "diff"]

"""Compare strategies and factors on networks. torch is imported only to compare."""

from convscale.study.compare import compare
from convscale.study.comparison import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]

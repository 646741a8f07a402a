"""Numbers that know how they change with coefficients: forward differentiation, in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dual:
    """A value, and its derivative by the logarithm of each coefficient that is in it.

    A form that is written with +, ·, / and powers gives values where its coefficients are
    numbers, and derivatives beside them where they are duals: the form is written once.

    Args:
        value: The value.
        slopes: The derivatives, by the coefficient's name; those left out are zero.

    Example:
        >>> rate = Dual.of("rate", 2.0)
        >>> found = 3.0 * rate * rate + 1.0
        >>> float(found.value), float(found.slopes["rate"])  # d(3·r²)/d log r = 6·r²
        (13.0, 24.0)
    """

    value: Floats
    slopes: dict[str, Floats]

    __array_ufunc__ = None  # an array on the left leaves the operation to the dual

    @staticmethod
    def of(name: str, value: float) -> Dual:
        """Return a coefficient.

        Example:
            >>> Dual.of("rate", 2.0).slopes
            {'rate': array(2.)}
        """
        return Dual(np.asarray(value), {name: np.asarray(value)})

    def __add__(self, other: Value) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.slopes)
        return Dual(self.value + other.value, _joined(self.slopes, other.slopes))

    def __mul__(self, other: Value) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value * other, _scaled(self.slopes, other))
        slopes = _joined(_scaled(self.slopes, other.value), _scaled(other.slopes, self.value))
        return Dual(self.value * other.value, slopes)

    def __truediv__(self, other: Value) -> Dual:
        return self * other**-1.0 if isinstance(other, Dual) else self * (1.0 / other)

    def __rtruediv__(self, other: Floats | float) -> Dual:
        return self**-1.0 * other

    def __pow__(self, power: float) -> Dual:
        return Dual(self.value**power, _scaled(self.slopes, power * self.value ** (power - 1.0)))

    __radd__, __rmul__ = __add__, __mul__


Value: TypeAlias = "Dual | Floats | float"


def _joined(one: dict[str, Floats], other: dict[str, Floats]) -> dict[str, Floats]:
    both = {name: one[name] + other[name] for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def _scaled(slopes: dict[str, Floats], by: Floats | float) -> dict[str, Floats]:
    return {name: slope * by for name, slope in slopes.items()}

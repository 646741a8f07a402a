"""Which positions along a network belong to which stage, and where their names are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscale.complexity.views import BETWEEN, HEAD, NETWORK, STEM

if TYPE_CHECKING:
    import pandas as pd

_LETTER = 0.0085  # the width of a letter, as a part of the figure's


@dataclass(frozen=True)
class Band:
    """A run of positions that belong to one part of the network.

    Example:
        >>> Band("layer1", 3, 8).width
        6
    """

    stage: str
    first: int
    last: int

    @property
    def width(self) -> int:
        """Number of positions."""
        return self.last - self.first + 1


def bands(frame: pd.DataFrame) -> list[Band]:
    """Return the runs of positions in one stage, in order.

    Example:
        >>> import pandas as pd
        >>> bands(pd.DataFrame({"position": [1, 2, 3], "stage": ["stem", "a", "a"]}))[1]
        Band(stage='a', first=2, last=3)
    """
    found: list[Band] = []
    for position, stage in zip(frame["position"], frame["stage"], strict=True):
        if found and found[-1].stage == stage:
            found[-1] = Band(stage, found[-1].first, int(position))
        else:
            found.append(Band(stage, int(position), int(position)))
    return found


def labels(found: Sequence[Band]) -> list[tuple[float, str]]:
    """Return where to write which name: above the widest run of each stage.

    Names are as long as all stages can have them; of two that touch, the wider's is written.

    Example:
        >>> labels([Band("stem", 1, 1), Band("layer1", 2, 90), Band("head", 91, 91)])
        [(1.0, 'stem'), (46.0, 'layer1'), (91.0, 'head')]
    """
    widest: dict[str, Band] = {}
    for band in found:
        if band.stage not in widest or band.width > widest[band.stage].width:
            widest[band.stage] = band
    others = (STEM, HEAD, BETWEEN, NETWORK)
    stages = [name for name in widest if name not in others]
    order = sorted(widest, key=lambda name: (name in others, -widest[name].width))
    placed: list[tuple[float, str]] = []
    for names in _forms(stages) if found else ():
        spans = [(widest[name], names.get(name, name)) for name in order]
        placed = _apart(spans, found[-1].last)
        if {names[stage] for stage in stages} <= {name for _, name in placed}:
            break
    return sorted(placed)


def _apart(spans: Iterable[tuple[Band, str]], positions: int) -> list[tuple[float, str]]:
    """Return the middles of bands with their names, less what touches an earlier one."""
    letter = _LETTER * positions
    taken = [(float("-inf"), -5 * letter), (positions + 5 * letter, float("inf"))]
    placed = []
    for band, name in spans:
        middle, half = (band.first + band.last) / 2, letter * (len(name) + 1) / 2
        if all(middle + half <= low or middle - half >= high for low, high in taken):
            taken.append((middle - half, middle + half))
            placed.append((middle, name))
    return placed


def _forms(stages: Sequence[str]) -> list[dict[str, str]]:
    """Return names of stages, and what is left of them without the ends that all share.

    A number alone is no name: of stages.0.blocks stages.0 is left.
    """
    parts = [stage.split(".") for stage in stages]
    tail, head = _shared([names[::-1] for names in parts]), _shared(parts)
    cuts = (parts, [p[: len(p) - tail] for p in parts], [p[head : len(p) - tail] for p in parts])
    forms = [dict(zip(stages, map(".".join, cut), strict=True)) for cut in cuts]
    good = [form for form in forms if all(name and not name[0].isdigit() for name in form.values())]
    return good or forms[:1]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Return how many entries all of several sequences begin with."""
    columns = list(zip(*parts, strict=False)) if len(parts) > 1 else []
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), len(columns))

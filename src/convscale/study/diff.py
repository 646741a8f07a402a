"""Two networks stage by stage: what differs, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscale.complexity.complexity import METRICS, Complexity
from convscale.quantities import Resolution

if TYPE_CHECKING:
    from convscale.network.sources.inputs import ExampleInputs
    from convscale.network.sources.naming import NetworkLike
    from convscale.scaling import StageRow, StageTable


@dataclass(frozen=True)
class StagePair:
    """A stage of each network, None where only one of them has it.

    Example:
        >>> pair = diff("resnet18", "resnet34").pairs[0]
        >>> pair.first.depth, pair.second.depth, pair.ratio["flops"]
        (2, 3, 1.5)
    """

    first: StageRow | None
    second: StageRow | None

    @property
    def name(self) -> str:
        """The name of the stage; both where they differ."""
        names = [row.name for row in (self.first, self.second) if row is not None]
        return " / ".join(dict.fromkeys(names))

    @property
    def ratio(self) -> dict[str, float | None]:
        """Second over first in depth, width, side and the metrics; None where one lacks it."""
        if self.first is None or self.second is None:
            return dict.fromkeys(("depth", "width", "group_width", "resolution", *METRICS))
        first, second = self.first, self.second
        return {
            "depth": second.depth / first.depth,
            "width": _over(second.width, first.width),
            "group_width": _over(_widest(second), _widest(first)),
            "resolution": _over(_side(second), _side(first)),
            **second.complexity.ratio_to(first.complexity),
        }


def _over(second: float | None, first: float | None) -> float | None:
    return second / first if second and first else None


def _widest(row: StageRow) -> int | None:
    return max(row.group_widths, default=None)


def _side(row: StageRow) -> int | None:
    return None if row.resolution is None else row.resolution[0]


@dataclass(frozen=True)
class Difference:
    """Two networks, their stages side by side, and the modules that only one of them has.

    `only_first` and `only_second` are the outermost modules whose paths the other lacks.

    Example:
        >>> found = diff("resnet18", "resnet34")
        >>> found.only_first, found.only_second[:3]
        ((), ('layer1.2', 'layer2.2', 'layer2.3'))
    """

    first: StageTable
    second: StageTable
    pairs: tuple[StagePair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def ratio(self) -> dict[str, float | None]:
        """Second over first, metric by metric, of the whole networks."""
        return self.second.total.ratio_to(self.first.total)

    @property
    def outside_ratio(self) -> dict[str, float | None]:
        """Second over first, metric by metric, of what stands outside of stages."""
        return self.second.outside.ratio_to(self.first.outside)

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        return {
            "schema_version": 1,
            "network": self.first.network,
            "other": self.second.network,
            "resolution": [self.first.resolution, self.second.resolution],
            "stages": [
                {
                    "name": pair.name,
                    "first": _document(pair.first, self.first.total),
                    "second": _document(pair.second, self.second.total),
                    "ratio": pair.ratio,
                }
                for pair in self.pairs
            ],
            "outside": {
                "first": self.first.outside.as_dict(),
                "second": self.second.outside.as_dict(),
                "ratio": self.outside_ratio,
            },
            "total": {
                "first": self.first.total.as_dict(),
                "second": self.second.total.as_dict(),
                "ratio": self.ratio,
            },
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "notes": list(dict.fromkeys((*self.first.notes, *self.second.notes))),
        }


def _document(row: StageRow | None, total: Complexity) -> dict[str, object] | None:
    return None if row is None else row.as_document(total)


def diff(
    first: NetworkLike,
    second: NetworkLike,
    *,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    example_inputs: ExampleInputs | None = None,
) -> Difference:
    """Compare two networks stage by stage.

    Stages that have one name belong together. Where the networks share no name, stages belong
    together by their place if both have equally many, else by how much they reduce the input.

    Args:
        first: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        second: Another one.
        resolution: Base input side, or all sides, in px of both; each one's own by default.
        num_classes: Classes of the classifiers, for names and factories.
        in_chans: Input channels, for names and factories.
        example_inputs: What both forward passes take, as `count` takes it.

    Returns:
        The stages side by side, with ratios of the second over the first.

    Raises:
        InputError: If an argument is wrong, or a network does not run at its resolution.
        UnscalableNetworkError: If a network cannot be traced.

    Example:
        >>> [pair.ratio["depth"] for pair in diff("resnet50", "resnet50@d:2").pairs]
        [2.0, 2.0, 2.0, 2.0]
    """
    from convscale.scaling import stages

    left, right = (
        stages(
            network,
            resolution=resolution,
            num_classes=num_classes,
            in_chans=in_chans,
            example_inputs=example_inputs,
        )
        for network in (first, second)
    )
    return Difference(
        left,
        right,
        tuple(_paired(left.rows, right.rows)),
        _outermost(left.modules, right.modules),
        _outermost(right.modules, left.modules),
    )


def _paired(left: tuple[StageRow, ...], right: tuple[StageRow, ...]) -> list[StagePair]:
    names = {row.name for row in left} & {row.name for row in right}
    if names:
        return _merged(left, right, [row.name for row in left], [row.name for row in right])
    if len(left) == len(right):
        return [StagePair(a, b) for a, b in zip(left, right, strict=True)]
    return _merged(left, right, [row.reduction for row in left], [row.reduction for row in right])


def _merged(
    left: tuple[StageRow, ...],
    right: tuple[StageRow, ...],
    left_keys: list[str] | list[float | None],
    right_keys: list[str] | list[float | None],
) -> list[StagePair]:
    """Pair rows whose keys are equal, each once and in order; keep the others where they stand."""
    pairs: list[StagePair] = []
    start = 0
    for row, key in zip(left, left_keys, strict=True):
        place = next((i for i in range(start, len(right)) if right_keys[i] == key), None)
        if place is None:
            pairs.append(StagePair(row, None))
            continue
        pairs += [StagePair(None, other) for other in right[start:place]]
        pairs.append(StagePair(row, right[place]))
        start = place + 1
    return [*pairs, *(StagePair(None, other) for other in right[start:])]


def _outermost(own: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that the other lacks, without those inside of another such path."""
    missing = set(own) - set(other)
    return tuple(path for path in own if path in missing and path.rpartition(".")[0] not in missing)

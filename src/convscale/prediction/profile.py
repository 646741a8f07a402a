"""A device profile: fitted coefficients with the conditions and the range for which they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import CONVOLUTIONS, KINDS, LINEAR
from convscale.errors import InputError
from convscale.prediction.form import Coefficients, Execution

if TYPE_CHECKING:
    from convscale.prediction.workload import Workload

_LAYERS = [KINDS.index(kind) for kind in (*CONVOLUTIONS, LINEAR)]

Condition = str | int | float | bool | None


@dataclass(frozen=True)
class Seen:
    """What a fit has seen: the least and the most of each quantity, and the kinds of operators.

    `batch_sizes` are in images, `resolutions` in px (of a rectangle the side of a square as
    large), `flops` in multiply-adds of one image, `channels` the output channels of convolutions
    and linear layers.

    Example:
        >>> Seen((1, 256), (160, 384), (1e8, 1e11), (8, 4096), ("linear",)).batch_sizes
        (1, 256)
    """

    batch_sizes: tuple[int, int]
    resolutions: tuple[float, float]
    flops: tuple[float, float]
    channels: tuple[float, float]
    kinds: tuple[str, ...]


def seen_in(
    workloads: Iterable[Workload], batch_sizes: Iterable[int], resolutions: Iterable[float]
) -> Seen:
    """Return what a fit to some timings has seen.

    Args:
        workloads: The operators of the networks.
        batch_sizes: The batch sizes of the timings.
        resolutions: The input sides in px.

    Raises:
        InputError: If there are no timings.

    Example:
        >>> from convscale.complexity.calls import Geometry, OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> stem = Geometry(3, 64, rows=12544, kernel=(7, 7), stride=(2, 2))
        >>> call = OperatorCall("stem", "aten.convolution", "convolution kxk", 118_013_952,
        ...                     geometry=stem)
        >>> seen_in([workload([call])], [256], [224]).channels
        (64.0, 64.0)
    """
    works, batches, sides = list(workloads), list(batch_sizes), list(resolutions)
    if not works or not batches or not sides:
        raise InputError("No timings: a fit needs at least one network, batch and resolution.")
    kinds = {int(kind) for work in works for kind in np.unique(work.kind)}
    channels = [output_channels(work) for work in works]
    flops = [float((work.flops * work.repeats).sum()) for work in works]
    widths = np.concatenate(channels)
    return Seen(
        (min(batches), max(batches)),
        (float(min(sides)), float(max(sides))),
        (min(flops), max(flops)),
        (float(widths.min()), float(widths.max())) if len(widths) else (1.0, 1.0),
        tuple(KINDS[kind] for kind in sorted(kinds)),
    )


def output_channels(work: Workload) -> npt.NDArray[np.float64]:
    """Return the output channels of convolutions and linear layers.

    Example:
        >>> from convscale.prediction.workload import workload
        >>> output_channels(workload([])).size
        0
    """
    return np.asarray(work.outs[np.isin(work.kind, _LAYERS)])


@dataclass(frozen=True)
class Band:
    """Factors between which time over prediction lies in a share of left-out networks.

    Example:
        >>> Band(0.9, 0.88, 1.13).coverage
        0.9
    """

    coverage: float
    low: float
    high: float


# What a measurement differs by when it is repeated; no network is surer than that.
_REPEATED = 0.004


@dataclass(frozen=True)
class Doubts:
    """How little a fit knows of the times of classes of operators.

    The interval of a network is as many times as wide as a typical one's, in logarithms, as the
    root of its doubt over the typical one.

    Args:
        typical: The doubt of half the networks that were fitted.
        classes: Standard errors of the logarithms of the classes' times.

    Example:
        >>> doubts = Doubts(0.02, {"relu": 0.02, "depthwise 7": 0.08})
        >>> [round(doubts.width({name: 1.0}), 2) for name in ("relu", "depthwise 7", "unheard of")]
        [1.01, 2.0, 2.0]
    """

    typical: float
    classes: Mapping[str, float]

    def of(self, name: str) -> float:
        """Return the error of a class; of one that is not known, the largest of all."""
        return self.classes.get(name, max(self.classes.values(), default=0.0))

    def doubt(self, shares: Mapping[str, Any]) -> Any:
        """Return about the standard error of the logarithm of a time.

        Args:
            shares: The share of the time that each class takes, as numbers or arrays.
        """
        squares = sum((self.of(name) * share) ** 2 for name, share in shares.items())
        return (squares + _REPEATED**2) ** 0.5

    def width(self, shares: Mapping[str, Any]) -> Any:
        """Return how many times as wide as a typical network's an interval is."""
        return (self.doubt(shares) / self.typical) ** 0.5


@dataclass(frozen=True)
class Errors:
    """How far predictions lie off for networks that a fit has not seen.

    Args:
        protocol: What was left out, such as "families".
        mape_pct: Mean absolute error, per cent of the measured time.
        within_10_pct: Share (%) of networks predicted within 10 %.
        spearman: Rank correlation of predicted and measured times an image.
        networks: Networks that were predicted.
        groups: Groups of networks, each of which was left out once.
        covered_pct: By stated coverage ("0.9"), the share (%) of networks inside the interval.
        baselines_mape_pct: The same error of simpler models, by what they are of.

    Example:
        >>> Errors("families", 5.9, 85.0, 0.99, 400, 60).mape_pct
        5.9
    """

    protocol: str
    mape_pct: float
    within_10_pct: float
    spearman: float | None
    networks: int
    groups: int
    covered_pct: Mapping[str, float] = field(default_factory=dict)
    baselines_mape_pct: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Excluded:
    """A network whose timing was left out of the fit, and why.

    Example:
        >>> Excluded("repvgg_a0", "its params differ from those that were timed").network
        'repvgg_a0'
    """

    network: str
    reason: str


@dataclass(frozen=True)
class Profile:
    """Coefficients fitted to measurements under some conditions, with what they are worth.

    Args:
        name: The name under which it is found.
        execution: How networks are run: what the form of the prediction depends on.
        coefficients: The fitted numbers, all positive.
        seen: The range of the fit.
        bands: Intervals of a typical network by their coverage, the narrowest first.
        conditions: Device, versions, threads, source and whatever else the times hold for.
        correction: A learned correction as plain values, where there is one.
        errors: Errors on networks that were left out, a protocol each.
        excluded: Networks that were left out of the fit, each with its reason.
        version: Raised when the profile is fitted again.
        doubts: By what the interval of a network is wider or narrower than a typical one's;
            without them all are alike.

    Example:
        >>> execution = Execution("gpu", "nchw", "eager", "inference", "amp")
        >>> seen = Seen((256, 256), (224, 224), (1e9, 1e9), (64, 64), ("linear",))
        >>> profile = Profile("mine", execution, {}, seen, (Band(0.5, 0.9, 1.1),
        ...                   Band(0.9, 0.8, 1.25)))
        >>> [round(factor, 3) for factor in profile.factors(0.9, widened=2)]
        [0.64, 1.562]
    """

    name: str
    execution: Execution
    coefficients: Coefficients
    seen: Seen
    bands: tuple[Band, ...]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    correction: Mapping[str, object] | None = None
    errors: tuple[Errors, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    version: int = 1
    doubts: Doubts | None = None

    def width(self, shares: Mapping[str, Any]) -> Any:
        """Return how many times as wide as a typical network's the interval of a network is.

        Args:
            shares: The share of its time that each class of operators takes.
        """
        return 1.0 if self.doubts is None else self.doubts.width(shares)

    @property
    def device(self) -> str:
        """What the times were measured on, as the conditions name it."""
        return str(self.conditions.get("device") or self.execution.hardware.upper())

    def factors(self, coverage: float, *, widened: float = 1.0) -> tuple[float, float]:
        """Return the factors around a prediction for a coverage: ratios of time to prediction.

        Between the coverages that the profile has, logarithms are interpolated. The
        prediction itself is always inside.

        Args:
            coverage: The share of networks that shall lie inside.
            widened: How many times as wide the interval is, in logarithms.

        Raises:
            InputError: If the coverage lies beyond those that the profile has.
        """
        known = [band.coverage for band in self.bands]
        if not self.bands or not known[0] - 1e-9 <= coverage <= known[-1] + 1e-9:
            between = f"from {known[0]:g} to {known[-1]:g}" if known else "at no coverage"
            raise InputError(
                f"The coverage is {coverage:g}; {self.name} has intervals {between}. "
                f"Write {'0.9' if 0.9 in known else known[-1] if known else 'another profile'}."
            )
        low = float(np.interp(coverage, known, [log(band.low) for band in self.bands]))
        high = float(np.interp(coverage, known, [log(band.high) for band in self.bands]))
        return exp(widened * min(low, 0.0)), exp(widened * max(high, 0.0))

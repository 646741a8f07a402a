"""Which metric tells the time: every coefficient of every metric, with what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from convscale.complexity.complexity import METRICS
from convscale.selection.correlation import Costed, Time
from convscale.selection.statistics import (
    COEFFICIENTS,
    Array,
    Estimate,
    Indices,
    enough,
    estimate,
    non_negative_fit,
    resamples,
)

BOTH = "flops + acts"
PREDICTORS = (*METRICS, BOTH)
# Networks differ by orders of magnitude, so that the logarithms decide which tells most.
JUDGE = "log"


@dataclass(frozen=True)
class TimeModel:
    """Time of one pass as a sum of work and traffic, fitted to the measured networks.

        time (ms) = ms_per_flop · flops + ms_per_act · acts + constant_ms,   none below 0

    by least squares of the relative errors, Σ(fitted / time − 1)², so that a small network
    weighs as much as a large one. mean_error is the mean of |fitted / time − 1|.

    Example:
        >>> TimeModel(2e-8, 1e-6, 1.5, 0.08).time_ms(flops=1e9, acts=1e7)
        31.5
    """

    ms_per_flop: float
    ms_per_act: float
    constant_ms: float
    mean_error: float

    def time_ms(self, *, flops: float, acts: float) -> float:
        """Return the modelled time of a network in milliseconds."""
        return self.ms_per_flop * flops + self.ms_per_act * acts + self.constant_ms


@dataclass(frozen=True)
class Lead:
    """How far the best predictor's r of logarithms is above the runner-up's.

    difference is of the two r, its interval from resamples in which both are found anew.

    Example:
        >>> Lead("acts", "flops", Estimate(0.05, 0.01, 0.09)).beyond_noise
        True
    """

    best: str
    second: str
    difference: Estimate

    @property
    def beyond_noise(self) -> bool:
        """Whether the 95 % interval of the difference lies above 0."""
        return self.difference.low is not None and self.difference.low > 0


@dataclass(frozen=True)
class Association:
    """The correlations of a time with each predictor, over `networks` networks.

    r holds, by predictor and by coefficient (linear, log, spearman), an estimate, or None
    where it is not defined. "flops + acts" stands for what the model fits.

    Example:
        >>> Association(0, {}, None, None).as_document()["networks"]
        0
    """

    networks: int
    r: dict[str, dict[str, Estimate | None]]
    model: TimeModel | None
    lead: Lead | None

    def as_document(self) -> dict[str, object]:
        """Return the fields as the command line's JSON has them."""
        lead = self.lead
        return {
            "networks": self.networks,
            "r": {
                predictor: {
                    name: None if found is None else found.as_document()
                    for name, found in by_name.items()
                }
                for predictor, by_name in self.r.items()
            },
            "model": None if self.model is None else asdict(self.model),
            "lead": None if lead is None else {**asdict(lead), "beyond_noise": lead.beyond_noise},
        }


def associate(rows: Sequence[Costed], *, time: Time = "latency", seed: int = 0) -> Association:
    """Correlate a measured time with flops, params, acts and what flops and acts explain.

    Args:
        rows: Rows without that time are left out.
        time: latency for wall time, processor for processor time over all threads.
        seed: For the resamples that the intervals come from.

    Example:
        >>> from types import SimpleNamespace as Row
        >>> from convscale.runtime.measurement import Spread
        >>> rows = [
        ...     Row(flops=f, params=7, acts=a, latency=Spread(2 * f + 3 * a, 0, 5))
        ...     for f, a in ((100, 10), (200, 90), (400, 50))
        ... ]
        >>> found = associate(rows)
        >>> found.lead.best, round(found.model.ms_per_act, 6), found.r["params"]["log"]
        ('flops + acts', 3.0, None)
    """
    known = [(row, spent) for row in rows if (spent := getattr(row, time)) is not None]
    timed = [(row, spent) for row, spent in known if spent.median > 0]  # a clock may be coarse
    times = np.array([spent.median for _, spent in timed])
    values = {m: np.array([float(getattr(row, m)) for row, _ in timed]) for m in METRICS}
    if not enough(len(timed)):
        nothing = {p: dict.fromkeys(COEFFICIENTS) for p in PREDICTORS}
        return Association(len(timed), nothing, None, None)
    columns = np.column_stack([values["flops"], values["acts"], np.ones(len(timed))])
    fitted = _fitted(columns, times)
    found = _coefficients({**values, BOTH: columns @ fitted}, times)
    drawn = resamples(len(timed), seed=seed)
    redone = None if drawn is None else _resampled(values, columns, times, drawn)
    r = {
        predictor: {
            name: estimate(float(value), None if redone is None else redone[predictor][name])
            for name, value in by_name.items()
        }
        for predictor, by_name in found.items()
    }
    return Association(len(timed), r, _model(fitted, columns, times), _lead(r, redone))


_ByName = dict[str, dict[str, Array]]


def _coefficients(predictors: dict[str, Array], times: Array) -> _ByName:
    """Return each coefficient of each predictor, along the last axis."""
    return {
        predictor: {name: coefficient(value, times) for name, coefficient in COEFFICIENTS.items()}
        for predictor, value in predictors.items()
    }


def _resampled(values: dict[str, Array], columns: Array, times: Array, drawn: Indices) -> _ByName:
    """Return the coefficients in each resample, the model fitted anew to each."""
    refitted = np.stack([columns[i] @ _fitted(columns[i], times[i]) for i in drawn])
    predictors = {metric: value[drawn] for metric, value in values.items()}
    return _coefficients({**predictors, BOTH: refitted}, times[drawn])


def _model(fitted: Array, columns: Array, times: Array) -> TimeModel:
    flop, act, constant = (float(value) for value in fitted)
    return TimeModel(flop, act, constant, float(np.abs(columns @ fitted / times - 1).mean()))


def _fitted(columns: Array, times: Array) -> Array:
    """Return the coefficients of the model: those of relative errors, all at least 0."""
    return non_negative_fit(columns / times[:, None], np.ones(len(times)))


def _lead(r: dict[str, dict[str, Estimate | None]], redone: _ByName | None) -> Lead | None:
    """Compare the two highest r of logarithms; of equal ones, the simpler predictor leads."""
    known = {name: found.value for name, by in r.items() if (found := by[JUDGE]) is not None}
    if len(known) < 2:
        return None
    best, second = sorted(known, key=lambda name: -known[name])[:2]
    apart = None if redone is None else redone[best][JUDGE] - redone[second][JUDGE]
    difference = estimate(known[best] - known[second], apart)
    return None if difference is None else Lead(best, second, difference)

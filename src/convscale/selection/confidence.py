"""What a predicted time keeps with a probability: the end of an interval. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.errors import InputError
from convscale.prediction.prediction import Prediction
from convscale.prediction.profile import Profile


@dataclass(frozen=True)
class OneSided:
    """How the time that is kept with a probability p follows from a prediction's interval.

    An interval of coverage c leaves (1 − c)/2 beyond each end, so that its upper end is kept with
    p = (1 + c)/2. At p = 0.5 that is the prediction itself; between it and the narrowest
    interval of a profile, logarithms are interpolated.

    Args:
        confidence: The probability p.
        coverage: The coverage of the interval to ask for.
        power: What the factor of its upper end is raised to.

    Example:
        >>> OneSided(0.9, 0.8, 1.0).upper_ms(10.0, (9.0, 11.5))
        11.5
    """

    confidence: float
    coverage: float
    power: float

    def upper_ms(self, latency_ms: float, interval_ms: tuple[float, float]) -> float:
        """Return the time that is kept with the probability."""
        return float(latency_ms * (interval_ms[1] / latency_ms) ** self.power)

    def of(self, prediction: Prediction) -> float:
        """Return the time (ms) of a prediction that is kept with the probability."""
        return self.upper_ms(prediction.latency_ms, prediction.interval_ms)


def one_sided(profile: Profile, confidence: float) -> OneSided:
    """Return how a profile's intervals give times that are kept with a probability.

    Raises:
        InputError: If the profile has no interval for it.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.profile import Band, Seen
        >>> seen = Seen((1, 1), (224, 224), (1e9, 1e9), (64, 64), ())
        >>> bands = (Band(0.5, 0.9, 1.1), Band(0.9, 0.8, 1.25))
        >>> profile = Profile("mine", Execution(), {}, seen, bands)
        >>> one_sided(profile, 0.95), one_sided(profile, 0.5).power
        (OneSided(confidence=0.95, coverage=0.9, power=1.0), 0.0)
    """
    level = check_confidence(confidence)
    known = [band.coverage for band in profile.bands]
    coverage = round(2.0 * level - 1.0, 12)
    if not known or coverage > known[-1] + 1e-9:
        most = f"up to {(1 + known[-1]) / 2:g}" if known else "at none"
        raise InputError(
            f"The confidence is {level:g}; the intervals of {profile.name} give times {most}. "
            "Write 0.9 or less."
        )
    if coverage >= known[0]:
        return OneSided(level, coverage, 1.0)
    return OneSided(level, known[0], coverage / known[0])


def check_confidence(confidence: float) -> float:
    """Return a confidence: at least 0.5, below 1.

    Raises:
        InputError: If it is none.

    Example:
        >>> check_confidence(0.9)
        0.9
    """
    if not isinstance(confidence, int | float):
        raise InputError(f"The confidence is {confidence!r}. Write a number, as in 0.9.")
    if not 0.5 <= confidence < 1:
        raise InputError(
            f"The confidence is {confidence:g}; it must be at least 0.5 (the prediction itself) "
            "and below 1. Write 0.9."
        )
    return float(confidence)

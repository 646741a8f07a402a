"""A profile of which all times are so many times as long."""

from __future__ import annotations

from dataclasses import replace

from convscale.prediction.law import COSTS
from convscale.prediction.profile import Profile


def rescaled(profile: Profile, by: float) -> Profile:
    """Return a profile that predicts so many times the times of another, with its name.

    Times are proportional to the coefficients that have a unit of time, all of which are
    multiplied.

    Args:
        profile: The other.
        by: By what its times are multiplied.

    Example:
        >>> from convscale.prediction.store import profile_of
        >>> one = profile_of("rtx3090-amp-nchw")
        >>> rescaled(one, 2.0).coefficients["launch"] == 2 * one.coefficients["launch"]
        True
    """
    own = {
        name: value * by if name in COSTS else value for name, value in profile.coefficients.items()
    }
    return profile if by == 1 else replace(profile, coefficients=own)

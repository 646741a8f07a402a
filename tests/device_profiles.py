"""Device profiles for tests: values, of no device."""

from __future__ import annotations

from dataclasses import replace

from convscale.complexity.calls import KINDS
from convscale.prediction.form import Execution, coefficients_of
from convscale.prediction.profile import Band, Errors, Excluded, Profile, Seen

BANDS = (Band(0.5, 0.95, 1.06), Band(0.8, 0.9, 1.12), Band(0.9, 0.85, 1.2), Band(0.95, 0.8, 1.3))


def hand_made(name: str = "mine", *, work: str = "inference", **changes: object) -> Profile:
    execution = Execution("gpu", "nchw", "eager", work, "amp")
    profile = Profile(
        name=name,
        execution=execution,
        coefficients=coefficients_of(execution),
        seen=Seen((32, 512), (32.0, 512.0), (1e6, 1e12), (1.0, 8192.0), KINDS),
        bands=BANDS,
        conditions={"device": "a device of no maker", "threads": None, "torch": "2.4"},
        errors=(Errors("families", 5.5, 86.0, 0.992, 400, 60, {"0.9": 90.1}, {"flops": 37.0}),),
        excluded=(Excluded("repvgg_a0", "its params differ from those that were timed"),),
    )
    return replace(profile, **changes)

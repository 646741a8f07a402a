"""How networks are run: the conditions that change the form of the runtime model."""

from __future__ import annotations

from dataclasses import dataclass

from convscale.errors import InputError

_CHOICES = {
    "hardware": ("gpu", "cpu"),
    "layout": ("nchw", "nhwc"),
    "mode": ("eager", "compiled"),
    "work": ("inference", "training"),
    "dtype": ("float32", "amp", "float16", "bfloat16"),
}


@dataclass(frozen=True)
class Execution:
    """How networks are run: what changes the form of the model.

    Args:
        hardware: `gpu` or `cpu`.
        layout: `nchw`, or `nhwc` (channels last).
        mode: `eager` or `compiled`.
        work: `inference`, or `training` (a whole step).
        dtype: `float32`, `amp` (autocast), `float16` or `bfloat16`.

    Raises:
        InputError: If one of them is another word.

    Example:
        >>> Execution(layout="nhwc").mode
        'eager'
    """

    hardware: str = "gpu"
    layout: str = "nchw"
    mode: str = "eager"
    work: str = "inference"
    dtype: str = "amp"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"Unknown {name} {value!r}. Use {', '.join(known)}.")

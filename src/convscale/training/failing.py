"""What ends a run before its end, in one line that says how to go on."""

from __future__ import annotations

from pathlib import Path

from convscale.errors import ConvscaleError
from convscale.training.checkpoint import last_checkpoint


class TrainingError(ConvscaleError):
    """End a run for a reason that all of its processes know."""


class NonFiniteLossError(TrainingError):
    """Say at which step the loss was no number, at which learning rate, and what is still good."""


def not_finite(what: str, value: float | None, *, update: int, lr: float, state: Path) -> str:
    """Say that training has diverged.

    Example:
        >>> not_finite("The loss", float("nan"), update=7, lr=0.5, state=Path("run/state"))
        'The loss is nan at step 7, at a learning rate of 0.5. There is no checkpoint before it.
        Begin anew with a lower lr, a longer warm-up, or grad_clip.'
    """
    said = "not finite" if value is None else f"{value:g}"
    last = last_checkpoint(state)
    good = f"The last good checkpoint is {last}." if last else "There is no checkpoint before it."
    return (
        f"{what} is {said} at step {update}, at a learning rate of {lr:g}. {good} Begin anew with "
        "a lower lr, a longer warm-up, or grad_clip."
    )


def going_on(state: Path) -> str:
    """Say what a run that was cut off goes on from.

    Example:
        >>> going_on(Path("no such folder"))
        'There is no checkpoint yet: start the same command again to begin anew.'
    """
    last = last_checkpoint(state)
    if last is None:
        return "There is no checkpoint yet: start the same command again to begin anew."
    return f"The last good checkpoint is {last}: start the same command again to go on from it."

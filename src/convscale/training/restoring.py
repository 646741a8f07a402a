"""What a checkpoint holds put back where it belongs; what is of another run is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from convscale.errors import InputError
from convscale.training.checkpoint import Checkpoint
from convscale.training.progress import Progress
from convscale.training.request import differences
from convscale.training.seeding import Order
from convscale.training.states import fill_module, unpacked
from convscale.training.variants import Choice


@dataclass(frozen=True)
class Before:
    """What a run knows of itself from before: nothing, where it begins.

    Example:
        >>> Before().progress.updates, Before().choice is None
        (0, True)
    """

    progress: Progress = field(default_factory=Progress)
    choice: Choice | None = None
    broken: dict[str, str] = field(default_factory=dict)


def before_of(
    checkpoint: Checkpoint | None, asked: Mapping[str, Any], order: Order, state: Path
) -> Before:
    """Read how far a run was, and what it has found and chosen.

    Args:
        checkpoint: What the run goes on from.
        asked: What the run is asked for, by which it is known again.
        order: The order of the images, which says how far a run can be.
        state: The folder of checkpoints, to name it.

    Raises:
        InputError: If the checkpoint is of another run.

    Example:
        >>> order = Order(images=8, batch_size=4, epochs=1, seed=0)
        >>> before_of(Checkpoint(1, {}, {"loss": 2}), {}, order, Path("run/state"))
        Traceback (most recent call last):
        convscale.errors.InputError: The checkpoint run/state/checkpoint-00001 is not of this run:
        it lacks 'progress'. Remove run/state to begin anew.
    """
    if checkpoint is None:
        return Before()
    with of_this_run(checkpoint, state):
        values = checkpoint.values
        other = differences(values.get("asked", asked), asked)
        if other:
            raise ValueError(", ".join(other))
        progress = Progress.from_document(values["progress"])
        if not _fits(progress, order):
            raise ValueError(
                f"it is at step {progress.updates} and epoch {progress.epochs}, and has "
                f"{len(progress.rows)} epochs in its table"
            )
        return Before(progress, Choice.from_document(values["choice"]), dict(values["broken"]))


def restore(
    checkpoint: Checkpoint,
    module: nn.Module,
    average: ModelEmaV3 | None,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
) -> None:
    """Give weights, their average, the optimiser and the scaling of losses their values.

    Raises:
        InputError, KeyError, ValueError, SafetensorError: If the checkpoint is of another run,
            inside of `of_this_run`.

    Example:
        >>> from convscale.training.states import module_bytes, packed
        >>> net, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> values, tensors = packed(torch.optim.SGD(net.parameters(), lr=0.1).state_dict())
        >>> files = {"model.safetensors": module_bytes(net), "optimizer.safetensors": tensors}
        >>> found = Checkpoint(1, files, {"optimizer": values})
        >>> restore(found, other, None, torch.optim.SGD(other.parameters(), lr=0.2), None)
        >>> torch.equal(net.weight, other.weight)
        True
    """
    fill_module(module, checkpoint.files["model.safetensors"], what="model.safetensors")
    if average is not None:
        fill_module(average.module, checkpoint.files["ema.safetensors"], what="ema.safetensors")
    state = checkpoint.values["optimizer"], checkpoint.files["optimizer.safetensors"]
    optimizer.load_state_dict(unpacked(*state))
    for weight, kept in optimizer.state.items():
        wrong = [name for name, value in kept.items() if not _belongs(value, weight)]
        if wrong:
            raise ValueError(f"{wrong[0]} of the optimiser has another shape than its weight")
    if scaler is not None:
        scaler.load_state_dict(checkpoint.values["scaler"])


@contextmanager
def of_this_run(checkpoint: Checkpoint, state: Path) -> Iterator[None]:
    """Say that a checkpoint is of another run, where what is done with it inside fails.

    Example:
        >>> with of_this_run(Checkpoint(2, {}, {}), Path("run/state")):
        ...     int("seven")
        Traceback (most recent call last):
        convscale.errors.InputError: The checkpoint run/state/checkpoint-00002 is not of this run:
        invalid literal for int() with base 10: 'seven'. Remove run/state to begin anew.
    """
    try:
        yield
    except KeyError as error:
        raise _foreign(checkpoint, state, f"it lacks {error.args[0]!r}") from error
    except InputError as error:
        raise _foreign(checkpoint, state, error.line) from error
    except (TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _foreign(checkpoint, state, str(error)) from error


def _foreign(checkpoint: Checkpoint, state: Path, why: str) -> InputError:
    return InputError(
        f"The checkpoint {state / checkpoint.name} is not of this run: {why.rstrip('.')}. Remove "
        f"{state} to begin anew."
    )


def _fits(progress: Progress, order: Order) -> bool:
    """Tell whether a run of these epochs can be where it says that it is."""
    over, made = progress.epochs, progress.updates
    within = 0 <= over * order.steps <= made <= min((over + 1) * order.steps, order.updates)
    return within and len(progress.rows) == over


def _belongs(value: object, weight: torch.Tensor) -> bool:
    return not isinstance(value, torch.Tensor) or not value.ndim or value.shape == weight.shape

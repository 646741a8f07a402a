"""Networks with several outputs: scores to judge by, and auxiliary ones that train it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor

from convscale.network.channels.ties import tensors_in
from convscale.training.parts import Loss

# What the main output is called where outputs have names; else it is the first.
_MAIN = ("out", "logits")


def main_output(output: Any) -> Any:
    """Return the scores of an output: itself, what is called out or logits, or the first in it.

    Example:
        >>> main_output({"aux": [1.0], "out": 2.0}), main_output(([3.0, 4.0], 5.0))
        (2.0, 3.0)
    """
    named = _named(output)
    if named:
        found = next((named[name] for name in _MAIN if name in named), next(iter(named.values())))
        return main_output(found)
    if isinstance(output, list | tuple) and output:
        return main_output(output[0])
    return output


def auxiliary_outputs(output: Any) -> list[Tensor]:
    """Return what a network puts out beside its scores and that has their shape.

    Example:
        >>> import torch
        >>> scores, other, features = torch.zeros(2, 10), torch.ones(2, 10), torch.ones(2, 512)
        >>> len(auxiliary_outputs((scores, other, features, None)))
        1
    """
    main = main_output(output)
    return [t for t in tensors_in(output) if t is not main and t.shape == main.shape]


def outputs_notes(output: Any, weight: float) -> tuple[str, ...]:
    """Say what of an output the loss takes beside its scores, and what it leaves out.

    Example:
        >>> import torch
        >>> outputs_notes((torch.zeros(2, 10), torch.ones(2, 512)), 0.3)
        ('Of the outputs in training, 1 of other shape than the scores is left out of the loss.',)
    """
    main, found = main_output(output), len(auxiliary_outputs(output))
    others = len([tensor for tensor in tensors_in(output) if tensor is not main]) - found
    notes = []
    if found:
        plural = "output" if found == 1 else "outputs"
        notes.append(f"The loss takes {found} auxiliary {plural} too, with a weight of {weight:g}.")
    if others:
        verb = "is" if others == 1 else "are"
        notes.append(
            f"Of the outputs in training, {others} of other shape than the scores {verb} left out "
            "of the loss."
        )
    return tuple(notes)


def over_outputs(loss: Loss, weight: float) -> Loss:
    """Return the loss of scores as one of outputs: L(main) + weight · Σ L(auxiliary).

    Args:
        loss: The loss of scores and targets.
        weight: Of each auxiliary output.

    Example:
        >>> import torch
        >>> total = over_outputs(lambda scores, targets: scores.sum(), weight=0.5)
        >>> float(total((torch.ones(2, 1), torch.ones(2, 1)), torch.zeros(2)))
        3.0

    Source: arXiv 1409.4842, section 5 (two auxiliary classifiers, with weight 0.3).
    """

    def total(output: Any, targets: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            return loss(output, targets)
        found = loss(main_output(output), targets)
        for each in auxiliary_outputs(output):
            found = found + weight * loss(each, targets)
        return found

    return total


def _named(output: Any) -> Mapping[str, Any]:
    """Return the outputs by their names, where they have names."""
    if isinstance(output, Mapping):
        return output
    if is_dataclass(output) and not isinstance(output, type):
        return vars(output)
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        found: Mapping[str, Any] = output._asdict()
        return found
    return {}

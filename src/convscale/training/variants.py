"""Choose precision and memory format by timing a few steps of each on a copy of the network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from convscale.errors import InputError
from convscale.network.modules.copies import full_copy
from convscale.runtime.devices import open_device
from convscale.training.parts import Loss
from convscale.training.recipe import Recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# The plainest variant that takes at most this much longer than the fastest is chosen.
TOLERANCE = 1.05
_ROUNDS, _SECONDS = 4, 10.0


@dataclass(frozen=True)
class Variant:
    """A precision of the forward pass (fp32, bf16, fp16) and a memory format.

    Example:
        >>> str(Variant("bf16", channels_last=True))
        'bf16, channels-last'
    """

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        """Return both in words."""
        return f"{self.precision}, {'channels-last' if self.channels_last else 'contiguous'}"

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def context(self, kind: str) -> AbstractContextManager[object]:
        """Return the context of a forward pass on a kind of device."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(kind, dtype=DTYPES[self.precision])


@dataclass(frozen=True)
class Choice:
    """A variant, and the milliseconds of a step of each that was tried; none where all is said.

    Example:
        >>> Choice(Variant("fp32", channels_last=False)).step_ms
        {}
    """

    variant: Variant
    step_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return the choice as JSON takes it."""
        return {
            "precision": self.variant.precision,
            "channels_last": self.variant.channels_last,
            "step_ms": self.step_ms,
            "notes": list(self.notes),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Choice:
        """Read what `as_document` wrote.

        Raises:
            ValueError: If there is no such variant.
        """
        precision, last = document["precision"], document["channels_last"]
        if precision not in DTYPES or not isinstance(last, bool):
            raise ValueError(
                f"{precision!r} is no precision, or {last!r} is neither true nor false"
            )
        variant = Variant(precision, channels_last=last)
        return cls(variant, dict(document["step_ms"]), tuple(document.get("notes", ())))


def choose_variant(
    recipe: Recipe, module: nn.Module, images: Tensor, targets: Tensor, loss: Loss
) -> Choice:
    """Choose what the recipe leaves open: the plainest of the fastest.

    Args:
        recipe: Its precision and channels_last may be auto.
        module: The network, on the device; it is copied.
        images: A batch as large as those of the training, on the device.
        targets: Its targets.
        loss: The loss of scores and targets.

    Example:
        >>> recipe = Recipe(precision="fp32", channels_last=True)
        >>> net, images = nn.Conv2d(3, 4, 1), torch.rand(2, 3, 4, 4)
        >>> choose_variant(recipe, net, images, images, lambda a, b: a.sum()).variant
        Variant(precision='fp32', channels_last=True)
    """
    candidates = candidates_of(recipe, images.device.type)
    if len(candidates) == 1:
        return Choice(candidates[0])
    if recipe.parts is not None:  # times differ from run to run, and so would what is computed
        plainest = candidates[0]
        return Choice(plainest, notes=(f"As parts is set, nothing is timed: {plainest}.",))
    copied = full_copy(module).train()
    steps = {each: _step_of(each, copied, images, targets, loss) for each in candidates}
    times, notes = _times(steps, images.device)
    fastest = min(times.values())
    chosen = next(
        each for each in candidates if times.get(each, float("inf")) <= TOLERANCE * fastest
    )
    return Choice(chosen, {str(each): round(1e3 * t, 3) for each, t in times.items()}, notes)


def check_precision(recipe: Recipe, kind: str) -> None:
    """Refuse a precision in which a kind of device would not train: it would be another, unsaid.

    Args:
        recipe: The recipe.
        kind: cpu, cuda or mps.

    Raises:
        InputError: If it does not suit.

    Example:
        >>> check_precision(Recipe(precision="fp16"), "cpu")
        Traceback (most recent call last):
        convscale.errors.InputError: Precision fp16 takes a GPU, and this run is on the cpu. Use
        precision=bf16, fp32 or auto.
    """
    if recipe.precision == "fp16" and kind == "cpu":
        raise InputError(
            "Precision fp16 takes a GPU, and this run is on the cpu. Use precision=bf16, fp32 or "
            "auto."
        )


def candidates_of(recipe: Recipe, kind: str) -> list[Variant]:
    """Return the variants that a recipe leaves open on a kind of device, the plainest first.

    Example:
        >>> [str(each) for each in candidates_of(Recipe(precision="fp32"), "cpu")]
        ['fp32, contiguous', 'fp32, channels-last']
    """
    automatic = ["fp32"] if kind == "mps" else ["fp32", "bf16"]
    precisions = automatic if recipe.precision == "auto" else [recipe.precision]
    formats = [False, True] if recipe.channels_last == "auto" else [recipe.channels_last]
    return [Variant(each, channels_last=last) for each, last in product(precisions, formats)]


def _step_of(
    variant: Variant, module: nn.Module, images: Tensor, targets: Tensor, loss: Loss
) -> Callable[[], object]:
    """Return a step's forward and backward pass; the weights stay as they are."""
    given = images.to(memory_format=variant.memory_format)

    def step() -> None:
        module.zero_grad()
        with variant.context(images.device.type):
            found = loss(module(given), targets)
        found.backward()  # type: ignore[no-untyped-call]

    def prepared() -> Callable[[], None]:
        module.to(memory_format=variant.memory_format)
        return step

    return prepared


def _times(
    steps: dict[Variant, Callable[[], Any]], device: torch.device
) -> tuple[dict[Variant, float], tuple[str, ...]]:
    """Return the shortest step of each in interleaved rounds; those that do not run are noted."""
    wait = open_device(str(device)).synchronize
    best: dict[Variant, float] = {}
    notes = []
    begun = time.perf_counter()
    for round_ in range(_ROUNDS + 1):
        for variant, prepare in list(steps.items()):
            step = prepare()
            try:
                started = time.perf_counter()
                step()
                wait()
            except (RuntimeError, NotImplementedError, TypeError) as error:
                if len(steps) == 1:
                    raise
                del steps[variant]
                notes.append(f"{variant} does not run: {str(error).splitlines()[0]}")
                continue
            if round_:  # the first is a warm-up
                spent = time.perf_counter() - started
                best[variant] = min(best.get(variant, spent), spent)
        if round_ and time.perf_counter() - begun > _SECONDS:
            break
    return {each: best[each] for each in steps}, tuple(notes)

"""The memory that a network needs, as values, and the peak of what lives. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from convscale.quantities import Resolution

WEIGHTS, COPIES, INPUTS = "weights", "weight_copies", "inputs"
GRADIENTS, STATE, ACTIVATIONS = "gradients", "optimizer_state", "activations"


@dataclass(frozen=True)
class Life:
    """A piece of memory (bytes): the moments at which it came and went (None: never), its kind.

    Example:
        >>> Life(1024, born=2, died=5, kind=ACTIVATIONS).at(4)
        True
    """

    nbytes: int
    born: int
    died: int | None = None
    kind: str = ACTIVATIONS

    def at(self, moment: int) -> bool:
        """Tell whether it is there at a moment."""
        return self.born <= moment and (self.died is None or moment < self.died)


@dataclass(frozen=True)
class Parts:
    """What memory holds at one moment, in bytes.

    `weight_copies_bytes` are the weights in another dtype that automatic mixed precision keeps;
    `activations_bytes` is everything else that operators put out.

    Example:
        >>> Parts(weights_bytes=400, activations_bytes=600).total_bytes
        1000
    """

    weights_bytes: int = 0
    weight_copies_bytes: int = 0
    inputs_bytes: int = 0
    activations_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_state_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of the parts."""
        return sum(self.as_dict().values())

    def as_dict(self) -> dict[str, int]:
        """Return the parts by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def peak_moment(lives: Sequence[Life]) -> int:
    """Return the first moment at which the most bytes live.

    Example:
        >>> peak_moment([Life(4, 0), Life(8, 1, 2), Life(6, 2, 4), Life(6, 3, 5)])
        3
    """
    change: dict[int, int] = {}
    for life in lives:
        change[life.born] = change.get(life.born, 0) + life.nbytes
        if life.died is not None:
            change[life.died] = change.get(life.died, 0) - life.nbytes
    moment = now = most = 0
    for at in sorted(change):
        now += change[at]
        if now > most:
            moment, most = at, now
    return moment


def parts_at(lives: Iterable[Life], moment: int) -> Parts:
    """Return what lives at a moment, by kind.

    Example:
        >>> parts_at([Life(4, 0, kind=WEIGHTS), Life(8, 1, 2), Life(6, 1)], 1)
        Parts(weights_bytes=4, ..., activations_bytes=14, ...)
    """
    held: dict[str, int] = {}
    for life in lives:
        if life.at(moment):
            name = f"{life.kind}_bytes"
            held[name] = held.get(name, 0) + life.nbytes
    return Parts(**held)


@dataclass(frozen=True)
class Peak:
    """The most memory that lives at once: when (`phase`), in which module, and what it is.

    Example:
        >>> Peak("forward", "layer1.0.conv1", Parts(activations_bytes=600)).total_bytes
        600
    """

    phase: str
    path: str
    parts: Parts

    @property
    def total_bytes(self) -> int:
        """The memory at the peak (bytes)."""
        return self.parts.total_bytes

    def as_document(self) -> dict[str, object]:
        """Return when and where it is, and its parts, as JSON has them."""
        return {"phase": self.phase, "path": self.path, **self.parts.as_dict()}


@dataclass(frozen=True)
class Inference:
    """Memory of one forward pass in evaluation mode, without gradients (bytes).

    `weights_bytes` are parameters and buffers; `activations_bytes` what else lives at the peak,
    the input included. The three add up.

    Example:
        >>> Inference(1000, Peak("forward", "stem", Parts(400, 0, 100, 500))).activations_bytes
        600
    """

    peak_bytes: int
    peak: Peak

    @property
    def weights_bytes(self) -> int:
        """Parameters and buffers, with the copies in another dtype."""
        return self.peak.parts.weights_bytes + self.peak.parts.weight_copies_bytes

    @property
    def activations_bytes(self) -> int:
        """What else lives at the peak."""
        return self.peak_bytes - self.weights_bytes

    def as_document(self) -> dict[str, object]:
        """Return the memory as the command line's JSON has it."""
        return {
            "peak_bytes": self.peak_bytes,
            "weights_bytes": self.weights_bytes,
            "activations_bytes": self.activations_bytes,
            "peak": self.peak.as_document(),
        }


@dataclass(frozen=True)
class StepFlops:
    """Multiply-adds of one training step of the whole batch, as executed.

    `recomputed` is what activation checkpointing runs a second time.

    Example:
        >>> StepFlops(forward=100, backward=200, recomputed=0).total
        300
    """

    forward: int
    backward: int
    recomputed: int = 0

    @property
    def total(self) -> int:
        """All multiply-adds of the step."""
        return self.forward + self.backward + self.recomputed

    def as_document(self) -> dict[str, int]:
        """Return the multiply-adds as the command line's JSON has them."""
        return {
            "flops_forward": self.forward,
            "flops_backward": self.backward,
            "flops_recomputed": self.recomputed,
        }


@dataclass(frozen=True)
class Training:
    """Memory of a training step (bytes): forward, loss, backward, step of the optimizer.

    `gradients_bytes` are those of all parameters, `optimizer_state_bytes` what the optimizer
    keeps between steps, `saved_activations_bytes` what the forward pass leaves for the backward
    pass. They need not live at once: `peak` says what does where the most lives.

    Example:
        >>> peak = Peak("backward", "stem", Parts(weights_bytes=400, activations_bytes=600))
        >>> Training(1000, peak, 400, 0, 600, StepFlops(1, 2)).peak_bytes
        1000
    """

    peak_bytes: int
    peak: Peak
    gradients_bytes: int
    optimizer_state_bytes: int
    saved_activations_bytes: int
    flops: StepFlops

    @property
    def weights_bytes(self) -> int:
        """Parameters and buffers."""
        return self.peak.parts.weights_bytes

    def as_document(self) -> dict[str, object]:
        """Return the memory as the command line's JSON has it."""
        return {
            "peak_bytes": self.peak_bytes,
            "weights_bytes": self.weights_bytes,
            "gradients_bytes": self.gradients_bytes,
            "optimizer_state_bytes": self.optimizer_state_bytes,
            "saved_activations_bytes": self.saved_activations_bytes,
            **self.flops.as_document(),
            "peak": self.peak.as_document(),
        }


@dataclass(frozen=True)
class Memory:
    """The memory that a network needs at a resolution and batch size, predicted.

    `training` is None where no optimizer was asked for; `checkpoints` are the paths of the blocks
    that are run again in the backward pass; `limit_bytes` is the limit for which the
    batch size is the largest, if one was given; `inputs` the shapes and dtypes of inputs, where
    the user gave some: the resolution is then that of the first image, None where there is none.

    Example:
        >>> run = Inference(1000, Peak("forward", "stem", Parts(400, 0, 100, 500)))
        >>> Memory("net", 224, 8, "float32", None, run).peak_bytes
        1000
    """

    network: str
    resolution: Resolution | None
    batch_size: int
    precision: str
    optimizer: str | None
    inference: Inference
    training: Training | None = None
    checkpoints: tuple[str, ...] = ()
    limit_bytes: int | None = None
    notes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The peak of a training step, or of inference where there is none."""
        return (self.training or self.inference).peak_bytes

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        training = None if self.training is None else self.training.as_document()
        return {
            "schema_version": 1,
            "network": self.network,
            "resolution": self.resolution,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "checkpoints": list(self.checkpoints),
            "limit_bytes": self.limit_bytes,
            "inference": self.inference.as_document(),
            "training": training,
            "notes": list(self.notes),
            **({"inputs": list(self.inputs)} if self.inputs else {}),
        }


@dataclass(frozen=True)
class MemoryBudget:
    """An upper limit of memory (bytes), and what must fit into it.

    Without an optimizer it is inference, else a training step.

    Example:
        >>> MemoryBudget(8_000_000_000, batch_size=32, optimizer="adamw").precision is None
        True
    """

    limit_bytes: int
    batch_size: int = 1
    optimizer: str | None = "sgd"
    precision: str | None = None
    checkpointing: bool = False

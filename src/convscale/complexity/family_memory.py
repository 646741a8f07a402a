"""The memory of passes and training steps of many networks of a family, without building them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from convscale.complexity.dryrun import DryRun, check_optimizer, check_precision
from convscale.complexity.training_log import TrainingLog, training_log
from convscale.errors import InputError
from convscale.families.candidates import Candidates
from convscale.families.forms import Sizes, forms
from convscale.families.many import chunks
from convscale.families.regnet import Ints
from convscale.families.terms import Form, maps
from convscale.network.sources.network import from_family
from convscale.quantities import check_count

_CHUNK = 1024  # candidates whose intermediate arrays stay in the cache


def step_bytes(
    candidates: Candidates,
    *,
    batch_size: int = 1,
    optimizer: str = "sgd",
    precision: str | None = None,
) -> Ints:
    """Return the peak memory of a training step of each of many networks, shape (n,).

    It is what `convscale memory` predicts for the built network; 0 where it cannot be trained on
    such a batch, as a norm would see a single value.

    Args:
        candidates: The networks.
        batch_size: Images in a batch.
        optimizer: sgd (with momentum) or adamw.
        precision: float32, bfloat16, float16 or mixed; float32 by default.

    Raises:
        InputError: If an argument is wrong.

    Example:
        >>> import convscale as cs
        >>> many = cs.families.scale_many(cs.families.named("ResNet-18"), (0, 1, 0), factor=[1, 2])
        >>> first = cs.memory("ResNet-18", batch_size=2).training.peak_bytes
        >>> int(step_bytes(many.candidates, batch_size=2)[0]) == first
        True
    """
    return StepMemory(optimizer, precision).peaks(candidates, batch_size=batch_size)


@dataclass(frozen=True)
class StepMemory:
    """The memory of training steps as `convscale memory` predicts it, of networks of families.

    One network of each form is run dry; what is known of forms is kept.

    Args:
        optimizer: sgd or adamw; None for inference.
        precision: float32, bfloat16, float16 or mixed; float32 by default.

    Example:
        >>> import convscale as cs
        >>> found = cs.families.scale_many(cs.families.named("ResNet-18"), (0, 1, 0), factor=[1, 2])
        >>> told = StepMemory("sgd").peaks(found.candidates, batch_size=2)
        >>> int(told[1]) == cs.memory(found.description(1), batch_size=2).training.peak_bytes
        True
    """

    optimizer: str | None
    precision: str | None = None
    logs: dict[Form, TrainingLog | None] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        check_optimizer(self.optimizer)
        check_precision(self.precision)

    def peaks(self, candidates: Candidates, *, batch_size: int = 1) -> Ints:
        """Return the peak memory of a step or a pass, in bytes, shape (n,).

        That of a step is 0 where a network cannot be trained on such a batch, as a norm would see
        one value.

        Args:
            candidates: The networks.
            batch_size: Images in a batch.
        """
        images = check_count(batch_size, what="batch size")
        found = np.zeros(len(candidates), np.int64)
        for rows in chunks(len(candidates), _CHUNK):
            part = candidates.part(rows)
            for form, which in forms(candidates, part):
                places = rows.start + which
                some = part.take(which)
                sizes = Sizes(form, some)
                log = self._log(form)
                if log is None or not log.fits(sizes):
                    found[places] = [self._built(candidates, at, images) for at in places]
                    continue
                known = log.peak(sizes, images, len(which))
                last = len(maps(form.like, form.strides)) - 1
                runs = self.optimizer is None or images * sizes.of(("map", last)) > 1
                found[places] = np.where(runs, known, 0)
        return found

    def _log(self, form: Form) -> TrainingLog | None:
        """Return the log of a form; which kernels run does not matter."""
        kind = replace(form, spatial=(("", ""),) * len(form.strides))
        if kind not in self.logs:
            self.logs[kind] = training_log(kind, self.optimizer, self.precision)
        return self.logs[kind]

    def _built(self, candidates: Candidates, at: int, images: int) -> int:
        """Return the memory of a network that no log tells."""
        network = from_family("candidate", candidates.description(at), {})
        run = DryRun(network, batch_size=images, precision=self.precision)
        if self.optimizer is None:
            return run.inference().peak_bytes
        try:
            return run.training(self.optimizer).peak_bytes
        except InputError:
            return 0

"""What inference and a training step really take, by two ways that know nothing of the prediction.

One counts the storages of the tensors that operators put out, looking after every operator which
have gone; the other adds up what the allocator hands out and takes back, which includes what
operators use inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Truth:
    """Peaks of a run in bytes: of the storages of tensors, and of the allocator.

    Example:
        >>> Truth(tensors_bytes=100, allocator_bytes=120).allocator_bytes
        120
    """

    tensors_bytes: int
    allocator_bytes: int


class StorageCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of the storages that live after every operator.

    Example:
        >>> with StorageCount() as count:
        ...     total = torch.zeros(8, 8).sum()
        >>> count.peak
        260
    """

    def __init__(self, held: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[StorageWeakRef, int] = {}
        self.peak = 0
        self._look(held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._look(leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor))
        return output

    def _look(self, tensors: Iterable[torch.Tensor]) -> None:
        self._live = {ref: size for ref, size in self._live.items() if not ref.expired()}  # type: ignore[no-untyped-call]
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._live[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(self._live.values()))


def allocator_peak(run: Callable[[], None]) -> int:
    """Return the most that the CPU's allocator hands out in a run beyond what it had (bytes).

    Example:
        >>> allocator_peak(lambda: torch.zeros(1024).sum())
        4100
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    results: Any = profiled.profiler
    held = most = 0
    for event in results.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@dataclass
class Loop:
    """A network in training, or in evaluation without an optimizer, on real tensors.

    Example:
        >>> loop = Loop(nn.Conv2d(3, 4, 1), (torch.zeros(2, 3, 8, 8),), torch.optim.SGD)
        >>> loop.measure().tensors_bytes > 2 * 3 * 64 * 4
        True
    """

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 1e-3})
    mixed: bool = False
    checkpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.module.train(self.optimizer is not None)
        self._targets: dict[tuple[int, ...], torch.Tensor] = {}
        self._stepper = None
        if self.optimizer is not None:
            self._stepper = self.optimizer(self.module.parameters(), **self.options)
        for path in self.checkpoints:
            block = self.module.get_submodule(path)
            block.forward = _checkpointed(block.forward)

    @property
    def _device(self) -> str:
        return self.inputs[0].device.type

    def measure(self) -> Truth:
        """Run once to make what stays, then once in each of the two ways of counting."""
        run = self._infer if self._stepper is None else self._train
        run()
        held = self._held()
        if self._device == "cuda":
            return self._on_cuda(run)
        peak = allocator_peak(run)
        with StorageCount(held) as count:
            run()
        return Truth(count.peak, peak + _storage_bytes(held))

    def _on_cuda(self, run: Callable[[], None]) -> Truth:
        torch.cuda.reset_peak_memory_stats()
        run()
        peak = torch.cuda.max_memory_allocated()
        with StorageCount(self._held()) as count:
            run()
        return Truth(count.peak, peak)

    def _infer(self) -> None:
        with torch.no_grad(), self._casts():
            self.module(*self.inputs)

    def _train(self) -> None:
        assert self._stepper is not None
        with self._casts():
            output = self.module(*self.inputs)
            leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
            loss = torch.stack([self._loss(leaf) for leaf in leaves]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self._stepper.step()
        self._stepper.zero_grad(set_to_none=True)

    def _loss(self, scores: torch.Tensor) -> torch.Tensor:
        shape = (scores.shape[0], *scores.shape[2:])
        if shape not in self._targets:
            self._targets[shape] = torch.zeros(shape, dtype=torch.long, device=scores.device)
        return nn.functional.cross_entropy(scores, self._targets[shape])

    def _casts(self) -> AbstractContextManager[Any]:
        if not self.mixed:
            return nullcontext()
        return torch.autocast(self._device, dtype=torch.bfloat16)

    def _held(self) -> list[torch.Tensor]:
        state = self._stepper.state.values() if self._stepper else ()
        kept = [leaf for entry in state for leaf in tree_leaves(entry)]
        return [
            *self.module.parameters(),
            *self.module.buffers(),
            *self.inputs,
            *self._targets.values(),
            *(leaf for leaf in kept if isinstance(leaf, torch.Tensor)),
        ]


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Run a forward pass again backwards, with lists as they were when they were given."""

    def again(*args: Any, **kwargs: Any) -> Any:
        taken = [list(value) if isinstance(value, list) else value for value in args]
        return checkpoint(forward, *taken, use_reentrant=False, **kwargs)

    return again

"""Follow the memory of tensors while a module runs: what comes, when it goes, and where."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from convscale.complexity.memory import ACTIVATIONS, COPIES, WEIGHTS, Life, Peak
from convscale.complexity.memory import parts_at as parts_at
from convscale.complexity.memory import peak_moment as peak_moment
from convscale.network.channels.ties import tensors_in

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
_LAST = 1 << 63  # numbers from here on belong to no call


class Whereabouts:
    """Know the module that runs: by hooks forwards, by the node of autograd backwards.

    Nodes are numbered in the order in which they are made, so that the number of a node says
    which module was running then.

    Example:
        >>> net = nn.Sequential(nn.ReLU())
        >>> where = Whereabouts()
        >>> with where.following(net):
        ...     _ = net(torch.zeros(1))
        >>> where.path(FORWARD)
        ''
    """

    def __init__(self) -> None:
        self.recomputing = 0
        self._stack = [""]
        self._marks: list[int] = [0]
        self._paths: list[str] = [""]
        self._backwards = ""

    def path(self, phase: str) -> str:
        """Return the path of the module that runs, or whose backward pass does."""
        if phase != BACKWARD or self.recomputing:
            return self._stack[-1]
        node = torch._C._current_autograd_node()
        number = _LAST if node is None else node._sequence_nr()
        if number < _LAST:  # sums of gradients come with none: they follow what ran before
            self._backwards = self._paths[bisect_right(self._marks, number) - 1]
        return self._backwards

    @property
    def running(self) -> str:
        """The module that is running, or in which a run failed."""
        return self._stack[-1]

    def _mark(self) -> None:
        self._marks.append(torch._C._autograd._get_sequence_nr())
        self._paths.append(self._stack[-1])

    @contextmanager
    def inside(self, path: str, *, again: bool) -> Iterator[None]:
        """Run a block of a checkpoint; what runs again may stop in the middle."""
        depth = len(self._stack)
        self._stack.append(path)
        self._mark()
        self.recomputing += again
        try:
            yield
        finally:
            self.recomputing -= again
            del self._stack[depth:]
            self._mark()

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Watch the borders of all submodules."""
        handles = []
        for path, part in module.named_modules():

            def enter(_part: nn.Module, _inputs: Any, path: str = path) -> None:
                self._stack.append(path)
                self._mark()

            def leave(_part: nn.Module, _inputs: Any, _output: Any) -> None:
                self._stack.pop()
                self._mark()

            handles.append(part.register_forward_pre_hook(enter))
            handles.append(part.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Liveness(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note every storage that an operator makes, the module it is made in, and when it goes.

    Nothing is kept alive: a storage goes when the last tensor of Python or autograd goes, as in
    a run without this.

    Example:
        >>> seen = Liveness(Whereabouts())
        >>> with seen:
        ...     half = torch.zeros(8, 8, device="meta").sum(0)
        >>> [(life.nbytes, life.died) for life in seen.lives()]
        [(256, 2), (32, None)]
    """

    def __init__(self, where: Whereabouts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = FORWARD
        self.where = where
        self.moment = -1
        self._known: dict[int, int] = {}  # live storages, with their places in the lists
        self._refs: list[Any] = []
        self._sizes: list[int] = []
        self._born: list[int] = []
        self._died: list[int | None] = []
        self._kinds: list[str] = []
        self._places: dict[int, tuple[str, str]] = {}  # of what came at each moment

    def note(self, tensor: torch.Tensor, kind: str = ACTIVATIONS) -> None:
        """Note the storage of a tensor, if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        place = len(self._sizes)

        def gone(_: Any, key: int = key, place: int = place) -> None:
            del self._known[key]
            self.moment += 1
            self._died[place] = self.moment

        self.moment += 1
        self._known[key] = place
        self._refs.append(weakref.ref(storage, gone))
        self._sizes.append(storage.nbytes())
        self._born.append(self.moment)
        self._died.append(None)
        self._kinds.append(kind)
        self._places[self.moment] = (self.phase, self.where.path(self.phase))

    def hold(self, nbytes: int, kind: str) -> None:
        """Note memory that is there from the first moment on and never goes."""
        self._sizes.append(nbytes)
        self._born.append(0)
        self._died.append(None)
        self._kinds.append(kind)

    def call(self, tensor: torch.Tensor, kind: str, *, always: bool = False) -> None:
        """Say what kind of memory a tensor's storage is, and whether it is always there."""
        self.note(tensor, kind)
        place = self._known[tensor.untyped_storage()._cdata]
        self._kinds[place] = kind
        if always:
            self._born[place] = 0

    def held_bytes(self, kind: str) -> int:
        """Return the bytes of a kind that live now."""
        return sum(self._sizes[at] for at in self._known.values() if self._kinds[at] == kind)

    def lives(self) -> list[Life]:
        """Return everything that was noted, in the order in which it came."""
        values = zip(self._sizes, self._born, self._died, self._kinds, strict=True)
        return [Life(*value) for value in values]

    def peak(self) -> Peak:
        """Return the most that lived at once."""
        lives = self.lives()
        moment = peak_moment(lives)
        phase, path = self._places[moment]
        return Peak(phase, path, parts_at(lives, moment))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        kind = ACTIVATIONS
        if func._opname == "_to_copy" and self._is_weight(args[0]):
            kind = COPIES
        if isinstance(output, torch.Tensor):
            self.note(output, kind)
        else:
            for tensor in tensors_in(output):
                self.note(tensor, kind)
        self.visit(func, args, kwargs or {}, output)
        return output

    def visit(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """See a call after it was made; does nothing by itself."""

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        place = self._known.get(tensor.untyped_storage()._cdata)
        return place is not None and self._kinds[place] == WEIGHTS

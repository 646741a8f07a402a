"""Fresh weights for tensors that are new or changed their shape; the others keep theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import nn

from convscale.errors import UnscalableNetworkError
from convscale.scaling.building.spectral import is_direction

_INITIALISERS = ("init_weights", "reset_parameters", "initialize_weights", "_initialize_weights")
_CHUNK = 1 << 22
_FEW = 8  # of fewer values any order may be chance
_MANY = 32  # more values than these may be drawn


class StoredError(UnscalableNetworkError):
    """Refuse new values of a tensor that training does not change.

    Args:
        tensor: Its name.
        message: The refusal, where it cannot stay as it is.

    Example:
        >>> StoredError("dfl.weight", "The frozen weight 'dfl.weight' differs.").tensor
        'dfl.weight'
    """

    def __init__(self, tensor: str, message: str) -> None:
        super().__init__(message)
        self.tensor = tensor


class Redraw:
    """Draw the values of a resized tensor from those it had.

    A constant stays constant. Random values are drawn from the base tensor's own values,
    times (base fan-in / new fan-in)^(1/2), which keeps the scale of a layer's output and the
    shape of the distribution, whichever it was.

    Args:
        seed: Seed of the random numbers.
        unscaled: Names of the tensors whose values are not multiplied.

    Example:
        >>> draw = Redraw(seed=0)
        >>> float(draw("scale", torch.ones(4), (6,)).sum())
        6.0
    """

    def __init__(self, seed: int, unscaled: Iterable[str] = ()) -> None:
        self._unscaled = frozenset(unscaled)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a new tensor of a shape, on the old one's device and of its dtype."""
        with torch.no_grad():
            if old.is_meta:
                return torch.empty(shape, dtype=old.dtype, device="meta")
            if old.numel() and bool((old == old.reshape(-1)[0]).all()):
                return torch.full(
                    shape, old.reshape(-1)[0].item(), dtype=old.dtype, device=old.device
                )
            if not isinstance(old, nn.Parameter) and is_direction(old):
                return self._direction(old, shape)
            real = old.is_floating_point() or old.is_complex()
            if not real or not isinstance(old, nn.Parameter) or is_written(old):
                return _tiled(name, old, shape)
            return self._drawn(old.detach(), shape, scaled=name not in self._unscaled)

    def _direction(self, old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        new = torch.randn(shape, generator=self._generator)
        return torch.nn.functional.normalize(new, dim=0).to(old)

    def _drawn(self, old: torch.Tensor, shape: tuple[int, ...], *, scaled: bool) -> torch.Tensor:
        pool = old.reshape(-1)
        scale = (_fan_in(tuple(old.shape)) / _fan_in(shape)) ** 0.5 if scaled else 1.0
        new = torch.empty(prod(shape), dtype=old.dtype, device=old.device)
        for start in range(0, new.numel(), _CHUNK):
            count = min(_CHUNK, new.numel() - start)
            chosen = torch.randint(pool.numel(), (count,), generator=self._generator)
            new[start : start + count] = pool.index_select(0, chosen.to(old.device))
        return new.mul_(scale).reshape(shape)


def is_written(tensor: torch.Tensor) -> bool:
    """Tell whether a weight that does not train holds values that somebody wrote.

    They rise or fall from the first to the last, or are a few that are repeated: numbers of bins,
    masks, kernels that blur or find edges.

    Example:
        >>> bins = torch.arange(8.0)
        >>> is_written(nn.Parameter(bins, requires_grad=False)), is_written(nn.Parameter(bins))
        (True, False)
    """
    if tensor.requires_grad or tensor.is_meta or tensor.is_complex() or tensor.numel() < _FEW:
        return False
    values = tensor.detach().reshape(-1)
    steps = values.diff()
    one_way = bool((steps >= 0).all()) or bool((steps <= 0).all())
    different = 1 + int(values.sort().values.diff().count_nonzero())
    return one_way or 2 * different <= min(values.numel(), 2 * _MANY)


def _fan_in(shape: tuple[int, ...]) -> int:
    return max(1, prod(shape[1:]))


def _tiled(name: str, old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Repeat what does not train along the axes that grew, where it repeats itself there."""
    kind = "frozen weight" if isinstance(old, nn.Parameter) else "buffer"
    tensor = old.detach()
    for dim, (before, after) in enumerate(zip(old.shape, shape, strict=True)):
        if before != after:
            period = _period(tensor, dim, after)
            if period is None:
                raise StoredError(
                    name,
                    f"The {kind} {name!r} differs along an axis that is scaled, and nothing tells "
                    "its new values: training does not change it. Compute it in forward, or keep "
                    "the width: "
                    f"--freeze {name.rpartition('.')[0] or name!r}.",
                )
            times = [after // period if d == dim else 1 for d in range(tensor.ndim)]
            tensor = tensor.narrow(dim, 0, period).repeat(times)
    return tensor.clone()


def _period(tensor: torch.Tensor, dim: int, size: int) -> int | None:
    """Return after how many entries a tensor repeats itself along an axis that gets a size.

    One, if it is constant there: more are kernels that every channel has alike.
    """
    before = tensor.shape[dim]
    for period in range(1, before // 2 + 1 if before > 1 else 2):
        if before % period == 0 and size % period == 0:
            rest = tensor.narrow(dim, period, before - period)
            if bool((rest == tensor.narrow(dim, 0, before - period)).all()):
                return period
    return None


def averaged(old: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a statistic of another shape: what it is on average along each axis that changed.

    Example:
        >>> averaged(torch.tensor([1.0, 3.0]), (3,))
        tensor([2., 2., 2.])
    """
    changed = [dim for dim, size in enumerate(shape) if old.shape[dim] != size]
    mean = old.detach().double().mean(changed, keepdim=True)
    rounded = mean if old.is_floating_point() else mean.round()
    return rounded.to(old.dtype).expand(shape).clone()


def refresh(module: nn.Module, kept: Iterable[str], *, seed: int) -> tuple[str, ...]:
    """Run the network's own initialiser where it has one; keep what did not change.

    One that takes a module is applied to all of them, as `nn.Module.apply` does.

    Args:
        module: A scaled module whose tensors all hold values.
        kept: Names of the tensors that keep the values they have.
        seed: Seed of the random numbers.

    Returns:
        Notes for the user.

    Example:
        >>> refresh(nn.Sequential(nn.Linear(2, 2)), (), seed=0)
        ()
    """
    initialise = next(
        (m for name in _INITIALISERS if callable(m := getattr(module, name, None))), None
    )
    if initialise is None or any(tensor.is_meta for tensor in module.parameters()):
        return ()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    backup = {name: tensors[name].detach().clone() for name in kept if name in tensors}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    notes: tuple[str, ...] = ()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        try:
            if _takes_a_module(initialise):
                module.apply(initialise)
            else:
                initialise()
            restored = backup
        except Exception as error:  # noqa: BLE001 - it is the user's code; the drawn weights stay
            reason = f"{type(error).__name__}: {error}"
            restored, notes = before, (f"The network's own initialiser failed ({reason}).",)
        for name, value in restored.items():
            tensors[name].copy_(value)
    return notes


def _takes_a_module(initialise: Callable[..., Any]) -> bool:
    """Tell whether an initialiser cannot be called without a module."""
    try:
        inspect.signature(initialise).bind()
    except TypeError:
        return True
    except ValueError:  # a signature that nobody knows
        return False
    return False

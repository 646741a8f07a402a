"""What a backend makes of a network: the work of one pass, in parts that are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from convscale.runtime.setting import Setting


def _nothing() -> None:
    """Close what needs no closing."""


@dataclass(frozen=True)
class Runner:
    """A network ready to run: the parts of a pass by name, and how it computes.

    close gives back what was taken (files, sessions).

    Example:
        >>> Runner({"forward": lambda: None}, dtype="float32").names
        ('forward',)
    """

    parts: dict[str, Callable[[], object]]
    dtype: str
    autocast: bool = False
    compiled: bool = False
    optimizer: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    close: Callable[[], object] = _nothing

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts, in the order of the work."""
        return tuple(self.parts)


class Backend(Protocol):
    """What can run a module on an input."""

    def check(self, setting: Setting) -> None:
        """Refuse with an `InputError` what cannot be run here, before anything is built."""

    def prepare(self, module: nn.Module, images: torch.Tensor, setting: Setting) -> Runner:
        """Return what runs the module on the images; both are on the device already."""


def backend(name: str) -> Backend:
    """Return the backend of a name that `Setting` takes.

    Example:
        >>> type(backend("pytorch")).__name__
        'PyTorch'
    """
    from convscale.runtime.onnx import OnnxRuntime
    from convscale.runtime.pytorch import PyTorch

    known: dict[str, Callable[[], Backend]] = {"pytorch": PyTorch, "onnxruntime": OnnxRuntime}
    return known[name]()


def format_dtype(dtype: torch.dtype) -> str:
    """Write a dtype without its package.

    Example:
        >>> import torch
        >>> format_dtype(torch.bfloat16)
        'bfloat16'
    """
    return str(dtype).removeprefix("torch.")

"""Values on the meta device: of small tensors that follow from nothing but constants.

Code takes numbers out of tensors that are no feature maps: the strides of a detector, a range of
dimensions. On the meta device tensors have no values. Those of a module's small tensors are kept
beside them, and what operators make of such tensors alone is computed beside the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

_MOST = 4096  # elements: what is larger is a map
_HELD = "held_values"  # the attribute in which a tensor on the meta device keeps its values
_FACTORIES = frozenset("arange full zeros ones scalar_tensor linspace eye".split())
_READS = frozenset(("_local_scalar_dense", "equal"))
# Functions that make or change tensors where no operator is seen.
SILENT = frozenset((torch.tensor, torch.Tensor.type))
_META_TYPE = re.compile(r"torch\.meta\.(\w+)Tensor")
_CPU = torch.device("cpu")


def hold_values(blank: torch.Tensor, tensor: torch.Tensor) -> None:
    """Keep the values of a small tensor, which is no parameter, beside one without values.

    Example:
        >>> blank, other = torch.empty(2, device="meta"), torch.empty(2, device="meta")
        >>> hold_values(blank, torch.tensor([8.0, 16.0]))
        >>> hold_values(other, blank)
        >>> Constants().values(other).tolist()
        [8.0, 16.0]
    """
    if isinstance(tensor, nn.Parameter) or tensor.numel() > _MOST or tensor.layout != torch.strided:
        return
    values = getattr(tensor, _HELD, None) if tensor.is_meta else tensor.detach().cpu()
    if values is not None:
        setattr(blank, _HELD, values)


class Constants:
    """The values of tensors in one run on the meta device, as far as they follow from constants.

    Example:
        >>> constants, x = Constants(), torch.empty(2, device="meta")
        >>> constants.note(x, torch.tensor([3.0, 4.0]))
        >>> total = constants.call(torch.ops.aten.sum.default, (x,), {}, x.sum)
        >>> constants.call(torch.ops.aten._local_scalar_dense.default, (total,), {}, total.item)
        7.0
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._stores: set[int] = set()

    def note(self, tensor: torch.Tensor, values: torch.Tensor | None) -> None:
        """Note the values of a tensor; None where they are not known any more."""
        if values is None or values.numel() <= _MOST:
            self._known[id(tensor)] = (tensor, values)
            self._stores.add(tensor.untyped_storage()._cdata)

    def values(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a tensor, None where they are not known."""
        if not tensor.is_meta:
            return tensor
        entry = self._known.get(id(tensor))
        if entry is not None:
            return entry[1]
        held = getattr(tensor, _HELD, None)
        if held is not None:
            self.note(tensor, held.clone())  # the run may write to it
            return self._known[id(tensor)][1]
        return None

    def call(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        plain: Callable[[], Any],
    ) -> Any:
        """Call an operator, with values where all that it takes has them.

        Args:
            func: The operator.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            plain: Calls it without values.
        """
        if not self._follows(func, args, kwargs):
            if self._stores and func._schema.is_mutable:
                self._forget(tensors_among(args))
            return plain()
        if func._opname in _READS or _device(kwargs) == "cpu":
            return self._computed(func, args, kwargs)
        try:
            made = plain()
        except (NotImplementedError, RuntimeError):  # it asks for values
            found = self._computed(func, args, kwargs)
            made = pytree.tree_map_only(torch.Tensor, _blank, found)
        else:
            if any(tensor.numel() > _MOST for tensor in tensors_among((made,))):
                return made
            found = self._computed(func, args, kwargs)
        pairs = zip(tensors_among((made,)), tensors_among((found,)), strict=True)
        for tensor, values in pairs:
            self.note(tensor, values)
        return made

    def make(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function that is none of operators: one of `SILENT`."""
        if func is torch.Tensor.type and (args[1:] or kwargs):
            kind = str(kwargs.get("dtype", args[1] if args[1:] else ""))
            named = _META_TYPE.fullmatch(kind)
            if named is not None:  # a name that PyTorch gives, and does not read
                return args[0].to(getattr(torch, f"{named[1]}Tensor").dtype)
        made = func(*args, **kwargs)
        if func is torch.tensor and isinstance(made, torch.Tensor) and made.is_meta:
            with _disable_current_modes():
                self.note(made, func(*args, **{**kwargs, "device": _CPU}))
        return made

    def _follows(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether the values of an operator's result are known."""
        given = False
        for value in args:
            for tensor in value if type(value) in (list, tuple) else (value,):
                if isinstance(tensor, torch.Tensor):
                    given = True
                    if self.values(tensor) is None:
                        return False
        if torch.Tag.nondeterministic_seeded in func.tags:
            return False
        if any(isinstance(value, torch.Tensor) for value in kwargs.values()):
            return False
        return given or (func._opname in _FACTORIES and _device(kwargs) == "meta")

    def _computed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = pytree.tree_map_only(torch.Tensor, self.values, args)
        if _device(kwargs) is not None:
            kwargs = {**kwargs, "device": _CPU}
        with _disable_current_modes():
            return func(*known, **kwargs)

    def _forget(self, given: list[torch.Tensor]) -> None:
        """Know no values any more of what an operator may have written to, nor of its views."""
        for tensor in given:
            held = getattr(tensor, _HELD, None) is not None
            store = tensor.untyped_storage()._cdata
            if held or store in self._stores:
                self.note(tensor, None)
                for other, _ in list(self._known.values()):
                    if other.untyped_storage()._cdata == store:
                        self.note(other, None)


def tensors_among(values: Iterable[Any]) -> list[torch.Tensor]:
    """Return the tensors among values, and in lists among them.

    Example:
        >>> len(tensors_among((torch.zeros(1), [torch.zeros(2), 3], None)))
        2
    """
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif type(value) in (list, tuple):
            found += tensors_among(value)
    return found


def _blank(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _device(kwargs: dict[str, Any]) -> str | None:
    """Return the kind of device that an operator is told to put its result on."""
    device = kwargs.get("device")
    return None if device is None else torch.device(device).type

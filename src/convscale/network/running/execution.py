"""Run a network once and show every operator to an observer, with the module it ran in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from convscale.errors import ConvscaleError
from convscale.network.modules.constants import SILENT, Constants
from convscale.network.modules.walking import walk
from convscale.network.running.autocast import Autocast, as_on_gpu
from convscale.network.running.dependence import dependence, place, without_meta
from convscale.network.running.direct import call
from convscale.network.running.recurrent import shortened

if TYPE_CHECKING:
    from convscale.network.channels.ties import Ties

Handle = Callable[[Any, tuple[Any, ...], dict[str, Any], str], Any]


class ForwardError(Exception):
    """A network failed while it ran: the module it failed in, and the reason.

    Example:
        >>> ForwardError("stem", "Conv2d", ValueError("too small")).reason
        'ValueError: too small (in stem, a Conv2d)'
    """

    def __init__(self, path: str, kind: str, error: Exception) -> None:
        first = str(error).strip().split("\n")[0].rstrip(".")[:160]
        where = f"in {path}, a {kind}" if path else f"in {kind}"
        self.path = path
        self.reason = f"{type(error).__name__}: {first} ({where})"
        self._does, self._lacks = dependence(error), without_meta(error)
        self._line = place(error)
        self._who = f"{path}, a {kind}," if path else kind
        super().__init__(self.reason)

    @property
    def needs_values(self) -> str | None:
        """What the module did that follows from the values of tensors, and where; or None."""
        return None if self._does is None else self._said(self._does)

    @property
    def lacks_shapes(self) -> str | None:
        """Which operator without a form for the meta device the module called; or None."""
        if self._lacks is None:
            return None
        return self._said(f"calls {self._lacks}, which has no form that computes shapes alone")

    @property
    def told(self) -> str:
        """Why it failed, in terms of the network where that is known."""
        return self.needs_values or self.lacks_shapes or self.reason

    def _said(self, does: str) -> str:
        return f"{self._who} {does}" + (f" ({self._line})" if self._line else "")


def passed(inputs: tuple[Any, ...], output: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return what a module makes of what: the map that it takes first, and the one it gives first.

    None where it takes several maps, or none. What it takes beside one has fewer axes, as the
    embedding of a time has.

    Example:
        >>> x, time = torch.zeros(1, 4, 8, 8), torch.zeros(1, 16)
        >>> passed((x, time), x)[0] is x, passed((x, x), x)
        (True, None)
    """
    given = [value for value in inputs if isinstance(value, torch.Tensor)]
    if isinstance(output, tuple) and output:  # what comes beside the feature map
        output = output[0]
    if not given or not isinstance(output, torch.Tensor) or output.ndim < 2:
        return None
    beside = all(other.ndim < min(given[0].ndim, output.ndim) for other in given[1:])
    return (given[0], output) if beside else None


class Observer:
    """What sees a run: every operator, and every border of a module; does nothing by itself.

    Example:
        >>> Observer().enter("stem", nn.Identity(), ()) is None
        True
    """

    times = 1  # how often what it sees happens: often where one step stands for several, or never

    def repeats(self, x: torch.Tensor, dim: int) -> bool:
        """Tell whether one step of a recurrent layer along a dimension may stand for several."""
        del x, dim
        return True

    def follow(self, ties: Ties) -> None:
        """Learn what tells the units of tensors, before a run in which they are followed."""

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a call of an operator, in the innermost module that is running."""

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module before it runs."""

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """See a module after it ran."""


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _is_composite(func: Any) -> bool:
    """Tell whether an operator is made of others; in inference mode it arrives whole."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)


class _Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(
        self,
        observers: tuple[Observer, ...],
        stack: list[str],
        autocast: Autocast | None,
        constants: Constants | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observers = observers
        self._stack = stack
        self._autocast = autocast
        self._constants = constants

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):
            with self:
                return func._op_dk(_COMPOSITE, *args, **(kwargs or {}))  # as outside of it
        operands = args
        if self._autocast is not None:
            if self._autocast.inside(func, args):
                return args[0]
            operands = self._autocast.operands(func, args)
            args = self._autocast.seen(func, args)
        if self._constants is None:
            output = call(func, operands, kwargs or {})
        else:
            plain = partial(call, func, operands, kwargs or {})
            output = self._constants.call(func, operands, kwargs or {}, plain)
        for observer in self._observers:
            observer.visit(func, args, kwargs or {}, output, self._stack[-1])
        return output


class _Functions(TorchFunctionMode):
    """Hand every call of a function of PyTorch, before it becomes operators, to a handler."""

    def __init__(
        self,
        handle: Handle | None,
        observers: tuple[Observer, ...],
        stack: list[str],
        autocast: Autocast | None,
        constants: Constants | None,
    ) -> None:
        super().__init__()
        self._handle = handle
        self._observers = observers
        self._stack = stack
        self._autocast = autocast
        self._constants = constants

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SILENT and self._constants is not None:
            return self._constants.make(func, args, kwargs or {})
        if self._autocast is None:
            return self._handled(func, args, kwargs or {})
        inner = None if self._handle is None else self._handled
        return self._autocast.call(func, args, kwargs or {}, inner)

    def _handled(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        func = shortened(func, args, self._observers)
        if self._handle is None:
            return func(*args, **kwargs)
        return self._handle(func, args, kwargs, self._stack[-1])


def run(
    module: nn.Module,
    inputs: tuple[Any, ...],
    *observers: Observer,
    keywords: Mapping[str, Any] | None = None,
    handle: Handle | None = None,
    training: bool = False,
    autocast: Autocast | None = None,
) -> Any:
    """Run a module of our own (a copy) and show it to observers.

    Args:
        module: The module; hooks are registered on it for the time of the run.
        inputs: The arguments of its forward pass, tensors on the module's device.
        observers: They see each operator and the border of each module.
        keywords: Keyword arguments of its forward pass.
        handle: Makes each call of a function: handle(function, args, kwargs, path) returns
            its result.
        training: Whether it runs as it does in training; in evaluation mode if not.
        autocast: Gives tensors the precision that they have on a GPU under autocast; for modules
            on the meta device.

    Returns:
        The output of the module.

    Raises:
        ForwardError: If the module fails, with the innermost module that was running.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3, device="meta"))
        >>> run(net, (torch.empty(1, 2, device="meta"),), Observer()).shape
        torch.Size([1, 3])
    """
    _set_mode(module, training)
    stack = [""]
    given = dict(keywords or {})
    device = _device(module, (*inputs, *given.values()))
    constants = Constants() if device.type == "meta" else None
    with _hooked(module, stack, observers), torch.no_grad(), torch.device(device):
        try:
            with (
                as_on_gpu() if autocast else nullcontext(),
                _Dispatch(observers, stack, autocast, constants),
                _Functions(handle, observers, stack, autocast, constants),
            ):
                return module(*inputs, **given)
        except ConvscaleError:
            raise  # an observer's own refusal
        except Exception as error:
            failed = module.get_submodule(stack[-1])
            raise ForwardError(stack[-1], type(failed).__name__, error) from error


def _set_mode(module: nn.Module, training: bool) -> None:
    """Do what `train` does, without what PyTorch checks where an attribute of a module is set."""
    parts = walk(module)
    if any(getattr(type(part), "train", None) is not nn.Module.train for _, part in parts):
        module.train(training)
        return
    for _, part in parts:
        vars(part)["training"] = training


def _device(module: nn.Module, values: tuple[Any, ...]) -> torch.device:
    """Return where a module runs: where its first input is, or its first tensor."""
    given = (value for value in values if isinstance(value, torch.Tensor))
    tensors = (*given, *islice(module.parameters(), 1), *islice(module.buffers(), 1))
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def _hooked(module: nn.Module, stack: list[str], observers: tuple[Observer, ...]) -> Iterator[None]:
    parts = walk(module)
    for path, part in parts:

        def enter(part: nn.Module, inputs: tuple[Any, ...], path: str = path) -> None:
            stack.append(path)
            with torch._C.DisableTorchFunction():  # what observers read is no call of the network
                for observer in observers:
                    observer.enter(path, part, inputs)

        def leave(part: nn.Module, inputs: tuple[Any, ...], output: Any, path: str = path) -> None:
            while stack.pop() != path:
                pass  # a module that failed, and whose failure the network caught
            with torch._C.DisableTorchFunction():
                for observer in observers:
                    observer.leave(path, part, inputs, output)

        _hook(part, enter, leave)
    try:
        yield
    finally:
        for _, part in parts:
            part._forward_pre_hooks.pop(_KEY, None)
            part._forward_hooks.pop(_KEY, None)


# Hooks of ours are registered without handles, of which a network has thousands.
_KEY: Any = "convscale"


def _hook(part: nn.Module, enter: Callable[..., None], leave: Callable[..., None]) -> None:
    """Register hooks: what its own compute before it runs, as its weight, belongs to the module."""
    before: Any = part._forward_pre_hooks
    before[_KEY] = enter
    before.move_to_end(_KEY, last=False)
    part._forward_hooks[_KEY] = leave

"""Run a network once and show every operator to an observer, with the module it ran in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Visit = Callable[[Any, tuple[Any, ...], dict[str, Any], Any, str], None]
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
        super().__init__(self.reason)


class _Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, visit: Visit, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._visit = visit
        self._stack = stack

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._visit(func, args, kwargs or {}, output, self._stack[-1])
        return output


class _Functions(TorchFunctionMode):
    """Hand every call of a function of PyTorch, before it becomes operators, to a handler."""

    def __init__(self, handle: Handle, stack: list[str]) -> None:
        super().__init__()
        self._handle = handle
        self._stack = stack

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._handle(func, args, kwargs or {}, self._stack[-1])


class ModuleVisitor:
    """What happens at the border of a module during a run; does nothing by itself.

    Example:
        >>> ModuleVisitor().enter("stem", nn.Identity(), ()) is None
        True
    """

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module before it runs."""

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """See a module after it ran."""


def run(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    visit: Visit,
    *,
    borders: ModuleVisitor | None = None,
    handle: Handle | None = None,
) -> Any:
    """Run a module of our own (a copy) in evaluation mode and show each operator to `visit`.

    Args:
        module: The module; hooks are registered on it for the time of the run.
        inputs: Input tensors, on the module's device.
        visit: Called as visit(operator, args, kwargs, output, path of the innermost module).
        borders: Called at the border of each module.
        handle: Makes each call of a function: handle(function, args, kwargs, path) returns
            its result.

    Returns:
        The output of the module.

    Raises:
        ForwardError: If the module fails, with the innermost module that was running.

    Example:
        >>> seen = []
        >>> net = nn.Sequential(nn.Linear(2, 3, device="meta"))
        >>> out = run(net, (torch.empty(1, 2, device="meta"),), lambda *a: seen.append(a[4]))
        >>> seen[-1]
        '0'
    """
    module.eval()
    stack = [""]
    device = inputs[0].device
    with _hooked(module, stack, borders or ModuleVisitor()), torch.no_grad(), torch.device(device):
        try:
            with _Dispatch(visit, stack), _Functions(handle, stack) if handle else nullcontext():
                return module(*inputs)
        except Exception as error:
            failed = module.get_submodule(stack[-1])
            raise ForwardError(stack[-1], type(failed).__name__, error) from error


@contextmanager
def _hooked(module: nn.Module, stack: list[str], borders: ModuleVisitor) -> Iterator[None]:
    handles = []
    for path, part in module.named_modules():

        def enter(part: nn.Module, inputs: tuple[Any, ...], path: str = path) -> None:
            stack.append(path)
            borders.enter(path, part, inputs)

        def leave(part: nn.Module, inputs: tuple[Any, ...], output: Any, path: str = path) -> None:
            stack.pop()
            borders.leave(path, part, inputs, output)

        handles.append(part.register_forward_pre_hook(enter))
        handles.append(part.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

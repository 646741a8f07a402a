"""All modules of a network in a row: PyTorch's own walk takes a generator for each level."""

from __future__ import annotations

from torch import nn


def walk(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules of a network with their paths, each once, as `named_modules` yields them.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
        >>> [path for path, _ in walk(net)]
        ['', '0', '0.0', '1']
    """
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        path, part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        found.append((path, part))
        if part._modules:
            start = f"{path}." if path else ""
            waiting += [
                (start + name, child)
                for name, child in reversed(part._modules.items())
                if child is not None
            ]
    return found


def has_weights(module: nn.Module) -> bool:
    """Tell whether a module, or one in it, has parameters.

    Example:
        >>> has_weights(nn.Sequential(nn.ReLU())), has_weights(nn.Sequential(nn.Linear(2, 3)))
        (False, True)
    """
    if any(own is not None for own in module._parameters.values()):
        return True
    return any(has_weights(child) for child in module._modules.values() if child is not None)

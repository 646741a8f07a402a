"""The state of modules and optimisers as safetensors and JSON: every bit, and no pickle.

A tensor comes back with the strides it had, so that later arithmetic runs through it as it would
have done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from convscale.errors import InputError


def module_bytes(module: nn.Module) -> bytes:
    """Return the parameters and buffers of a module as the content of a safetensors file.

    Raises:
        InputError: If the module keeps state that is no tensor.

    Example:
        >>> sorted(load(module_bytes(nn.Linear(2, 3))))
        ['bias', 'weight']
    """
    return save({name: _plain(tensor) for name, tensor in _own_tensors(module).items()})


def fill_module(module: nn.Module, data: bytes, *, what: str = "The checkpoint") -> None:
    """Copy the content of a safetensors file into a module's own tensors.

    Raises:
        InputError: If the file has other tensors than the module.

    Example:
        >>> net, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> fill_module(other, module_bytes(net))
        >>> torch.equal(net.weight, other.weight)
        True
    """
    own, given = _own_tensors(module), load(data)
    wrong = sorted(own.keys() ^ given.keys()) or sorted(
        name
        for name, tensor in own.items()
        if (tensor.shape, tensor.dtype) != (given[name].shape, given[name].dtype)
    )
    if wrong:
        raise InputError(f"{what} does not fit the network: {', '.join(wrong[:3])} differ.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def packed(state: object) -> tuple[object, bytes]:
    """Part a nested state, such as an optimiser's, into what JSON holds and its tensors.

    Raises:
        InputError: If there is anything in it but tensors, numbers, texts and collections of them.

    Example:
        >>> values, tensors = packed({"lr": 0.1, "state": {0: torch.ones(2)}})
        >>> unpacked(values, tensors)
        {'lr': 0.1, 'state': {0: tensor([1., 1.])}}
    """
    tensors: dict[str, torch.Tensor] = {}
    return _packed(state, tensors), save(tensors)


def unpacked(values: object, tensors: bytes) -> Any:
    """Put together what `packed` parted.

    Example:
        >>> unpacked(*packed((1, None, "a", [True, 0.5])))
        (1, None, 'a', [True, 0.5])
    """
    return _unpacked(values, load(tensors))


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of the state dict, each once however many names it has."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"The network keeps {name} in its state, a {type(tensor).__name__}. Only tensors "
                "can be saved without a pickle."
            )
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _packed(state: object, tensors: dict[str, torch.Tensor]) -> object:
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, torch.Tensor):
        key = str(len(tensors))
        tensors[key] = _plain(state)
        return {"tensor": key, "strides": list(state.stride())}
    if isinstance(state, Mapping):
        return {"mapping": [[_key(name), _packed(value, tensors)] for name, value in state.items()]}
    if isinstance(state, list):
        return [_packed(value, tensors) for value in state]
    if isinstance(state, tuple):
        return {"tuple": [_packed(value, tensors) for value in state]}
    raise InputError(
        f"The state of the optimiser holds a {type(state).__name__}, which cannot be saved without "
        "a pickle. Choose another optimiser."
    )


def _key(name: object) -> int | str:
    if isinstance(name, int | str):
        return name
    raise InputError(f"The state of the optimiser has the key {name!r}. Choose another optimiser.")


def _unpacked(values: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(values, list):
        return [_unpacked(value, tensors) for value in values]
    if not isinstance(values, dict):
        return values
    if "tensor" in values:
        return _strided(tensors[values["tensor"]], values["strides"])
    if "tuple" in values:
        return tuple(_unpacked(value, tensors) for value in values["tuple"])
    return {name: _unpacked(value, tensors) for name, value in values["mapping"]}


def _strided(tensor: torch.Tensor, strides: list[int]) -> torch.Tensor:
    made = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype)
    return made.copy_(tensor)

"""Networks of other libraries, for the coverage study: modules, as their factories give them.

They are handed over as they are, without their factory, so that all is seen from the outside.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from convscale.network import resolve_base
from convscale.network.sources.network import Network
from convscale.quantities import Resolution

ZOOS = {"pytorchcv": "pytorchcv.model_provider"}
# Networks of other data that differ in their classes alone, of signals, pairs and clips, and those
# of 500 layers and more.
_AGAIN = ("_cifar100", "_svhn", "_cub")
_NO_IMAGES = ("quartznet", "jasper", "raft", "propainter")
_HUGE = ("542", "1001", "1202")


def zoo_names(zoo: str) -> list[str]:
    """Return the names of a library's networks, of those that differ in their classes one each.

    Args:
        zoo: One of `ZOOS`, which must be installed.
    """
    return [
        f"{zoo}:{name}"
        for name in _library(zoo)._models
        if not name.endswith(_AGAIN)
        and not name.startswith(_NO_IMAGES)
        and not any(number in name for number in _HUGE)
    ]


def base_of(name: str) -> tuple[Network, Resolution | None]:
    """Return a network to scale, and its resolution where it does not tell it itself.

    Args:
        name: A name as the command line takes it, or one of `zoo_names`.

    Example:
        >>> base_of("timm:resnet18")[0].name
        'timm:resnet18'
    """
    zoo, _, own = name.partition(":")
    if zoo not in ZOOS:
        return resolve_base(name), None
    module = _made(_library(zoo), own)
    sides: Any = getattr(module, "in_size", (224, 224))  # most networks of the library say it
    side: Resolution = sides[0] if sides[0] == sides[1] else tuple(sides)
    return replace(resolve_base(module), name=name), side


def _library(zoo: str) -> ModuleType:
    return import_module(ZOOS[zoo])


def _made(library: ModuleType, name: str) -> nn.Module:
    """Make a network without weights; with them where it needs values to be made."""
    try:
        with torch.device("meta"):
            return library.get_model(name).eval()  # type: ignore[no-any-return]
    except (NotImplementedError, RuntimeError):
        return library.get_model(name).eval()  # type: ignore[no-any-return]

"""From what a user writes to a network: the forms of the contract, in their order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from torch import nn

from convscale.errors import InputError, UnknownNetworkError, near_names
from convscale.families import AnyNet, Description, EfficientNet, RegNet, named, names
from convscale.families.documents import SUFFIXES, read_yaml
from convscale.families.registry import name_of
from convscale.network.sources.network import (
    Network,
    checked_options,
    from_family,
    from_file,
    from_module,
    from_timm,
    from_torchvision,
)
from convscale.strategy.registry import REGISTRY

NetworkLike = str | nn.Module | Description | RegNet

_FILE = re.compile(r"(?P<path>.+\.\w+):(?P<factory>[A-Za-z_]\w*)")
_ROUNDING = r"(?::(?P<rounding>[a-z]+[0-9]*))?"
_BY_FILE = re.compile(
    r"(?P<strategy>(?P<path>[^@:]+\.ya?ml)(?:@[^@/:]+)?)(?::(?P<factor>[^:/@]+)" + _ROUNDING + ")?"
)
_SCALED = re.compile(r"(?P<strategy>[A-Za-z0-9_.@-]+):(?P<factor>[^:/@]+)" + _ROUNDING)


class ScaledName(NamedTuple):
    """The parts of `NAME@STRATEGY:FACTOR:ROUNDING`; factor and rounding may be left out.

    Example:
        >>> ScaledName("resnet50", "dWr", "4").rounding is None
        True
    """

    name: str
    strategy: str
    factor: str | None = None
    rounding: str | None = None


def resolve_base(
    network: NetworkLike, *, num_classes: int | None = None, in_chans: int | None = None
) -> Network:
    """Find the network that a name, `file.py:factory`, description or module stands for.

    Args:
        network: `RegNetY-4.0GF` (a paper family, matched exactly), `timm:resnet50`,
            `torchvision:resnet50`, `resnet50` (timm first), `path/to/file.py:factory`, a YAML
            file that describes a network of a family, a description, or a module.
        num_classes: Classes of the classifier, for all but modules.
        in_chans: Input channels, for all but modules.

    Raises:
        UnknownNetworkError: If nothing answers to the name; near names are suggested.
        InputError: If the form is wrong or the file cannot be used.

    Example:
        >>> resolve_base("resnet18").name
        'timm:resnet18'
    """
    options = checked_options(num_classes, in_chans)
    if isinstance(network, nn.Module):
        if options:
            raise InputError("num_classes and in_chans apply to names and factories only.")
        return from_module(network)
    if isinstance(network, AnyNet | EfficientNet | RegNet):
        return _from_description(network, options)
    if not isinstance(network, str):
        inside = isinstance(getattr(network, "module", None), nn.Module)
        if type(network).__name__ == "ExportedProgram":
            raise InputError("An ExportedProgram is no network. Give its module: program.module().")
        came = f"A {type(network).__name__}" if inside else repr(network)
        raise InputError(
            f"{came} is no network. Give {'its module, ' if inside else ''}a name, an nn.Module, "
            "or a description of convscale.families."
        )
    name = network.strip()
    if name in names():
        return from_family(name, named(name), options)
    if name.endswith(SUFFIXES):
        return from_family(name, read_yaml(name), options)
    match = _FILE.fullmatch(name)
    if match is not None:
        return from_file(Path(match["path"]), match["factory"], options)
    if name.endswith((".py", ".py:")):
        raise InputError(
            f"{name!r} names no factory in the file. Write {name.rstrip(':')}:factory."
        )
    library, _, rest = name.partition(":")
    if library == "timm" and rest:
        return from_timm(rest, options)
    if library == "torchvision" and rest:
        return from_torchvision(rest, options)
    return _from_any(name, options)


def is_library_name(name: str) -> bool:
    """Tell whether a bare name stands for a network of a family, of timm or of torchvision.

    Example:
        >>> is_library_name("resnet50"), is_library_name("half")
        (True, False)
    """
    if name in names():
        return True
    import timm
    import torchvision

    return timm.is_model(name.split(".")[0]) or name in torchvision.models.list_models()


def _from_description(description: Description | RegNet, options: dict[str, int]) -> Network:
    staged = description.anynet() if isinstance(description, RegNet) else description
    name = name_of(staged) or f"description:{type(description).__name__}"
    return from_family(name, staged, options)


def _from_any(name: str, options: dict[str, int]) -> Network:
    import timm
    import torchvision

    if timm.is_model(name.split(".")[0]):
        return from_timm(name, options)
    known = torchvision.models.list_models()
    if name in known:
        return from_torchvision(name, options)
    if name and Path(name).is_dir():
        raise InputError(f"The folder {name} holds no network. Give a folder that save wrote.")
    near = near_names(name, [*names(), *timm.list_models(), *known])
    raise UnknownNetworkError(
        f"Unknown network {name!r}.{near} Write a name of a paper family, timm or torchvision, "
        "path/to/file.py:factory, a YAML file, or a folder written by save."
    )


def split_scaled(name: str) -> ScaledName | None:
    """Split `NAME@STRATEGY:FACTOR`, or with `:ROUNDING`; None where the name has no such form.

    An entry of a table takes no factor: `NAME@TABLE@ENTRY`, `NAME@FILE.yaml@ENTRY`.

    Example:
        >>> split_scaled("timm:resnet50@dWr@0.6:2")[:3]
        ('timm:resnet50', 'dWr@0.6', '2')
        >>> split_scaled("RegNetY-4.0GF@d1_w8_g8_r1:2:reference").rounding
        'reference'
        >>> split_scaled("efficientnet_b0@efficientnet-table@b3")[:3]
        ('efficientnet_b0', 'efficientnet-table@b3', None)
        >>> split_scaled("nets@home.py:make") is None
        True
    """
    if Path(name.rpartition(":")[0]).is_file() or Path(name).is_file():
        return None
    for at in (position for position, letter in enumerate(name) if letter == "@"):
        file = _BY_FILE.fullmatch(name[at + 1 :])
        if at and file is not None and Path(file["path"]).is_file():
            return ScaledName(name[:at], file["strategy"], file["factor"], file["rounding"])
        match = _SCALED.fullmatch(name[at + 1 :])
        if at and match is not None and not match["strategy"].endswith(".py"):
            return ScaledName(name[:at], match["strategy"], match["factor"], match["rounding"])
        if at and name[at + 1 :].partition("@")[0] in REGISTRY:
            return ScaledName(name[:at], name[at + 1 :])
    return None

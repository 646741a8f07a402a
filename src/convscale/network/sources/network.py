"""Where a network comes from: timm, torchvision, a file of the user's, or a module in hand."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from convscale.errors import ConvscaleError, InputError, UnknownNetworkError, near_names
from convscale.families import Description
from convscale.families.documents import as_document
from convscale.network.channels.products import OwnRule, checked_rules
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.numbers import Place
from convscale.network.modules.undrawn import Undrawn
from convscale.network.modules.wrappers import unwrapped
from convscale.network.sources.inputs import ExampleInputs
from convscale.quantities import Resolution, check_count, sides

Device = Literal["cpu", "meta"]

# The mapping in a file of the user's that says how operators of its own are counted.
RULES_NAME = "CONVSCALE_RULES"


@dataclass(frozen=True)
class Origin:
    """What a network is rebuilt from: a name with options, and the plans applied since.

    `family` is the description of a paper family's network; it is built from that then.

    Example:
        >>> Origin("timm:resnet18", {}).steps
        ()
    """

    network: str
    options: dict[str, Any]
    steps: tuple[dict[str, Any], ...] = ()
    family: dict[str, Any] | None = None


@dataclass(frozen=True)
class Remake:
    """How a network is made again with more options than it has, and what tells of them.

    The signature of `factory` says which options there are; `make` takes those to add.

    Example:
        >>> again = from_timm("resnet18", {}).remake
        >>> again.make({"num_classes": 10}).origin.options
        {'num_classes': 10}
    """

    factory: Callable[..., Any]
    make: Callable[[dict[str, Any]], Network]


@dataclass(frozen=True)
class Network:
    """A network that can be built: its resolved name, default resolution and input channels.

    `build("meta")` returns a module without weights; `build("cpu")` one with its own
    fresh weights, or the caller's module where that is what was given. `resolution` is in
    px, None where nothing tells it; `family` the description where it is a paper family's;
    `dims` the number of spatial dimensions, None where it is not known yet; `remake` is
    None where nothing that takes options made the network. `seen` is a module that may be looked
    at and never changed, where one is at hand: it spares a build. `rules` count operators of
    its own. `inputs` is what the user gives its forward pass, None one image. `sizes` are values
    that it was given in attributes for its resolution, of which its origin does not tell.

    Example:
        >>> Network("module:Linear", None, None, lambda device: nn.Linear(2, 3)).name
        'module:Linear'
    """

    name: str
    resolution: Resolution | None
    in_chans: int | None
    build: Callable[[Device], nn.Module]
    origin: Origin = field(default_factory=lambda: Origin("", {}))
    family: Description | None = None
    remake: Remake | None = None
    dims: int | None = None
    seen: nn.Module | None = None
    rules: Mapping[str, OwnRule] = field(default_factory=dict)
    inputs: ExampleInputs | None = None
    sizes: Mapping[Place, int] = field(default_factory=dict)

    def look(self) -> nn.Module:
        """Return a module to look at, which must not be changed."""
        return self.build("meta") if self.seen is None else self.seen


def from_family(name: str, description: Description, options: dict[str, int]) -> Network:
    """Describe a network of a paper family.

    Example:
        >>> from convscale.families import named
        >>> from_family("ResNet-50", named("ResNet-50"), {"num_classes": 10}).resolution
        224
    """
    from convscale.network.sources.family_modules import build_family

    changes: dict[str, Any] = dict(options)
    net = replace(description, **changes)
    return Network(
        name,
        net.resolution,
        net.in_chans,
        _builder(lambda: build_family(net)),
        Origin(name, options, family=as_document(net)),
        net,
        dims=2,
    )


def from_module(module: nn.Module) -> Network:
    """Describe a module in hand; a compiled or data-parallel one as the module it was made from.

    Example:
        >>> from_module(nn.Conv2d(3, 8, 3)).name
        'module:Conv2d'
    """
    own = unwrapped(module)

    def build(device: Device) -> nn.Module:
        return meta_copy(own) if device == "meta" else own

    name = f"module:{type(own).__name__}"
    return Network(name, None, None, build, Origin(name, {}), seen=own)


def from_timm(name: str, options: dict[str, Any]) -> Network:
    """Describe a network of timm.

    Raises:
        UnknownNetworkError: If timm has no such network.

    Example:
        >>> from_timm("resnet18", {}).resolution
        224
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise UnknownNetworkError(
            f"timm has no network {name!r}.{near_names(name, timm.list_models())}"
        )

    def create() -> nn.Module:
        try:
            return timm.create_model(name, pretrained=False, **options)
        except RuntimeError as error:
            raise UnknownNetworkError(f"timm cannot make {name!r}: {error}") from error

    config = timm.get_pretrained_cfg(name)
    size = config.input_size if config is not None else (3, 224, 224)
    resolution: Resolution = size[1] if size[1] == size[2] else (size[1], size[2])
    chans = options.get("in_chans", size[0])
    full = f"timm:{name}"
    again = Remake(timm.model_entrypoint(name), lambda more: from_timm(name, {**options, **more}))
    origin = Origin(full, options)
    return Network(full, resolution, chans, _builder(create), origin, remake=again, dims=2)


def from_torchvision(name: str, options: dict[str, Any]) -> Network:
    """Describe a network of torchvision.

    Raises:
        UnknownNetworkError: If torchvision has no such network.
        InputError: If other input channels are asked for, which torchvision does not offer.

    Example:
        >>> from_torchvision("mobilenet_v2", {}).resolution
        224
    """
    import torchvision.models as zoo

    if name not in zoo.list_models():
        raise UnknownNetworkError(
            f"torchvision has no network {name!r}.{near_names(name, zoo.list_models())}"
        )
    if "in_chans" in options:
        raise InputError("torchvision's networks take 3 input channels. Leave --in-chans out.")
    factory = zoo.get_model_builder(name)
    arguments: dict[str, Any] = {"weights": None, **options}
    if "weights_backbone" in inspect.signature(factory).parameters:
        arguments["weights_backbone"] = None
    full = f"torchvision:{name}"
    build = _builder(lambda: factory(**arguments))
    again = Remake(factory, lambda more: from_torchvision(name, {**options, **more}))
    size, dims = _crop_size(name), 2
    if name in zoo.list_models(module=zoo.video):
        size, dims = _clip_size(name, size), 3
    return Network(full, size, 3, build, Origin(full, options), remake=again, dims=dims)


def _clip_size(name: str, crop: Resolution | None) -> Resolution | None:
    """Return frames, height and width of the clips that the published weights were judged by."""
    import torchvision.models as zoo

    for weights in zoo.get_model_weights(name):
        frames = re.search(r"clip_len=(\d+)", str(weights.meta.get("_docs")))
        if frames is not None and crop is not None:
            return (int(frames[1]), *sides(crop))
    return None


def _crop_size(name: str) -> Resolution | None:
    """Return the side to which the preset of the published weights crops or resizes (px)."""
    import torchvision.models as zoo

    for weights in zoo.get_model_weights(name):
        preset = getattr(weights.transforms, "keywords", {})
        for key in ("crop_size", "resize_size"):
            value = preset.get(key)
            if isinstance(value, int):
                return value
            if isinstance(value, tuple | list) and value:
                height, width = value[0], value[-1]
                return int(height) if height == width else (int(height), int(width))
    return None


def from_file(path: Path, factory: str, options: dict[str, int]) -> Network:
    """Describe what a callable in a file of the user's returns; runs that file.

    Raises:
        InputError: If the file cannot be read or run, lacks the callable, or the callable
            returns no module.

    Example:
        >>> from_file(Path("missing.py"), "make", {})
        Traceback (most recent call last):
        convscale.errors.InputError: There is no file missing.py.
    """
    module = _execute(path)
    make = getattr(module, factory, None)
    if not callable(make):
        known = [name for name, value in vars(module).items() if callable(value)]
        raise InputError(
            f"{path} has no callable {factory!r}.{near_names(factory, known)} "
            "Write path/to/file.py:factory."
        )
    rules = checked_rules(getattr(module, RULES_NAME, None))
    return _from_callable(f"{path}:{factory}", make, options, rules)


def _from_callable(
    name: str, make: Callable[..., Any], options: dict[str, Any], rules: Mapping[str, OwnRule]
) -> Network:
    def create() -> nn.Module:
        try:
            network = make(**options)
        except ConvscaleError:
            raise
        except Exception as error:
            raise InputError(f"{name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(network, nn.Module):
            raise InputError(
                f"{name} returned {type(network).__name__}; it must return an nn.Module."
            )
        return network

    again = Remake(make, lambda more: _from_callable(name, make, {**options, **more}, rules))
    origin, chans = Origin(name, options), options.get("in_chans")
    return Network(name, None, chans, _builder(create), origin, remake=again, rules=rules)


def _execute(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    spec = importlib.util.spec_from_loader(
        f"convscale_user_{path.stem}", loader=None, origin=str(path)
    )
    if spec is None:
        raise InputError(f"{path} cannot be loaded. Give a Python file, as in net.py:factory.")
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # so that dataclasses and the like find their module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"{path} is not Python: {error}. Give a Python file, as in net.py:factory."
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} failed to run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _builder(create: Callable[[], nn.Module]) -> Callable[[Device], nn.Module]:
    def build(device: Device) -> nn.Module:
        if device == "cpu":
            return create()
        try:
            with torch.device("meta"), Undrawn():
                module = unwrapped(create())
        except ConvscaleError:
            raise
        except Exception:  # noqa: BLE001 - some constructors need real tensors; they get them
            return meta_copy(unwrapped(create()))
        on_meta = all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
        return module if on_meta else meta_copy(module)

    return build


def checked_options(num_classes: int | None, in_chans: int | None) -> dict[str, int]:
    """Return the options that were given, checked.

    Raises:
        InputError: If one is below 1.

    Example:
        >>> checked_options(10, None)
        {'num_classes': 10}
    """
    given = {"num_classes": num_classes, "in_chans": in_chans}
    return {
        name: check_count(value, what=name.replace("_", " "))
        for name, value in given.items()
        if value is not None
    }

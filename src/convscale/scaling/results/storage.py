"""A scaled network as a folder: a JSON description and safetensors weights, never a pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from convscale.complexity.complexity import METRICS, Complexity, Count
from convscale.errors import ConvscaleError, InputError
from convscale.families import RegNet
from convscale.families.documents import from_document
from convscale.input_sizes import InputSize
from convscale.network.modules.copies import full_copy
from convscale.network.modules.wrappers import unwrapped
from convscale.network.resolution.sizing import SIZE_OPTIONS
from convscale.network.running.given import as_sizes
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.sources.naming import resolve_base
from convscale.network.sources.network import Device, Network, Origin, from_family
from convscale.quantities import Resolution, check_count, check_resolution
from convscale.scaling.building.stepping import applied, stepped
from convscale.scaling.plans.plan import Plan
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.strategy import Factors, Rules, Step, Strategy
from convscale.strategy.step import step as step_of

DESCRIPTION, WEIGHTS = "convscale.json", "model.safetensors"


def save(scaled: ScaledNetwork, folder: Path) -> Path:
    """Write a scaled network to a new folder, whole or not at all.

    Raises:
        InputError: If the folder exists, or the module has no weights.

    Example:
        >>> import convscale as cs, pathlib, tempfile
        >>> scaled = cs.scale("timm:resnet10t", strategy="w", factor=0.5)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     sorted(p.name for p in save(scaled, pathlib.Path(place, "half")).iterdir())
        ['convscale.json', 'model.safetensors']
    """
    check_new_folder(folder)
    if any(tensor.is_meta for tensor in scaled.module.state_dict().values()):
        raise InputError("The network is on the meta device and has no weights to save.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        partial.chmod(0o755)
        text = json.dumps(description_of(scaled), indent=1, ensure_ascii=False)
        (partial / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        save_file(_state(scaled.module), partial / WEIGHTS)
        (partial / WEIGHTS).chmod(0o644)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def check_new_folder(folder: Path) -> Path:
    """Return the folder if nothing stands there yet.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_new_folder(Path("."))
        Traceback (most recent call last):
        convscale.errors.InputError: The folder . exists. Write the name of a new one.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(f"The folder {folder} exists. Write the name of a new one.")
    return folder


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict, shared tensors once, as safetensors wants it."""
    state: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach().cpu().contiguous().clone()
    return state


def description_of(scaled: ScaledNetwork) -> dict[str, Any]:
    """Return what a folder says of a network, so that it can be built again.

    Example:
        >>> import convscale as cs
        >>> scaled = cs.scale("timm:resnet10t", strategy="w", factor=0.5, weights=False)
        >>> description_of(scaled)["origin"]["network"]
        'timm:resnet10t'
    """
    return {
        **scaled.as_document(),
        "exponents": _exponents(scaled.strategy),
        "rules": asdict(scaled.strategy.rules),
        "stage_depth": _stage_depth(scaled.strategy),
        "in_chans": scaled.in_chans,
        "dims": scaled.dims,
        "input_sizes": _input_sizes(scaled.inputs),
        "training": scaled.module.training,
        "origin": asdict(scaled.origin),
    }


def _input_sizes(inputs: ExampleInputs | None) -> list[dict[str, Any]] | None:
    sizes = None if inputs is None else as_sizes(inputs)
    return None if sizes is None else [asdict(size) for size in sizes]


def _inputs(document: dict[str, Any]) -> tuple[InputSize, ...] | None:
    """Return what the network takes, where that is other than one image."""
    found = document.get("input_sizes")
    if found is None:
        return None
    return tuple(InputSize(tuple(one["sizes"]), one["dtype"], one["name"]) for one in found)


def _exponents(strategy: Strategy) -> dict[str, float | None] | None:
    """Return the shares of a law; a step of a table has factors instead."""
    if isinstance(strategy, Step):
        return None
    return {
        "depth": strategy.depth,
        "width": strategy.width,
        "resolution": strategy.resolution,
        "group_width": strategy.group_width,
    }


def _stage_depth(strategy: Strategy) -> list[float] | None:
    return list(strategy.stage_depth) or None if isinstance(strategy, Step) else None


def _strategy(document: dict[str, Any]) -> Strategy:
    name, exponents, own = str(document["strategy"]), document["exponents"], document["factors"]
    given = document.get("rules", {})
    rules = Rules(**{**given, "keep": tuple(given.get("keep", ()))})
    if exponents is None:
        sizes = {axis: own[axis] for axis in ("depth", "width", "resolution")}
        depths = tuple(map(float, document.get("stage_depth") or ()))
        return step_of(name, **sizes, rules=rules, stage_depth=depths).in_dims(_dims(document))
    return Strategy(
        name,
        exponents["depth"],
        exponents["width"],
        exponents["resolution"],
        group_width=exponents.get("group_width"),
        rules=rules,
        dims=_dims(document),
    )


def _dims(document: dict[str, Any]) -> int:
    return check_count(document.get("dims", 2), what="number of spatial dimensions")


def is_saved(folder: Path) -> bool:
    """Tell whether a folder holds a scaled network.

    Example:
        >>> is_saved(Path("no such folder"))
        False
    """
    return (folder / DESCRIPTION).is_file()


def load(folder: str | Path, *, base: str | nn.Module | None = None) -> ScaledNetwork:
    """Read a scaled network from the folder that `save` wrote.

    No code that the folder names is run: networks that came from a module or a file are
    rebuilt on the base that is given.

    Args:
        folder: The folder.
        base: The base network, for networks that have no name of timm or torchvision.

    Raises:
        InputError: If the folder cannot be read, lacks its base, or does not fit it.

    Example:
        >>> import convscale as cs, pathlib, tempfile
        >>> scaled = cs.scale("timm:resnet10t", strategy="w", factor=0.5)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     load(scaled.save(pathlib.Path(place, "half"))).achieved == scaled.achieved
        True
    """
    path = Path(folder)
    document = read_description(path)
    try:
        return _loaded(path, document, base)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConvscaleError):
            raise
        rule = (
            ""
            if base is None
            else (" The base must be the network that it was scaled from, as it was built then.")
        )
        raise InputError(
            f"{path / DESCRIPTION} does not describe a network"
            f"{'' if base is None else ' that this base gives'}: {error!r}.{rule}"
        ) from error


def read_description(path: Path) -> dict[str, Any]:
    """Read the description in a folder.

    Raises:
        InputError: If it is missing or no JSON object.

    Example:
        >>> read_description(Path("no such folder"))
        Traceback (most recent call last):
        convscale.errors.InputError: no such folder holds no convscale.json. Give a folder ...
    """
    try:
        document = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} holds no {DESCRIPTION}. Give a folder that save wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path / DESCRIPTION} cannot be read: {error}.") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise InputError(f"{path / DESCRIPTION} is not of schema version 1.")
    return document


def _loaded(path: Path, document: dict[str, Any], base: str | nn.Module | None) -> ScaledNetwork:
    origin = _origin(document)
    source = base_of(path, origin, base)
    module = rebuilt(source, origin)
    fill(module, path / _weights(document))
    module.train(bool(document["training"]))
    before = document["base"]
    return ScaledNetwork(
        network=str(document["network"]),
        module=module,
        resolution=_resolution(document["resolution"]),
        strategy=_strategy(document),
        factor=float(document["factor"]),
        factors=Factors(**document["factors"]),
        base=Count(
            flops=int(before["flops"]),
            params=int(before["params"]),
            acts=int(before["acts"]),
            network=str(document["network"]),
            resolution=_resolution(before["resolution"]),
            convention=str(document.get("convention", "default")),
        ),
        base_resolution=_resolution(before["resolution"]),
        requested={str(k): float(v) for k, v in document["requested"].items()},
        achieved=Complexity(**{name: int(document["achieved"][name]) for name in METRICS}),
        notes=tuple(map(str, document["notes"])),
        in_chans=document["in_chans"],
        origin=origin,
        plan=Plan.from_document(origin.steps[-1]) if origin.steps else Plan(),
        dims=_dims(document),
        inputs=_inputs(document),
    )


def _weights(document: dict[str, Any]) -> str:
    """Return the name of the file of weights, which lies in the folder itself."""
    name = str(document.get("weights", WEIGHTS))
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise InputError(f"{name!r} is no file of weights. It must be one in the folder itself.")
    return name


def saved_network(folder: Path) -> Network:
    """Describe the network in a folder, so that it can be built.

    Raises:
        InputError: If the folder cannot be read, or its base has no name of a library.

    Example:
        >>> import convscale as cs, pathlib, tempfile
        >>> scaled = cs.scale("timm:resnet10t", strategy="w", factor=0.5)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     saved_network(scaled.save(pathlib.Path(place, "half"))).name
        '.../half'
    """
    document = read_description(folder)
    try:
        origin = _origin(document)
        resolution = _resolution(document["resolution"])
        in_chans, dims, inputs = document["in_chans"], _dims(document), _inputs(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / DESCRIPTION} describes no network: {error!r}.") from error
    source = base_of(folder, origin, None)

    bare = stepped(source, origin.steps, name=str(folder), resolution=resolution)

    def make(device: Device) -> nn.Module:
        return load(folder).module if device == "cpu" else bare.build(device)

    family = None if origin.steps else source.family
    return replace(
        bare,
        in_chans=in_chans,
        build=make,
        origin=origin,
        family=family,
        dims=dims,
        inputs=inputs,
    )


def _origin(document: dict[str, Any]) -> Origin:
    origin = document["origin"]
    options = {str(name): _option(value) for name, value in origin["options"].items()}
    family = origin.get("family")
    return Origin(str(origin["network"]), options, tuple(origin["steps"]), family)


def _option(value: Any) -> int | tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, list | tuple) else int(value)


def _resolution(value: Any) -> Resolution:
    return check_resolution(tuple(value) if isinstance(value, list) else value)


def base_of(path: Path, origin: Origin, base: str | nn.Module | None) -> Network:
    """Return the base network of a folder.

    Raises:
        InputError: If it has no name of a library and none is given.

    Example:
        >>> base_of(Path("half"), Origin("timm:resnet18", {}), None).name
        'timm:resnet18'
    """
    if origin.family is not None:
        return _family_of(path, origin.network, origin.family)
    size = {name: value for name, value in origin.options.items() if name in SIZE_OPTIONS}
    options = {name: value for name, value in origin.options.items() if name not in size}
    if isinstance(base, nn.Module):
        return resolve_base(base)
    if base is not None:
        return _sized(resolve_base(base, **options), size)
    if not origin.network.startswith(("timm:", "torchvision:")):
        raise InputError(
            f"{path} was scaled from {origin.network}, which is not rebuilt by name: no code that "
            "a folder names is run. Give the network again as base: base= of cs.load in Python, "
            "or --base where the command has it (eval)."
        )
    return _sized(resolve_base(origin.network, **options), size)


def _sized(network: Network, size: dict[str, Any]) -> Network:
    """Return a network as its constructor makes it for the size that a folder tells."""
    if not size:
        return network
    if network.remake is None:
        raise InputError(
            f"{network.name} takes no {', '.join(size)}. Give the base that was scaled."
        )
    return network.remake.make(size)


def _family_of(path: Path, name: str, document: dict[str, Any]) -> Network:
    try:
        found = from_document(document)
    except InputError as error:
        raise InputError(f"{path / DESCRIPTION}: {error.line}") from error
    return from_family(name, found.anynet() if isinstance(found, RegNet) else found, {})


def rebuilt(source: Network, origin: Origin) -> nn.Module:
    """Apply the plans of an origin to its base, on the CPU.

    Example:
        >>> origin = Origin("timm:resnet10t", {})
        >>> rebuilt(base_of(Path("x"), origin, None), origin).training
        True
    """
    return applied(full_copy(unwrapped(source.build("cpu"))), origin.steps)


def fill(module: nn.Module, weights: Path) -> None:
    """Give a module the weights in a file, those that it shares once.

    Raises:
        InputError: If the file cannot be read, or does not fit.

    Example:
        >>> fill(nn.Linear(2, 3), Path("no.safetensors"))
        Traceback (most recent call last):
        convscale.errors.InputError: no.safetensors cannot be read: No such file or directory: ...
    """
    try:
        state = OrderedDict((name, one.clone()) for name, one in load_file(weights).items())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights} cannot be read: {error}.") from error
    own = module.state_dict(keep_vars=True)
    alone = len(set(map(id, own.values()))) == len(own)  # tied ones stay tied only if copied into
    # some modules ask for the version of their format, which a file of tensors does not hold
    vars(state)["_metadata"] = getattr(own, "_metadata", {})
    try:
        found = module.load_state_dict(state, strict=False, assign=alone)
    except RuntimeError as error:
        raise InputError(f"{weights} does not fit the base network: {error}.") from error
    missing = set(found.missing_keys) - _aliases(module, set(state))
    if missing or found.unexpected_keys:
        wrong = sorted([*missing, *found.unexpected_keys])
        raise InputError(f"{weights} does not fit the base network: {', '.join(wrong[:3])} differ.")


def _aliases(module: nn.Module, present: set[str]) -> set[str]:
    """Return the names of tensors that are shared with one that is present."""
    tensors = module.state_dict(keep_vars=True)
    stored = {id(tensors[name]) for name in present if name in tensors}
    return {name for name, tensor in tensors.items() if id(tensor) in stored}

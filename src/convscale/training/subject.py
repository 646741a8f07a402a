"""What is trained: a network with as many classes as the data, at the run's resolutions."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscale.complexity.complexity import Complexity
from convscale.complexity.counting import count_network
from convscale.errors import InputError
from convscale.network.modules.copies import full_copy, meta_copy
from convscale.network.running.execution import ForwardError, run
from convscale.network.running.feeding import feed_of
from convscale.network.sources.inputs import input_channels
from convscale.network.sources.naming import NetworkLike, is_library_name, split_scaled
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, format_resolution, parse_number, sides
from convscale.scaling import scale
from convscale.scaling.plans.naming import rounding_of
from convscale.scaling.plans.plan import Plan
from convscale.scaling.resolving import resolve
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.scaling.results.storage import is_saved, load
from convscale.strategy import Factors, parse_strategy
from convscale.training.outputs import main_output, outputs_notes
from convscale.training.part_checks import refuse_chance
from convscale.training.recipe import Recipe
from convscale.training.regularising import Regularised, regularise, twin_of

_BATCH = 2  # images with which is found out what the network puts out
_UNSCALED = "dWr"  # the strategy that stands beside the factor 1 of a base network


@dataclass(frozen=True)
class Subject:
    """A network to train, and what the run must know of it.

    `scale` is its flops over the base's, by which regularisation grows; `scaled` holds the module
    and how it is built again from a folder.

    Example:
        >>> subject = prepare("resnet18", Recipe(), classes=10, resolution=32)
        >>> subject.name, subject.scale, subject.train_resolution, subject.in_chans
        ('timm:resnet18', 1.0, 32, 3)
    """

    name: str
    scaled: ScaledNetwork
    classes: int
    in_chans: int
    train_resolution: Resolution
    test_resolution: Resolution
    scale: float
    regularised: Regularised
    loss_notes: tuple[str, ...] = ()

    @property
    def module(self) -> nn.Module:
        """The module that is trained."""
        return self.scaled.module

    @property
    def complexity(self) -> Complexity:
        """Flops, params and acts at the network's resolution."""
        return self.scaled.achieved

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as asked, and why."""
        return (*self.scaled.notes, *self.loss_notes, *self.regularised.notes)


def prepare(
    network: NetworkLike,
    recipe: Recipe,
    *,
    classes: int,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    parts: int = 1,
) -> Subject:
    """Build a network for training: classes set, regularisation in place, both sizes tried.

    Args:
        network: A name, a factory, a saved folder, NAME@STRATEGY:FACTOR, a description, or a
            module, of which a copy is trained.
        recipe: The recipe; its seed is that of fresh weights.
        classes: Classes of the data.
        resolution: Base input side, or all sides, in px; the network's own by default.
        num_classes: What the user says of the classes: it must be the data's.
        in_chans: Input channels, for names and factories.
        parts: How many a batch has: batch norm may refuse a part of a single image.

    Raises:
        InputError: If the network cannot be trained on such data.

    Example:
        >>> prepare("resnet18", Recipe(), classes=10, resolution=32, num_classes=7)
        Traceback (most recent call last):
        convscale.errors.InputError: The data have 10 classes and num_classes is 7. Leave it out.
    """
    if num_classes is not None and num_classes != classes:
        raise InputError(
            f"The data have {classes} classes and num_classes is {num_classes}. Leave it out."
        )
    options = _options(network, classes, in_chans, resolution)
    found = resolve(network, resolution=resolution, **options)
    if found.dims not in (None, 2):
        raise InputError(f"{found.name} takes {found.dims}-dimensional inputs; data are images.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        scaled = _scaled(network, found, resolution, options, recipe.seed)
    train, test = (
        side or scaled.resolution for side in (recipe.train_resolution, recipe.test_resolution)
    )
    chans = _channels(found, scaled)
    some = max(1, min(_BATCH, recipe.batch_size // parts))
    _checked_output(found.name, scaled.module, (_BATCH, chans), test, classes, training=False)
    output = _checked_output(
        found.name, scaled.module, (some, chans), train, classes, training=True
    )
    growth = _growth(network, scaled, resolution, options)
    regularised = regularise(
        scaled.module,
        **recipe.rates(growth),
        classes=classes,
        inputs=(_BATCH, chans, *sides(train, 2)),
        twin=lambda: twin_of(scaled, found),
    )
    if recipe.parts is not None:
        refuse_chance(found.name, scaled.module, (some, chans, *sides(train, 2)), recipe.parts)
    notes = outputs_notes(output, recipe.aux_weight)
    return Subject(found.name, scaled, classes, chans, train, test, growth, regularised, notes)


def _options(
    network: NetworkLike, classes: int, in_chans: int | None, resolution: Resolution | None
) -> dict[str, Any]:
    """Return the options that set classes and channels, for networks that take them."""
    chans = {} if in_chans is None else {"in_chans": in_chans}
    root = root_of(network)  # what is scaled on the spot is made as its base is
    if isinstance(root, nn.Module) or is_folder(root):
        return chans
    if isinstance(root, str) and not _takes_classes(resolve(root, resolution=resolution)):
        return chans
    return {"num_classes": classes, **chans}


def _takes_classes(found: Network) -> bool:
    """Tell whether what makes a network takes a number of classes."""
    if found.family is not None:
        return True
    if found.remake is None:
        return False
    known = inspect.signature(found.remake.factory).parameters.values()
    return any(p.name == "num_classes" or p.kind is p.VAR_KEYWORD for p in known)


def root_of(network: NetworkLike) -> NetworkLike:
    """Return what stands before all @STRATEGY:FACTOR of a name.

    Example:
        >>> root_of("resnet18@d:2@w:4")
        'resnet18'
    """
    while isinstance(network, str) and (parts := split_scaled(network.strip())) is not None:
        network = parts[0]
    return network


def is_folder(network: NetworkLike) -> bool:
    """Tell whether a name stands for a saved folder.

    Example:
        >>> is_folder("resnet18")
        False
    """
    return isinstance(network, str) and is_saved(Path(network)) and not is_library_name(network)


def _scaled(
    network: NetworkLike,
    found: Network,
    resolution: Resolution | None,
    options: dict[str, Any],
    seed: int,
) -> ScaledNetwork:
    """Build the module, with how it is built again."""
    if is_folder(network):
        return _loaded(load(Path(str(network))), found, resolution)
    parts = split_scaled(network.strip()) if isinstance(network, str) else None
    if parts is None:
        return _base(found)
    rounding, multiple = rounding_of(parts.rounding)
    return scale(
        parts.name,
        strategy=parts.strategy,
        factor=None if parts.factor is None else parse_number(parts.factor, what="factor"),
        rounding=rounding,
        width_multiple=multiple,
        resolution=resolution,
        seed=seed,
        **options,
    )


def _loaded(loaded: ScaledNetwork, found: Network, resolution: Resolution | None) -> ScaledNetwork:
    """Return the network of a folder, made again where another resolution was asked for."""
    if resolution is None or resolution == loaded.resolution:
        return loaded
    counted = count_network(found)
    return replace(
        loaded,
        module=found.build("cpu"),
        resolution=resolution,
        achieved=Complexity(counted.flops, counted.params, counted.acts),
        origin=found.origin,
    )


def _base(found: Network) -> ScaledNetwork:
    """Return a base network as one that is scaled by 1."""
    counted, side = count_network(found), feed_of(found).resolution or 0
    strategy = parse_strategy(_UNSCALED)
    built = found.build("cpu")
    return ScaledNetwork(
        network=found.name,
        module=full_copy(built) if built is found.seen else built,
        resolution=side,
        strategy=strategy,
        factor=1.0,
        factors=Factors(1.0, 1.0, 1.0, 1.0),
        base=counted,
        base_resolution=side,
        requested={"factor": 1.0},
        achieved=Complexity(counted.flops, counted.params, counted.acts),
        notes=(),
        in_chans=found.in_chans,
        origin=found.origin,
        plan=Plan(),
        source=found,
    )


def _channels(found: Network, scaled: ScaledNetwork) -> int:
    chans = found.in_chans or scaled.in_chans or input_channels(scaled.module)
    if chans not in (1, 3):
        raise InputError(
            f"{found.name} takes {chans} input channels; images have 3, or 1 where they are grey."
        )
    return chans


def _told_how(name: str, classes: int) -> str:
    """Say how a folder gets other outputs, if a name is that of one."""
    return f": scale saves one with --num-classes {classes}" if is_folder(name) else ""


def _checked_output(
    name: str,
    module: nn.Module,
    batch: tuple[int, int],
    side: Resolution,
    classes: int,
    *,
    training: bool,
) -> Any:
    """Return what a network puts out for a batch (images, channels), if it has scores of these."""
    copied, size = meta_copy(module), (*batch, *sides(side, 2))
    at = f"{format_resolution(side)} px" + (" in batches of 1" if batch[0] == 1 else "")
    mode = "training" if training else "evaluation"
    try:
        output = run(copied, (torch.empty(size, device="meta"),), training=training)
    except ForwardError as error:
        raise InputError(f"{name} does not run in {mode} at {at}: {error.told}.") from error
    scores = main_output(output)
    if not isinstance(scores, torch.Tensor):
        kind = type(output).__name__
        raise InputError(
            f"{name} puts out a {kind} in {mode}; to train, it must be a tensor of scores, or a "
            "tuple or dictionary of which it is the first, or is called out or logits."
        )
    if scores.shape != (batch[0], classes):
        told = "x".join(map(str, scores.shape[1:]))
        first = "" if scores is output else " as the first of several outputs"
        raise InputError(
            f"{name} puts out {told} scores an image{first} and the data have {classes} classes. "
            f"Give a network with {classes} outputs{_told_how(name, classes)}."
        )
    return output


def _growth(
    network: NetworkLike,
    scaled: ScaledNetwork,
    resolution: Resolution | None,
    options: dict[str, Any],
) -> float:
    """Return the flops over those of the base network that it all began with."""
    root = root_of(network)
    if root is network or not isinstance(root, str):
        return float(scaled.ratio["flops"] or 1.0)
    base = count_network(resolve(root, resolution=resolution, **options)).flops
    before = float(load(root).ratio["flops"] or 1.0) if is_folder(root) else 1.0
    return before * scaled.achieved.flops / base

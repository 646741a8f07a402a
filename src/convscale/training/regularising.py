"""Stochastic depth and dropout at the recipe's rates, in any network that has a place for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from convscale.errors import ConvscaleError, few
from convscale.network.modules.copies import meta_copy
from convscale.network.sources.network import Network
from convscale.scaling.building.stepping import applied, moved_to
from convscale.scaling.plans.plan import Plan
from convscale.scaling.results.scaled import ScaledNetwork
from convscale.training.branches import find_branches
from convscale.training.outputs import main_output

_WEIGHTED = (nn.Linear, nn.Conv2d)
_DROPS = ("DropPath", "StochasticDepth")  # timm's and torchvision's modules
# Constructors' own options, by which they put stochastic depth where a shortcut goes around it.
_OPTIONS = ("drop_path_rate", "stochastic_depth_prob")


@dataclass(frozen=True)
class Regularised:
    """What was set in a network, and what could not be.

    `drop_paths` holds the rate of each block that has one, by its path.

    Example:
        >>> Regularised().notes
        ()
    """

    drop_paths: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    notes: tuple[str, ...] = ()


def regularise(
    module: nn.Module,
    *,
    drop_path: float,
    dropout: float,
    classes: int,
    inputs: tuple[int, ...],
    twin: Callable[[], nn.Module | None] = lambda: None,
) -> Regularised:
    """Set the rates of stochastic depth and of dropout before the classifier, in place.

    Stochastic depth grows linearly with depth, from 0 in the first block to the rate in the
    last. Names of weights stay.

    Args:
        module: The network.
        drop_path: The rate in the last block.
        dropout: The rate before the classifier.
        classes: How many scores the classifier puts out.
        inputs: The shape of a batch, to see which layer is the classifier.
        twin: Builds the same network on the meta device with stochastic depth in it, if its
            constructor can.

    Example:
        >>> from torchvision.models import resnet18
        >>> found = regularise(resnet18(), drop_path=0.1, dropout=0.0, classes=1000,
        ...                    inputs=(2, 3, 64, 64))
        >>> len(found.drop_paths), max(found.drop_paths.values())
        (8, 0.1)

    Source: arXiv 1603.09382 (stochastic depth).
    """
    paths, more = _set_drop_paths(module, drop_path, twin, inputs)
    rate, notes = _set_dropout(module, dropout, classes, inputs)
    return Regularised(paths, rate, (*more, *notes))


def twin_of(scaled: ScaledNetwork, network: Network) -> nn.Module | None:
    """Build a network on the meta device with stochastic depth in it; None if it takes none.

    Args:
        scaled: The network that is trained.
        network: The one that it was scaled from, or itself.

    Example:
        >>> import convscale as cs
        >>> from convscale.network import resolve_base
        >>> scaled = cs.scale("resnet18", strategy="d", factor=2, weights=False)
        >>> twin = twin_of(scaled, resolve_base("resnet18"))
        >>> sum(type(part).__name__ == "DropPath" for part in twin.modules())
        15
    """
    source = network if scaled.source is None else scaled.source
    if source.remake is None:
        return None
    for option in _OPTIONS:
        try:
            other = source.remake.make({option: 0.5}).build("meta")
        except (TypeError, ConvscaleError):
            continue  # its constructor takes no such option
        if scaled.source is not None and scaled.plan != Plan():
            steps = [scaled.plan.as_document()]
            other = applied(other, moved_to(steps, source.build("meta"), other))
        return other
    return None


def _set_drop_paths(
    module: nn.Module,
    rate: float,
    twin: Callable[[], nn.Module | None],
    inputs: tuple[int, ...],
) -> tuple[dict[str, float], list[str]]:
    present = [path for path, part in module.named_modules() if _is_drop(part)]
    if not rate and not present:
        return {}, []
    other = twin() if rate else None
    placed = [] if other is None else [p for p, part in other.named_modules() if _is_drop(part)]
    paths = list(dict.fromkeys([*present, *(path for path in placed if _fits(module, path))]))
    branches = [] if paths else find_branches(module, inputs)
    blocks = list(
        dict.fromkeys([_parent(path) for path in paths] or [branch.block for branch in branches])
    )
    if not blocks:
        return {}, [f"Stochastic depth at {rate:g} was left out: no block has a place for it."]
    # The constructor leaves the first block, whose rate is 0, without one.
    absent = 1 if placed and not present else 0
    rates = dict(zip(blocks, _linear(rate, len(blocks), absent), strict=True))
    before = _own_rates(module, present)
    for path in paths:
        _put(module, path, rates[_parent(path)])
    for branch in branches:
        hook = DropBranch(rates[branch.block], branch.channels)
        module.get_submodule(branch.module).register_forward_hook(hook)
    return rates, _changed("stochastic depth", max(before, default=0.0), rate)


def _linear(rate: float, count: int, absent: int) -> list[float]:
    last = count - 1 + absent
    return [rate * (index + absent) / last if last else rate for index in range(count)]


class DropBranch:
    """A hook that leaves the residual branch out of some images of a batch, in training.

    What stays is divided by how often it stays. Where the branch is some channels of the output
    alone, the others stay as they are.

    Example:
        >>> drop = DropBranch(0.5)
        >>> kept = drop(nn.Identity(), (), torch.ones(64, 1, 1, 1))
        >>> sorted(set(kept.flatten().tolist()))
        [0.0, 2.0]
    """

    def __init__(self, rate: float, channels: tuple[int, int] | None = None) -> None:
        self.rate, self.channels = rate, channels

    def __call__(self, module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the branch's output, that of some images zero."""
        if not module.training or not self.rate:
            return output
        keep = 1 - self.rate
        beyond = [1 for _ in output.shape[2:]]
        times = output.new_empty(len(output), 1, *beyond).bernoulli_(keep).div_(keep)
        if self.channels is not None:
            begin, end = self.channels
            every = output.new_ones(len(output), output.shape[1], *beyond)
            every[:, begin:end] = times
            times = every
        return output * times


class DropInputs:
    """A hook that applies dropout to what a layer takes, in training.

    Example:
        >>> drop = DropInputs(0.5)
        >>> (inputs,) = drop(nn.Identity(), (torch.ones(1, 64),))
        >>> sorted(set(inputs.flatten().tolist()))
        [0.0, 2.0]
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs with some values zero."""
        first, *others = inputs
        return (functional.dropout(first, self.rate, module.training), *others)


def _is_drop(part: nn.Module) -> bool:
    return type(part).__name__ in _DROPS


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _fits(module: nn.Module, path: str) -> bool:
    """Tell whether a module has the place where its twin has stochastic depth."""
    parent, _, name = path.rpartition(".")
    try:
        owner = module.get_submodule(parent)
    except AttributeError:
        return False
    found = getattr(owner, name, ...)
    return found is None or isinstance(found, nn.Identity) or _is_drop_like(found)


def _is_drop_like(found: object) -> bool:
    return isinstance(found, nn.Module) and _is_drop(found)


def _own_rates(module: nn.Module, paths: list[str]) -> list[float]:
    parts = [module.get_submodule(path) for path in paths]
    return [float(getattr(part, "p", getattr(part, "drop_prob", 0.0)) or 0.0) for part in parts]


def _put(module: nn.Module, path: str, rate: float) -> None:
    from timm.layers.drop import DropPath

    parent, _, name = path.rpartition(".")
    owner = module.get_submodule(parent)
    present = getattr(owner, name)
    if isinstance(present, nn.Module) and type(present).__name__ == "StochasticDepth":
        present.p = rate  # type: ignore[assignment]
    elif _is_drop_like(present):
        present.drop_prob = rate
    else:
        if present is None and name in vars(owner):
            delattr(owner, name)
        setattr(owner, name, DropPath(rate))


def _set_dropout(
    module: nn.Module, rate: float, classes: int, inputs: tuple[int, ...]
) -> tuple[float, list[str]]:
    classifier, present = _classifier(module, classes, inputs)
    if classifier is None:
        left = f"Dropout at {rate:g} was left out: no last linear layer or convolution was found."
        return 0.0, [left] if rate else []
    functional_rate = getattr(module, "drop_rate", None)
    before = 0.0
    if isinstance(functional_rate, float):
        before, module.drop_rate = functional_rate, 0.0  # type: ignore[assignment]
    if present is not None:
        layer: Any = module.get_submodule(present)
        before, layer.p = max(before, float(layer.p)), rate
    elif rate:
        module.get_submodule(classifier).register_forward_pre_hook(DropInputs(rate))
    changed = _changed("dropout before the classifier", before, rate)
    return rate, [*changed, *_elsewhere(module, present)]


def _elsewhere(module: nn.Module, present: str | None) -> list[str]:
    """Say where the network has dropout beside that before the classifier: it stays."""
    kept = [
        f"{path} at {part.p:g}"
        for path, part in module.named_modules()
        if isinstance(part, _DropoutNd) and part.p and path != present
    ]
    if not kept:
        return []
    return [f"Dropout that the network has elsewhere stays: {few(kept)}."]


def _classifier(
    module: nn.Module, classes: int, inputs: tuple[int, ...]
) -> tuple[str | None, str | None]:
    """Find the layer that puts out the scores, and the dropout right before it."""
    copied = meta_copy(module).eval()
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def note(path: str) -> Callable[..., None]:
        return lambda part, _, output: seen.append((path, part, output))

    for path, part in copied.named_modules():
        if isinstance(part, (*_WEIGHTED, nn.Dropout)):
            part.register_forward_hook(note(path))
    with torch.no_grad():
        main = main_output(copied(torch.empty(inputs, device="meta")))
    last = _last_scores(seen, main, classes)
    if last is None:
        return None, None
    before = seen[last - 1] if last else None
    found = before[0] if before is not None and isinstance(before[1], nn.Dropout) else None
    return seen[last][0], found


def _last_scores(
    seen: list[tuple[str, nn.Module, Tensor]], main: Tensor, classes: int
) -> int | None:
    """Return which call of a layer made the scores: the main output, or else the last there was."""
    scores = [i for i, (_, part, out) in enumerate(seen) if _puts_out(part, out.shape, classes)]
    own = [i for i in scores if _are_one(seen[i][2], main)]
    if own:
        return own[-1]
    later = scores and isinstance(seen[-1][1], _WEIGHTED) and scores[-1] != len(seen) - 1
    return scores[-1] if scores and not later else None


def _puts_out(part: nn.Module, shape: tuple[int, ...], classes: int) -> bool:
    axis = 1 if isinstance(part, nn.Conv2d) else -1
    return isinstance(part, _WEIGHTED) and shape[axis] == classes


def _are_one(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are views of the same values."""
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _changed(what: str, before: float, rate: float) -> list[str]:
    if before in (0.0, rate):
        return []
    return [f"The network's {what} was {before:g}; the recipe sets {rate:g}."]

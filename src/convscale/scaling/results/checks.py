"""Check a scaled network by running it: it must count, answer and train as was planned."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from torch import nn

from convscale.complexity.complexity import Complexity, Count, differing
from convscale.complexity.counting import count_module
from convscale.errors import InputError, UnscalableNetworkError
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.wrappers import unwrapped
from convscale.network.running.execution import ForwardError, run
from convscale.network.running.feeding import Feed
from convscale.network.running.given import resized
from convscale.network.sources.inputs import ExampleInputs, Inputs
from convscale.network.sources.network import Network
from convscale.quantities import Resolution
from convscale.scaling.building.settling import Settlement
from convscale.scaling.building.statistics import statistics_of
from convscale.scaling.building.weights import Redraw
from convscale.scaling.plans.plan import Plan
from convscale.scaling.results.answers import other_answer
from convscale.scaling.results.holding import WrittenError
from convscale.scaling.variants.candidate import Candidate
from convscale.strategy import Factors

_NORMS = nn.modules.batchnorm._NormBase


@dataclass(frozen=True)
class Checks:
    """What runs networks that are scaled from one base, and holds them to their plans.

    Args:
        network: The base network.
        size: The sides that it is scaled at (px).
        module: The base, on the meta device.

    Example:
        >>> from convscale.network import resolve_base
        >>> base = resolve_base("timm:resnet18")
        >>> checks = Checks(base, (32, 32), base.build("meta"))
        >>> checks.count(base.build("meta"), (32, 32)).params
        11689512
    """

    network: Network
    size: Resolution
    module: nn.Module

    def pair(self, module: nn.Module, found: Candidate) -> Inputs:
        """Return two images for a scaled network, in one batch."""
        return self.feed(found.variant.resolution).inputs(module, batch=2)

    def feed(self, resolution: Resolution) -> Feed:
        """Return what gives a network its inputs at a resolution."""
        given, channels = self.given(resolution), self.network.in_chans
        return Feed(None if given is not None else resolution, in_chans=channels, given=given)

    def given(self, resolution: Resolution) -> ExampleInputs | None:
        """Return what the user gives the network's forward pass, at a resolution."""
        given = self.network.inputs
        return None if given is None else resized(given, self.size, resolution)

    def count(self, module: nn.Module, resolution: Resolution) -> Count:
        """Count what a network of these inputs executes at a resolution."""
        return count_module(
            module,
            resolution,
            name=self.network.name,
            in_chans=self.network.in_chans,
            given=self.given(resolution),
        )

    def counted(self, module: nn.Module, found: Candidate) -> Complexity:
        """Run the scaled network on the meta device: it must count what was planned."""
        try:
            got = self.count(meta_copy(module, run=True), found.variant.resolution)
        except InputError as error:
            raise self._unfollowed(error, found.factors) from error
        return self.agreed(got, found)

    def agreed(self, counted: Count, found: Candidate) -> Complexity:
        """Return what was counted if it is what was planned."""
        got = Complexity(counted.flops, counted.params, counted.acts)
        if got != found.complexity:
            where, runs = _first_difference(counted, found)
            raise UnscalableNetworkError(
                f"{self.network.name} has {differing(got, found.complexity)} as planned: "
                f"{_otherwise(found.factors, where, runs=runs)}"
            )
        return got

    def answers(self, module: nn.Module, found: Candidate, settlement: Settlement) -> None:
        """Refuse a network whose code makes more of its widths than channels."""
        trace, resolution = found.variant.trace, found.variant.resolution
        if trace.resolution != resolution or not other_answer(settlement.outputs, trace):
            return
        inputs = self.feed(resolution).inputs(module)  # again, as attributes are set by now
        output = run(meta_copy(module, run=True), inputs.args, keywords=inputs.kwargs)
        other = other_answer(tuple(tuple(one.shape) for one in tensors_in(output)), trace)
        if other:
            message = (
                f"{self.network.name} puts out {other}: its code makes other sizes of its widths "
                "than channels. Freeze what they come from (--freeze PATTERN), or use a strategy "
                "without w."
            )
            raise WrittenError(message, settlement)

    def training(self, module: nn.Module, found: Candidate) -> None:
        """Run the scaled network as it is trained: what runs only then must fit too."""
        inputs = self.pair(module, found)
        try:
            run(meta_copy(module, run=True), inputs.args, keywords=inputs.kwargs, training=True)
        except ForwardError as error:
            raise self._unfollowed(error, found.factors) from error

    def buffers(self, source: Network, plan: Plan, own: nn.Module) -> None:
        """Refuse what would be refused with weights: fixed values of which nothing tells new ones.

        Args:
            source: What is scaled.
            plan: How.
            own: What is scaled, without weights.
        """
        frozen = ((name, one) for name, one in own.named_parameters() if not one.requires_grad)
        resized = {
            name: plan.shapes[name]
            for name, tensor in (*own.named_buffers(), *frozen)
            if name not in plan.statistics
            and plan.shapes.get(name, tuple(tensor.shape)) != tuple(tensor.shape)
            and not isinstance(own.get_submodule(name.rpartition(".")[0]), _NORMS)
        }
        if resized:
            built = unwrapped(source.build("cpu"))
            tensors = {**dict(built.named_parameters()), **dict(built.named_buffers())}
            for name, shape in resized.items():
                Redraw(0)(name, tensors[name], shape)

    def statistics(self, module: nn.Module, plan: Plan, found: Candidate) -> tuple[str, ...]:
        """Return the buffers, but those of norms, that training changes, if any is resized."""
        own = dict(self.module.named_buffers())
        buffers = {
            name
            for name, _ in module.named_buffers()
            if name in plan.shapes
            and not isinstance(module.get_submodule(name.rpartition(".")[0]), _NORMS)
        }
        if all(name not in own or own[name].shape == plan.shapes[name] for name in buffers):
            return ()
        return tuple(sorted(buffers & statistics_of(meta_copy(module), self.pair(module, found))))

    def _unfollowed(self, error: Exception, factors: Factors) -> UnscalableNetworkError:
        cause = error if isinstance(error, ForwardError) else error.__cause__
        reason, path = str(error), ""
        if isinstance(cause, ForwardError):
            reason, path = cause.reason, self._with_weights(cause.path)
        what, letters = _changed(factors)
        if what and factors.width == 1:
            return UnscalableNetworkError(
                f"{self.network.name} does not run when the {what} changes: {reason}. Let its code "
                f"follow, or use a strategy without {letters}."
            )
        freeze = f"keep the widths there (--freeze {path!r})" if path else "freeze what it touches"
        return UnscalableNetworkError(
            f"{self.network.name} has a number in its code that does not follow its widths: "
            f"{reason}. Let it follow the tensor's shape, {freeze}, or use a strategy without w."
        )

    def _with_weights(self, path: str) -> str:
        """Return the path of the innermost module around a path that has weights to freeze."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            around = ".".join(parts[:end])
            try:
                module = self.module.get_submodule(around)
            except AttributeError:  # in a block that was added: its stage
                continue
            if any(True for _ in module.parameters()):
                return around
        return ""


def _first_difference(counted: Count, found: Candidate) -> tuple[str, bool]:
    """Return the first module whose flops are not those that were planned, and whether it runs."""
    variant, planned = found.variant, defaultdict[str, float](float)
    flops, _, _ = variant.traced.form.parts(variant.sizes(found.widths))
    for path, own in zip(variant.traced.form.term_paths, flops, strict=True):
        planned[path] += own
    for layer in counted.layers:
        if abs(planned.get(variant.model_path(layer.path), 0.0) - layer.flops) > 0.5:
            return layer.path, layer.flops > 0
    return "", True


def _changed(factors: Factors) -> tuple[str, str]:
    """Return the names of the axes that are scaled, and their letters, as texts."""
    axes = {name: getattr(factors, name) for name in ("depth", "width", "resolution")}
    changed = [name for name, factor in axes.items() if factor != 1]
    return " and ".join(changed), " or ".join(name[0] for name in changed)


def _otherwise(factors: Factors, where: str, *, runs: bool) -> str:
    """Say what was planned otherwise than it is, and how to go on."""
    what, letters = _changed(factors)
    does = f"what {where or 'it'} does changes with the {what}"
    if not runs:
        does = f"{where} does not run any more, as where the code compares "
        does += f"{'a size' if ' ' in what else f'the {what}'} with a number"
    stays = f"Keep the widths there (--freeze {where or 'PATTERN'!r}), or use"
    return f"{does}. {stays if factors.width != 1 else 'Use'} a strategy without {letters}."

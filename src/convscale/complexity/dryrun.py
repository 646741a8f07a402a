"""Run a network and a training step on tensors that hold nothing, and see what memory they need.

The tensors are PyTorch's fake ones: they say that they are on a device, so that its kernels,
casts and optimizers are chosen, and have shapes, dtypes and storages, but no memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from convscale.complexity.backward import StepCost
from convscale.complexity.failing import cannot_run, several
from convscale.complexity.liveness import BACKWARD, FORWARD, OPTIMIZER, Liveness, Whereabouts
from convscale.complexity.memory import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    STATE,
    WEIGHTS,
    Inference,
    Training,
)
from convscale.complexity.steps import (
    OPTIMIZERS,
    Loss,
    add_checkpoints,
    checkpoint_paths,
    make_optimizer,
    state_tensors,
)
from convscale.errors import ConvscaleError, InputError
from convscale.network.modules.copies import blank_like, converted_copy
from convscale.network.modules.quantised import packed_bytes
from convscale.network.running.execution import ForwardError
from convscale.network.running.feeding import feed_of
from convscale.network.sources.inputs import Inputs
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, check_count

MIXED = "mixed"
PRECISIONS = ("float32", "bfloat16", "float16", MIXED)
_DEVICE = torch.device("cpu")
_VALUES = (DataDependentOutputException, DynamicOutputShapeException)


class DryRun:
    """A network at a resolution, batch size and precision, run without memory.

    Example:
        >>> from convscale.network import resolve_base
        >>> run = DryRun(resolve_base("timm:resnet18"), 64, batch_size=2)
        >>> run.inference().weights_bytes
        46796608
    """

    def __init__(
        self,
        network: Network,
        resolution: Resolution | None = None,
        *,
        batch_size: int = 1,
        precision: str | None = None,
        checkpointing: bool = False,
    ) -> None:
        self.batch_size = check_count(batch_size, what="batch size")
        check_precision(precision)
        self._feed, self.network = feed_of(network, resolution), network
        self._module = network.build("meta")
        self._feed.check_batch(self._module, batch_size)
        self.resolution = self._feed.sides(self._module)
        self.precision = precision or _own_precision(self._module)
        self._packed = sum(map(packed_bytes, self._module.modules()))
        self._uncounted: tuple[str, ...] = ()
        self.checkpoints: tuple[str, ...] = ()
        if checkpointing:
            self.checkpoints = checkpoint_paths(network.build("meta"), self._feed)

    def with_batch(self, batch_size: int) -> DryRun:
        """Return the same for another number of images."""
        other = copy.copy(self)
        other.batch_size = check_count(batch_size, what="batch size")
        self._feed.check_batch(self._module, batch_size)
        return other

    @property
    def has_own_batch(self) -> bool:
        """Whether tensors are given, whose batch stays as it is."""
        return self._feed.has_own_batch(self._module)

    @property
    def weights(self) -> list[str]:
        """The paths of parameters and then of buffers, in the order in which they are noted."""
        module = self._module
        return [path for path, _ in (*module.named_parameters(), *module.named_buffers())]

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The shapes and dtypes of inputs that are given."""
        return () if self._feed.given is None else self._inputs(self._module).shapes

    def notes(self) -> tuple[str, ...]:
        """Say which operators of the last training step may multiply and were not counted."""
        named = ", ".join(sorted(self._uncounted))
        left = (f"The flops of the step leave out operators without a rule: {named}.",)
        several_given = several(self._inputs(self._module)) if self.has_own_batch else ()
        return (*several_given, *(left if named else ()))

    def _inputs(self, module: nn.Module) -> Inputs:
        """Return the inputs; those in the network's own dtype follow its weights."""
        inputs = self._feed.inputs(module, batch=self.batch_size)
        dtype = "float32" if self.precision == MIXED else self.precision
        return inputs.cast(getattr(torch, _own_precision(self._module)), getattr(torch, dtype))

    def inference(self) -> Inference:
        """Return what one forward pass needs, in evaluation mode and without gradients."""
        seen = Liveness(Whereabouts())
        self.watch(seen)
        peak = seen.peak()
        return Inference(peak.total_bytes, peak)

    def watch(self, seen: Liveness) -> None:
        """Run one forward pass, as of inference, under the eyes of somebody."""
        with self._scene(seen, training=False) as scene, torch.no_grad(), self._casts():
            scene.output()

    def training(self, optimizer: str) -> Training:
        """Return what a training step needs once the optimizer has its state.

        Raises:
            InputError: If the network has nothing to train, or cannot be trained as it is.
        """
        seen = StepCost(Whereabouts())
        gradients, state, saved = self.follow(optimizer, seen)
        peak = seen.peak()
        self._uncounted = tuple(seen.uncounted)
        return Training(peak.total_bytes, peak, gradients, state, saved, seen.flops())

    def follow(self, optimizer: str, seen: Liveness) -> tuple[int, int, int]:
        """Run a training step under the eyes of somebody.

        Returns:
            The bytes of the gradients, of what the optimizer keeps, and of what the forward pass
            leaves.

        Raises:
            InputError: If the network has nothing to train, or cannot be trained as it is.
        """
        if self._packed:
            raise InputError(
                f"{self.network.name} holds quantised weights, which cannot be trained. Leave "
                "training out: --optimizer none, or optimizer=None in Python."
            )
        with self._scene(seen, training=True) as scene:
            add_checkpoints(scene.module, self.checkpoints, seen)
            stepper, loss = make_optimizer(optimizer, scene.module), Loss()
            saved = self._forward_and_backward(scene, loss)
            gradients = _gradients(scene)
            seen.phase = OPTIMIZER
            stepper.step()  # makes its state, which is there from the first moment on in a loop
            for tensor in state_tensors(stepper):
                seen.call(tensor, STATE, always=True)
            stepper.step()
        return gradients, seen.held_bytes(STATE), saved

    def _forward_and_backward(self, scene: _Scene, loss: Loss) -> int:
        """Run both passes as a loop does; return the bytes that the forward pass leaves."""
        seen = scene.seen
        seen.phase = FORWARD
        with self._casts():
            output = scene.output()  # stays until the end, as in a loop
            value = loss(output)
        for target in loss.targets:
            seen.call(target, INPUTS, always=True)
        saved = seen.held_bytes(ACTIVATIONS)
        seen.phase = BACKWARD
        value.backward()  # type: ignore[no-untyped-call]
        return saved

    def _casts(self) -> Any:
        if self.precision != MIXED:
            return nullcontext()
        return torch.autocast(_DEVICE.type, dtype=torch.bfloat16)

    @contextmanager
    def _scene(self, seen: Liveness, *, training: bool) -> Iterator[_Scene]:
        """Yield the network and its input made of nothing, while their memory is followed."""
        dtype = torch.float32 if self.precision == MIXED else getattr(torch, self.precision)
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        module = _imitation(self._module, mode, dtype).train(training)
        seen.hold(self._packed, WEIGHTS)
        with mode:
            inputs = self._inputs(module)
            for tensor in (*module.parameters(), *module.buffers()):
                seen.note(tensor, WEIGHTS)
            for tensor in inputs.tensors:
                seen.note(tensor, INPUTS)
            with self._failures(module, seen.where), seen.where.following(module), seen:
                yield _Scene(module, inputs, seen)

    @contextmanager
    def _failures(self, module: nn.Module, where: Whereabouts) -> Iterator[None]:
        """Say in one line that the network does not run, and why."""
        try:
            yield
        except ConvscaleError:
            raise
        except Exception as error:
            part = module.get_submodule(where.running)
            failed = ForwardError(where.running, type(part).__name__, error)
            raise _refusal(self.network.name, self._feed.asked, failed, error, module) from error


def _gradients(scene: _Scene) -> int:
    """Tell which of what lives are gradients; return their bytes."""
    for parameter in scene.module.parameters():
        if parameter.grad is not None:
            scene.seen.call(parameter.grad, GRADIENTS)
    return scene.seen.held_bytes(GRADIENTS)


@dataclass(frozen=True)
class _Scene:
    module: nn.Module
    inputs: Inputs
    seen: Liveness

    def output(self) -> Any:
        """Run the forward pass."""
        return self.module(*self.inputs.args, **self.inputs.kwargs)


def check_precision(precision: str | None) -> str | None:
    """Return the name of a precision that exists, or None, which stands for the network's own.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_precision("mixed")
        'mixed'
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. Use {', '.join(PRECISIONS)}.")
    return precision


def check_optimizer(optimizer: str | None) -> str | None:
    """Return the name of an optimizer that exists, or None, which stands for no training.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_optimizer("adamw")
        'adamw'
    """
    if optimizer is not None and optimizer not in OPTIMIZERS:
        raise InputError(f"Unknown optimizer {optimizer!r}. Use {', '.join(OPTIMIZERS)} or none.")
    return optimizer


def _own_precision(module: nn.Module) -> str:
    """Return the name of the dtype of a module's weights; float32 where it has none."""
    dtypes = (p.dtype for p in module.parameters() if p.is_floating_point())
    return str(next(dtypes, torch.float32)).removeprefix("torch.")


def _imitation(module: nn.Module, mode: FakeTensorMode, dtype: torch.dtype) -> nn.Module:
    """Copy a module with tensors that hold nothing, its weights in a dtype."""
    registered = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        blank = tensor.detach() if tensor.is_meta else blank_like(tensor.detach())
        if id(tensor) in registered and tensor.is_floating_point():
            blank = blank.to(dtype)
        fake: Any = FakeTensor(mode, blank, _DEVICE)
        if isinstance(tensor, nn.Parameter):
            fake._is_param = True  # what nn.Parameter does, without another tensor
            fake.requires_grad_(tensor.requires_grad)
        return fake  # type: ignore[no-any-return]

    return converted_copy(module, convert)


def _refusal(
    name: str,
    resolution: Resolution | None,
    failed: ForwardError,
    error: Exception,
    module: nn.Module,
) -> InputError:
    if isinstance(error, _VALUES):
        return InputError(
            f"The memory of {name} cannot be predicted: in {failed.path or 'its forward pass'} "
            "what runs follows from values of tensors, not from shapes alone."
        )
    if "more than 1 value per channel" in failed.reason:
        return InputError(
            f"{name} cannot be trained on one image at a time: {failed.reason}. Give a batch size "
            "of at least 2, as in --batch-size 2."
        )
    return cannot_run(name, resolution, failed, module)

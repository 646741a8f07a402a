"""Put together what the loop works with, in the state of a checkpoint if there is one."""

from __future__ import annotations

import contextlib
import json

from torch import nn

from convscale.network.modules.copies import full_copy
from convscale.training.checkpoint import Checkpoint
from convscale.training.feed import Feed
from convscale.training.keeper import Judge, Through
from convscale.training.loading import training_loader, validation_loader
from convscale.training.loop import Run
from convscale.training.metrics import Errors, evaluate
from convscale.training.parting import Parted
from convscale.training.parts import make_average, make_optimizer, make_schedule
from convscale.training.restoring import of_this_run, restore
from convscale.training.seeding import Batches
from convscale.training.setup import Setup
from convscale.training.syncing import SyncedBatchNorm, mean_in_order
from convscale.training.variants import Choice, choose_variant
from convscale.training.watch import Watch


def make_choice(setup: Setup, watch: Watch) -> Choice:
    """Choose precision and memory format; all processes take the first one's."""
    recipe, processes = setup.recipe, setup.processes
    images, targets = setup.example(recipe.batch_size // processes.world)
    found = choose_variant(recipe, setup.module, images, targets, setup.loss)
    for note in found.notes:
        watch.on_note(note)
    return Choice.from_document(
        json.loads(processes.shared(json.dumps(found.as_document()).encode()))
    )


def make_run(setup: Setup, choice: Choice, *, checkpoint: Checkpoint | None, updates: int) -> Run:
    """Put the parts of the loop together.

    Args:
        setup: What is trained, on what.
        choice: Precision and memory format.
        checkpoint: What the run goes on from.
        updates: How many updates are made already.
    """
    module, recipe, processes = setup.module, setup.recipe, setup.processes
    module.to(memory_format=choice.variant.memory_format)
    optimizer = make_optimizer(recipe, module)
    average = make_average(recipe, module)
    schedule = make_schedule(recipe, optimizer, steps=setup.order.steps)
    synced = processes.world > 1 and recipe.sync_batchnorm
    accelerator = processes.accelerator(
        choice.variant.precision, unused=processes.world > 1 and _has_unused(setup)
    )
    if checkpoint is not None:
        with processes.agreeing(), of_this_run(checkpoint, setup.files.state):
            restore(checkpoint, module, average, optimizer, accelerator.scaler)
    model, prepared = accelerator.prepare(_computing(setup, choice), optimizer)
    if recipe.parts is not None and processes.world > 1:
        model.register_comm_hook(None, lambda _, bucket: mean_in_order(bucket.buffer()))
    return Run(
        module=module,
        model=model,
        loss=setup.loss,
        mix=setup.mix,
        optimizer=prepared,
        schedule=schedule,
        average=average,
        batches=_feed(setup, choice, updates),
        forward=SyncedBatchNorm if synced else contextlib.nullcontext,
        accelerator=accelerator,
        order=setup.order,
        rank=processes.rank,
        grad_clip=recipe.grad_clip,
    )


def _computing(setup: Setup, choice: Choice) -> nn.Module:
    """Return what computes a batch in this process: the network, or its parts side by side."""
    recipe, processes = setup.recipe, setup.processes
    if recipe.parts is None or processes.world > 1:
        return setup.module
    return Parted(
        setup.module,
        parts=recipe.parts,
        context=lambda: choice.variant.context(processes.device.type),
        synced=recipe.sync_batchnorm,
    )


def make_judge(setup: Setup, choice: Choice) -> Judge:
    """Return what judges a network on the images for validation, all processes together."""
    processes = setup.processes
    loader = validation_loader(
        setup.data,
        setup.recipe,
        resolution=setup.subject.test_resolution,
        in_chans=setup.subject.in_chans,
        world=processes.world,
        rank=processes.rank,
        broken=setup.broken,
        pin_memory=processes.device.type == "cuda",
    )

    def judge(module: nn.Module, through: Through) -> Errors:
        return evaluate(
            module,
            through(loader),
            classes=setup.subject.classes,
            device=processes.device,
            casting=lambda: choice.variant.context(processes.device.type),
            memory_format=choice.variant.memory_format,
            total=lambda sums: sums.new_tensor(processes.total(sums.tolist())),
        )

    return judge


def _has_unused(setup: Setup) -> bool:
    """Tell whether there are parameters that training gives no gradient."""
    copied = full_copy(setup.module).train()
    images, targets = setup.example(2)
    setup.loss(copied(images), targets).backward()  # type: ignore[no-untyped-call]
    return any(w.requires_grad and w.grad is None for w in copied.parameters())


def _feed(setup: Setup, choice: Choice, first: int) -> Feed:
    device = setup.processes.device
    loader = training_loader(
        setup.data,
        setup.recipe,
        Batches(setup.order, first, setup.processes.world, setup.processes.rank),
        resolution=setup.subject.train_resolution,
        in_chans=setup.subject.in_chans,
        broken=setup.broken,
        pin_memory=device.type == "cuda",
    )
    return Feed(loader, device, choice.variant.memory_format)

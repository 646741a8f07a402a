"""A training run from a request to its result: begun, or gone on with where it was."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscale.errors import ElsewhereError
from convscale.training.checkpoint import Checkpoint, read_checkpoint
from convscale.training.datasets import Data, read_data
from convscale.training.failing import Stopped, TrainingError, going_on
from convscale.training.feed import Feed
from convscale.training.keeper import Batch, Files, RunKeeper, Watch
from convscale.training.loading import BrokenImages, training_loader, validation_loader
from convscale.training.loop import Run, fit
from convscale.training.metrics import Errors, evaluate
from convscale.training.parts import (
    make_average,
    make_loss,
    make_mix,
    make_optimizer,
    make_schedule,
)
from convscale.training.processes import (
    LostProcessError,
    Processes,
    open_processes,
)
from convscale.training.progress import Progress, Row
from convscale.training.request import TrainRequest, alone_in, begin_or_go_on
from convscale.training.seeding import Batches, Order, derived
from convscale.training.signals import Wish, heeding_signals
from convscale.training.states import fill_module, unpacked
from convscale.training.subject import Subject, prepare
from convscale.training.syncing import SyncedBatchNorm
from convscale.training.variants import Choice, check_precision, choose_variant


@dataclass(frozen=True)
class TrainResult:
    """What came of a run, or of the part of it until it was asked to stop (not `finished`).

    `rows` has an entry for each epoch, `best` the epoch with the lowest top-1 error. Seconds are
    those of all parts of a run that was cut off and went on.
    """

    folder: Path
    subject: Subject
    data: Data
    request: TrainRequest
    finished: bool
    updates: int
    rows: tuple[Row, ...]
    best: dict[str, Any] | None
    choice: Choice
    processes: int
    threads: int
    device: str
    seconds: float
    training_seconds: float
    data_wait_seconds: float
    images_per_second: float | None
    peak_memory_bytes: int | None
    broken: tuple[str, ...]
    notes: tuple[str, ...]
    is_first: bool = True


def train(request: TrainRequest, watch: Watch, *, wish: Wish | None = None) -> TrainResult:
    """Train a network; a run that was cut off goes on, and ends as if it had not been.

    Started by torchrun, the processes train together.

    Args:
        request: What to train, on what, how and where.
        watch: Shows the run as it goes.
        wish: Whether the run is asked to stop; by default it is by SIGTERM and Ctrl-C.

    Returns:
        The result; `finished` is false where the run was asked to stop by SIGTERM.

    Raises:
        InputError: If the request, the data or the folder are wrong.
        TrainingError: If the loss is no number, or a checkpoint cannot be written.
        LostProcessError: If another process of the run has ended.
        ElsewhereError: If another process says why the run has ended.
        KeyboardInterrupt: If a person stopped it; its checkpoint is written.
    """
    with open_processes(request.device) as processes, contextlib.ExitStack() as stack:
        wish = stack.enter_context(heeding_signals()) if wish is None else wish
        try:
            with processes.together():
                result = _Training(request, processes, watch, wish).result()
        except LostProcessError as error:
            raise LostProcessError(f"{error.line} {going_on(_files(request).state)}") from error
        except TrainingError as error:
            if processes.is_first:
                raise
            raise ElsewhereError(
                "Process 0 has ended the run.", exit_status=error.exit_status
            ) from error
    if wish.interrupted and not result.finished:
        raise KeyboardInterrupt
    return result


def _files(request: TrainRequest) -> Files:
    return Files(Path(request.out))


class _Training:
    """One run in one process, put together part by part."""

    def __init__(
        self, request: TrainRequest, processes: Processes, watch: Watch, wish: Wish
    ) -> None:
        self.request, self.recipe = request, request.recipe
        self.processes, self.watch, self.wish = processes, watch, wish
        self.files = _files(request)
        with processes.agreeing():
            self.data = read_data(request.data)
            self.subject = prepare(
                request.network,
                request.recipe,
                classes=len(self.data.classes),
                resolution=request.resolution,
                num_classes=request.num_classes,
                in_chans=request.in_chans,
            )
            self.order = Order(
                len(self.data.train.targets),
                self.recipe.batch_size,
                self.recipe.epochs,
                self.recipe.seed,
            )
            Batches(self.order, world=processes.world)
            self.own_batch = self.recipe.batch_size // processes.world
            check_precision(self.recipe, processes.device.type)
            classes = len(self.data.classes)
            self.mix = make_mix(self.recipe, classes=classes, batch_size=self.own_batch)
        self.broken = BrokenImages(self.recipe.broken_limit)

    def result(self) -> TrainResult:
        """Train, and say what came of it."""
        with contextlib.ExitStack() as stack:
            with self.processes.agreeing():
                if self.processes.is_first:
                    stack.enter_context(alone_in(self.files.folder))
                    begin_or_go_on(self.files.folder, self.request.identity(self.subject.name))
            checkpoint = self._checkpoint()
            return self._trained(checkpoint)

    def _trained(self, checkpoint: Checkpoint | None) -> TrainResult:
        values = {} if checkpoint is None else checkpoint.values
        progress = Progress.from_document(values["progress"]) if values else Progress()
        self.broken.found.update(values.get("broken", {}))
        self.loss = make_loss(self.recipe)
        self.module = self.subject.module.to(self.processes.device)
        self.choice = Choice.from_document(values["choice"]) if values else self._choice()
        run = self._run(checkpoint, progress)
        keeper = RunKeeper(
            run,
            self.module,
            progress=progress,
            processes=self.processes,
            files=self.files,
            judge=self._judge(),
            watch=self.watch,
            wish=self.wish,
            every_s=self.recipe.checkpoint_seconds,
            every_updates=self.recipe.checkpoint_steps,
            number=0 if checkpoint is None else checkpoint.number,
            keep={"choice": self.choice.as_document(), "broken": self.broken.found},
        )
        try:
            fit(run, keeper, updates=progress.updates, epochs=progress.epochs)
            finished = True
        except Stopped:
            finished = False
        # accelerate has put its own forward pass on the module
        run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)
        return self._summary(progress, finished=finished)

    def _checkpoint(self) -> Checkpoint | None:
        """Return what the run goes on from, in every process as the first one reads it."""
        found: Checkpoint | None = None
        with self.processes.agreeing():
            if self.processes.is_first:
                found = read_checkpoint(self.files.state, warn=self.watch.on_note)
        if self.processes.world == 1:
            return found
        head = None if found is None else [found.number, sorted(found.files), dict(found.values)]
        said = json.loads(self.processes.shared(json.dumps(head).encode()))
        if said is None:
            return None
        number, names, values = said
        files = {
            name: self.processes.shared(None if found is None else found.files[name])
            for name in names
        }
        return Checkpoint(number, files, values)

    def _choice(self) -> Choice:
        """Choose precision and memory format; all processes take the first one's."""
        images, targets = self._example(self.own_batch)
        found = choose_variant(self.recipe, self.module, images, targets, self.loss)
        for note in found.notes:
            self.watch.on_note(note)
        return Choice.from_document(
            json.loads(self.processes.shared(json.dumps(found.as_document()).encode()))
        )

    def _example(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images and targets of the shape and kind that training has."""
        random = torch.Generator().manual_seed(derived(self.recipe.seed, "example"))
        shape = (count, self.subject.in_chans, *_pair(self.subject.train_resolution))
        images = torch.randn(shape, generator=random)
        targets = torch.randint(self.subject.classes, (count,), generator=random)
        images, targets = self.mix(images, targets)
        return images.to(self.processes.device), targets.to(self.processes.device)

    def _run(self, checkpoint: Checkpoint | None, progress: Progress) -> Run:
        """Put the parts of the loop together, in the state of a checkpoint if there is one."""
        module, recipe, processes = self.module, self.recipe, self.processes
        module.to(memory_format=self.choice.variant.memory_format)
        optimizer = make_optimizer(recipe, module)
        average = make_average(recipe, module)
        schedule = make_schedule(recipe, optimizer, steps=self.order.steps)
        synced = processes.world > 1 and recipe.sync_batchnorm
        accelerator = processes.accelerator(
            self.choice.variant.precision,
            unused=processes.world > 1 and self._has_unused(),
        )
        if checkpoint is not None:
            fill_module(module, checkpoint.files["model.safetensors"])
            if average is not None:
                fill_module(average.module, checkpoint.files["ema.safetensors"])
            state = checkpoint.values["optimizer"], checkpoint.files["optimizer.safetensors"]
            optimizer.load_state_dict(unpacked(*state))
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(checkpoint.values["scaler"])
        model, prepared = accelerator.prepare(module, optimizer)
        return Run(
            model=model,
            loss=self.loss,
            mix=self.mix,
            optimizer=prepared,
            schedule=schedule,
            average=average,
            batches=self._feed(progress.updates),
            forward=SyncedBatchNorm if synced else contextlib.nullcontext,
            accelerator=accelerator,
            order=self.order,
            rank=processes.rank,
            grad_clip=recipe.grad_clip,
        )

    def _has_unused(self) -> bool:
        """Tell whether there are parameters that training gives no gradient."""
        from convscale.network.copies import full_copy

        copied = full_copy(self.module).train()
        images, targets = self._example(2)
        self.loss(copied(images), targets).backward()  # type: ignore[no-untyped-call]
        return any(w.requires_grad and w.grad is None for w in copied.parameters())

    def _feed(self, first: int) -> Feed:
        batches = Batches(self.order, first, self.processes.world, self.processes.rank)
        loader = training_loader(
            self.data,
            self.recipe,
            batches,
            resolution=self.subject.train_resolution,
            in_chans=self.subject.in_chans,
            broken=self.broken,
            pin_memory=self.processes.device.type == "cuda",
        )
        return Feed(loader, self.processes.device, self.choice.variant.memory_format)

    def _judge(
        self,
    ) -> Callable[[nn.Module, Callable[[Iterable[Batch]], Iterable[Batch]]], Errors]:
        loader = validation_loader(
            self.data,
            self.recipe,
            resolution=self.subject.test_resolution,
            in_chans=self.subject.in_chans,
            world=self.processes.world,
            rank=self.processes.rank,
            broken=self.broken,
            pin_memory=self.processes.device.type == "cuda",
        )

        def judge(
            module: nn.Module, through: Callable[[Iterable[Batch]], Iterable[Batch]]
        ) -> Errors:
            return evaluate(
                module,
                through(loader),
                classes=self.subject.classes,
                device=self.processes.device,
                casting=lambda: self.choice.variant.context(self.processes.device.type),
                memory_format=self.choice.variant.memory_format,
                total=lambda sums: sums.new_tensor(self.processes.total(sums.tolist())),
            )

        return judge

    def _summary(self, progress: Progress, *, finished: bool) -> TrainResult:
        spent = progress.training_total_s + progress.training_s
        images = progress.updates * self.recipe.batch_size
        return TrainResult(
            folder=self.files.folder,
            subject=self.subject,
            data=self.data,
            request=self.request,
            finished=finished,
            updates=progress.updates,
            rows=tuple(progress.rows),
            best=progress.best,
            choice=self.choice,
            processes=self.processes.world,
            threads=torch.get_num_threads(),
            device=str(self.processes.device),
            seconds=progress.total_s,
            training_seconds=spent,
            data_wait_seconds=progress.waiting_total_s + progress.waiting_s,
            images_per_second=images / spent if spent else None,
            peak_memory_bytes=_peak_memory(self.processes.device),
            broken=tuple(self.processes.merged(self.broken.found)),
            notes=(*self.subject.notes, *self.choice.notes),
            is_first=self.processes.is_first,
        )


def _pair(resolution: Any) -> tuple[int, int]:
    return (resolution, resolution) if isinstance(resolution, int) else tuple(resolution)


def _peak_memory(device: torch.device) -> int | None:
    """Return the most memory that the device's allocator, or else this process, has held."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

"""What follows a run: it checks every loss, judges every epoch, and writes what is to last."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convscale.errors import InputError
from convscale.files import write_whole
from convscale.training.checkpoint import Checkpoint, CheckpointError, write_checkpoint
from convscale.training.epochs import better, epoch_row
from convscale.training.failing import NonFiniteLossError, going_on, not_finite
from convscale.training.feed import Feed
from convscale.training.history import write_history
from convscale.training.loading import BrokenImages
from convscale.training.loop import Run
from convscale.training.metrics import Errors
from convscale.training.parts import learning_rate
from convscale.training.processes import Processes
from convscale.training.progress import Progress
from convscale.training.run_files import Files
from convscale.training.signals import Stopped, Wish
from convscale.training.states import module_bytes, packed
from convscale.training.updates_log import UpdatesLog
from convscale.training.watch import Tick, Watch

# On other devices than the processor, losses are read so many updates later: it runs ahead.
_LAG = 2
Batch = tuple[Tensor, Tensor]
Through = Callable[[Iterable[Batch]], Iterable[Batch]]
Judge = Callable[[nn.Module, Through], Errors]


class RunKeeper:
    """Follow a run: `after_update` and `after_epoch` are the loop's.

    Args:
        run: The run.
        module: The network that is trained, as it is written.
        progress: How far the run is.
        processes: The processes that train together.
        files: Where to write.
        judge: Gives the errors of a network on the images for validation; the images go through
            the function given first.
        watch: What shows the run.
        wish: Whether the run was asked to stop.
        broken: The images that could not be read.
        every_s, every_updates: When to write checkpoints within an epoch.
        number: How many checkpoints were written.
        keep: What else a checkpoint holds, as JSON takes it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from convscale.cli.watch import Silence
        >>> from convscale.training.assembling import make_choice, make_judge, make_run
        >>> from convscale.training.loop import fit
        >>> from convscale.training.processes import open_processes
        >>> from convscale.training.recipe import Recipe
        >>> from convscale.training.request import TrainRequest
        >>> from convscale.training.setup import set_up
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ...                     nn.Linear(8, 10))
        >>> recipe = Recipe(epochs=1, warmup_epochs=0.0, batch_size=512, workers=0,
        ...                 precision="fp32", channels_last=False)
        >>> folder = Path(tempfile.mkdtemp())
        >>> with open_processes("cpu") as processes:
        ...     setup = set_up(
        ...         TrainRequest(net, "digits", folder, recipe, resolution=8), processes
        ...     )
        ...     choice = make_choice(setup, Silence())
        ...     run = make_run(setup, choice, checkpoint=None, updates=0)
        ...     keeper = RunKeeper(
        ...         run, setup.module, progress=Progress(), processes=processes,
        ...         files=setup.files, judge=make_judge(setup, choice), watch=Silence(),
        ...         wish=Wish(), broken=setup.broken, every_s=300.0,
        ...     )
        ...     fit(run, keeper)
        >>> sorted(path.name for path in folder.iterdir())
        ['best.safetensors', 'history.csv', 'last.safetensors', 'state', 'steps.csv']
    """

    def __init__(
        self,
        run: Run,
        module: nn.Module,
        *,
        progress: Progress,
        processes: Processes,
        files: Files,
        judge: Judge,
        watch: Watch,
        wish: Wish,
        broken: BrokenImages,
        every_s: float,
        every_updates: int | None = None,
        number: int = 0,
        keep: dict[str, Any] | None = None,
    ) -> None:
        self._run, self._module, self._progress = run, module, progress
        self._processes, self._files, self._judge = processes, files, judge
        self._watch, self._wish, self._broken = watch, wish, broken
        self._told = len(broken.found)  # images that the other processes were told of
        self._every_s, self._every_updates = every_s, every_updates
        self._number, self._keep = number, keep or {}
        self._lag = 0 if processes.device.type == "cpu" else _LAG
        self._pending: deque[tuple[int, float, Tensor, float, float]] = deque()
        self._save_asked = self._stop_asked = False
        self._written_s = self._begun_s = self._clock_s = time.perf_counter()
        self._waited_s = self._waited_now()
        # what is infinite from the start, such as a mask, may be
        self._finite = [t for t in _floats(module) if _are_finite([t])]
        self._log = UpdatesLog(files.steps, updates=progress.updates) if self._first else None

    def after_update(self, update: int, loss: Tensor) -> None:
        """Note the loss; write a checkpoint where it is time, and stop where that was asked."""
        self._wish.at_once = False
        now, waited = time.perf_counter(), self._waited_now()
        said = self._processes.summed(self._report(update, loss, now))
        lr = learning_rate(self._run.schedule)
        self._pending.append((update, lr, said, now - self._clock_s, waited - self._waited_s))
        self._waited_s = waited
        self._read(self._lag)
        if self._save_asked or self._stop_asked:
            self.save()
            self._stop_if_asked()
        self._clock_s = time.perf_counter()

    def after_epoch(self, epoch: int) -> None:
        """Judge the network and the average of its weights, keep the best, write everything."""
        self._read(0)
        found = {"": self._errors(self._module)}
        if self._run.average is not None:
            found["ema_"] = self._errors(self._run.average.module)
        lr, order = learning_rate(self._run.schedule), self._run.order
        row = epoch_row(epoch, found, progress=self._progress, order=order, lr=lr)
        self._progress.end_epoch(row)
        self._write_weights(epoch, found)
        self.save()
        self._watch.on_epoch(row)
        if self._progress.epochs < self._run.order.epochs:
            self._stop_if_asked()
        self._clock_s, self._waited_s = time.perf_counter(), self._waited_now()

    def save(self) -> None:
        """Write a checkpoint of what is known to be good.

        Raises:
            NonFiniteLossError: If a weight is no number.
            CheckpointError: If the first process cannot write it.
        """
        self._read(0)
        self._check_weights()
        self._save_asked = False
        self._number += 1
        self._in_first(lambda: write_checkpoint(self._files.state, self._checkpoint()))
        self._wish.at_once = self._progress.epochs < self._run.order.epochs
        self._written_s = time.perf_counter()

    @property
    def _first(self) -> bool:
        return self._processes.is_first

    def _waited_now(self) -> float:
        batches = self._run.batches
        return batches.waited_s if isinstance(batches, Feed) else 0.0

    def _report(self, update: int, loss: Tensor, now: float) -> Tensor:
        """Return the loss, and whether to stop, to save, and to tell of more broken images.

        All processes act on the sums of these, and so on the same.
        """
        steps = self._every_updates
        due = now - self._written_s >= self._every_s or bool(steps and update % steps == 0)
        more = len(self._broken.found) > self._told
        self._told = len(self._broken.found)
        flags = torch.tensor([bool(self._wish), due, more], device=loss.device, dtype=torch.float32)
        return torch.cat([loss.float().reshape(1), flags])

    def _read(self, most: int) -> None:
        """Read what was reported, until at most so many updates are unread."""
        while len(self._pending) > most:
            update, lr, said, took_s, waited_s = self._pending.popleft()
            loss, stop, save, more = said.tolist()
            loss /= self._processes.world
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    not_finite("The loss", loss, update=update, lr=lr, state=self._files.state)
                )
            self._progress.add_update(loss, training_s=took_s, waiting_s=waited_s)
            self._stop_asked |= stop > 0
            self._save_asked |= save > 0
            self._show(update, loss, lr)
            if more:
                self._tell_broken()

    def _tell_broken(self) -> None:
        """Let all processes know of the images that any of them could not read, and count them."""
        with self._processes.agreeing():
            self._broken.found.update(self._processes.merged(self._broken.found))
            self._broken.check()
        self._told = len(self._broken.found)

    def _show(self, update: int, loss: float, lr: float) -> None:
        order, epoch = self._run.order, self._progress.epochs
        log = self._log
        if log is not None:
            self._written(lambda: log.add(update, epoch, loss, lr))
        self._watch.on_update(Tick(update, order.updates, epoch, loss, lr, order.batch_size))

    def _stop_if_asked(self) -> None:
        if self._stop_asked:
            raise Stopped

    def _errors(self, module: nn.Module) -> Errors:
        self._processes.share_buffers(module)
        with self._processes.agreeing():
            found = self._judge(module, self._interruptible)
        self._tell_broken()
        return found

    def _interruptible(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Let a process alone stop between two batches of an evaluation."""
        for batch in batches:
            if self._wish and self._processes.world == 1:
                self._stop_asked = True
                self.save()
                raise Stopped
            yield batch

    def _write_weights(self, epoch: int, found: dict[str, Errors]) -> None:
        average = self._run.average
        modules = {"": self._module, **({} if average is None else {"ema_": average.module})}
        improved = better(epoch, found, self._progress.best)
        if improved is not None:
            self._progress.best = improved[1]

        def write() -> None:
            for name, module in modules.items():
                path = self._files.weights("ema" if name else "last")
                data = module_bytes(module)
                write_whole(path, data)
                if improved is not None and name == improved[0]:
                    write_whole(self._files.weights("best"), data)
            write_history(self._files.folder, self._progress.rows)

        self._in_first(write)

    def _check_weights(self) -> None:
        """Refuse to write weights and statistics that are no numbers: the next loss is none."""
        if not _are_finite(self._finite):
            lr, update = learning_rate(self._run.schedule), self._progress.updates
            raise NonFiniteLossError(
                not_finite("A weight", None, update=update, lr=lr, state=self._files.state)
            )

    def _checkpoint(self) -> Checkpoint:
        run, progress = self._run, self._progress
        optimizer, tensors = packed(run.optimizer.state_dict())
        files = {"model.safetensors": module_bytes(self._module), "optimizer.safetensors": tensors}
        if run.average is not None:
            files["ema.safetensors"] = module_bytes(run.average.module)
        scaler = run.accelerator.scaler
        now = time.perf_counter()
        progress.total_s += now - self._begun_s
        self._begun_s = now
        values = {
            **self._keep,
            "progress": progress.as_document(),
            "optimizer": optimizer,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        if self._log is not None:
            self._log.flush()
        return Checkpoint(self._number, files, values)

    def _in_first(self, work: Callable[[], object]) -> None:
        """Write in the first process; where it cannot, all of them end."""
        with self._processes.agreeing():
            if not self._first:
                return
            self._written(work)

    def _written(self, work: Callable[[], object]) -> None:
        """Write, or say what is the last good checkpoint."""
        try:
            work()
        except InputError as error:
            raise CheckpointError(f"{error.line} {going_on(self._files.state)}") from error


def _floats(module: nn.Module) -> list[Tensor]:
    found = (*module.parameters(), *module.buffers())
    return [tensor for tensor in found if tensor.is_floating_point()]


def _are_finite(tensors: list[Tensor]) -> bool:
    with torch.no_grad():
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

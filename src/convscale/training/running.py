"""A training run from a request to its result: begun, or gone on with where it was."""

from __future__ import annotations

import contextlib

import torch

from convscale.errors import ElsewhereError
from convscale.training.assembling import make_choice, make_judge, make_run
from convscale.training.checkpoint import Checkpoint
from convscale.training.failing import TrainingError, going_on
from convscale.training.keeper import RunKeeper
from convscale.training.loop import fit
from convscale.training.outcome import TrainResult, peak_memory
from convscale.training.processes import LostProcessError, Processes, open_processes
from convscale.training.progress import Progress
from convscale.training.request import TrainRequest, alone_in, begin_or_go_on
from convscale.training.restoring import before_of
from convscale.training.run_files import Files
from convscale.training.setup import Setup, set_up
from convscale.training.sharing import shared_checkpoint
from convscale.training.signals import Stopped, Wish, heeding_signals
from convscale.training.variants import Choice
from convscale.training.watch import Watch


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
        Stopped: If SIGTERM comes before training begins.
    """
    with open_processes(request.device) as processes, contextlib.ExitStack() as stack:
        wish = stack.enter_context(heeding_signals()) if wish is None else wish
        try:
            with processes.together():
                result = _result(set_up(request, processes), watch, wish)
        except LostProcessError as error:
            raise LostProcessError(f"{error.line} {going_on(Files(request.out).state)}") from error
        except TrainingError as error:
            if processes.is_first:
                raise
            raise ElsewhereError(
                "Process 0 has ended the run.", exit_status=error.exit_status
            ) from error
    if wish.interrupted and not result.finished:
        raise KeyboardInterrupt
    return result


def _result(setup: Setup, watch: Watch, wish: Wish) -> TrainResult:
    """Train in a folder that is this run's alone, and say what came of it."""
    files, processes = setup.files, setup.processes
    with contextlib.ExitStack() as stack:
        with processes.agreeing():
            if processes.is_first:
                stack.enter_context(alone_in(files.folder))
                begin_or_go_on(files.folder, setup.identity, setup.data.fingerprint)
        _heed(wish, processes)
        checkpoint = shared_checkpoint(files.state, processes, warn=watch.on_note)
        return _trained(setup, checkpoint, watch, wish)


def _trained(setup: Setup, checkpoint: Checkpoint | None, watch: Watch, wish: Wish) -> TrainResult:
    with setup.processes.agreeing():
        before = before_of(checkpoint, setup.identity, setup.order, setup.files.state)
    progress = before.progress
    setup.broken.found.update(before.broken)
    setup.module.to(setup.processes.device)
    choice = before.choice or make_choice(setup, watch)
    _heed(wish, setup.processes)
    # a checkpoint of another run is refused here, whether there is more to train or not
    run = make_run(setup, choice, checkpoint=checkpoint, updates=progress.updates)
    if progress.epochs == setup.order.epochs:
        return _summary(setup, choice, progress, finished=True, again=True)
    keeper = RunKeeper(
        run,
        setup.module,
        progress=progress,
        processes=setup.processes,
        files=setup.files,
        judge=make_judge(setup, choice),
        watch=watch,
        wish=wish,
        broken=setup.broken,
        every_s=setup.recipe.checkpoint_seconds,
        every_updates=setup.recipe.checkpoint_steps,
        number=0 if checkpoint is None else checkpoint.number,
        keep={
            "asked": setup.identity,
            "choice": choice.as_document(),
            "broken": setup.broken.found,
        },
    )
    finished = False
    with contextlib.suppress(Stopped):
        fit(run, keeper, updates=progress.updates, epochs=progress.epochs)
        finished = True
    wish.at_once = False
    # accelerate has put its own forward pass on the module
    run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)
    return _summary(setup, choice, progress, finished=finished)


def _heed(wish: Wish, processes: Processes) -> None:
    """End all processes before training begins where one of them was asked to stop."""
    if any(processes.total([float(bool(wish))])):
        raise Stopped


def _summary(
    setup: Setup, choice: Choice, progress: Progress, *, finished: bool, again: bool = False
) -> TrainResult:
    processes = setup.processes
    spent = progress.training_total_s + progress.training_s
    images = progress.updates * setup.recipe.batch_size
    return TrainResult(
        folder=setup.files.folder,
        subject=setup.subject,
        data=setup.data,
        request=setup.request,
        finished=finished,
        again=again,
        updates=progress.updates,
        rows=tuple(progress.rows),
        best=progress.best,
        choice=choice,
        processes=processes.world,
        threads=torch.get_num_threads(),
        device=str(processes.device),
        seconds=progress.total_s,
        training_seconds=spent,
        data_wait_seconds=progress.waiting_total_s + progress.waiting_s,
        images_per_second=images / spent if spent else None,
        peak_memory_bytes=peak_memory(processes.device),
        broken=tuple(processes.merged(setup.broken.found)),
        notes=(*setup.subject.notes, *choice.notes),
        is_first=processes.is_first,
    )

"""Marks on TensorBoard, written as they are made: what cannot be written is said at once."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from convscale.training.checkpoint import CheckpointError
from convscale.training.failing import going_on
from convscale.training.progress import Row
from convscale.training.run_files import Files
from convscale.training.watch import Tick

BOARD = "tensorboard"
_EVERY = 10  # updates between two marks
_FORMAT = "brain.Event:2"


class Board:
    """Mark the loss and the learning rate on the way, and every epoch.

    TensorBoard's own writer has a thread, which on a full disk ends with an error of its own.

    Args:
        folder: The folder of the run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     board = Board(Path(folder))
        ...     board.on_epoch({"epoch": 1, "steps": 10, "train_loss": 0.5})
        ...     board.close()
        ...     len(list(Path(folder, "tensorboard").iterdir()))
        1
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._state = folder / BOARD, Files(folder).state
        self._stream: BinaryIO | None = None

    def on_update(self, tick: Tick) -> None:
        """Mark the loss and the learning rate of every tenth update."""
        if tick.update % _EVERY == 0:
            self._mark({"train/loss": tick.loss, "train/lr": tick.lr}, tick.update)

    def on_epoch(self, row: Row) -> None:
        """Mark all that is known of an epoch, by the number of updates."""
        marks = {
            f"epoch/{name}": float(value)
            for name, value in row.items()
            if name not in ("epoch", "steps") and value is not None
        }
        self._mark(marks, int(row["steps"] or 0))

    def close(self) -> None:
        """End the file."""
        if self._stream is not None:
            self._stream.close()

    def _mark(self, marks: dict[str, float], update: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in marks.items()]
        try:
            if self._stream is None:
                self._stream = self._begun(update)
            _write(self._stream, step=update, summary=Summary(value=values))
        except OSError as error:
            raise CheckpointError(
                f"Cannot write in {self._folder}: {error.strerror or error}. "
                f"{going_on(self._state)}"
            ) from error

    def _begun(self, update: int) -> BinaryIO:
        """Begin a file; what a run that was cut off marked beyond its checkpoint is not shown."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        stream: BinaryIO = open(self._folder / name, "ab", buffering=0)  # noqa: SIM115
        _write(stream, file_version=_FORMAT)
        _write(stream, step=update, session_log=SessionLog(status=SessionLog.START))
        return stream


def _write(stream: BinaryIO, **content: Any) -> None:
    """Append one event.

    Raises:
        OSError: If there is no room for all of it.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    held = io.BytesIO()
    RecordWriter(held).write(Event(wall_time=time.time(), **content).SerializeToString())
    record = held.getvalue()
    if stream.write(record) != len(record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

"""The loss of every update in a file, which a run that goes on continues where it left off."""

from __future__ import annotations

from pathlib import Path

from convscale.errors import InputError
from convscale.files import write_whole

_HEADER = "step,epoch,loss,lr\n"
_EVERY = 100


class UpdatesLog:
    """Append a line for each update; what was written after a checkpoint is written again.

    Numbers have as many digits as tell them from all others.

    Args:
        path: The file.
        updates: How many updates are made: of an older file, their lines are kept.

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "steps.csv")
        >>> log = UpdatesLog(path, updates=0)
        >>> log.add(1, 0, 2.5, 0.1)
        >>> log.add(2, 0, 2.4, 0.1)
        >>> log.flush()
        >>> again = UpdatesLog(path, updates=1)
        >>> again.add(2, 0, 2.25, 0.1)
        >>> again.flush()
        >>> path.read_text().split()
        ['step,epoch,loss,lr', '1,1,2.5,0.1', '2,1,2.25,0.1']
    """

    def __init__(self, path: Path, *, updates: int) -> None:
        self._path = path
        self._lines: list[str] = []
        write_whole(path, "".join([_HEADER, *(_kept(path, updates) if updates else [])]))

    def add(self, update: int, epoch: int, loss: float, lr: float) -> None:
        """Note the loss of an update; epochs are shown from 1."""
        self._lines.append(f"{update},{epoch + 1},{loss!r},{lr!r}\n")
        if len(self._lines) >= _EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is noted."""
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.writelines(self._lines)
        except OSError as error:
            raise InputError(f"Cannot write {self._path}: {error.strerror or error}.") from error
        self._lines.clear()


def _kept(path: Path, updates: int) -> list[str]:
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
        return [line for line in lines if line.endswith("\n") and _update(line) <= updates]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no table of losses: {error}. Remove it to go on without the losses so far."
        ) from error


def _update(line: str) -> int:
    return int(line.partition(",")[0])

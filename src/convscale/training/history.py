"""The epochs of a run as a table in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from convscale.errors import InputError
from convscale.files import write_whole

HISTORY = "history.csv"


def history_csv(rows: Sequence[Mapping[str, float | int | None]]) -> str:
    r"""Write the epochs of a run as a table; what is not known is empty.

    Example:
        >>> history_csv([{"epoch": 1, "train_loss": 0.5, "top5_error_pct": None}])
        'epoch,train_loss,top5_error_pct\n1,0.5,\n'
    """
    if not rows:
        return ""
    lines = [",".join(rows[0])]
    lines += [",".join(_cell(row[name]) for name in rows[0]) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def write_history(folder: Path, rows: Sequence[Mapping[str, float | int | None]]) -> Path:
    """Write the table into the folder of a run, whole or not at all.

    Raises:
        InputError: If the system refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_history(Path(folder), [{"epoch": 1}]).read_text().split()
        ['epoch', '1']
    """
    return write_whole(folder / HISTORY, history_csv(rows))


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """Read the table of a run; no line where there is none yet.

    Raises:
        InputError: If it is something else.

    Example:
        >>> read_history(Path("no such folder"))
        []
    """
    path = folder / HISTORY
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    names = lines[0].split(",") if lines else []
    try:
        rows = [[float(cell) if cell else None for cell in line.split(",")] for line in lines[1:]]
        return [dict(zip(names, row, strict=True)) for row in rows]
    except ValueError as error:
        raise InputError(f"{path} is no table of epochs: {error}.") from error


def _cell(value: float | int | None) -> str:
    return "" if value is None else str(value)

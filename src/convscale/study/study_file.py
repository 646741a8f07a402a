"""Studies of runtime in files, so that they can be stopped, read half-way and gone on with."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from convscale.complexity.complexity import METRICS
from convscale.errors import InputError
from convscale.runtime import Conditions
from convscale.study.comparison import Row
from convscale.study.runtime_study import RuntimeStudy, TimedNetwork, Visits

# What must be the same for times to stand side by side in one study.
_SAME = ("hardware", "processors", "torch", "timm", "python", "system")


def write_study(study: RuntimeStudy, path: Path) -> None:
    """Write a study as one JSON file, whole or not at all.

    Raises:
        InputError: If the system refuses.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_study(RuntimeStudy((), {"mode": "training"}), Path(folder, "study.json"))
        ...     read_study(Path(folder, "study.json")).settings
        {'mode': 'training'}
    """
    text = json.dumps(study.as_document(), indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def read_study(path: str | Path) -> RuntimeStudy:
    """Read a study that `correlate` wrote.

    Raises:
        InputError: If there is no such file, or it holds something else.

    Example:
        >>> read_study("no.json")
        Traceback (most recent call last):
        convscale.errors.InputError: Cannot read 'no.json': No such file or directory.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no study: it is not JSON ({error}).") from error
    try:
        return _study(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{str(path)!r} is no study ({type(error).__name__}: {error}). "
            "Give a file that 'convscale correlate --out' wrote."
        ) from error


def continued(study: RuntimeStudy, path: Path | None, now: Conditions | None) -> RuntimeStudy:
    """Return a study with the passes that its file holds already, if there is such a file.

    What failed in it is tried again.

    Args:
        study: What is asked for.
        path: The file, if any.
        now: The conditions under which it would go on.

    Raises:
        InputError: If the file holds another study, or one of another machine.

    Example:
        >>> continued(RuntimeStudy((), {}), Path("no.json"), None).rounds
        0
    """
    if path is None or not path.exists():
        return study
    before = read_study(path)
    differing = [
        name for name, value in _plain(study.settings).items() if before.settings.get(name) != value
    ]
    rows = [network.row for network in study.networks]
    if not differing and [_counted(n.row) for n in before.networks] != [_counted(r) for r in rows]:
        differing = ["the networks' complexity"]
    if differing:
        raise InputError(
            f"{str(path)!r} holds a study that differs in {', '.join(differing)}. "
            "Ask for the same again, or name another file."
        )
    _check_machine(before.conditions, now, path)
    timed = tuple(
        replace(old, row=row, failed=None) for old, row in zip(before.networks, rows, strict=True)
    )
    return replace(study, networks=timed, conditions=before.conditions, rounds=before.rounds)


def _check_machine(before: Conditions | None, now: Conditions | None, path: Path) -> None:
    """Refuse to go on with a study under other versions or on another machine."""
    if before is None or now is None:
        return
    changed = [
        f"{name} {getattr(before, name)}, now {getattr(now, name)}"
        for name in _SAME
        if getattr(before, name) != getattr(now, name)
    ]
    if changed:
        raise InputError(
            f"{str(path)!r} was measured under other conditions: {'; '.join(changed)}. "
            "Name another file."
        )


def _plain(value: dict[str, object]) -> dict[str, Any]:
    """Return settings as JSON gives them back: tuples are lists there."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _counted(row: Row) -> tuple[object, ...]:
    return (row.label, *(getattr(row, metric) for metric in METRICS))


def _study(document: dict[str, Any]) -> RuntimeStudy:
    return RuntimeStudy(
        tuple(_network(entry) for entry in document["rows"]),
        dict(document["settings"]),
        conditions=_conditions(document["conditions"]),
        notes=tuple(document["notes"]),
        rounds=document["rounds"],
    )


def _network(entry: dict[str, Any]) -> TimedNetwork:
    side = entry["resolution"]
    row = Row(
        entry["network"],
        entry["strategy"],
        entry["factor"],
        tuple(side) if isinstance(side, list) else side,
        int(entry["flops"]),
        int(entry["params"]),
        int(entry["acts"]),
        ratio=dict(entry["ratio"]),
        notes=tuple(entry["notes"]),
    )
    wall, processor = _visits(entry["wall_s"]), _visits(entry["processor_s"])
    return TimedNetwork(row, wall, processor, entry["failed"])


def _visits(entries: list[list[float]]) -> Visits:
    return tuple(tuple(float(seconds) for seconds in visit) for visit in entries)


def _conditions(entry: dict[str, Any] | None) -> Conditions | None:
    """Read conditions; a field that a later version added is left out."""
    if entry is None:
        return None
    known = {field.name for field in fields(Conditions)}
    return Conditions(**{name: value for name, value in entry.items() if name in known})

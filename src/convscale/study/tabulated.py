"""Timings of a table, with the operators of its networks; what is left out is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from convscale.errors import InputError, few
from convscale.prediction.profile import Condition, Excluded
from convscale.prediction.records import record_of
from convscale.prediction.tables import Table, TableRow
from convscale.prediction.timing import Timing
from convscale.study.recording import record_ahead, unrecorded
from convscale.study.trials import Progress

# What was timed is another network where its params are further off than a table rounds.
_ROUNDED, _SHARE = 0.006, 0.002
_NAMED = 12  # networks that a message lists


@dataclass(frozen=True)
class Tabulated:
    """The timings of a table that a fit can use, and those that it cannot, with the reason.

    skipped are networks that timm does not know, or that are not convolutional.

    Example:
        >>> Tabulated((), (Excluded("repvgg_a0", "other params"),), ("vit_base",)).skipped
        ('vit_base',)
    """

    timings: tuple[Timing, ...]
    excluded: tuple[Excluded, ...] = ()
    skipped: tuple[str, ...] = ()


def tabulated(table: Table, *, progress: Progress | None = None) -> Tabulated:
    """Record the operators of a table's networks; each network, side and batch once.

    Of times that a table has repeatedly the median counts. Networks that were not recorded before
    are recorded first, by several processes, and stay in the cache: what is stopped goes on.

    Args:
        table: The table.
        progress: Called with steps done and all: networks to record, then rows.

    Raises:
        InputError: If no timing of the table can be used.

    Example:
        >>> row = TableRow(2, "resnet18.a1_in1k", 224, 8, 0.1, params=11.69)
        >>> [one.network for one in tabulated(Table("inference", (row,))).timings]
        ['timm:resnet18']
    """
    rows = list(_once(table.rows))
    missing = _recorded_ahead(rows, progress)
    timings: list[Timing] = []
    names = dict.fromkeys(name.split(".", 1)[0] for name in table.empty)
    excluded = [Excluded(name, "the table has no time of it") for name in names]
    skipped: list[str] = []
    for done, row in enumerate(rows, start=1):
        found = _timing(row)
        if isinstance(found, Timing):
            timings.append(found)
        elif found is None:
            skipped.append(row.architecture)
        else:
            excluded.append(found)
        if progress is not None:
            progress(missing + done, missing + len(rows))
    if not timings:
        raise InputError(
            f"The table has no timing of a convolutional network that timm knows "
            f"({len(skipped)} skipped, {len(excluded)} excluded{_reason(excluded)}). Give one that "
            "has."
        )
    return Tabulated(tuple(timings), tuple(excluded), tuple(dict.fromkeys(skipped)))


def _recorded_ahead(rows: Sequence[TableRow], progress: Progress | None) -> int:
    """Record what was not recorded before; return how many networks these are."""
    from timm.models import is_model

    known = [(one.architecture, one.resolution) for one in rows if is_model(one.architecture)]
    missing = unrecorded(known)

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total + len(rows))

    record_ahead(missing, progress=report)
    return len(missing)


def skipped_conditions(found: Tabulated) -> dict[str, Condition]:
    """Return how many networks were skipped, and the names of those that timm does not know.

    Example:
        >>> skipped_conditions(Tabulated((), skipped=("vit_base_patch16_224", "resnet5O")))
        {'skipped_networks': 2, 'unknown_networks': 'resnet5O'}
    """
    from timm.models import is_model

    unknown = [name for name in found.skipped if not is_model(name)]
    named: dict[str, Condition] = (
        {"unknown_networks": few(unknown, limit=_NAMED)} if unknown else {}
    )
    return {"skipped_networks": len(found.skipped), **named}


def _once(rows: tuple[TableRow, ...]) -> Iterator[TableRow]:
    """Yield each network, side and batch once, with the median of its times."""
    own: dict[tuple[object, ...], list[TableRow]] = {}
    for row in rows:
        key = (row.architecture, row.resolution, row.batch_size, row.params)
        own.setdefault(key, []).append(row)
    for same in own.values():
        yield replace(same[0], seconds=median(row.seconds for row in same))


def _reason(excluded: list[Excluded]) -> str:
    return f": {excluded[0].network}, since {excluded[0].reason}" if excluded else ""


def _timing(row: TableRow) -> Timing | Excluded | None:
    """Return a timing, why it is excluded, or None for a network that is skipped."""
    from timm.models import is_model

    if not is_model(row.architecture):
        return None
    try:
        found = record_of(row.architecture, row.resolution)
    except InputError as error:
        return Excluded(row.architecture, f"it does not run at {row.resolution} px: {error.line}")
    if not found.convolutional:
        return None
    millions = found.params / 1e6
    if row.params is not None and abs(millions - row.params) > _ROUNDED + _SHARE * row.params:
        return Excluded(
            row.architecture,
            f"it has {millions:.2f} M params, and what was timed {row.params:g} M",
        )
    name = f"timm:{row.architecture}"
    return Timing(name, found.family, found.work, row.batch_size, row.seconds, row.resolution)

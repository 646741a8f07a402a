"""Device profiles as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from convscale.quantities import format_count
from convscale.report.layout import add_row, noted, table_of, titled

if TYPE_CHECKING:
    from convscale.prediction.form import Execution
    from convscale.prediction.profile import Errors, Profile
    from convscale.prediction.store import Entry

_TITLE = "Device profiles, and their errors on networks left out"
_SHOWN = 5  # classes of operators that a profile is least sure of


def execution_text(execution: Execution) -> str:
    """Say how networks are run.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> execution_text(Execution("gpu", "nchw", "eager", "inference", "amp"))
        'inference, amp, nchw, eager'
    """
    e = execution
    return ", ".join((e.work, e.dtype, e.layout, e.mode))


def profiles_table(entries: Sequence[Entry], own: Path) -> RenderableType:
    """Show all profiles: what they hold for, how far they are off, and where they are from.

    Args:
        entries: The profiles.
        own: The folder for profiles of the user's own.

    Example:
        >>> from convscale.report.layout import plain_lines
        >>> plain_lines(profiles_table([], Path("there")))[-1]
        'Profiles of your own are in there.'
    """
    table = table_of("profile<", "device, how it is run", "batch<", "MAPE %<", "in 10 %<")
    table.columns[0].justify = "left"  # whole, like numbers: it is what one writes
    for entry in entries:
        if entry.profile is not None:
            _add(table, entry.name, entry.profile)
    broken = [entry.mistake for entry in entries if entry.profile is None]
    listed = [titled(_TITLE, table)] if len(entries) > len(broken) else []
    where = Text(f"Profiles of your own are in {own}.")
    none = [] if entries else [Text("There are no profiles yet.")]
    return Group(*listed, *none, *noted(broken), where)


def _add(table: object, name: str, profile: Profile) -> None:
    from rich.table import Table

    assert isinstance(table, Table)
    if table.rows:
        table.add_section()
    errors = profile.errors[0] if profile.errors else None
    add_row(
        table,
        name,
        f"{profile.device}\n{execution_text(profile.execution)}",
        _range(profile.seen.batch_sizes).replace(" to ", "–"),
        f"{errors.mape_pct:.1f}" if errors else "",
        f"{errors.within_10_pct:.0f} %" if errors else "",
    )


def profile_table(profile: Profile) -> RenderableType:
    """Show one profile: conditions, range, errors on what was left out, and what was excluded.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.profile import Band, Profile, Seen
        >>> from convscale.report.layout import plain_lines
        >>> seen = Seen((1, 8), (224.0, 224.0), (1e9, 2e9), (8.0, 64.0), ("linear",))
        >>> execution = Execution("cpu", "nchw", "eager", "inference", "float32")
        >>> profile = Profile("mine", execution, {"rate": 1e9}, seen, (Band(0.9, 0.8, 1.25),))
        >>> plain_lines(profile_table(profile))[0]
        'mine: CPU'
    """
    holds = table_of("holds for", "")
    add_row(holds, "runs", execution_text(profile.execution))
    for name, value in profile.conditions.items():
        if value is not None:
            add_row(holds, name.replace("_", " "), str(value))
    seen = profile.seen
    add_row(holds, "batch sizes", _range(seen.batch_sizes))
    add_row(holds, "sides (px)", _range(seen.resolutions))
    add_row(holds, "multiply-adds", " to ".join(format_count(value) for value in seen.flops))
    add_row(holds, "output channels", _range(seen.channels))
    add_row(holds, "coefficients", str(len(profile.coefficients)))
    parts: list[RenderableType] = [titled(f"{profile.name}: {profile.device}", holds)]
    if profile.errors:
        parts.append(_errors(profile.errors))
    told = [f"Operators: {', '.join(seen.kinds)}."]
    told += [_bands(profile), *_doubts(profile)]
    if profile.excluded:
        names = ", ".join(f"{one.network} ({one.reason})" for one in profile.excluded)
        told.append(f"Left out of the fit: {names}.")
    return Group(*parts, *map(Text, told))


def _errors(errors: Iterable[Errors]) -> RenderableType:
    table = table_of("left out", "MAPE %<", "within 10 %<", "Spearman<", "networks<", "groups<")
    for one in errors:
        rank = "" if one.spearman is None else f"{one.spearman:.3f}"
        figures = (f"{one.mape_pct:.1f}", f"{one.within_10_pct:.0f} %", rank)
        add_row(table, one.protocol, *figures, str(one.networks), str(one.groups))
        for name, mape in one.baselines_mape_pct.items():
            add_row(table, f"  {name}", f"{mape:.1f}", "", "", "", "")
    return titled("Errors on what was left out", table)


def _bands(profile: Profile) -> str:
    told = (
        f"{100 * band.coverage:g} % between {band.low:.3g} and {band.high:.3g}"
        for band in profile.bands
    )
    return f"Time over prediction: {'; '.join(told)}."


def _doubts(profile: Profile) -> list[str]:
    """Tell which classes of operators the fit is least sure of, where it says so."""
    if profile.doubts is None:
        return []
    most = sorted(profile.doubts.classes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    classes = ", ".join(f"{name} ({100 * error:.2g} %)" for name, error in most)
    return [
        f"Wider for networks that spend their time in what families disagree on: {classes}; a "
        f"typical network's own error is {100 * profile.doubts.typical:.2g} %."
    ]


def _range(pair: tuple[float, float]) -> str:
    low, high = (f"{value:g}" for value in pair)
    return low if low == high else f"{low} to {high}"

"""A series of networks, one for each budget, as a value, document and table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscale.quantities import format_ms, format_resolution
from convscale.runtime.measurement import Conditions, Measurement
from convscale.selection.series import Line, SeriesChoice
from convscale.selection.series_reasons import series_reason
from convscale.study.measured import Borrowed, Finalist, borrowed_document
from convscale.study.zoo_selection import Entry, LeftOut, ZooSelection

if TYPE_CHECKING:
    import pandas as pd

    from convscale.scaling.results.scaled import ScaledNetwork

_SHOWN = ("flops", "params", "acts", "latency_ms")


@dataclass(frozen=True)
class MeasuredLine:
    """A series whose networks were measured, one for each budget.

    Args:
        name: The strategy; empty where each network was chosen by itself.
        members: For each budget the network as measured; None where it was not built.
        failed: Why networks were not built.

    Example:
        >>> MeasuredLine("dWr", (None,)).fits
        False
    """

    name: str
    members: tuple[Finalist | None, ...]
    failed: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether each network ran, and keeps its budget and all limits of times."""
        return all(one is not None and one.fits for one in self.members)

    @property
    def mean_log_ms(self) -> float:
        """The mean of the logarithms of the measured latencies."""
        times = [one.measured_ms for one in self.members if one is not None]
        return float(np.mean([np.log(one) for one in times if one is not None]))


@dataclass(frozen=True)
class MeasuredSeries:
    """The series that were measured, and which of them was taken.

    Args:
        lines: The series, the best by prediction first.
        chosen: The place of the one that was taken.
        batch_size: Images in a pass.
        ratios: For each budget by what predictions were multiplied when it was looked for; 1 at
            first.
        notes: What there is to mind.
        borrowed: The profile by which series were looked for, where none was given.

    Example:
        >>> MeasuredSeries((MeasuredLine("dWr", (None,)),), 0, 8).changed
        False
    """

    lines: tuple[MeasuredLine, ...]
    chosen: int
    batch_size: int
    ratios: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    borrowed: Borrowed | None = None

    @property
    def ratio(self) -> float:
        """The largest of these numbers."""
        return max(self.ratios, default=1.0)

    @property
    def changed(self) -> bool:
        """Whether another series would have been taken by prediction."""
        return self.chosen != 0

    @property
    def members(self) -> tuple[Finalist, ...]:
        """The networks of the series that was taken, one for each budget."""
        return tuple(one for one in self.lines[self.chosen].members if one is not None)

    @property
    def conditions(self) -> Conditions:
        """The conditions of the measurements."""
        return self.members[0].outcome.conditions

    @property
    def reason(self) -> str:
        """What was measured, and what it decided, in sentences."""
        own = self.lines[self.chosen]
        count = len(self.lines)
        many = "series was" if count == 1 else "series were"
        fit = sum(one.fits for one in self.lines)
        keep = "keeps" if fit == 1 else "keep"
        where = f"{self.conditions.device} ({self.conditions.hardware})"
        times = ", ".join(format_ms(one.measured_ms or 0.0) for one in self.members)
        taken = f"that of {own.name}" if own.name else "each network by itself"
        first = self.lines[0].name
        told = (
            f" By prediction that of {first} would have been taken."
            if self.changed
            else " It would have been taken by prediction, too."
        )
        return (
            f"{count} {many} measured on {where}, batch size {self.batch_size}: {fit} {keep} all "
            f"budgets as measured. Taken is {taken}, at {times}.{told}"
        )

    def as_document(self) -> dict[str, object]:
        """Return what the JSON document says of it."""
        lines = [
            {
                "strategy": one.name or None,
                "fits": one.fits,
                "networks": [None if own is None else own.as_document() for own in one.members],
                "failed": list(one.failed),
            }
            for one in self.lines
        ]
        return {
            "chosen": self.lines[self.chosen].name or None,
            "by_prediction": self.lines[0].name or None,
            "changed": self.changed,
            "corrected_by": self.ratio,
            "corrected_by_budget": list(self.ratios),
            **borrowed_document(self.borrowed),
            "batch_size": self.batch_size,
            "conditions": self.conditions.as_document(),
            "series": lines,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class NetworkSeries:
    """The networks of one strategy for several budgets, and what each budget would have alone.

    Args:
        table: The file; None where networks were scaled.
        choice: The series, and the choice for each budget alone.
        entries: The candidates, in the order of the pool.
        members: The network of each budget, as the strategy of the series names it.
        others: The best series of each other strategy that has a name, with its networks.
        left_out: What could be no candidate.
        profile: The name of the profile that predicted times, if one did.
        batch_size: Images in a pass.
        notes: What there is to mind.
        bases: The networks that were scaled.
        train_profile: The name of the profile that predicted trainings, if one did.
        measured: The series that were measured, which decides; None where none were.
    """

    table: str | None
    choice: SeriesChoice
    entries: tuple[Entry, ...]
    members: tuple[Entry, ...]
    others: tuple[tuple[Line, tuple[Entry, ...]], ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    profile: str | None = None
    batch_size: int = 1
    notes: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    train_profile: str | None = None
    measured: MeasuredSeries | None = None

    @property
    def strategy(self) -> str | None:
        """The strategy that all networks share, or the table's series; None where none does."""
        return None if self.choice.chosen is None else self.choice.chosen.name

    @property
    def own(self) -> tuple[ZooSelection, ...]:
        """For each budget the choice that it would have alone."""
        return tuple(
            ZooSelection(
                self.table,
                found,
                self.entries,
                self.left_out,
                self.profile,
                self.batch_size,
                self.notes,
                self.bases,
                train_profile=self.train_profile,
            )
            for found in self.choice.own
        )

    @property
    def has_errors(self) -> bool:
        """Whether errors are known, and flops do not stand in for them."""
        return self.own[0].has_errors

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that build the networks; none for those of a table."""
        found = [one.scaled.command for one in self.members if one.scaled is not None]
        return tuple(one for one in found if one is not None)

    def build(self) -> tuple[ScaledNetwork | None, ...]:
        """Build the networks on the meta device; None in place of a base that is not scaled."""
        return tuple(
            None if one.scaled is None or one.scaled.ask.strategy is None else one.scaled.build()
            for one in self.members
        )

    @property
    def reason(self) -> str:
        """Why: one paragraph."""
        own = series_reason(self.choice, [one.network for one in self.members])
        return own if self.measured is None else f"{self.measured.reason} {own}"

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        own, choice = self.own[0], self.choice
        first = choice.own[0]
        names = list(self.bases) or [one.network for one in self.members]
        whole = own.as_document()
        kept = ("batch_size", "confidence", "objective", "cost", "candidates")
        return {
            "schema_version": 1,
            "network": names[0] if len(names) == 1 else names,
            "table": self.table,
            "profile": self.profile,
            **({} if self.train_profile is None else {"train_profile": self.train_profile}),
            **{name: whole[name] for name in kept},
            "constraints": [str(one) for one in first.constraints[:-1]],
            "budgets": [str(one) for one in choice.budgets],
            "strategy": self.strategy,
            "error": self._error(choice.chosen),
            "series": [self._member(at) for at in range(len(self.members))],
            "others": [
                {
                    "strategy": line.name,
                    "networks": [one.network for one in entries],
                    "error": self._error(line),
                }
                for line, entries in self.others
            ],
            "lacking": [{"strategy": name, "budgets": held} for name, held in choice.lacking],
            **({"bases": list(self.bases)} if self.bases else {}),
            **({} if self.measured is None else {"measured": self.measured.as_document()}),
            "reason": self.reason,
            "notes": list(self.notes),
            "left_out": whole["left_out"],
        }

    def _error(self, line: Line | None) -> dict[str, float] | None:
        """Return the mean error of a line; of flops, which stand in for it, the geometric mean."""
        if line is None:
            return None
        if self.has_errors:
            return {"mean": line.error}
        return {"geometric_mean_flops": float(np.exp(-line.error))}

    def _member(self, at: int) -> dict[str, object]:
        """Return what the document says of the network of a budget, and of its own choice."""
        choice, own = self.choice, self.own[at]
        budget, entry = choice.budgets[at], self.members[at]
        gain = choice.gain(at)
        return {
            "budget": str(budget),
            "on": budget.on,
            "limit": budget.limit,
            **own.candidate(choice.places[at], entry),
            "command": None if entry.scaled is None else entry.scaled.command,
            "own": {
                **own.candidate(own.found.chosen),
                "command": own.command,
                "gain": {
                    "error": gain if self.has_errors else None,
                    "flops": None if self.has_errors else float(np.expm1(gain)),
                    "cost": choice.cost_ratio(at) - 1,
                    "within_uncertainty": choice.same(at),
                },
            },
        }

    def frame(self) -> pd.DataFrame:
        """Return a line a budget: its network with its quantities, and what its own would gain."""
        import pandas as pd

        lines = []
        for at, entry in enumerate(self.members):
            own, place = self.choice.own[at], self.choice.places[at]
            budget, side = self.choice.budgets[at], entry.resolution
            lines.append(
                {
                    "budget": str(budget),
                    "strategy": self.strategy,
                    "network": entry.network,
                    "resolution_px": None if side is None else format_resolution(side),
                    "line": entry.line,
                    "error": own.estimate.error[place] if self.has_errors else None,
                    **{
                        name: column[place]
                        for name, column in own.pool.values.items()
                        if name != "resolution_px"
                    },
                    **{f"{name}_bound": own.pool.bounds[name][place] for name in own.pool.bounds},
                    "own_network": own.label,
                    "own_error": own.estimate.error[own.chosen] if self.has_errors else None,
                    **{
                        f"own_{name}": own.pool.values[name][own.chosen]
                        for name in _SHOWN
                        if name in own.pool.values
                    },
                    "own_gain": self.choice.gain(at)
                    if self.has_errors
                    else float(np.expm1(self.choice.gain(at))),
                    "own_cost_ratio": self.choice.cost_ratio(at),
                    "within_uncertainty": self.choice.same(at),
                    **self._times(at),
                }
            )
        return pd.DataFrame(lines)

    def _times(self, at: int) -> dict[str, object]:
        """Return the measured latency of a budget's network, for the table."""
        if self.measured is None:
            return {}
        own = self.measured.members[at].outcome
        assert isinstance(own, Measurement)
        return {"measured_ms": own.latency_ms.median, "measured_iqr_ms": own.latency_ms.iqr}

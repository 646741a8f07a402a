"""A series of networks, one for each budget, as a value, document and table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscale.quantities import format_resolution
from convscale.selection.series import Line, SeriesChoice
from convscale.selection.series_reasons import series_reason
from convscale.study.zoo_selection import Entry, LeftOut, ZooSelection

if TYPE_CHECKING:
    import pandas as pd

    from convscale.scaling.scaled import ScaledNetwork

_SHOWN = ("flops", "params", "acts", "latency_ms")


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
        return series_reason(self.choice, [one.network for one in self.members])

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
                }
            )
        return pd.DataFrame(lines)

"""What was chosen from a table of networks, as a value, a document and a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscale.quantities import Resolution, format_resolution
from convscale.selection.objective import FlopsStandIn
from convscale.selection.reasons import reason_of
from convscale.selection.select import Selection

if TYPE_CHECKING:
    import pandas as pd

    from convscale.selection.zoo import ZooRow


@dataclass(frozen=True)
class LeftOut:
    """A network of a table that could be no candidate, and why.

    Example:
        >>> LeftOut(7, "mynet", "it has no top1_err").line
        7
    """

    line: int
    model: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A candidate of a table: its line, its resolved name where it was looked up, and notes.

    Example:
        >>> from convscale.selection.zoo import ZooRow
        >>> Entry(ZooRow(2, "resnet50"), "timm:resnet50", 224).network
        'timm:resnet50'
    """

    row: ZooRow
    network: str
    resolution: Resolution | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ZooSelection:
    """What was chosen from a table, with what was left out of it.

    Args:
        table: The file.
        found: The selection.
        entries: The candidates, in the order of the selection's pool.
        left_out: What could be no candidate.
        profile: The name of the profile that predicted times, if one did.
        batch_size: Images in a pass.
        notes: What there is to mind.
    """

    table: str
    found: Selection
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()
    profile: str | None = None
    batch_size: int = 1
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> Entry:
        """The network to take."""
        return self.entries[self.found.chosen]

    @property
    def has_errors(self) -> bool:
        """Whether errors are known, and flops do not stand in for them."""
        return not isinstance(self.found.objective, FlopsStandIn)

    @property
    def reason(self) -> str:
        """Why: one paragraph."""
        return reason_of(self.found)

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        found = self.found
        return {
            "schema_version": 1,
            **self._candidate(found.chosen),
            "table": self.table,
            "profile": self.profile,
            "batch_size": self.batch_size,
            "confidence": found.pool.confidence,
            "objective": {"name": found.objective.name, "says": found.objective.says},
            "cost": found.cost,
            "constraints": self._constraints(),
            "candidates": len(found.pool),
            "feasible": int(found.fits.sum()),
            "equal": [self._candidate(at) for at in found.equal if at != found.chosen],
            "binding": [
                {"constraint": str(one.constraint), "without": self._candidate(one.without)}
                for one in found.binding
            ],
            "runner_up": None if found.runner_up is None else self._candidate(found.runner_up),
            "others": [
                {
                    **self._candidate(rival.at),
                    "violates": None if rival.missed is None else str(rival.missed),
                }
                for rival in found.rivals
            ],
            "front": [self._candidate(at) for at in found.front],
            "reason": self.reason,
            "notes": list(self.notes),
            "left_out": [
                {"line": one.line, "model": one.model, "reason": one.reason}
                for one in self.left_out
            ],
        }

    def _candidate(self, at: int) -> dict[str, object]:
        pool, entry, estimate = self.found.pool, self.entries[at], self.found.estimate
        violations = {
            str(constraint): _number(
                float(constraint.relative(pool.held(constraint)[at : at + 1])[0])
            )
            for constraint in self.found.constraints
        }
        return {
            "network": entry.network,
            "resolution": entry.resolution,
            "line": entry.row.line,
            "series": entry.row.series or None,
            "error": _number(float(estimate.error[at])) if self.has_errors else None,
            "uncertainty": _number(float(estimate.uncertainty[at])),
            "values": {name: _number(float(own[at])) for name, own in pool.values.items()},
            "bounds": {name: _number(float(own[at])) for name, own in pool.bounds.items()},
            "fits": bool(self.found.fits[at]),
            "violations": violations,
        }

    def _constraints(self) -> list[dict[str, object]]:
        pool = self.found.pool
        return [
            {
                "constraint": str(one),
                "on": one.on,
                "sense": one.sense,
                "limit": one.limit,
                "kept_by": int((one.excess(pool.held(one)) == 0).sum()),
            }
            for one in self.found.constraints
        ]

    def frame(self) -> pd.DataFrame:
        """Return all candidates as a table for pandas, the chosen one first, then by error."""
        import pandas as pd

        found, pool = self.found, self.found.pool
        front, equal = set(found.front), set(found.equal)
        order = np.lexsort((np.array(pool.labels), found.estimate.error, ~found.fits))
        lines = []
        for at in [found.chosen, *(int(i) for i in order if i != found.chosen)]:
            entry = self.entries[at]
            side = entry.resolution
            lines.append(
                {
                    "network": entry.network,
                    "resolution_px": None if side is None else format_resolution(side),
                    "line": entry.row.line,
                    "series": entry.row.series,
                    "error": found.estimate.error[at] if self.has_errors else None,
                    "uncertainty": found.estimate.uncertainty[at],
                    **{
                        name: own[at]
                        for name, own in pool.values.items()
                        if name != "resolution_px"
                    },
                    **{f"{name}_bound": own[at] for name, own in pool.bounds.items()},
                    **{
                        f"misses {one} by": one.relative(pool.held(one)[at : at + 1])[0]
                        for one in found.constraints
                    },
                    "fits": bool(found.fits[at]),
                    "equal": at in equal,
                    "front": at in front,
                    "chosen": at == found.chosen,
                }
            )
        return pd.DataFrame(lines)


def _number(value: float) -> float | int | None:
    """Return a number as JSON has it: whole ones as integers, null where it is not known."""
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) >= 1e4 else value

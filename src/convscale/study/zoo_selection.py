"""What was chosen from a table of networks, or of scaled ones, as a value, document and table."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscale.errors import InputError
from convscale.quantities import Resolution, format_resolution
from convscale.runtime.measurement import Measurement
from convscale.selection.objective import FlopsStandIn
from convscale.selection.reasons import reason_of
from convscale.selection.select import Selection
from convscale.study.measured import Measured, measured_reason

if TYPE_CHECKING:
    import pandas as pd

    from convscale.scaling.results.scaled import ScaledNetwork
    from convscale.selection.zoo import ZooRow
    from convscale.study.alpha import AlphaPoint
    from convscale.study.scaled_source import Ask, Source


@dataclass(frozen=True)
class LeftOut:
    """What could be no candidate, and why: a network of a table by its line, or a strategy.

    Example:
        >>> LeftOut(7, "mynet", "it has no top1_err").line
        7
    """

    line: int | None
    model: str
    reason: str


@dataclass(frozen=True)
class ScaledVersion:
    """How a candidate is scaled from a base, and how it is built.

    Args:
        source: The base.
        ask: The strategy and the factor.
        options: The options by which commands take the base as it was taken here.

    Example:
        >>> ScaledVersion.__name__
        'ScaledVersion'
    """

    source: Source
    ask: Ask
    options: tuple[str, ...] = ()

    def build(self) -> ScaledNetwork:
        """Build the network on the meta device."""
        return self.source.built(self.ask)

    @property
    def command(self) -> str | None:
        """The command that builds it; None for a module in Python."""
        ask, source = self.ask, self.source
        if source.name.startswith("module:"):
            return None
        if ask.strategy is None:
            return " ".join(["convscale count", shlex.quote(source.name), *self.options])
        words = ["convscale scale", shlex.quote(source.name), "--strategy", ask.strategy.name]
        words += [] if ask.factor is None else ["--factor", f"{ask.factor:g}"]
        rounding = source.rounding or ""
        multiple = rounding.removeprefix("nearest")
        if rounding.startswith("nearest") and multiple:
            words += ["--rounding nearest", "--width-multiple", multiple]
        elif rounding:
            words += ["--rounding", rounding]
        return " ".join([*words, *self.options])

    def as_document(self) -> dict[str, object]:
        """Return what the command line's JSON says of it."""
        ask, own = self.ask, self.ask.strategy
        exponents = None
        if own is not None and ask.factor is not None:
            wide = own.width if self.source.follows else 0.0
            wide = wide if own.group_width is None else own.group_width
            exponents = {
                "depth": own.depth,
                "width": own.width,
                "group_width": wide if "g" in self.source.axes else None,
                "resolution": own.resolution,
            }
        return {
            "base": {"network": self.source.name, "resolution": self.source.resolution},
            "strategy": None if own is None else own.name,
            "factor": 1.0 if own is None else ask.factor,
            "exponents": exponents,
            "rounding": self.source.rounding,
        }


@dataclass(frozen=True)
class Entry:
    """A candidate: its line in a table or how it is scaled, its name, and notes.

    Example:
        >>> from convscale.selection.zoo import ZooRow
        >>> Entry(ZooRow(2, "resnet50"), "timm:resnet50", 224).line
        2
    """

    row: ZooRow | None
    network: str
    resolution: Resolution | None
    notes: tuple[str, ...] = ()
    scaled: ScaledVersion | None = None

    @property
    def line(self) -> int | None:
        """Its line in the table, where it is of one."""
        return None if self.row is None else self.row.line


@dataclass(frozen=True)
class ZooSelection:
    """What was chosen from a table or from scaled versions, with what was left out.

    Args:
        table: The file; None where networks were scaled.
        found: The selection.
        entries: The candidates, in the order of the selection's pool.
        left_out: What could be no candidate.
        profile: The name of the profile that predicted times, if one did.
        batch_size: Images in a pass.
        notes: What there is to mind.
        bases: The networks that were scaled.
        alpha_curve: For each share of width the best candidate.
        train_profile: The name of the profile that predicted trainings, if one did.
        measured: The finalists as they were measured, which decides; None where none were.
        ended: What ended the search, where no limit did.
    """

    table: str | None
    found: Selection
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()
    profile: str | None = None
    batch_size: int = 1
    notes: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    alpha_curve: tuple[AlphaPoint, ...] = ()
    train_profile: str | None = None
    measured: Measured | None = None
    ended: str = ""

    @property
    def at(self) -> int:
        """The place of the network to take: by what was measured, where something was."""
        return self.found.chosen if self.measured is None else self.measured.at

    @property
    def chosen(self) -> Entry:
        """The network to take."""
        return self.entries[self.at]

    @property
    def command(self) -> str | None:
        """The command that builds the chosen network; None for one of a table."""
        return None if self.chosen.scaled is None else self.chosen.scaled.command

    def build(self) -> ScaledNetwork:
        """Build the chosen network on the meta device.

        Raises:
            InputError: If it is no scaled version.
        """
        own = self.chosen.scaled
        if own is None or own.ask.strategy is None:
            raise InputError(
                f"{self.chosen.network} is not scaled. Take it by its name: build(...)."
            )
        return own.build()

    @property
    def has_errors(self) -> bool:
        """Whether errors are known, and flops do not stand in for them."""
        return not isinstance(self.found.objective, FlopsStandIn)

    @property
    def reason(self) -> str:
        """Why: one paragraph."""
        own = reason_of(self.found, tried=bool(self.bases), ended=self.ended)
        if self.measured is None:
            return own
        return f"{measured_reason(self.measured)} Before measuring: {own}"

    def as_document(self) -> dict[str, object]:
        """Return the JSON document of the command line."""
        found = self.found
        return {
            "schema_version": 1,
            **self.candidate(self.at),
            "table": self.table,
            "profile": self.profile,
            **({} if self.train_profile is None else {"train_profile": self.train_profile}),
            "batch_size": self.batch_size,
            "confidence": found.pool.confidence,
            "objective": {"name": found.objective.name, "says": found.objective.says},
            "cost": found.cost,
            "constraints": self._constraints(),
            "candidates": len(found.pool),
            "feasible": int(found.fits.sum()),
            "equal": [self.candidate(at) for at in found.equal if at != found.chosen],
            "binding": [
                {"constraint": str(one.constraint), "without": self.candidate(one.without)}
                for one in found.binding
            ],
            "runner_up": None if found.runner_up is None else self.candidate(found.runner_up),
            "others": [
                {
                    **self.candidate(rival.at),
                    "violates": None if rival.missed is None else str(rival.missed),
                }
                for rival in found.rivals
            ],
            "front": [self.candidate(at) for at in found.front],
            **self._search(),
            **({} if self.measured is None else {"measured": self.measured.as_document()}),
            "reason": self.reason,
            "notes": list(self.notes),
            "left_out": [
                {"line": one.line, "model": one.model, "reason": one.reason}
                for one in self.left_out
            ],
        }

    def _search(self) -> dict[str, object]:
        """Return what there is to say of scaled versions alone."""
        if not self.bases:
            return {}
        curve = [{"alpha": one.alpha, **self.candidate(one.at)} for one in self.alpha_curve]
        return {"bases": list(self.bases), "alpha_curve": curve, "command": self.command}

    def candidate(self, at: int, entry: Entry | None = None) -> dict[str, object]:
        """Return what the document says of a candidate.

        Args:
            at: Its place.
            entry: How it is named, where that is otherwise than in the entries.
        """
        pool, estimate = self.found.pool, self.found.estimate
        entry = self.entries[at] if entry is None else entry
        violations = {
            str(constraint): _number(
                float(constraint.relative(pool.held(constraint)[at : at + 1])[0])
            )
            for constraint in self.found.constraints
        }
        return {
            "network": entry.network,
            "resolution": entry.resolution,
            "line": entry.line,
            "series": pool.series[at] or None,
            **({} if entry.scaled is None else entry.scaled.as_document()),
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
        for at in [self.at, *(int(i) for i in order if i != self.at)]:
            entry = self.entries[at]
            side = entry.resolution
            lines.append(
                {
                    "network": entry.network,
                    "resolution_px": None if side is None else format_resolution(side),
                    "line": entry.line,
                    "series": pool.series[at],
                    **_scaling(entry),
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
                    "chosen": at == self.at,
                    **self._times(entry),
                }
            )
        return pd.DataFrame(lines)

    def _times(self, entry: Entry) -> dict[str, object]:
        """Return the measured latency of a candidate, for the table."""
        if self.measured is None:
            return {}
        own = [one.outcome for one in self.measured.finalists if one.entry is entry]
        ran = [one for one in own if isinstance(one, Measurement)]
        return {
            "measured_ms": ran[0].latency_ms.median if ran else None,
            "measured_iqr_ms": ran[0].latency_ms.iqr if ran else None,
        }


def _scaling(entry: Entry) -> dict[str, object]:
    own = entry.scaled
    if own is None:
        return {}
    strategy = own.ask.strategy
    return {
        "base": own.source.name,
        "strategy": None if strategy is None else strategy.name,
        "factor": 1.0 if strategy is None else own.ask.factor,
    }


def _number(value: float) -> float | int | None:
    """Return a number as JSON has it: whole ones as integers, null where it is not known."""
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) >= 1e4 else value

"""The page of the coverage study: tables computed from its rows, written as Markdown."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from benchmarks.coverage_rows import FACTORS, OUTCOMES, STRATEGIES, Row

Key = TypeVar("Key", bound=Hashable)

INTRODUCTION = """# {heading}

Written by `make {target}`; do not edit. Networks are scaled on the meta device, without weights,
at their own default resolution. A network is scaled *right* if

- its output has the base's shape, and the flops of the closed form are those that are counted;
- flops at the factor 2 come to 1.8 to 2.2 times the base's; *noted* networks miss that, and their
  notes say why;
- at least 95 % of the scalable flops lie in layers at the requested width to rounding.

Seconds are of processor time, on one core of a machine that had other work. Objects that imports
made, of torch most of all, are left out of the collector's passes (`gc.freeze`): a single pass
over them takes about 0.2 s, once a process, whatever the network."""


PASSES = """Scaled networks with weights, in training mode, a batch of 2, at the least side at
which they run: outputs and gradients are finite. Where training would need more than 8 GiB, the
pass is made on the meta device, which tells shapes only. Those that failed are *wrong* above."""


def page(
    rows: Sequence[Row], title: str, *, heading: str = "Coverage", target: str = "coverage"
) -> str:
    """Return the page as Markdown.

    Args:
        rows: All rows of the study.
        title: A line on what was run, and with what.
        heading: The heading of the page.
        target: The target of the Makefile that writes it.

    Example:
        >>> "| w ×2 | 1 | 100.0 % |" in page([Row("net", "w", 2.0, "right", ratio=2.0)], "")
        True
    """
    parts = [
        INTRODUCTION.format(heading=heading, target=target),
        title,
        "## Networks scaled",
        _outcomes(rows),
    ]
    for name, group in _by(rows, lambda row: row.network.split(":")[0]).items():
        parts += [f"Of {name}, at all factors:", _strategies(group)]
    if any(row.passed for row in rows):
        parts += ["## Forward and backward passes", PASSES, _passes(rows)]
    parts += ["## Processor time (s)", _seconds(rows), _beside(rows)]
    parts += ["## Achieved over requested flops, minus 1", _errors(rows)]
    parts += ["## What failed, and why", _failures(rows)]
    parts += ["## Causes that notes give", _causes(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _by(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *body)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _outcomes(rows: Sequence[Row]) -> str:
    body = []
    for strategy in STRATEGIES:
        for factor in sorted(FACTORS):
            chosen = [row for row in rows if (row.strategy, row.factor) == (strategy, factor)]
            if chosen:
                scaled = sum(row.scaled for row in chosen)
                counts = [sum(row.outcome == name for row in chosen) for name in OUTCOMES]
                body.append(
                    (
                        f"{strategy} ×{factor:g}",
                        str(len(chosen)),
                        _percent(scaled, len(chosen)),
                        *map(str, counts),
                    )
                )
    return _table(("", "networks", "scaled", *OUTCOMES), body)


def _passes(rows: Sequence[Row]) -> str:
    body = []
    for (strategy, factor), group in _by(rows, lambda row: (row.strategy, row.factor)).items():
        counts = [sum(row.passed == how for row in group) for how in ("real", "meta")]
        body.append((f"{strategy} ×{factor:g}", *map(str, counts)))
    return _table(("", "with weights", "on the meta device"), body)


def _strategies(rows: Sequence[Row]) -> str:
    body = []
    for strategy in STRATEGIES:
        groups = _by((row for row in rows if row.strategy == strategy), lambda row: row.network)
        if groups:
            scaled = sum(all(row.scaled for row in group) for group in groups.values())
            count = str(len(groups))
            body.append((strategy, count, str(scaled), _percent(scaled, len(groups))))
    return _table(("", "networks", "scaled", "share"), body)


def _seconds(rows: Sequence[Row]) -> str:
    bases = {row.network: row for row in rows if row.trace_seconds is not None}.values()
    first = [row for row in rows if (row.strategy, row.factor) == ("dWr", 2.0)]
    samples: dict[str, list[float]] = {
        "building the network": [row.build_seconds or 0 for row in bases],
        "tracing it": [row.trace_seconds or 0 for row in bases],
        "tracing it and scaling it by dWr ×2": [
            (row.trace_seconds or 0) + row.scale_seconds
            for row in first
            if row.scale_seconds is not None
        ],
    }
    for strategy in STRATEGIES:
        samples[f"scaling by {strategy}, the trace at hand"] = [
            row.scale_seconds
            for row in rows
            if row.strategy == strategy
            and row.scale_seconds is not None
            and (strategy, row.factor) != ("dWr", 2.0)
        ]
    body = [
        (name, *_quantiles(values, (0.5, 0.95, 1), "{:.2f}")) for name, values in samples.items()
    ]
    return _table(("", "median", "95th percentile", "most"), body)


def _beside(rows: Sequence[Row]) -> str:
    """Say what scaling takes beside PyTorch's counter, on the same machine at the same time."""
    ratios = [
        ((row.trace_seconds or 0) + row.scale_seconds) / row.counter_seconds
        for row in rows
        if (row.strategy, row.factor) == ("dWr", 2.0)
        and row.scale_seconds is not None
        and row.counter_seconds
    ]
    if not ratios:
        return ""
    half, most = _quantiles(ratios, (0.5, 0.95), "{:.1f}")
    return (
        "Tracing a network and scaling it by dWr ×2 takes as long as "
        f"{half} forward passes under PyTorch's counter of flops (`FlopCounterMode`, on the meta "
        f"device) at the median of {len(ratios)} networks, {most} at the 95th percentile."
    )


def _quantiles(values: Sequence[float], at: Sequence[float], form: str) -> tuple[str, ...]:
    if not values:
        return ("–",) * len(at)
    return tuple(form.format(value) for value in np.quantile(values, at))


def _errors(rows: Sequence[Row]) -> str:
    body = []
    for strategy in STRATEGIES:
        for direction, factors in (("up", (2.0, 4.0)), ("down", (0.5,))):
            misses = [
                row.ratio / row.factor - 1
                for row in rows
                if row.strategy == strategy and row.factor in factors and row.ratio is not None
            ]
            if misses:
                quantiles = _quantiles(misses, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), "{:+.1%}")
                body.append((f"{strategy} {direction}", str(len(misses)), *quantiles))
    head = ("", "rows", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")
    return _table(head, body)


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if not row.scaled]
    if not failed:
        return "Nothing failed."
    groups = sorted(_by(failed, kind).items(), key=lambda item: -len(item[1]))
    lines = []
    for reason, group in groups:
        networks = sorted({row.network for row in group})
        cases = sorted({f"{row.strategy} ×{row.factor:g}" for row in group})
        every = len(cases) == len({(row.strategy, row.factor) for row in rows})
        where = "all" if every else ", ".join(cases)
        lines.append(f"- **{len(networks)}** networks, {len(group)} rows: {reason}")
        lines.append(f"  - {', '.join(networks)}")
        lines.append(f"  - {where}; for example: `{_short(group[0].reason)}`")
    return "\n".join(lines)


def _causes(rows: Sequence[Row]) -> str:
    noted = [row for row in rows if row.outcome == "noted"]
    if not noted:
        return "None was needed."
    groups = sorted(_by(noted, kind).items(), key=lambda item: -len(item[1]))
    return "\n".join(
        f"- {len(group)} rows: {reason} ({', '.join(sorted({row.network for row in group})[:5])}…)"
        for reason, group in groups[:12]
    )


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def kind(row: Row) -> str:
    """Return the kind of a reason: without paths, names, numbers and what follows the cause.

    Example:
        >>> kind(Row("timm:a", "w", 2.0, "refused", "timm:a counts 12.5, but 7 was planned."))
        'refused: NETWORK counts N, but N was planned.'
    """
    text = row.reason.replace(row.network, "NETWORK")
    text = re.sub(r"\(in [^)]*, an? (\w+)\)", r"(in \1)", text)
    text = re.sub(r"[\[(](?:[-\d.]+(?:, ?)?)+[\])]", "[…]", text)
    text = re.sub(r"\d[\d.,]*\d|\d", "N", text)
    text = re.sub(r"\b\w+\.(?:\w+\.)*(?:N|\w+)\b", "PATH", text)
    return f"{row.outcome}: {_short(text, 200)}"

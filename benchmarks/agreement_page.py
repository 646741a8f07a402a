"""The page on agreement, from rows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.agreement import Row

# Why figures of the tables differ, by the start of the architecture's name.
CAUSES = {
    "convmixer": "fvcore does not see convolutions with padding='same' (aten::_convolution_mode): "
    "its figure lacks the depthwise convolutions.",
    "ecaresnext50t_32x4d": "The tables hold another network under this name, of 15.41 M params: "
    "the figures are those of ecaresnext26t_32x4d.",
}


def cause_of(architecture: str) -> str:
    """Return why the tables have other figures for an architecture; empty if nothing is known.

    Example:
        >>> cause_of("convmixer_768_32").split()[0], cause_of("resnet50")
        ('fvcore', '')
    """
    return next((why for start, why in CAUSES.items() if architecture.startswith(start)), "")


def page(rows: Sequence[Row]) -> str:
    """Write the page: shares, and a line for every network that differs."""
    alike = [row for row in rows if row.agrees_with_torch]
    printed = [row for row in rows if row.agrees_with_table is not None]
    agreeing = [row for row in printed if row.agrees_with_table]
    architectures = {row.model.split(".")[0] for row in rows}
    return "\n".join(
        (
            "# Agreement with other counters",
            "",
            "Written by `make agreement`, with "
            f"PyTorch {version('torch')} and timm {version('timm')}.",
            "",
            "| compared | rows | agree |",
            "|---|---|---|",
            f"| flops with half of `FlopCounterMode`, params with the sum over parameters "
            f"({len(architectures)} convolutional architectures of timm) | {len(rows)} | "
            f"{_share(len(alike), len(rows))} |",
            "| flops and acts in the convention `fvcore` with timm's tables of PyTorch 2.4, at "
            f"their resolutions ({len({row.model.split('.')[0] for row in printed})} "
            f"architectures) | {len(printed)} | {_share(len(agreeing), len(printed))} |",
            "",
            "A figure agrees with a table within 0.5 % or half a unit of its last digit.",
            "",
            *_differing(printed),
            *_unlike(rows),
        )
    )


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else "0"


def _differing(printed: Sequence[Row]) -> list[str]:
    lines = [
        f"| {row.model} | {row.resolution} | {row.gmacs:.2f} | {row.fvcore_flops / 1e9:.2f} | "
        f"{row.macts:.2f} | {row.fvcore_acts / 1e6:.2f} | {cause_of(row.model.split('.')[0])} |"
        for row in printed
        if not row.agrees_with_table
    ]
    if not lines:
        return []
    return [
        "## Where the tables differ",
        "",
        "| network | px | GMAC, table | counted | M acts, table | counted | why |",
        "|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]


def _unlike(rows: Sequence[Row]) -> list[str]:
    lines = [
        f"| {row.model} | {row.resolution} | {row.flops:,} | {row.torch_flops / 2:,.0f} |"
        for row in rows
        if not row.agrees_with_torch
    ]
    if not lines:
        return []
    head = ["| network | px | flops | half of PyTorch's |", "|---|---|---|---|"]
    return ["## Where PyTorch's counter differs", "", *head, *lines, ""]

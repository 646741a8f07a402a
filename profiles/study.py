"""Write docs/prediction-study.md from the figures of `fit.py`: `make profiles` ends with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fit import FIGURES, ROOT, TABLES

PAGE = ROOT / "docs" / "prediction-study.md"
TEXT = Path(__file__).parent / "study.md"
_BASELINES = ("flops", "acts", "flops + acts + constant")


def main() -> None:
    """Put the figures of all profiles into the text."""
    found = {
        name: json.loads((FIGURES / f"{name}.json").read_text())
        for name in TABLES
        if (FIGURES / f"{name}.json").exists()
    }
    blocks = {
        "errors": _errors(found),
        "parts": _parts(found),
        "coverage": _coverage(found),
        "intervals": _intervals(found),
        "excluded": _excluded(found),
    }
    text = TEXT.read_text()
    for name, block in blocks.items():
        text = text.replace(f"<!-- {name} -->", block)
    PAGE.write_text(text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _errors(found: dict[str, Any]) -> str:
    head = ["profile", "left out", "groups", "networks", "MAPE %", "within 10 %", "Spearman"]
    rows = [
        [
            name,
            one["protocol"],
            str(one["groups"]),
            str(one["networks"]),
            f"**{one['mape_pct']:.2f}**",
            f"{one['within_10_pct']:.1f}",
            f"{one['spearman']:.4f}",
            *(f"{one['baselines_mape_pct'][each]:.1f}" for each in _BASELINES),
        ]
        for name, own in found.items()
        for one in own["errors"]
    ]
    return _table([*head, *(f"{each}: MAPE %" for each in _BASELINES)], rows)


def _parts(found: dict[str, Any]) -> str:
    head = ["profile", "part", "families", "networks", "MAPE %", "within 10 %", "Spearman"]
    rows = [
        [
            name,
            part,
            str(one["groups"]),
            str(one["networks"]),
            f"{one['mape']:.2f}",
            f"{one['within_10']:.1f}",
            f"{one['spearman']:.4f}",
        ]
        for name, own in found.items()
        for part, one in own["parts"].items()
    ]
    return _table(head, rows)


def _coverage(found: dict[str, Any]) -> str:
    stated = list(next(iter(found.values()))["errors"][0]["covered_pct"]) if found else []
    head = ["profile", "left out", *(f"{100 * float(each):g} % stated" for each in stated)]
    rows = [
        [name, one["protocol"], *(f"{one['covered_pct'][each]:.1f}" for each in stated)]
        for name, own in found.items()
        for one in own["errors"]
    ]
    return _table(head, rows)


def _intervals(found: dict[str, Any]) -> str:
    head = ["profile", "intervals", "score", "width", "least doubt", "middle", "most"]
    rows = [
        [
            name,
            kind,
            f"{one['score']:.3f}",
            f"{one['width']:.3f}",
            *(f"{share:.1f}" for share in one["thirds_pct"]),
            f"{one['super_families_pct']:.1f}",
        ]
        for name, own in found.items()
        for kind, one in own["intervals"].items()
    ]
    return _table([*head, "super-families"], rows)


def _excluded(found: dict[str, Any]) -> str:
    head = ["profile", "rows", "excluded", "which"]
    rows = []
    for name, own in found.items():
        which = "; ".join(f"{one['network']}: {one['reason']}" for one in own["excluded"]) or "none"
        share = 100 * len(own["excluded"]) / own["rows"]
        rows.append([name, str(own["rows"]), f"{len(own['excluded'])} ({share:.1f} %)", which])
    return _table(head, rows)


if __name__ == "__main__":
    main()

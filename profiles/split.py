"""The development split of the study of public timings, decided before the work."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path


def is_development(family: str) -> bool:
    """Tell whether the form was tuned on a family: by the first digit of its name's digest."""
    return int(hashlib.sha256(family.encode()).hexdigest()[0], 16) % 2 == 0


def super_families(families: Sequence[str], table: Path) -> list[str]:
    """Return the super-family of each family, by a table of `timm_module,super_family`."""
    with table.open(newline="", encoding="utf-8") as file:
        known = {row["timm_module"]: row["super_family"] for row in csv.DictReader(file)}
    return [known.get(family, known["*"]) for family in families]

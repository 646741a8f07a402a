"""The development split of the study of public timings, by the names of families alone."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path


def is_development(family: str) -> bool:
    """Tell whether the form was tuned on a family: by the first digit of its name's digest.

    Three of four are: the even ones since the work began, and half of the odd ones later.
    """
    return int(hashlib.sha256(family.encode()).hexdigest()[0], 16) % 4 != 3


def super_families(families: Sequence[str], table: Path) -> list[str]:
    """Return the super-family of each family, by a table of `timm_module,super_family`."""
    with table.open(newline="", encoding="utf-8") as file:
        known = {row["timm_module"]: row["super_family"] for row in csv.DictReader(file)}
    return [known.get(family, known["*"]) for family in families]

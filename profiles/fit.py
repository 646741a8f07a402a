"""Fit the shipped profiles to the public tables: `make profiles`, or `python profiles/fit.py NAME`.

A profile whose file is there already is left alone unless `--again` is given, so that a run that
was stopped goes on; recorded networks are kept in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from compared import compared
from split import is_development, super_families

from convscale.cli.progress import progress
from convscale.prediction.execution import Execution
from convscale.prediction.fitted import fitted_profile
from convscale.prediction.heldout import Errors, fitted, left_out
from convscale.prediction.profile import Condition
from convscale.prediction.profile_file import write_profile
from convscale.prediction.stack import Stack
from convscale.prediction.tables import Table, read_table
from convscale.prediction.transfer import stack_of
from convscale.prediction.unseen import unseen
from convscale.study.tabulated import tabulated

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "src" / "convscale" / "prediction" / "profiles"
FIGURES = ROOT / "profiles" / "figures"
SOURCE = "timm, results/ at commit aa4b5850 (Apache-2.0)"
RTX_3090 = {"device": "NVIDIA GeForce RTX 3090", "torch": "2.4.0", "cuda": "12.4"}
TABLES: dict[str, tuple[str, Execution, dict[str, Condition]]] = {
    "rtx3090-amp-nchw": (
        "benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv",
        Execution("gpu", "nchw", "eager", "inference", "amp"),
        {**RTX_3090},
    ),
    "rtx3090-amp-nhwc": (
        "benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv",
        Execution("gpu", "nhwc", "eager", "inference", "amp"),
        {**RTX_3090},
    ),
    "rtx4090-amp-nhwc": (
        "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv",
        Execution("gpu", "nhwc", "eager", "inference", "amp"),
        {**RTX_3090, "device": "NVIDIA GeForce RTX 4090"},
    ),
    "i7-12700h-fp32-compiled": (
        "benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv",
        Execution("cpu", "nchw", "compiled", "inference", "float32"),
        {"device": "Intel Core i7-12700H", "torch": "2.4.0"},
    ),
    "rtx3090-train-amp-nhwc": (
        "benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv",
        Execution("gpu", "nhwc", "eager", "training", "amp"),
        {"device": "NVIDIA GeForce RTX 3090", "torch": "1.12", "cuda": "11.3"},
    ),
}


def main() -> None:
    """Fit the profiles that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TABLES)}; all by default")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared", help="the tables")
    parser.add_argument("--again", action="store_true", help="fit those that are there too")
    given = parser.parse_args()
    for name in given.names or TABLES:
        if (SHIPPED / f"{name}.json").exists() and not given.again:
            _say(f"{name}: there already")
            continue
        fit(name, given.data)


def fit(name: str, shared: Path) -> None:
    """Fit one profile, and write it and its figures."""
    file, execution, conditions = TABLES[name]
    rows = read_table(shared / "data" / "timm" / file, work=execution.work)
    listed = (shared / "golden" / "timm_conv_architectures.txt").read_text().split()
    kept = tuple(row for row in rows.rows if row.architecture in set(listed))
    with progress(f"{name}: recording") as report:
        chosen = tabulated(Table(rows.work, kept), progress=report)
    stack = stack_of(chosen.timings, execution)
    groups = {"super-families": super_families(stack.families, _named(shared))}
    predicted = {
        protocol: unseen(stack, own, execution, progress=_report(f"{name}: {protocol}"))
        for protocol, own in {"families": stack.families, **groups}.items()
    }
    profile = fitted_profile(
        chosen.timings,
        execution,
        name=name,
        excluded=chosen.excluded,
        groups=groups,
        predictions=predicted,
        conditions={**conditions, "source": SOURCE, "table": file},
    )
    write_profile(profile, SHIPPED / f"{name}.json")
    FIGURES.mkdir(exist_ok=True)
    found: dict[str, object] = {"rows": len(kept), "fitted": stack.size}
    found |= {"parts": _parts(stack, execution, predicted["families"].seconds)}
    both = predicted["families"], predicted["super-families"]
    found |= {"intervals": compared(stack, *both, groups["super-families"])}
    found |= {"errors": [asdict(one) for one in profile.errors]}
    found |= {"excluded": [asdict(one) for one in profile.excluded]}
    (FIGURES / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    _say(f"{name}: {found['parts']} {found['errors']}")


def _named(shared: Path) -> Path:
    return shared / "data" / "super_families.csv"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _report(title: str) -> Callable[[int, int], None]:
    """Return what says, with a line at a time, how far a piece of work is."""

    def report(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            _say(f"{title}: {done} of {total}")

    return report


def _parts(stack: Stack, execution: Execution, predicted: Floats) -> dict[str, dict[str, object]]:
    """Return errors on left-out families of the development part and of its complement.

    `alone` is the development part with nothing fitted on the complement, by which the form was
    chosen; in the others each family is predicted by a fit to all families but itself.
    """
    development = np.array([is_development(family) for family in stack.families])
    own = stack.only(development)
    alone = left_out(own, own.families, fitted(execution), progress=_report("development"))
    parts = {"development": development, "complement": ~development}
    found = {"development alone": Errors.of(alone, own.seconds, groups=len(set(own.families)))}
    for part, which in parts.items():
        groups = len({family for family, keep in zip(stack.families, which, strict=True) if keep})
        found[part] = Errors.of(predicted[which], stack.seconds[which], groups=groups)
    return {part: asdict(errors) for part, errors in found.items()}


if __name__ == "__main__":
    main()

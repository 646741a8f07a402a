"""How many scaled versions a second a search tries, of paper families and of traced networks.

A family's candidates are counted and their latency predicted in closed form; those of a traced
network are derived from its traced runs, the first of each kind built beside that. Building and
tracing the base is included, loading of libraries is not. With --training-memory, the memory of a
step of training is told of a family's candidates, and their latency is not; of a traced network's,
with that and with --memory (of inference), both, and with --only no latency. Processor time of one
thread is compared with what is asked: 10,000 candidates of a family in 10 s, 200 of a traced
network in 60 s.

    python -m benchmarks.select_speed RegNetY-4.0GF EfficientNet-B0 resnet50 densenet121
    python -m benchmarks.select_speed resnet50 hrnet_w18 --memory --training-memory
    python -m benchmarks.select_speed RegNetY-400MF --training-memory --precision mixed
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convscale.families import named, names
from convscale.prediction.store import profile_of
from convscale.selection.constraints import Constraint
from convscale.selection.lattice import lattice
from convscale.strategy import parse_strategy
from convscale.study.costed import Conditions
from convscale.study.scaled_source import Ask, Found
from convscale.study.searching import source_of
from convscale.study.selecting import select
from convscale.study.space import Space, strategies_of

FAMILY, TRACED = 10_000 / 10.0, 200 / 60.0  # candidates a second that are asked for
PROFILE, BATCH, LIMIT_MS = "rtx3090-amp-nchw", 64, 80.0
LIMIT_BYTES = 8e9


@dataclass(frozen=True)
class Speed:
    """How fast candidates were tried."""

    network: str
    candidates: int
    processor_s: float
    asked: float

    @property
    def rate(self) -> float:
        """Candidates a second."""
        return self.candidates / self.processor_s

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.network}: {self.candidates} candidates in {self.processor_s:.1f} s, "
            f"{self.rate:.1f} a second, {self.rate / self.asked:.2f} of what is asked"
        )


def family_speed(
    network: str,
    count: int = 10_000,
    *,
    limit: Constraint | None = None,
    how: Conditions | None = None,
) -> Speed:
    """Answer for many candidates of a paper family, all of them distinct asks.

    Args:
        network: Its name.
        count: How many.
        limit: What is asked of them; a latency if not given.
        how: Under what; with a profile if not given.
    """
    rng = np.random.default_rng(0)
    points = list(lattice(20, axes=frozenset("dwgr")))
    asks = [Ask(None)]
    for at in rng.integers(0, len(points), count - 1):
        factor = float(f"{np.exp(rng.uniform(-1.5, 2.0)):.4g}")
        asks.append(Ask(parse_strategy(points[at].notation(follows=False)), factor, "exponents"))
    how = how or Conditions(profile_of(PROFILE), BATCH)
    limit = limit or Constraint("latency_ms", LIMIT_MS)
    start = time.process_time()
    source = source_of(network, frozenset((limit.on,)), how, (limit,), Space())
    found = source.answers(asks)
    spent = time.process_time() - start
    return Speed(network, sum(isinstance(one, Found) for one in found), spent, FAMILY)


def traced_speed(
    network: str, count: int = 200, *, limits: Sequence[Constraint] = (), **options: Any
) -> Speed:
    """Search the scaled versions of a traced network.

    Args:
        network: Its name.
        count: The most candidates.
        limits: What is asked of them; a latency if not given.
        options: As `select` takes them.
    """
    start = time.process_time()
    limits = list(limits) or [Constraint("latency_ms", LIMIT_MS)]
    if any(limit.on == "latency_ms" for limit in limits):
        options["profile"] = PROFILE
    found = select(network, limits=limits, batch_size=BATCH, candidates=count, **options)
    spent = time.process_time() - start
    return Speed(network, len(found.found.pool), spent, TRACED)


def _limits(given: argparse.Namespace) -> list[Constraint]:
    """Return what is asked of the scaled versions of a traced network."""
    found = [] if given.only else [Constraint("latency_ms", LIMIT_MS)]
    if given.memory:
        found.append(Constraint("memory_bytes", LIMIT_BYTES / 4))
    if given.training_memory:
        found.append(Constraint("training_memory_bytes", LIMIT_BYTES))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--candidates", type=int, default=None)
    parser.add_argument("--training-memory", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", action="store_true")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--precision", default=None)
    given = parser.parse_args(arguments)
    import timm  # noqa: F401 - loaded before the clock starts

    strategies_of(None)
    asked = {"optimizer": given.optimizer, "precision": given.precision}
    for network in given.networks:
        more: dict[str, Any] = {} if given.candidates is None else {"count": given.candidates}
        if network in names():
            named(network)
            if given.training_memory:
                more |= {
                    "limit": Constraint("training_memory_bytes", LIMIT_BYTES),
                    "how": Conditions(batch_size=BATCH, **asked),
                }
            print(family_speed(network, **more), flush=True)
        else:
            print(traced_speed(network, limits=_limits(given), **asked, **more), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

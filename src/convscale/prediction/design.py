"""Choose the networks to measure: those whose times tell most about all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convscale.prediction.adaptation import Moves, Prior
from convscale.prediction.workload import Floats

# What the times of networks of one family have in common beyond what coefficients explain.
_FAMILY = 0.05


@dataclass(frozen=True)
class Candidate:
    """A network that may be measured.

    Args:
        network: Its name.
        resolution: Its input side.
        family: What it shares surprises with.
        seconds: What a pass takes, roughly.

    Example:
        >>> Candidate("timm:resnet50", "224", "resnet", 0.05).label
        'timm:resnet50@224'
    """

    network: str
    resolution: str
    family: str
    seconds: float

    @property
    def label(self) -> str:
        """Name and side, by which ties are broken."""
        return f"{self.network}@{self.resolution}"


def choose(
    candidates: Sequence[Candidate],
    slopes: Floats,
    moves: Moves,
    count: int,
    *,
    allowed: Sequence[bool] | None = None,
    prior: Prior | None = None,
    thrift: float = 0.0,
) -> tuple[int, ...]:
    """Choose the candidates whose times leave least doubt about the times of all.

    Under the prior, the logarithms of the candidates' times are jointly normal; their covariance
    is what coefficients move, and what families share. One after another the candidate is taken
    whose time reduces the sum of the variances of all most (Cohn's criterion), over
    seconds^thrift.

    Args:
        candidates: The networks to choose from, in any order.
        slopes: How the logarithms of their times follow those of the coefficients.
        moves: Which coefficients these are.
        count: How many to choose.
        allowed: Which of them may be measured; by default all. The others are those that the
            times shall tell of.
        prior: How far they move.
        thrift: How much cheap networks are preferred; 0 not at all.

    Returns:
        Positions in candidates, the most telling first.

    Example:
        >>> listed = [Candidate(name, "224", name, 0.1) for name in ("a", "b", "c")]
        >>> along = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> choose(listed, along, Moves(("bytes", "macs"), ("bytes", "macs")), 2)
        (0, 2)
    """
    asked = prior or Prior()
    order = sorted(range(len(candidates)), key=lambda at: candidates[at].label)
    listed = [candidates[at] for at in order]
    doubt = covariance(listed, slopes[order], moves, asked)
    price = np.array([one.seconds for one in listed]) ** thrift
    may = [True] * len(order) if allowed is None else [allowed[at] for at in order]
    barred = ~np.array(may, dtype=bool)
    chosen: list[int] = []
    for _ in range(min(count, sum(may))):
        noisy = np.diag(doubt) + asked.misfit**2
        gain = (doubt**2).sum(axis=0) / noisy / price
        gain[chosen] = -1.0
        gain[barred] = -1.0
        # Equal gains differ in their last digits: the first of them by name is taken.
        best = int(np.argmax(gain >= gain.max() * (1 - 1e-9)))
        chosen.append(best)
        doubt = doubt - np.outer(doubt[:, best], doubt[best]) / noisy[best]
    return tuple(order[at] for at in chosen)


def covariance(
    candidates: Sequence[Candidate], slopes: Floats, moves: Moves, prior: Prior
) -> Floats:
    """Return the covariance of the logarithms of times before anything is measured.

    Example:
        >>> one = [Candidate("a", "224", "a", 0.1)]
        >>> found = covariance(one, np.ones((1, 1)), Moves(("m",), ("m",)), Prior(common=2, cost=1))
        >>> float(found[0, 0].round(4))  # 2² + 1² and what a family shares
        5.0025
    """
    common = prior.common * slopes @ moves.is_cost
    along = np.column_stack([common, slopes * moves.spread(prior)])
    family = np.array([one.family for one in candidates])
    shared = _FAMILY**2 * (family[:, None] == family[None, :])
    covariance: Floats = along @ along.T + shared
    return covariance

"""Move single stages and widths of a network that was found, to where a target is nearer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from math import log

from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.search.moves import Aim, depth_moves, resolution_moves, width_moves
from convscale.scaling.variants.candidate import Candidate
from convscale.scaling.widths.following import is_ruled
from convscale.strategy import Strategy

CLOSE, _COARSE, _MUCH = 0.002, 0.005, 0.01  # what is near enough, and what takes more than that
_ROUNDS, _PROMISING = 6, 4
_RUN = 2  # choices of depths that are run a round, where each takes a run


def refined(
    blueprint: Blueprint, strategy: Strategy, metric: str, budget: float, found: Candidate
) -> Candidate:
    """Move single stages and widths, the best move first, while the miss shrinks.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        metric: flops, params or acts.
        budget: The value to come near.
        found: The network to begin with.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base, rule = Blueprint(resolve_base("timm:resnet18").build("meta"), 64), "dw"
        >>> found = candidate_at(base, parse_strategy(rule), 2.0)
        >>> near = refined(base, parse_strategy(rule), "flops", 280e6, found)
        >>> [round(one.complexity.flops / 280e6, 2) for one in (found, near)]
        [1.15, 1.0]
    """

    def miss(candidate: Candidate) -> float:
        return abs(candidate.value(metric) / budget - 1)

    for _ in range(16):
        aim = {metric: log(budget / max(found.value(metric), 1))}
        nearest = _nearest(blueprint, strategy, found, miss, aim)
        if miss(nearest) >= miss(found) and miss(found) > _COARSE and strategy.resolution:
            nearest = min(resolution_moves(blueprint, found), key=miss, default=found)
        if miss(nearest) >= miss(found):
            return found
        found = nearest
        if miss(found) <= CLOSE:
            return found
    return found


def _nearest(
    blueprint: Blueprint,
    strategy: Strategy,
    found: Candidate,
    miss: Callable[[Candidate], float],
    aim: Aim,
) -> Candidate:
    """Return the move that comes nearest, or the network itself where there is none.

    Where each choice of depths takes a run, the few that promise most are run: where much is
    missing, or no width brings nearer; and the others if none of these helps where much is.
    """
    widths = tuple(width_moves(found)) if strategy.width else ()
    depths = depth_moves(blueprint, found, aim) if strategy.depth else iter(())
    if not strategy.depth or not blueprint.runs_each_depth:
        return min((*widths, *depths), key=miss, default=found)
    best: Candidate = min((found, *widths), key=miss)
    if best is found or miss(found) > _MUCH:
        best = min((best, *islice(depths, _RUN)), key=miss)
    if best is found and miss(found) > _MUCH:
        best = min((best, *depths), key=miss)
    return best


def refined_by(
    blueprint: Blueprint,
    strategy: Strategy,
    found: Candidate,
    miss: Callable[[Candidate], float],
) -> Candidate:
    """Move single stages and widths while that brings near what only building a network tells.

    Every round tries the few moves of which flops and acts promise most.

    Args:
        blueprint: The base network.
        strategy: The strategy.
        found: The network to begin with.
        miss: How far a network lies off, the logarithm of a ratio.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.search import candidate_at
        >>> from convscale.strategy import parse_strategy
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> strategy = parse_strategy("w")
        >>> params = lambda candidate: log(candidate.complexity.params / 30e6)
        >>> found = candidate_at(base, strategy, 2.5)
        >>> abs(params(refined_by(base, strategy, found, params))) < abs(params(found))
        True
    """
    if is_ruled(strategy.rules):
        return found
    now = miss(found)
    for _ in range(_ROUNDS):
        if abs(now) <= CLOSE:
            break
        moves = list(width_moves(found)) if strategy.width else []
        if strategy.depth:
            depths = depth_moves(blueprint, found, {"flops": -now, "acts": -now})
            moves += islice(depths, _RUN if blueprint.runs_each_depth else None)
        if strategy.resolution:
            moves += resolution_moves(blueprint, found)
        moves.sort(key=lambda move: abs(now + _promise(found, move)))
        got, best = _first_near(moves[:_PROMISING], miss, (now, found))
        if abs(got) >= abs(now):
            break
        now, found = got, best
    return found


def _first_near(
    moves: Sequence[Candidate],
    miss: Callable[[Candidate], float],
    now: tuple[float, Candidate],
) -> tuple[float, Candidate]:
    """Return the first move that is near enough, else the nearest, with how far it lies off."""
    best = now
    for move in moves:
        got = miss(move)
        if abs(got) < abs(best[0]):
            best = got, move
        if abs(got) <= CLOSE:
            break
    return best


def _promise(found: Candidate, move: Candidate) -> float:
    """Return the change that a move promises, in logarithms: of flops and acts alike."""
    old, new = found.complexity, move.complexity
    pairs = ((old.flops, new.flops), (old.acts, new.acts))
    return sum(log(after / before) for before, after in pairs if before and after) / 2

"""How many candidates a second the closed form counts, at once and one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from convscale.families import count, sample
from convscale.families.description import AnyNet
from convscale.families.many import count_regnets, count_stages
from convscale.families.registry import regnet
from convscale.families.regnet import RegNet

MANY, ONE_BY_ONE, SAMPLED = 400_000, 2_000, 100_000
WINDOWS = {"sampled, any flops": None, "sampled, flops 400M ± 10 %": (3.6e8, 4.4e8)}


def rate(work: Callable[[], object], candidates: int, *, repeats: int = 3) -> float:
    """Return candidates a second of processor time, the best of some repeats."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return candidates / min(spent)


def stage_arrays(n: int) -> dict[str, np.ndarray]:
    """Draw per-stage arrays of networks with four stages."""
    random = np.random.default_rng(0)
    groups = 8 * random.integers(1, 9, (n, 1)) * np.ones((1, 4), int)
    return {
        "depths": random.integers(1, 13, (n, 4)),
        "widths": groups * np.cumsum(random.integers(1, 8, (n, 4)), axis=1),
        "group_widths": groups,
    }


def parameters(n: int) -> dict[str, np.ndarray]:
    """Draw parameters of RegNets."""
    random = np.random.default_rng(0)
    return {
        "depth": random.integers(12, 29, n),
        "w0": 8 * random.integers(2, 33, n),
        "wa": np.round(random.uniform(8, 128, n), 1),
        "wm": np.round(random.uniform(2, 3, n), 3),
        "group_width": 8 * random.integers(1, 17, n),
    }


def one_of_stages(like: AnyNet, arrays: dict[str, np.ndarray], row: int) -> int:
    """Count one candidate given stage by stage."""
    depths, widths, groups = (tuple(map(int, arrays[name][row])) for name in arrays)
    net = AnyNet(
        depths=depths,
        widths=widths,
        group_widths=groups,
        strides=like.strides,
        bottleneck_multipliers=like.bottleneck_multipliers,
        se_ratio=like.se_ratio,
    )
    return count(net).flops


def one_of_regnets(like: RegNet, arrays: dict[str, np.ndarray], row: int) -> int:
    """Count one candidate given as a RegNet."""
    values = {name: array[row].item() for name, array in arrays.items()}
    return count(RegNet(se_ratio=like.se_ratio, **values).anynet()).flops


def stages_at_once(like: AnyNet, arrays: dict[str, np.ndarray]) -> None:
    """Count all candidates given stage by stage."""
    count_stages(
        like,
        depths=arrays["depths"],
        widths=arrays["widths"],
        group_widths=arrays["group_widths"],
    )


def regnets_at_once(like: RegNet, arrays: dict[str, np.ndarray]) -> None:
    """Count all candidates given as RegNets."""
    count_regnets(
        like,
        depth=arrays["depth"],
        w0=arrays["w0"],
        wa=arrays["wa"],
        wm=arrays["wm"],
        group_width=arrays["group_width"],
    )


def one_by_one(one: Callable[..., int], like: object, arrays: dict[str, np.ndarray]) -> None:
    """Count all candidates, one at a time."""
    for row in range(ONE_BY_ONE):
        one(like, arrays, row)


def show(title: str, first: float, second: float, *, digits: int = 0) -> None:
    """Print a row."""
    print(f"{title:34}{first:14,.0f}{second:16,.{digits}f}")


def main() -> None:
    """Print the table."""
    print(f"{'candidates':34}{'at once':>14}{'one at a time':>16}   a second of one core")
    for name in ("RegNetX-400MF", "RegNetY-400MF"):
        like, many, few = regnet(name).anynet(), stage_arrays(MANY), stage_arrays(ONE_BY_ONE)
        at_once = rate(partial(stages_at_once, like, many), MANY)
        single = rate(partial(one_by_one, one_of_stages, like, few), ONE_BY_ONE)
        show(f"{name[:7]} as stages", at_once, single)
    for name in ("RegNetX-400MF", "RegNetY-400MF"):
        form, many, few = regnet(name), parameters(MANY), parameters(ONE_BY_ONE)
        at_once = rate(partial(regnets_at_once, form, many), MANY)
        single = rate(partial(one_by_one, one_of_regnets, form, few), ONE_BY_ONE)
        show(f"{name[:7]} as parameters, quantised", at_once, single)
    print(f"\n{'networks':34}{'a second':>14}{'seconds':>16}   for {SAMPLED:,} of one core")
    for title, window in WINDOWS.items():
        a_second = rate(partial(sample, SAMPLED, flops=window, stages=4), SAMPLED)
        show(title, a_second, SAMPLED / a_second, digits=2)


if __name__ == "__main__":
    main()

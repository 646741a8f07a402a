"""How many networks a second the runtime model predicts: at once, one by one, counted."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.closed_form import rate, stage_arrays
from convscale.complexity.operators import record_network
from convscale.families import AnyNet, Candidates, named, read_candidates, scale_many
from convscale.network import resolve_base
from convscale.prediction.described import described_workload
from convscale.prediction.execution import Execution
from convscale.prediction.form import coefficients_of, network_seconds
from convscale.prediction.many import many_seconds
from convscale.prediction.workload import workload

MANY, FEW, BATCH = 100_000, 300, 256
COUNTED = ("resnet50", "efficientnet_b7", "densenet201", "nfnet_f0", "regnety_040")
RUNS = (Execution(), Execution(layout="nhwc"), Execution(dtype="float32"))


def drawn(name: str, count: int) -> Candidates:
    """Draw candidates of a family: stages of a RegNet, or shares and factors of a scaling."""
    net = named(name)
    if isinstance(net, AnyNet) and net.stem == "simple":
        arrays = stage_arrays(count)
        return read_candidates(
            net,
            depths=arrays["depths"],
            widths=arrays["widths"],
            group_widths=arrays["group_widths"],
        )
    random = np.random.default_rng(0)
    shares = random.dirichlet((1.0, 1.0, 1.0), count)
    return scale_many(net, shares, factor=random.uniform(0.25, 8, count)).candidates


def one_by_one(candidates: Candidates, run: Execution) -> np.ndarray:
    """Predict candidates one at a time, by the same form."""
    values = coefficients_of(run)
    nets = map(candidates.description, range(len(candidates)))
    return np.array([network_seconds(described_workload(net), values, run, BATCH) for net in nets])


def milliseconds(work: Callable[[], object], *, repeats: int = 20) -> float:
    """Return the median processor time of a call."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1e3 * float(np.median(spent))


def main() -> None:
    """Print the tables."""
    print(f"{'family':18}{'stages':>7}{'at once':>12}{'one by one':>12}{'ratio':>7}{'differ':>9}")
    for name in ("RegNetX-400MF", "RegNetY-400MF", "ResNet-50", "EfficientNet-B0"):
        many, run = drawn(name, MANY), RUNS[0]
        few = drawn(name, FEW)
        values = coefficients_of(run)
        at_once = rate(lambda: many_seconds(many, values, run, BATCH), MANY)  # noqa: B023
        alone = rate(lambda: one_by_one(few, run), FEW, repeats=1)  # noqa: B023
        apart = np.abs(many_seconds(few, values, run, BATCH) / one_by_one(few, run) - 1).max()
        print(
            f"{name:18}{many.depths.shape[1]:7}{at_once:12,.0f}{alone:12,.0f}"
            f"{at_once / alone:7.0f}{apart:9.0e}"
        )
    print(f"\n{'counted network':18}{'operators':>10}{'ms':>9}{'ms from its calls':>19}")
    for name in COUNTED:
        calls = record_network(resolve_base(name), dtype="float8").calls
        work, run = workload(calls), RUNS[0]
        values = coefficients_of(run)
        alone = milliseconds(lambda: network_seconds(work, values, run, BATCH))  # noqa: B023
        whole = milliseconds(lambda: network_seconds(workload(calls), values, run, BATCH))  # noqa: B023
        print(f"{name:18}{len(calls):10}{alone:9.2f}{whole:19.2f}")


if __name__ == "__main__":
    main()

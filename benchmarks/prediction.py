"""How many networks a second are predicted: candidates at once and one by one, counted networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.closed_form import rate, stage_arrays
from convscale.complexity.calls import KINDS
from convscale.complexity.operators import record_network
from convscale.complexity.views import Operators
from convscale.families import (
    AnyNet,
    Candidates,
    count_many,
    inference_bytes,
    named,
    read_candidates,
    scale_many,
)
from convscale.network import resolve_base
from convscale.prediction.described import described_workload
from convscale.prediction.execution import Execution
from convscale.prediction.form import coefficients_of
from convscale.prediction.predict import ELEMENTS, predicted, workload_of
from convscale.prediction.prediction import Prediction
from convscale.prediction.predictions import predict_many
from convscale.prediction.profile import Band, Doubts, Profile, Seen

MANY, FEW, SEARCHED, BATCH = 100_000, 200, 10_000, 256
FAMILIES = ("RegNetX-400MF", "RegNetY-400MF", "RegNetZ-500MF", "ResNet-50", "EfficientNet-B0")
COUNTED = ("resnet50", "efficientnet_b7", "densenet201", "nfnet_f0")
EAGER = Execution()
COMPILED = Execution("cpu", "nchw", "compiled", "inference", "float32")
SEEN = Seen((1, 1024), (64.0, 1024.0), (1e6, 1e12), (1.0, 1e5), KINDS)


def profile(run: Execution) -> Profile:
    """Return a profile with the coefficients that a fit starts from: values do not cost time."""
    rates = coefficients_of(run)
    classes = {name.partition(".")[2] or name: 0.05 for name in rates}
    doubts = Doubts(0.02, classes)
    return Profile("start", run, rates, SEEN, (Band(0.9, 0.8, 1.25),), doubts=doubts)


def scaled(name: str, count: int) -> Candidates:
    """Scale a family's network by random shares and factors."""
    random = np.random.default_rng(0)
    shares = random.dirichlet((1.0, 1.0, 1.0), count)
    return scale_many(named(name), shares, factor=random.uniform(0.25, 8, count)).candidates


def drawn(name: str, count: int) -> Candidates:
    """Draw candidates of a family: stages of a RegNet, else scalings."""
    net = named(name)
    if not (isinstance(net, AnyNet) and net.block == "bottleneck" and net.stem == "simple"):
        return scaled(name, count)
    stages = stage_arrays(count)
    return read_candidates(
        net,
        depths=stages["depths"],
        widths=stages["widths"],
        group_widths=stages["group_widths"],
    )


def one_by_one(candidates: Candidates, given: Profile) -> np.ndarray:
    """Predict candidates one at a time."""
    nets = map(candidates.description, range(len(candidates)))
    found = [
        predicted(
            described_workload(net),
            given,
            network="candidate",
            resolution=net.resolution,
            batch_size=BATCH,
        )
        for net in nets
    ]
    return np.array([one.latency_ms for one in found])


def at_once(candidates: Candidates, given: Profile) -> np.ndarray:
    """Predict candidates together."""
    return predict_many(candidates, profile=given, batch_size=BATCH).latency_ms


def search() -> None:
    """Scale, count and predict candidates, with their memory."""
    found = scaled("RegNetY-4.0GF", SEARCHED)
    count_many(found), inference_bytes(found, batch_size=BATCH), at_once(found, profile(EAGER))


def milliseconds(work: Callable[[], object], *, repeats: int = 20) -> float:
    """Return the median processor time of a call."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1e3 * float(np.median(spent))


def show_family(name: str, run: Execution) -> None:
    """Print the candidates a second of a family, and how far the two ways are apart."""
    given, many, few = profile(run), drawn(name, MANY), drawn(name, FEW)
    together = rate(partial(at_once, many, given), MANY)
    alone = rate(partial(one_by_one, few, given), FEW, repeats=1)
    apart = np.abs(at_once(few, given) / one_by_one(few, given) - 1).max()
    print(
        f"{name:16}{run.mode:>9}{many.depths.shape[1]:7}{together:11,.0f}{alone:12,.0f}"
        f"{together / alone:8,.0f}{apart:10.0e}"
    )


def _recorded(found: Operators, given: Profile, name: str) -> Prediction:
    work = workload_of(found)
    return predicted(work, given, network=name, resolution=found.resolution, batch_size=BATCH)


def show_counted(name: str) -> None:
    """Print the time of a prediction of a network that is counted."""
    found = record_network(resolve_base(name), dtype=ELEMENTS)
    profiles = map(profile, (EAGER, COMPILED))
    spent = [milliseconds(partial(_recorded, found, given, name)) for given in profiles]
    print(f"{name:16}{len(found.calls):10}" + "".join(f"{ms:12.2f}" for ms in spent))


def main() -> None:
    """Print the tables; times are of one core's processor."""
    print(f"{'candidates of':16}{'mode':>9}{'stages':>7}{'a second':>11}{'one by one':>12}"
          f"{'ratio':>8}{'differ':>10}")  # fmt: skip
    for run in (EAGER, COMPILED):
        for name in FAMILIES:
            show_family(name, run)
    print(f"\n{'counted':16}{'operators':>10}{'eager ms':>12}{'compiled':>12}")
    for name in COUNTED:
        show_counted(name)
    print(f"\n{SEARCHED:,} scaled, counted, predicted: {SEARCHED / rate(search, SEARCHED):.2f} s")


if __name__ == "__main__":
    main()

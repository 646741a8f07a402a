"""Intervals know how sure they are: wider where families disagree on what a network runs."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from convscale.complexity.calls import KINDS, Geometry, OperatorCall
from convscale.prediction.doubt import class_shares, doubts_of
from convscale.prediction.execution import Execution
from convscale.prediction.fitted import fitted_profile
from convscale.prediction.fitting import FitOptions, fit_stack, predicted_seconds
from convscale.prediction.form import coefficients_of, operator_classes
from convscale.prediction.interval import covered
from convscale.prediction.predict import predicted
from convscale.prediction.profile import Doubts
from convscale.prediction.profile_file import as_document, from_document
from convscale.prediction.stack import Stack
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import transferred
from convscale.prediction.unseen import unseen
from convscale.prediction.workload import workload
from tests.device_profiles import hand_made

RUN = Execution()
ONCE = "once a pass"


def call(name, size):
    kind = {"relu": "activation", "add": "elementwise", "cat": "concatenation"}[name]
    return OperatorCall(name, f"aten.{name}", kind, bytes_read=size, bytes_written=size)


def test_where_one_class_takes_all_the_time_its_error_is_that_of_the_mean_over_families():
    """Least squares of logarithms is their mean, whose error is √Σ(deviation²) over the count."""
    factors = np.array([1.3, 0.9, 1.05, 0.8, 1.1, 1.0])
    work = workload([call("relu", 10**9)])
    timings = [Timing(str(f), str(f), work, 64, f) for f in factors]
    stack = Stack.of(timings)
    options = FitOptions(bend=1e6, ridge=1e-9, streaming=1.0, anchor=1e-9)
    found = doubts_of(stack, fit_stack(stack, RUN, options=options), RUN, options=options)
    deviations = np.log(factors) - np.log(factors).mean()
    assert found.classes["relu"] == pytest.approx(sqrt((deviations**2).sum()) / 6, rel=1e-3)
    assert found.typical == pytest.approx(sqrt(found.classes["relu"] ** 2 + 0.004**2), rel=1e-3)


def families(disagreement, count=30, seed=0, common=0.0):
    """Networks of relus and of concatenations; families disagree on how fast the latter are."""
    draw = np.random.default_rng(seed)
    found = []
    for place in range(count):
        slower, all_slower = np.exp(draw.normal(0, [disagreement, common]))
        for network in range(3):
            relu, cat = draw.uniform(1e6, 9e7, 2) * draw.choice([[1, 0.03], [0.03, 1]])
            noise = np.exp(draw.normal(0, 0.01))
            seconds = (relu + slower * cat) * all_slower * 6.4e-10 * noise
            calls = [call("relu", int(relu)), call("cat", int(cat))]
            name = f"n{place}-{network}"
            found.append(Timing(name, f"f{place:02}", workload(calls), 64, seconds, 64))
    return found


def test_a_class_that_families_disagree_on_has_the_larger_error():
    stack = Stack.of(families(0.3))
    found = doubts_of(stack, fit_stack(stack, RUN), RUN)
    assert found.classes["concatenation"] > 3 * found.classes["relu"]


def test_errors_are_about_what_leaving_families_out_moves():
    """The estimate needs one fit; leaving families out takes as many as there are."""
    stack = Stack.of(families(0.3))
    whole = fit_stack(stack, RUN)
    found = doubts_of(stack, whole, RUN)
    only = {
        name: Stack.of([Timing("x", "x", workload([call(kernel, 10**9)]), 64, 1.0)])
        for name, kernel in (("relu", "relu"), ("concatenation", "cat"))
    }
    own = np.array(stack.families)
    moved = {name: [] for name in only}
    for family in sorted(set(own)):
        without = fit_stack(stack.only(own != family), RUN)
        for name, one in only.items():
            times = [predicted_seconds(one, each, RUN)[0] for each in (without, whole)]
            moved[name].append(log(times[0] / times[1]))
    for name, moves in moved.items():
        assert found.classes[name] == pytest.approx(sqrt(np.square(moves).sum()), rel=0.35)


def test_intervals_cover_sure_and_unsure_networks_alike():
    timings = families(0.1, count=40, seed=5, common=0.05)
    stack = Stack.of(timings)
    found = unseen(stack, stack.families, RUN)
    misses = np.log(found.seconds / stack.seconds)
    shares = class_shares(stack, fit_stack(stack, RUN), RUN)
    unsure = shares["concatenation"] > 0.5

    def apart(misses):
        """Return how far apart the coverages of sure and unsure networks lie."""
        inside = []
        for place in range(stack.size):
            others = np.array(stack.families) != stack.families[place]
            low, high = np.quantile(misses[others], [0.1, 0.9])
            inside.append(low <= misses[place] <= high)
        sure = np.array(inside)
        return abs(sure[unsure].mean() - sure[~unsure].mean())

    even = misses / found.widths(Doubts(0.01, {}))
    assert apart(even) < 0.6 * apart(misses)
    assert covered(even, stack.families, [0.8])[0.8] == pytest.approx(0.8, abs=0.05)


def test_a_fitted_profile_has_wider_intervals_for_what_is_less_sure():
    profile = fitted_profile(families(0.3, count=12), RUN, name="mine", conditions={})
    sure, unsure = (
        predicted(workload([call(name, 5 * 10**7)]), profile, network="x", batch_size=64)
        for name in ("relu", "cat")
    )
    assert unsure.interval_ms[1] / unsure.latency_ms > sure.interval_ms[1] / sure.latency_ms


def test_the_interval_is_the_typical_one_times_the_root_of_the_doubt():
    doubts = Doubts(0.02, {"relu": 0.09, ONCE: 0.05})
    work = workload([call("relu", 10**6)] * 3)
    given = {"network": "x", "batch_size": 64, "coverage": 0.9}
    typical, own = (predicted(work, hand_made(doubts=one), **given) for one in (None, doubts))
    share = typical.shares["activation"]
    doubt = sqrt((0.09 * share) ** 2 + (0.05 * (1 - share)) ** 2 + 0.004**2)
    width = sqrt(doubt / 0.02)
    assert own.latency_ms == typical.latency_ms
    for end, alone in zip(own.interval_ms, typical.interval_ms, strict=True):
        expected = width * log(alone / typical.latency_ms)
        assert log(end / own.latency_ms) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("classes", "note"),
    [
        ({"relu": 0.9, ONCE: 0.0}, "Families disagree on relu, 9. % of the time: the interval is"),
        ({"gelu": 0.9, ONCE: 0.0}, "The fit has not seen relu, 9. % of the time: the interval is"),
        ({"relu": 0.02, ONCE: 0.0}, None),
    ],
)
def test_what_widens_an_interval_much_is_said(classes, note):
    profile = hand_made(doubts=Doubts(0.02, classes))
    found = predicted(workload([call("relu", 10**8)]), profile, network="x", batch_size=64)
    if note is None:
        assert found.notes == ()
    else:
        (own,) = found.notes
        assert own.startswith(note.partition(" 9.")[0])
        assert "times as wide as a typical network's." in own


@pytest.mark.parametrize("execution", [RUN, Execution("cpu", dtype="float32")])
def test_an_adapted_profile_is_unsure_of_what_its_source_is_where_classes_are_the_same(execution):
    source = hand_made(doubts=Doubts(0.02, {"relu": 0.02, "elementwise": 0.1, ONCE: 0.01}))
    timings = families(0.1, count=3)[:8]
    found = transferred(source, timings, execution, name="here", conditions={})
    assert found.doubts == (source.doubts if execution == RUN else None)


@pytest.mark.parametrize(
    "execution",
    [
        RUN,
        Execution(layout="nhwc"),
        Execution("cpu", "nchw", "compiled", "inference", "float32"),
        Execution("gpu", "nhwc", "eager", "training", "amp"),
    ],
    ids=lambda run: f"{run.hardware} {run.layout} {run.work}",
)
def test_every_class_that_a_form_tells_apart_may_stand_in_a_file(execution):
    shapes = [Geometry(8, 16, rows=49, kernel=(k, k), stride=(s, s)) for k in (1, 3, 5, 7, 9)
              for s in (1, 2)]  # fmt: skip
    calls = [
        OperatorCall("a", f"aten.{name}", kind, geometry=shape, bytes_written=64)
        for kind in KINDS
        for name in ("relu", "gelu", "sum", "silu", "native_layer_norm", "upsample_bilinear2d")
        for shape in (shapes if kind.startswith("convolution") else (None,))
    ]
    classes = operator_classes(workload(calls), execution)
    profile = hand_made(
        execution=execution,
        coefficients=coefficients_of(execution),
        doubts=Doubts(0.1, dict.fromkeys((*classes, ONCE), 0.1)),
    )
    assert len(classes) > 15
    assert from_document(as_document(profile)) == profile

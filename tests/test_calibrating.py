"""Profiles fitted to networks that are timed here, or to a few times of another device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convscale.complexity.operators import record_network
from convscale.errors import InputError
from convscale.network import resolve_base
from convscale.prediction.adaptation import Prior
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import predicted_seconds
from convscale.prediction.form import coefficients_of, network_seconds
from convscale.prediction.law import COSTS, law_of
from convscale.prediction.predict import ELEMENTS, predicted, workload_of
from convscale.prediction.profile_file import as_document, from_document
from convscale.prediction.stack import Stack
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import ONE_BY_ONE, RESCALED, transferred
from convscale.runtime import Setting
from convscale.study.calibrating import calibrate_here, execution_of, nearest, with_batch
from convscale.study.timing import Side
from tests.device_profiles import hand_made

RUN = Execution("cpu", "nchw", "eager", "inference", "float32")
# A processor of 50 GMAC/s and 10 GB/s.
KNOWN = coefficients_of(RUN) | {"multiply": 0.02, "memory": 0.1}
SOURCE = hand_made("known-cpu", execution=RUN, coefficients=KNOWN)
NAMES = (
    "resnet18 mobilenetv2_050 efficientnet_b0 regnetx_002 densenet121 convnext_atto ghostnet_100 "
    "resnet26 resnext50_32x4d mnasnet_small vgg11 repvgg_a0"
).split()


def timing(name: str, truth, *, batch_size: int = 1, side: int = 64) -> Timing:
    recorded = record_network(resolve_base(f"timm:{name}"), resolution=side, dtype=ELEMENTS)
    work = workload_of(recorded)
    seconds = float(network_seconds(work, truth, RUN, batch_size))
    return Timing(name, name, work, batch_size, seconds, side)


@pytest.fixture(scope="module")
def timed() -> dict[str, Timing]:
    return {name: timing(name, KNOWN) for name in NAMES}


def device(**factors: float) -> dict[str, float]:
    assert set(factors) <= set(KNOWN)
    return {name: value * factors.get(name, 1.0) for name, value in KNOWN.items()}


def on(truth, timings):
    return [
        replace(one, seconds=float(network_seconds(one.workload, truth, RUN, one.batch_size)))
        for one in timings
    ]


def misses(profile, timings) -> np.ndarray:
    stack = Stack.of(timings)
    return np.abs(predicted_seconds(stack, profile.coefficients, RUN) / stack.seconds - 1)


def adapted(timings, **options):
    return transferred(SOURCE, timings, RUN, name="mine", conditions={"device": "x"}, **options)


def test_all_costs_twice_are_all_times_twice(timed):
    stack = Stack.of(list(timed.values()))
    once = predicted_seconds(stack, device(), RUN)
    twice = predicted_seconds(stack, device(**dict.fromkeys(set(COSTS) & set(KNOWN), 2.0)), RUN)
    assert twice == pytest.approx(2 * once)


def test_the_slopes_of_the_law_are_those_of_its_times(timed):
    law = law_of(Stack.of(list(timed.values())[:3]), RUN)
    known = device()
    logs, slopes = law(known)
    for place, name in enumerate(known):
        up, down = (law({**known, name: known[name] * np.exp(h)})[0] for h in (1e-4, -1e-4))
        assert slopes[:, place] == pytest.approx((up - down) / 2e-4, abs=1e-5), name
    assert np.exp(logs) == pytest.approx([one.seconds for one in list(timed.values())[:3]])


def test_ten_networks_give_the_profile_of_another_device(timed):
    truth = device(multiply=6.0, memory=2.5, launch=0.5)
    few, others = list(timed.values())[:10], list(timed.values())[10:]
    profile = adapted(on(truth, few), prior=Prior(misfit=0.01))  # the form is exact here
    assert misses(profile, on(truth, others)).max() < 0.05
    # and all of it is far from where it began
    assert misses(SOURCE, on(truth, others)).min() > 0.3


@pytest.mark.parametrize("wrong", [100.0, 0.01])
def test_one_wrong_timing_does_not_carry_the_profile_away(timed, wrong):
    truth = device(multiply=6.0, memory=2.5, launch=0.5)
    few, others = on(truth, list(timed.values())[:10]), on(truth, list(timed.values())[10:])
    few[0] = replace(few[0], seconds=few[0].seconds * wrong)
    assert misses(adapted(few), others).max() < 0.15


def test_the_profile_says_where_it_is_from_and_what_it_is_worth(timed):
    few = on(device(multiply=3.0), list(timed.values()))
    profile = adapted(few)
    assert profile.conditions["adapted_from"] == "known-cpu"
    assert profile.conditions["timed_networks"] == len(few)
    [errors] = profile.errors
    assert (errors.protocol, errors.networks, errors.groups) == (ONE_BY_ONE, 12, 12)
    assert errors.mape_pct < errors.baselines_mape_pct[RESCALED]
    assert profile.seen.batch_sizes == (1, 1)
    assert from_document(as_document(profile)) == profile


def test_intervals_widen_where_networks_left_out_lie_further_off_than_the_sources(timed):
    few = on(device(), list(timed.values()))
    assert adapted(few).bands == SOURCE.bands  # the source's own device
    rng = np.random.default_rng(0)
    noisy = [replace(one, seconds=one.seconds * np.exp(rng.normal(0, 0.5))) for one in few]
    for wide, own in zip(adapted(noisy).bands, SOURCE.bands, strict=True):
        assert wide.low < own.low
        assert wide.high > own.high


def test_what_the_source_misses_of_a_network_is_known_here_too(timed):
    rng = np.random.default_rng(1)
    truth = device(multiply=4.0, memory=2.0)
    missed = dict(zip(timed, rng.choice([-0.3, 0.3], size=len(timed)), strict=True))
    reference = [replace(one, seconds=one.seconds * np.exp(missed[n])) for n, one in timed.items()]
    here = [
        replace(one, seconds=one.seconds * np.exp(missed[one.network]))
        for one in on(truth, timed.values())
    ]
    few, others = here[:10], here[10:]
    profile = adapted(few, reference=reference)
    for one in others:
        found = predicted(one.workload, profile, network=one.network, resolution=64)
        assert found.latency_ms / 1e3 == pytest.approx(one.seconds, rel=0.1)
        unknown = predicted(one.workload, profile, network="another", resolution=64)
        assert abs(unknown.latency_ms / 1e3 / one.seconds - 1) > 0.1
    assert from_document(as_document(profile)) == profile


def test_a_profile_of_training_is_not_adapted_to_times_of_inference(timed):
    training = replace(SOURCE, execution=replace(RUN, work="training"))
    with pytest.raises(InputError, match=r"one of training, and the times are of inference\."):
        transferred(training, list(timed.values()), RUN, name="mine", conditions={})


def test_without_times_there_is_no_profile():
    with pytest.raises(InputError, match="No network was timed"):
        adapted([])


def test_the_nearest_profile_is_run_most_alike():
    other = replace(SOURCE, name="compiled", execution=replace(RUN, mode="compiled"))
    gpu = hand_made("gpu")
    assert nearest(RUN, [gpu, other, SOURCE]).name == "known-cpu"
    assert nearest(replace(RUN, layout="nhwc"), [gpu, other, SOURCE]).name == "known-cpu"
    assert nearest(replace(RUN, mode="compiled"), [SOURCE, other, gpu]).name == "compiled"
    with pytest.raises(InputError, match="no profile of training on a cpu"):
        nearest(replace(RUN, work="training"), [gpu, other, SOURCE])


def test_a_setting_is_an_execution():
    assert execution_of(Setting()) == RUN
    found = execution_of(Setting(device="cuda:1", dtype="float16", channels_last=True))
    assert found == Execution("gpu", "nhwc", "eager", "inference", "amp")
    assert with_batch(Setting(), None).batch_size == 1
    assert with_batch(Setting(device="mps"), None).batch_size == 64
    assert with_batch(Setting(device="cuda"), 7).batch_size == 7


def test_networks_timed_here_become_a_profile_that_keeps_the_conditions(tmp_path):
    sides = [Side(f"timm:{name}", 64) for name in ("resnet18", "mobilenetv2_050", "lcnet_035")]
    setting = Setting(threads=1, batch_size=2)
    file = tmp_path / "study.json"
    profile, study = calibrate_here(
        "here", SOURCE, setting, sides=sides, rounds=3, passes=1, file=file
    )
    assert study.rounds == 3
    assert file.exists()
    assert profile.execution == RUN
    assert profile.seen.batch_sizes == (2, 2)
    kept = profile.conditions
    assert (kept["threads"], kept["time"]) == (1, _NAMES[study.time])
    assert kept["torch"] == study.conditions.torch
    assert from_document(as_document(profile)) == profile
    # the study in the file goes on: nothing is timed again
    same, _ = calibrate_here("here", SOURCE, setting, sides=sides, rounds=3, passes=1, file=file)
    assert same.coefficients == profile.coefficients


_NAMES = {"latency": "wall time", "processor": "processor time"}

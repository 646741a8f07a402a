"""Inference and training steps, dtypes, layouts and backends, timed to a precision."""

from __future__ import annotations

import builtins
import re
import statistics
import time

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from convscale.errors import InputError
from convscale.runtime import (
    Conditions,
    Device,
    Limits,
    Measurement,
    Setting,
    Subject,
    measure,
    measure_together,
    median_interval,
    open_device,
)
from convscale.runtime.interval import interval_rank
from convscale.runtime.measurement import Timings
from convscale.runtime.memory import allocations
from convscale.runtime.seating import seat

HERE = Conditions("cpu", "x86_64", 2, "float32", 1, "contiguous", "2.6.0")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    )


# ------------------------------------------------------------------ the interval of a median


@pytest.mark.parametrize("count", [1, 5, 6, 7, 8, 9, 20, 100, 101, 5000, 10_000])
def test_the_interval_is_the_tightest_that_the_binomial_allows(count):
    rank = interval_rank(count)
    assert rank == 0 or binom.cdf(rank - 1, count, 0.5) <= 0.025
    assert binom.cdf(rank, count, 0.5) > 0.025


@pytest.mark.parametrize("draw", ["lognormal", "exponential", "standard_cauchy"])
def test_the_interval_holds_the_true_median_as_often_as_it_says(draw):
    generator = np.random.default_rng(0)
    true = {"lognormal": 1.0, "exponential": np.log(2), "standard_cauchy": 0.0}[draw]
    held = 0
    for _ in range(2000):
        interval = median_interval(list(getattr(generator, draw)(size=25)))
        held += interval.low <= true <= interval.high
    # Rank 8 of 25 covers 95.7 %; three standard errors of 2000 trials are 1.4 %.
    assert held / 2000 == pytest.approx(1 - 2 * binom.cdf(7, 25, 0.5), abs=0.015)


def test_stopping_at_the_first_good_look_costs_little_confidence():
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        times = list(np.exp(generator.normal(0, 0.06, 1000)))
        look = 9
        while True:
            interval = median_interval(times[:look])
            if interval.off(statistics.median(times[:look])) <= 0.02:
                break
            look = max(look + 1, int(1.1 * look))
        held += interval.low <= 1 <= interval.high
    assert held / 400 > 0.9  # 95 % of a number of repeats that is fixed beforehand


def test_fewer_than_six_repeats_have_no_interval():
    assert median_interval([1.0] * 5) is None
    assert median_interval([1.0] * 6) is not None


# -------------------------------------------------------------------------------- precision


def test_repeats_go_on_until_the_median_is_known_well_enough():
    found = measure(small(), resolution=64, precision=0.2, time_limit_s=20)
    assert found.stopped_by == "precision"
    assert found.precision <= 0.2
    assert found.latency_ms.repeats >= 9


def test_the_time_limit_ends_a_precision_that_is_out_of_reach():
    # large enough that a second does not hold the 10,000 repeats that are kept at the most
    found = measure(small(), resolution=224, precision=1e-9, time_limit_s=1)
    assert found.stopped_by == "time limit"
    assert any(note.startswith("Stopped by the time limit after") for note in found.notes)


def test_a_number_of_repeats_ends_a_precision_too():
    found = measure(small(), resolution=16, precision=1e-9, repeats=12)
    assert (found.stopped_by, found.latency_ms.repeats) == ("repeats", 12)
    assert any("the median is known within" in note for note in found.notes)


def test_several_networks_are_all_known_well_enough():
    pair = [Subject(f"{side}", small(), side) for side in (32, 64)]
    found = measure_together(pair, precision=0.2, time_limit_s=30)
    assert all(each.stopped_by == "precision" and each.precision <= 0.2 for each in found)


def test_wall_time_decides_unless_others_take_the_processors():
    wall = tuple(0.010 + 0.001 * (i % 2) for i in range(40))
    alone = Timings(wall, (0.010,) * 40, usable=1)
    crowded = Timings(tuple(3 * each for each in wall), (0.010,) * 40, usable=1)
    assert (alone.decisive, crowded.decisive) == ("wall time", "processor time")
    assert alone.precision == pytest.approx(0.0005 / 0.0105)  # half the step between both values
    assert crowded.precision == 0


def test_the_document_says_what_the_precision_is_of():
    document = Measurement("net", 8, 1, "inference", HERE, (0.02,) * 9, (0.004,) * 9).as_document()
    assert document["precision_of"] == "processor time"
    assert document["latency_ms"]["interval"] == {"low": 20.0, "high": 20.0}


@pytest.mark.parametrize("share", [0, -1, 1, float("nan")])
def test_a_precision_is_a_share(share):
    with pytest.raises(InputError, match=r"^The precision is "):
        Limits(precision=share)


# --------------------------------------------------------------------------------- training


def test_a_training_step_is_split_into_its_parts():
    found = measure(small(), resolution=32, mode="training", batch_size=4, repeats=7)
    assert [part.name for part in found.parts] == ["forward", "backward", "optimizer"]
    for wall, processor, *parts in zip(
        found.wall_s,
        found.processor_s,
        *(part.seconds for part in found.parts),
        *(part.processor_s for part in found.parts),
        strict=True,
    ):
        assert sum(parts[:3]) == pytest.approx(wall, rel=1e-9)
        assert sum(parts[3:]) == pytest.approx(processor, rel=1e-9)
    assert found.conditions.optimizer == "sgd"
    assert set(found.as_document()["parts"]) == {"forward", "backward", "optimizer"}


def test_inference_has_no_parts():
    assert measure(small(), resolution=16, repeats=2).parts == ()


class Slow(torch.autograd.Function):
    """Sleep in the backward pass."""

    @staticmethod
    def forward(ctx, x):
        time.sleep(0.01)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(0.05)
        return gradient


class Sleeper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return Slow.apply(self.conv(images))


def test_time_goes_to_the_part_that_takes_it():
    found = measure(Sleeper(), resolution=8, mode="training", repeats=3)
    forward, backward, optimizer = (part.latency_ms.median for part in found.parts)
    assert 10 <= forward < 50 <= backward
    assert optimizer < 10


def test_a_step_of_training_is_what_pytorch_makes_of_it():
    net, twin = small(), small()
    setting = Setting(mode="training", batch_size=2)
    sitting = seat(Subject("net", net, 8), open_device("cpu"), setting)
    optimizer = torch.optim.SGD(twin.train().parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    for _ in range(3):
        sitting.visit(untimed=1)
    assert len(sitting.passes) == 3
    for _ in range(2 * 3):
        twin(sitting.images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    for ours, theirs in zip(sitting.module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.equal(sitting.module[0].weight, net[0].weight)


@pytest.mark.parametrize("setting", [{}, {"optimizer": "adamw"}, {"dtype": "float16"}])
def test_training_leaves_the_network_as_it_was(setting):
    net = small()
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    net[0].weight.requires_grad_(False)
    net[3].eval()
    calls: list[int] = []
    net[2].register_forward_hook(lambda *_: calls.append(1))
    kept = {name: (t, t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
    gradients = {name: (p.grad, p.grad.clone()) for name, p in net.named_parameters()}
    flags = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    random, hooks = torch.get_rng_state(), dict(net[2]._forward_hooks)
    measure(net, resolution=8, mode="training", batch_size=2, repeats=3, **setting)
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor is kept[name][0]
        assert torch.equal(tensor, kept[name][1])
    for name, weight in net.named_parameters():
        assert weight.grad is gradients[name][0]
        assert torch.equal(weight.grad, gradients[name][1])
    assert flags == (
        [p.requires_grad for p in net.parameters()],
        [m.training for m in net.modules()],
    )
    assert torch.equal(torch.get_rng_state(), random)
    assert dict(net[2]._forward_hooks) == hooks


def test_what_is_frozen_is_not_trained():
    net = small().requires_grad_(False)
    said = "module:Sequential: The network has no weights that require gradients: nothing to train."
    with pytest.raises(InputError, match=f"^{said}$"):
        measure(net, resolution=8, mode="training")


def test_outputs_of_any_form_are_trained_on():
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, images):
            x = self.conv(images)
            return {"maps": [x, (x.relu(),)], "positions": x.argmax(1)}

    found = measure(Many(), resolution=8, mode="training", repeats=2)
    assert found.latency_ms.repeats == 2


def test_the_process_is_as_before_afterwards():
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, images):
            torch.set_default_dtype(torch.float64)
            torch.backends.cudnn.benchmark = not before[1]
            torch.rand(3)
            return self.conv(images)

    net = Careless()
    before = torch.get_default_dtype(), torch.backends.cudnn.benchmark, torch.get_num_threads()
    random = torch.get_rng_state()
    measure(net, resolution=8, repeats=2, threads=2)
    after = torch.get_default_dtype(), torch.backends.cudnn.benchmark, torch.get_num_threads()
    assert after == before
    assert torch.equal(torch.get_rng_state(), random)


# ------------------------------------------------------------------- memory on the processor


def test_the_peak_of_inference_is_weights_input_and_the_two_largest_maps():
    net = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), nn.Sigmoid())
    found = measure(net, resolution=64, batch_size=2, repeats=2)
    pixels = 2 * 64 * 64
    assert found.peak_memory_bytes == 4 * (3 * 16 + 3 * pixels + 2 * 16 * pixels)


def test_the_peak_of_training_counts_gradients_and_the_state_of_the_optimizer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 512, bias=False))
    peaks = {
        name: measure(
            net, resolution=32, mode="training", repeats=2, optimizer=name
        ).peak_memory_bytes
        for name in ("sgd", "adamw")
    }
    weights = 4 * 3 * 32 * 32 * 512
    # Weights, gradients, momentum, and the gradient with the decayed weights added to it. AdamW
    # decays in place, and holds two moments, and a root and its quotient for the step's size.
    assert peaks["sgd"] == pytest.approx(4 * weights, rel=0.01)
    assert peaks["adamw"] == pytest.approx(6 * weights, rel=0.01)


def test_allocations_are_those_of_the_tensors():
    kept: list[torch.Tensor] = []

    def work() -> None:
        kept.append(torch.zeros(1000))
        (torch.zeros(3000), torch.zeros(500))

    found = allocations(work)
    assert (found.peak_bytes, found.left_bytes) == (4 * 4500, 4 * 1000)


# ----------------------------------------------------------------------- dtypes and layouts


class Witness(nn.Module):
    """Note the dtypes and the layouts that arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: set[tuple[torch.dtype, bool]] = set()

    def forward(self, images):
        found = self.conv(images)
        last = images.is_contiguous(memory_format=torch.channels_last)
        weight = self.conv.weight.is_contiguous(memory_format=torch.channels_last)
        SEEN.add((found.dtype, last and weight))
        return found


SEEN: set[tuple[torch.dtype, bool]] = set()


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("last", [False, True])
def test_dtype_and_layout_are_those_asked_for(mode, dtype, last):
    SEEN.clear()
    net = Witness()
    found = measure(net, resolution=8, mode=mode, dtype=dtype, channels_last=last, repeats=2)
    assert {(getattr(torch, dtype), last)} == SEEN
    assert found.conditions.dtype == dtype
    assert found.conditions.autocast == (dtype != "float32")
    assert found.conditions.memory_format == ("channels_last" if last else "contiguous")
    assert net.conv.weight.is_contiguous()
    assert net.conv.weight.dtype is torch.float32


def test_volumes_are_laid_out_with_the_channels_last_too():
    found = measure(nn.Conv3d(3, 4, 3), resolution=(4, 8, 8), channels_last=True, repeats=2)
    assert found.conditions.memory_format == "channels_last"


def test_a_network_of_another_dtype_is_not_measured_in_this_one():
    said = (
        "module:Conv2d: The network is in bfloat16 and cannot be measured in float16. Leave the "
        "dtype out, or give the network in float32."
    )
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure(nn.Conv2d(3, 4, 1).bfloat16(), resolution=8, dtype="float16")


def test_a_dtype_that_the_device_lacks_is_refused(monkeypatch):
    def lacking(*args, **kwargs):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(torch.nn.functional, "conv2d", lacking)
    said = "The device cpu lacks the dtype float16 (no such kernel). Use float32."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure(small(), resolution=8, dtype="float16")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "test"}, "Unknown mode 'test'. Use inference or training."),
        ({"dtype": "int8"}, "Unknown dtype 'int8'. Use float32, bfloat16 or float16."),
        ({"backend": "tensorrt"}, "Unknown backend 'tensorrt'. Use pytorch or onnxruntime."),
        ({"optimizer": "adam"}, "Unknown optimizer 'adam'. Use sgd or adamw. Did you mean adamw?"),
        (
            {"batch_size": "many"},
            "The batch size is 'many'; write an integer of at least 1, or max.",
        ),
        (
            {"backend": "onnxruntime", "mode": "training", "compile": True},
            "The backend onnxruntime cannot do mode training and torch.compile: it runs inference "
            "in float32 on the cpu. Use the backend pytorch.",
        ),
    ],
)
def test_what_a_setting_cannot_be_is_one_line(options, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure(small(), resolution=8, **options)


# -------------------------------------------------------------------------------- backends


def test_devices_and_dtypes_of_torch_are_taken_by_their_names():
    setting = Setting(device=torch.device("cpu"), dtype=torch.bfloat16)
    assert (setting.device, setting.dtype) == ("cpu", "bfloat16")
    found = measure(small(), resolution=8, device=torch.device("cpu"), repeats=3)
    assert found.conditions.device == "cpu"
    with pytest.raises(InputError, match=r"^Unknown dtype 'float64'\. Use float32"):
        measure(small(), resolution=8, dtype=torch.float64)


def test_onnxruntime_runs_the_same_network_with_the_same_threads():
    pytest.importorskip("onnxruntime")
    found = measure("resnet10t", resolution=64, backend="onnxruntime", repeats=6)
    assert found.conditions.backend == "onnxruntime"
    assert found.conditions.versions["onnxruntime"]
    assert found.conditions.threads == 1
    assert found.latency_ms.repeats == 6
    assert found.peak_memory_bytes is None


def test_what_onnxruntime_computes_must_be_what_pytorch_does(monkeypatch):
    pytest.importorskip("onnxruntime")
    from convscale.runtime import onnx

    class Wrong:
        def __init__(self, session) -> None:
            self.session = session

        def get_inputs(self):
            return self.session.get_inputs()

        def run(self, names, feed):
            return [2 * each for each in self.session.run(names, feed)]

    right = onnx._session
    monkeypatch.setattr(onnx, "_session", lambda *args: Wrong(right(*args)))
    with pytest.raises(InputError, match=r"What ONNX Runtime computes lies .* off what PyTorch"):
        measure(nn.Conv2d(3, 4, 1), resolution=8, backend="onnxruntime")


def test_a_missing_package_of_a_backend_is_one_line(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    said = "The backend onnxruntime needs onnxruntime. Install it by pip install 'convscale[onnx]'"
    with pytest.raises(InputError, match=re.escape(said)):
        measure("resnet18", backend="onnxruntime")


def test_compiling_without_a_compiler_is_one_line(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def missing():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(InputError, match=r"^torch.compile needs a C\+\+ compiler for the cpu"):
        measure(small(), resolution=8, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_compiled_network_tells_how_long_compiling_took(mode):
    net = small()
    found = measure(net, resolution=16, mode=mode, compile=True, repeats=5)
    assert found.conditions.compiled
    assert found.conditions.compile_s > 10 * max(found.wall_s)
    assert found.latency_ms.repeats == 5


# --------------------------------------------------------------------------- accelerators


class Moment:
    """An event of a device on whose clock each lies as long after the last as all before it."""

    clock = 0.01

    def record(self) -> None:
        self.at = Moment.clock
        Moment.clock *= 2

    def seconds_until(self, later: Moment) -> float:
        return later.at - self.at


def test_a_device_with_events_times_parts_without_waiting_in_between(monkeypatch):
    monkeypatch.setattr(Moment, "clock", 0.01)
    waits: list[str] = []
    device = Device("cuda:0", "card", synchronize=lambda: waits.append("idle"), event=Moment)
    timed = device.time(lambda: time.sleep(0.01), lambda: None)
    assert waits == ["idle", "idle"]
    assert timed.wall_s >= 0.01
    assert timed.device_s == pytest.approx(0.03)
    assert [part.seconds for part in timed.parts] == pytest.approx([0.01, 0.02])
    assert [part.processor_s for part in timed.parts] == [None, None]


def test_a_device_without_events_is_idle_at_every_border():
    waits: list[str] = []
    device = Device("mps", "chip", synchronize=lambda: waits.append("idle"))
    timed = device.time(lambda: None, lambda: None, lambda: None)
    assert len(waits) == 4
    assert timed.device_s is None
    assert sum(part.seconds for part in timed.parts) == pytest.approx(timed.wall_s)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs cuda")
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_cuda_is_timed_by_its_own_clock(mode):
    found = measure("resnet18", mode=mode, batch_size=8, device="cuda", repeats=10)
    assert found.device_ms.median <= found.latency_ms.median
    assert found.device_ms.repeats == 10


# ------------------------------------------------------------------------------- overhead


class Counting(nn.Module):
    """Take a known time, and count the calls."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.seconds, self.calls = seconds, 0

    def forward(self, images):
        self.calls += 1
        time.sleep(self.seconds)
        return self.conv(images)


def test_a_network_alone_is_run_for_little_more_than_its_repeats():
    net = Counting(0.02)
    started = time.perf_counter()
    found = measure(net, resolution=8, repeats=100)
    total = time.perf_counter() - started
    assert net.calls <= 100 + 5
    assert total <= 1.15 * sum(found.wall_s)
    assert statistics.median(found.wall_s) >= 0.02


@pytest.mark.parametrize("limits", [{"rounds": 15}, {"time_limit_s": 6}], ids=str)
def test_interleaved_networks_are_run_for_little_more_than_their_repeats(limits):
    nets = [Counting(seconds) for seconds in (0.01, 0.02, 0.06)]
    subjects = [Subject(f"net{net.seconds}", net, 8) for net in nets]
    started = time.perf_counter()
    found = measure_together(subjects, **limits)
    total = time.perf_counter() - started
    assert total <= 1.15 * sum(sum(each.wall_s) for each in found)
    assert found[0].conditions.rounds >= 3
    assert all(min(each.wall_s) >= net.seconds for each, net in zip(found, nets, strict=True))


@pytest.mark.slow
def test_compiling_takes_none_of_the_time_limit():
    found = measure(small(), resolution=16, compile=True, time_limit_s=1)
    assert found.conditions.compile_s > 1
    assert len(found.wall_s) > 50


def test_importing_the_values_of_a_measurement_needs_no_backend(monkeypatch):
    found = builtins.__import__

    def guarded(name, *args, **kwargs):
        assert not name.startswith("onnxruntime")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert measure(small(), resolution=8, repeats=1).latency_ms.repeats == 1

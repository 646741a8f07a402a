"""Measuring keeps all repeats and its conditions, and leaves networks as they were."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convscale.errors import InputError
from convscale.runtime import (
    Conditions,
    Device,
    Measurement,
    Spread,
    Subject,
    format_ms,
    measure,
    measure_together,
    open_device,
    spread,
)
from convscale.runtime.seating import seat

CONDITIONS = Conditions("cpu", "x86_64", 2, "float32", 2, "contiguous", "2.6.0", "1.0.20")


class Recorder(nn.Module):
    """Write down who ran, and what with."""

    def __init__(self, name: str, log: list[str], *, seconds: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.name, self.log, self.seconds = name, log, seconds
        self.seen: list[torch.Tensor] = []
        self.modes: set[tuple[bool, bool]] = set()
        self.threads: set[int] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.log.append(self.name)
        self.seen.append(images)
        self.modes.add((self.training, torch.is_inference_mode_enabled()))
        self.threads.add(torch.get_num_threads())
        time.sleep(self.seconds)
        return self.norm(self.conv(images))


class Restless(nn.Module):
    """Change one buffer in place and replace another, even in evaluation mode."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("total", torch.zeros(()))
        self.fails = fails

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.total = self.total + images.sum()
        torch.rand(3)
        if self.fails:
            raise RuntimeError("no such luck\nsecond line")
        return images * self.weight


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30))
def test_spread_has_the_quartiles_of_numpy(values):
    lower, median, upper = np.percentile(values, [25, 50, 75])
    found = spread(values)
    assert found.repeats == len(values)
    assert found.median == pytest.approx(median)
    assert found.iqr == pytest.approx(upper - lower, rel=1e-6, abs=1e-6)


@given(st.floats(1e-9, 1e9))
def test_milliseconds_keep_three_digits_however_small_or_large(value):
    assert float(format_ms(value)) == pytest.approx(value, rel=5.001e-3)
    assert float(format_ms(value)) == float(f"{value:.2e}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-6, "1.00e-06"),
        (0.00099999, "0.00100"),
        (0.0123, "0.0123"),
        (9.999, "10.0"),
        (99.96, "100"),
        (271.4, "271"),
        (12345.0, "12300"),
        (2.5e7, "2.50e+07"),
        (0.0, "0"),
    ],
)
def test_milliseconds_are_written_as_people_read_them(value, text):
    assert format_ms(value) == text


def test_the_arms_of_a_spread_reach_to_the_quartiles():
    below, above = spread([1.0, 2.0, 3.0, 8.0, 100.0]).arms
    assert (below, above) == (1.0, 5.0)
    assert Spread(10.0, 4.0, 9).arms == (2.0, 2.0)


@pytest.mark.parametrize(("iqr", "wide"), [(1.9, False), (2.1, True)])
def test_a_spread_over_a_fifth_of_the_median_is_wide(iqr, wide):
    assert Spread(10.0, iqr, 9).wide == wide


def test_one_outlier_moves_neither_median_nor_iqr():
    calm = spread([10.0] * 9)
    assert spread([10.0, 10.0, 10.0, 5000.0, *[10.0] * 5]) == calm


def test_a_measurement_derives_everything_from_its_repeats():
    wall = (0.010, 0.030, 0.020, 0.040)
    found = Measurement("net", (64, 32), 5, "inference", CONDITIONS, wall, (0.02, 0.02, 0.04, 0.04))
    assert found.latency_ms.median == pytest.approx(1e3 * statistics.median(wall))
    assert found.processor_ms.median == pytest.approx(30.0)
    assert found.images_per_second == pytest.approx(5 / 0.025)
    document = found.as_document()
    assert document["wall_s"] == list(wall)
    expected = {"median": 25.0, "iqr": pytest.approx(15.0), "repeats": 4, "interval": None}
    assert document["latency_ms"] == expected


def test_the_document_is_json_with_the_fields_of_the_contract():
    [found] = measure_together([Subject("net", nn.Conv2d(3, 8, 3), (16, 8))], rounds=3)
    document = json.loads(json.dumps(found.as_document(), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["network"] == "net"
    assert document["resolution"] == [16, 8]
    assert document["mode"] == "inference"
    assert document["failed"] is None
    assert document["stopped_by"] == "repeats"
    assert set(document["latency_ms"]) == {"median", "iqr", "repeats", "interval"}
    assert {"device", "dtype", "threads", "memory_format", "torch"} <= set(document["conditions"])


def test_several_threads_are_used_where_asked_for():
    before = torch.get_num_threads()
    net = Recorder("net", [])
    [found] = measure_together([Subject("net", net, 8)], rounds=3, threads=before + 1)
    assert found.conditions.threads == before + 1
    assert net.threads == {before + 1}
    assert torch.get_num_threads() == before


def test_the_conditions_say_what_holds():
    before = torch.get_num_threads()
    [found] = measure_together([Subject("net", nn.Conv2d(3, 8, 3), 16)], rounds=3)
    here = found.conditions
    assert (here.device, here.threads, here.rounds) == ("cpu", 1, 3)
    assert (here.torch, here.timm) == (torch.__version__.split("+")[0], timm.__version__)
    assert here.processors == len(os.sched_getaffinity(0))
    assert here.load_average >= 0
    assert here.hardware
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_input_has_the_dtype_of_the_network(dtype):
    log: list[str] = []
    net = Recorder("net", log).to(dtype)
    [found] = measure_together([Subject("net", net, (6, 4))], batch_size=2, rounds=3)
    assert found.conditions.dtype == str(dtype).removeprefix("torch.")
    assert {tuple(images.shape) for images in net.seen} == {(2, 3, 6, 4)}
    assert {images.dtype for images in net.seen} == {dtype}


def test_the_input_is_random_normal_and_seeded():
    first, second, other = (
        seat(Subject("net", nn.Conv2d(3, 4, 1), 128), open_device("cpu"), seed=seed).images
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert abs(float(first.mean())) < 0.02
    assert float(first.std()) == pytest.approx(1.0, abs=0.02)


def test_input_channels_are_read_from_the_module():
    [found] = measure_together([Subject("net", nn.Conv2d(5, 4, 1), 8)], rounds=1)
    assert found.latency_ms.repeats == 1


def test_a_network_in_channels_last_gets_such_an_input():
    net = Recorder("net", [])
    net.conv = nn.Conv2d(3, 4, 3)
    [found] = measure_together(
        [Subject("net", net.to(memory_format=torch.channels_last), 8)], rounds=1
    )
    assert found.conditions.memory_format == "channels_last"
    assert net.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_networks_run_in_evaluation_and_inference_mode():
    net = Recorder("net", [])
    measure_together([Subject("net", net, 8)], rounds=2)
    assert net.modes == {(False, True)}


def test_each_round_visits_each_network_once():
    log: list[str] = []
    names = ["a", "b", "c", "d"]
    nets = [Subject(name, Recorder(name, log, seconds=0.06), 8) for name in names]
    found = measure_together(nets, rounds=6)
    rounds = log[-16:]  # the first two may be the end of the warm-up
    orders = [tuple(rounds[i : i + 4]) for i in range(0, 16, 4)]
    assert [sorted(order) for order in orders] == [names] * 4
    assert len(set(orders)) > 1
    assert [m.network for m in found] == names
    assert all(len(m.wall_s) == len(m.processor_s) == 6 for m in found)
    assert all(m.conditions.rounds == 6 for m in found)


def test_warm_up_ends_with_the_first_round():
    log: list[str] = []
    nets = [Subject(name, Recorder(name, log, seconds=0.06), 8) for name in "ab"]
    found = measure_together(nets, rounds=1)
    visits = [name for name, _ in itertools.groupby(log)]
    assert visits == ["a", "b"]
    assert min(log.count(name) for name in "ab") >= 2  # the first pass is not counted
    assert [len(each.wall_s) for each in found] == [1, 1]


def test_a_visit_to_a_short_network_among_others_is_an_untimed_pass_and_twelve_timed_ones():
    log: list[str] = []
    pair = [Subject(name, Recorder(name, log), 8) for name in "ab"]
    found = measure_together(pair, rounds=4)
    assert [each.latency_ms.repeats for each in found] == [48, 48]
    later = log[-2 * 3 * (1 + 12) :]
    assert all(len(list(run)) % 13 == 0 for _, run in itertools.groupby(later))
    assert later.count("a") == 3 * 13
    # The first round has nothing untimed but the warm-up, of five passes at most.
    assert 1 + 12 <= log.count("a") - 3 * 13 <= 5 + 12


def test_long_networks_beside_short_ones_are_timed_once_a_round():
    pair = [
        Subject("long", Recorder("long", [], seconds=0.06), 8),
        Subject("short", Recorder("short", []), 8),
    ]
    found = measure_together(pair, rounds=5)
    assert [each.latency_ms.repeats for each in found] == [5, 60]


def test_there_are_three_rounds_of_several_networks_however_short_the_time():
    nets = [Subject(name, Recorder(name, [], seconds=0.04), 8) for name in "abc"]
    found = measure_together(nets, time_limit_s=1)
    assert {each.conditions.rounds for each in found} == {3}
    assert {each.stopped_by for each in found} == {"time limit"}


def test_the_time_limit_begins_once_networks_are_seated():
    """A network that takes two seconds to be built leaves the second that was asked for."""

    class Slow(Subject):
        def build(self):
            time.sleep(2)
            return super().build()

    [found] = measure_together([Slow("net", Recorder("net", [], seconds=0.05), 8)], time_limit_s=1)
    assert len(found.wall_s) > 10


def test_a_network_alone_runs_untimed_to_warm_up_only():
    log: list[str] = []
    [found] = measure_together([Subject("net", Recorder("net", log), 8)], rounds=40)
    assert found.latency_ms.repeats == 40
    assert 41 <= len(log) <= 45


def test_a_network_is_as_before_afterwards():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), Restless())
    net[1].eval()
    net[3].weight = nn.Parameter(torch.ones(4, 1, 1))
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    modes = [part.training for part in net.modules()]
    state = {name: (t, t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
    grads = {name: p.grad.clone() for name, p in net.named_parameters()}
    random = torch.get_rng_state()
    measure_together([Subject("net", net, 16)], rounds=3)
    assert [part.training for part in net.modules()] == modes
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor is state[name][0]
        assert torch.equal(tensor, state[name][1])
        assert not tensor.is_inference()
    assert all(torch.equal(p.grad, grads[name]) for name, p in net.named_parameters())
    assert torch.equal(torch.get_rng_state(), random)
    net(torch.randn(2, 3, 8, 8)).sum().backward()


def test_a_network_that_fails_is_named_in_one_line_and_left_as_it_was():
    net, threads = Restless(fails=True), torch.get_num_threads()
    said = "net does not run at resolution 16x8 with batch size 2: no such luck"
    subject = Subject("net", net, (16, 8), in_chans=3)
    [found] = measure_together([subject], batch_size=2, threads=1)
    assert found.failed == said
    assert found.as_document()["failed"] == {"reason": said}
    assert net.training
    assert float(net.calls) == float(net.total) == 0.0
    assert torch.get_num_threads() == threads


def test_a_network_too_large_for_its_input_is_refused_in_one_line():
    with pytest.raises(
        InputError, match=r"^module:Conv2d does not run at resolution 2 with batch size"
    ):
        measure(nn.Conv2d(3, 4, 7), resolution=2)


def test_a_network_without_weights_is_refused():
    with torch.device("meta"):
        net = nn.Conv2d(3, 4, 3)
    said = "net is on the meta device and has no weights to run. Build it on the cpu."
    [found] = measure_together([Subject("net", net, 8)])
    assert found.failed == said


def test_the_time_limit_stops_a_measurement_and_is_noted():
    net = Recorder("net", [], seconds=0.1)
    [found] = measure_together([Subject("net", net, 8)], rounds=500, time_limit_s=1)
    repeats = len(found.wall_s)
    assert 3 <= repeats < 12
    assert found.conditions.rounds == repeats
    assert f"Stopped after {repeats} of 500 repeats: the time limit was reached." in found.notes


def test_there_are_three_repeats_however_short_the_time():
    net = Recorder("net", [], seconds=0.6)
    [found] = measure_together([Subject("net", net, 8)], rounds=500, time_limit_s=1)
    assert len(found.wall_s) == 3


@pytest.mark.parametrize(("rounds", "seconds"), [(4, 0.0), (500, 0.2)])
def test_progress_grows_and_ends_complete(rounds, seconds):
    steps: list[tuple[int, int]] = []
    nets = [Subject(name, Recorder(name, [], seconds=seconds), 8) for name in "ab"]
    measure_together(nets, rounds=rounds, time_limit_s=1, progress=lambda *step: steps.append(step))
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert all(0 < done <= total for done, total in steps)
    assert steps[-1][0] == steps[-1][1]


def test_a_sleeping_network_takes_wall_time_and_no_processor_time():
    [found] = measure_together([Subject("net", Recorder("net", [], seconds=0.06), 8)], rounds=3)
    assert found.latency_ms.median >= 60
    assert found.processor_ms.median < 30
    assert any("of the wall time" in note for note in found.notes)


@pytest.mark.parametrize(
    ("wall", "processor", "threads", "processors", "noted"),
    [
        (0.1, 0.2, 2, 2, False),  # both threads busy throughout
        (0.1, 0.1, 2, 2, True),  # half of what two threads could do
        (0.1, 0.1, 1, 2, False),
        (0.1, 0.1, 4, 1, False),  # one processor cannot do more
        (0.1, 0.03, 1, 2, True),
    ],
)
def test_far_less_processor_than_wall_time_is_contention(
    wall, processor, threads, processors, noted
):
    here = replace(CONDITIONS, threads=threads, processors=processors)
    found = Measurement("net", 8, 1, "inference", here, (wall,), (processor,))
    assert found.contended == noted


def test_a_larger_network_takes_longer():
    small, large = (nn.Conv2d(w, w, 3, padding=1) for w in (16, 256))
    slow, fast = measure_together(
        [Subject("large", large, 48, in_chans=256), Subject("small", small, 48, in_chans=16)],
        threads=1,
        rounds=7,
    )
    # It has 256 times the flops; processor time, since others may use the machine.
    assert slow.processor_ms.median > 3 * fast.processor_ms.median


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "tpu"}, "Unknown device 'tpu'. Use cpu, cuda, cuda:1 (the second) or mps."),
        (
            {"device": "cuda:x"},
            "Unknown device 'cuda:x'. Use cpu, cuda, cuda:1 (the second) or mps.",
        ),
        ({"device": "cpu:"}, "Unknown device 'cpu:'. Use cpu, cuda, cuda:1 (the second) or mps."),
        ({"device": "cpu:1"}, "The device cpu:1 is not available on this machine. Use cpu."),
        ({"device": "cuda:99"}, "The device cuda:99 is not available on this machine. Use cpu."),
        ({"device": "mps:1"}, "The device mps:1 is not available on this machine. Use cpu."),
        ({"batch_size": 0}, "The batch size is 0; it must be at least 1."),
        ({"threads": 0}, "The number of threads is 0; it must be at least 1."),
        ({"rounds": 0}, "The number of rounds is 0; it must be at least 1."),
        ({"time_limit_s": 0.5}, "The time limit is 0.5 s; it must be at least 1 s."),
        ({"time_limit_s": float("nan")}, "The time limit is nan; it must be positive and finite."),
    ],
)
def test_bad_settings_get_one_line(options, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure_together([Subject("net", nn.Conv2d(3, 4, 3), 8)], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has cuda")
def test_a_missing_accelerator_is_refused():
    with pytest.raises(InputError, match=r"^The device cuda is not available on this machine\."):
        open_device("cuda")


@dataclass
class Allocator:
    """A memory counter that tells what it is told to."""

    held: int = 100
    peak: int = 0
    resets: list[int] = field(default_factory=list)

    def memory_allocated(self) -> int:
        return self.held

    def max_memory_allocated(self) -> int:
        return self.peak

    def reset_peak_memory_stats(self) -> None:
        self.resets.append(self.held)
        self.peak = self.held


def test_an_accelerator_is_idle_before_and_after_each_pass():
    events: list[str] = []
    device = Device("cuda:0", "card", synchronize=lambda: events.append("idle"))
    timed = device.time(lambda: events.append("pass"))
    assert events == ["idle", "pass", "idle"]
    assert timed.processor_s is None


def test_the_peak_of_a_pass_leaves_out_what_other_networks_hold():
    memory = Allocator(held=1000)

    def forward() -> None:
        memory.peak = 1700

    assert Device("cuda:0", "card", memory=memory).time(forward).memory_bytes == 700
    assert memory.resets == [1000]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs cuda")
def test_cuda_measures_on_a_copy_and_tells_the_peak():
    net = nn.Conv2d(3, 64, 3)
    [found] = measure_together([Subject("net", net, 224)], device="cuda", rounds=5)
    output = 4 * 64 * 222 * 222
    assert found.peak_memory_bytes >= output + 4 * 3 * 224 * 224
    assert found.processor_ms is None
    assert net.weight.device.type == "cpu"


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_named_network_is_measured_at_its_own_resolution(name):
    found = measure(name, repeats=3)
    assert found.network == f"timm:{name}"
    assert found.resolution == timm.get_pretrained_cfg(name).input_size[1]
    assert found.latency_ms.repeats == 3
    assert found.images_per_second == pytest.approx(1e3 / found.latency_ms.median)


def test_other_inputs_and_classes_reach_a_named_network():
    found = measure("resnet18", resolution=(64, 32), in_chans=1, num_classes=7, repeats=1)
    assert found.resolution == (64, 32)


def test_a_module_needs_a_resolution():
    with pytest.raises(InputError, match="resolution"):
        measure(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repeats": 0}, "The number of repeats is 0; it must be at least 1."),
        ({"resolution": 0}, "The resolution is 0; it must be at least 1."),
        ({"batch_size": 0}, "The batch size is 0; it must be at least 1."),
        ({"device": "tpu"}, "Unknown device 'tpu'. Use cpu, cuda, cuda:1 (the second) or mps."),
    ],
)
def test_bad_values_of_measure_get_one_line(options, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure("resnet18", **options)

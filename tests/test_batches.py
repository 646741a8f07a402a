"""The largest batch that fits, batches that cannot fit, and what memory and energy tell."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convscale.errors import InputError
from convscale.quantities import format_bytes
from convscale.runtime import Setting, Subject, measure, measure_together, open_device
from convscale.runtime.batch import Probe, largest_batch, require_room
from convscale.runtime.energy import Meter, meter
from convscale.runtime.memory import available_bytes

MIB = 1 << 20


class Machine:
    """Memory that grows with the batch, a limit at which it is short, and the batches tried."""

    def __init__(self, base: int, each: int, limit: float = float("inf")) -> None:
        self.base, self.each, self.limit = base, each, limit
        self.tried: list[int] = []

    def run(self, batch: int) -> Probe | None:
        self.tried.append(batch)
        peak = self.base + self.each * batch
        return None if peak > self.limit else Probe(batch, 1e-3 * batch, peak)


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 10**9))
def test_the_largest_batch_is_found_by_running_out_of_memory(base, each, limit):
    machine = Machine(base, each, limit)
    found = largest_batch(machine.run, budget_bytes=None, limit_s=1e9)
    largest = (limit - base) // each
    if largest < 1:
        assert found is None
        return
    assert found.probe.batch_size <= largest
    assert found.probe.batch_size >= largest * 32 / 33


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 10**9))
def test_within_a_budget_no_batch_far_beyond_it_is_tried(base, each, budget):
    machine = Machine(base, each)
    found = largest_batch(machine.run, budget_bytes=budget, limit_s=1e9)
    largest = (budget - base) // each
    if largest < 1:
        assert found is None
        return
    assert found.probe.peak_bytes <= budget
    assert found.probe.batch_size >= largest * 32 / 33
    assert max(machine.tried) <= max(16, largest)


def test_a_batch_whose_pass_takes_too_long_is_not_tried():
    machine = Machine(0, 1)
    found = largest_batch(machine.run, budget_bytes=10**9, limit_s=0.5)
    assert (found.probe.batch_size, found.bound) == (500, "time")


def test_the_largest_batch_of_a_network_stays_within_the_memory_given():
    net = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Sigmoid())
    # An image holds two maps of 64 channels and its input; the process holds PyTorch besides.
    image = 4 * 64 * 64 * (2 * 64 + 3)
    small = measure(net, resolution=64, batch_size=1, repeats=1, isolate=True)
    room = small.process_memory_bytes + 100 * image
    found = measure(
        net, resolution=64, batch_size="max", memory_bytes=room, repeats=3, time_limit_s=100
    )
    assert 60 <= found.batch_size <= 110
    assert found.conditions.isolated
    assert found.notes[0].startswith(f"Batch size {found.batch_size} is the largest that fits: ")


def test_a_memory_that_holds_nothing_is_one_line():
    said = (
        r"^module:Conv2d does not fit into memory: a pass of batch size 1 holds [0-9.]+ MiB, "
        r"PyTorch included, and may hold 1\.0 MiB\. Use a smaller resolution or network\.$"
    )
    with pytest.raises(InputError, match=said):
        measure(nn.Conv2d(3, 4, 1), resolution=8, batch_size="max", memory_bytes=MIB)


def test_a_memory_limit_without_the_largest_batch_is_refused():
    said = "A memory limit is for the batch size max. Ask for it, or leave it out."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure(nn.Conv2d(3, 4, 1), resolution=8, batch_size=2, memory_bytes=MIB)


def test_the_largest_batch_is_for_one_network():
    said = "The batch size max is for one network. Write a number for several."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        measure_together([Subject("net", nn.Conv2d(3, 4, 1), 8)], batch_size="max")


@pytest.mark.parametrize("batch", [10**9, 10**15])
def test_a_batch_that_cannot_fit_is_refused_before_it_is_run(batch):
    said = rf"^module:Conv2d at resolution 64 needs about .* with batch size {batch}, and .* free\."
    with pytest.raises(InputError, match=said):
        measure(nn.Conv2d(3, 4, 1), resolution=64, batch_size=batch)


def test_what_a_batch_needs_is_told_without_running_it():
    net = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Sigmoid())
    image = 4 * 64 * 64 * (2 * 64 + 3)
    batch = 3 * available_bytes() // image
    with pytest.raises(InputError) as caught:
        require_room(Subject("net", net, 64), open_device("cpu"), Setting(batch_size=batch), 1e9)
    assert f"needs about {format_bytes(batch * image)} of memory" in caught.value.line


def test_a_batch_that_takes_longer_than_the_time_limit_is_refused_before_it_is_run():
    net = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(4)))
    said = r"^One pass of module:Sequential with batch size 9000 takes about .* limit is 1 s\."
    with pytest.raises(InputError, match=said):
        measure(net, resolution=64, batch_size=9000, time_limit_s=1)


# ---------------------------------------------------------------------------------- energy


def _package(folder, index: int, microjoules: int) -> None:
    zone = folder / f"intel-rapl:{index}"
    zone.mkdir()
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")


def test_rapl_sums_the_packages_and_leaves_out_the_zones_inside(tmp_path):
    _package(tmp_path, 0, 900_000)
    _package(tmp_path, 1, 250_000)
    inner = tmp_path / "intel-rapl:0:0"
    inner.mkdir()
    (inner / "energy_uj").write_text("77\n")
    found = meter(open_device("cpu"), powercap=tmp_path)
    before = found.read()
    assert before == pytest.approx((0.9, 0.25))
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100000\n")  # past its range
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("350000\n")
    assert found.between(before, found.read()) == pytest.approx(0.2 + 0.1)


def test_energy_of_a_network_is_that_of_its_passes(monkeypatch):
    from convscale.runtime import sitting

    passes: list[int] = []

    class Net(nn.Module):
        def forward(self, images):
            passes.append(1)
            return images

    monkeypatch.setattr(sitting, "_ENERGY_S", 0.05)
    counter = Meter("made up", lambda: (3.0 * len(passes),))
    monkeypatch.setattr(sitting, "meter", lambda device: counter)
    found = measure(Net(), resolution=8, batch_size=4, repeats=2, energy=True)
    assert found.energy_joules_per_image == pytest.approx(3.0 / 4)


@pytest.mark.skipif(meter(open_device("cpu")) is not None, reason="this machine counts energy")
def test_energy_that_nothing_counts_is_null_and_noted_only_if_asked():
    net = nn.Conv2d(3, 4, 1)
    asked = measure(net, resolution=8, repeats=2, energy=True)
    assert asked.energy_joules_per_image is None
    assert asked.notes[-1] == "Energy is not known: neither NVML nor RAPL can be read here."
    assert not any("Energy" in note for note in measure(net, resolution=8, repeats=2).notes)

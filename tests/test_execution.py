"""A count costs little more than running the network once on the meta device."""

from __future__ import annotations

import pytest

from benchmarks.counting import NETWORKS, in_fresh_process, rows


@pytest.mark.parametrize("name", NETWORKS)
def test_a_count_takes_at_most_1_2_of_a_forward_pass(name):
    found = {row.counter: row for row in rows(name, repeats=3, slow=False)}
    assert found["convscale"].ratio <= 1.2  # the copy of the module included
    assert found["convscale, the run alone"].ratio <= 1.2
    assert found["convscale"].flops == found["torch FlopCounterMode"].flops


def test_resnet50_is_counted_from_its_name_within_a_second():
    found = in_fresh_process("timm:resnet50")
    assert found.params == 25_557_032
    assert found.cpu_s < 1


def test_a_billion_parameters_are_counted_within_100_megabytes():
    found = in_fresh_process("timm:resnet50@w:45")
    assert found.params > 1e9
    assert found.peak_bytes < 100e6

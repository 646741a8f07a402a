"""The coverage study: its rows are kept, its children are limited, and its page adds up."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import convscale as cs
from benchmarks.coverage import all_names, tasks
from benchmarks.coverage_check import check_network, counter_seconds
from benchmarks.coverage_page import page
from benchmarks.coverage_pass import FaultError, check_pass
from benchmarks.coverage_rows import FACTORS, STRATEGIES, Row, cases, read_rows, write_rows
from benchmarks.coverage_run import Limits, Task, run_tasks

RIGHT = Row("timm:a", "w", 2.0, "right", ratio=2.1, share=1.0, trace_seconds=1.0)
LIST = Path(__file__).parents[2] / "shared" / "golden" / "timm_conv_architectures.txt"


def test_rows_are_read_as_they_were_written_and_only_of_their_version(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, "old", [RIGHT])
    write_rows(path, "new", [replace(RIGHT, factor=4.0)])
    assert read_rows(path, "old") == (RIGHT,)
    assert read_rows(path, "new") == (replace(RIGHT, factor=4.0),)


def test_a_half_written_row_is_done_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, "v", [RIGHT])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert read_rows(path, "v") == (RIGHT,)
    write_rows(path, "v", [replace(RIGHT, factor=0.5)])
    assert read_rows(path, "v") == (RIGHT, replace(RIGHT, factor=0.5))


def test_the_page_holds_times_against_those_of_another_counter():
    timed = replace(RIGHT, strategy="dWr", scale_seconds=3.0)
    rows = [
        replace(timed, network=f"timm:{name}", counter_seconds=seconds)
        for name, seconds in (("a", 0.2), ("b", 0.4), ("c", 0.8), ("d", None))
    ]
    assert "as long as 10.0 forward passes" in page(rows, "")  # of 20, 10 and 5
    assert "at the median of 3 networks" in page(rows, "")
    assert "forward passes under" not in page(rows[3:], "")


def test_networks_with_batch_norm_on_single_pixels_run_under_the_other_counter():
    net = nn.Sequential(nn.Conv2d(3, 8, 32), nn.BatchNorm2d(8)).to("meta")
    assert counter_seconds(net, 32, 3) is not None


def test_only_what_is_missing_is_done():
    names = ["timm:a", "timm:b"]
    left = tasks(names, [RIGHT], tuple(cases(["w"])))
    assert left == (
        Task("timm:a", (("w", 0.5), ("w", 4.0))),
        Task("timm:b", (("w", 2.0), ("w", 0.5), ("w", 4.0))),
    )
    assert len(tuple(cases(STRATEGIES))) == len(STRATEGIES) * len(FACTORS)


def test_cases_are_strategies_or_strategies_with_a_factor():
    assert tuple(cases(["w:2", "dWr:2"])) == (("dWr", 2.0), ("w", 2.0))
    with pytest.raises(ValueError, match=re.escape("No case 'w:3'.")):
        tuple(cases(["w:3"]))


def test_what_was_done_without_a_pass_is_done_again_with_one():
    failed = replace(RIGHT, factor=4.0, outcome="refused")
    passed = replace(RIGHT, factor=0.5, passed="real")
    wanted = tuple(cases(["w"]))
    assert tasks(["timm:a"], [RIGHT, failed, passed], wanted) == ()
    left = tasks(["timm:a"], [RIGHT, failed, passed], wanted, with_pass=True)
    assert left == (Task("timm:a", (("w", 2.0),), with_pass=True),)


def test_a_scaled_network_passes_with_weights_or_where_memory_is_short_without():
    scaled = cs.scale("timm:resnet10t", strategy="w", factor=2, weights=False)
    assert check_pass(scaled) == "real"
    assert check_pass(scaled, limit_bytes=1 << 20) == "meta"
    (row,) = check_network("timm:resnet10t", [("w", 2.0)], with_pass=True)
    assert (row.outcome, row.passed) == ("right", "real")


class Overflowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)) * float("inf"))


def test_numbers_that_are_not_finite_are_a_fault():
    scaled = cs.scale(Overflowing(), strategy="w", factor=2, resolution=32)
    with pytest.raises(FaultError, match="an output is not finite"):
        check_pass(scaled)


@pytest.mark.skipif(not LIST.exists(), reason="the list of architectures is not at hand")
def test_the_study_has_the_whole_list_and_torchvisions_networks():
    names = all_names(LIST)
    assert sum(name.startswith("timm:") for name in names) == 799
    assert {"torchvision:googlenet", "torchvision:lraspp_mobilenet_v3_large"} <= set(names)
    assert not any("swin" in name for name in names if name.startswith("torchvision:"))


def test_a_network_that_does_not_exist_is_a_row_for_each_case():
    rows = list(check_network("timm:no_such_net", [("w", 2.0), ("d", 2.0)]))
    assert [row.outcome for row in rows] == ["refused", "refused"]
    assert rows[0].reason.startswith("timm has no network 'no_such_net'.")


def outcomes(limits):
    work = [Task(name, (("w", 2.0),)) for name in ("timm:resnet18", "timm:resnet10t")]
    answers = run_tasks(work, processes=2, limits=limits)
    return sorted((row.network, row.outcome) for rows in answers for row in rows)


def test_networks_are_scaled_in_child_processes():
    assert outcomes(Limits()) == [("timm:resnet10t", "right"), ("timm:resnet18", "right")]


def test_a_child_that_uses_too_much_is_a_row():
    found = outcomes(Limits(memory_bytes=1 << 26))
    assert [name for name, _ in found] == ["timm:resnet10t", "timm:resnet18"]
    assert not {"right", "noted"} & {outcome for _, outcome in found}


def test_the_page_adds_up():
    rows = [
        RIGHT,
        replace(RIGHT, network="timm:b", outcome="noted", reason="Flops grow 1.5 times."),
        replace(RIGHT, network="timm:c", outcome="refused", reason="timm:c counts 12, not 13."),
        replace(RIGHT, network="timm:d", outcome="refused", reason="timm:d counts 7, not 5."),
    ]
    text = page(rows, "4 networks.")
    assert "| w ×2 | 4 | 50.0 % | 1 | 1 | 0 | 2 | 0 | 0 |" in text
    assert "| w | 4 | 2 | 50.0 % |" in text
    assert "- **2** networks, 2 rows: refused: NETWORK counts N, not N." in text
    assert "  - timm:c, timm:d\n" in text
    assert "| w up | 4 | +5.0% |" in text

"""Networks in processes of their own: a crash, a hang or a shortage of one is its row."""

from __future__ import annotations

import os
import pickle
import time

import pytest
import torch
from torch import nn

from convscale.errors import InputError
from convscale.runtime import (
    Failure,
    Measurement,
    Recipe,
    Setting,
    Subject,
    measure,
    measure_together,
)
from convscale.runtime.isolation import lodge


class Aborting(nn.Module):
    """End the process after some passes, as a fault in a kernel does."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.left = after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            os.abort()
        return self.conv(images)


class Hanging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(600)
        return self.conv(images)


class Talking(nn.Module):
    """Print on stdout, where the answers are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        print('{"failed": "not an answer"}', flush=True)  # noqa: T201
        return self.conv(images)


class Exiting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        os._exit(7)


def test_a_crash_is_a_row_and_the_others_are_measured():
    nets = [
        Subject("aborts", Aborting(after=3), 8),
        Subject("talks", Talking(), 8),
        Subject("named", None, 32, recipe=Recipe("resnet10t")),
        Subject("exits", Exiting(), 8),
    ]
    aborts, talks, named, exits = measure_together(nets, rounds=4, isolate=True)
    assert isinstance(aborts, Failure)
    assert aborts.failed == "aborts ended its process: signal SIGABRT."
    assert aborts.as_document()["failed"] == {"reason": aborts.failed}
    assert exits.failed == "exits ended its process: exit status 7."
    for found in (talks, named):
        assert isinstance(found, Measurement)
        assert found.latency_ms.repeats == 48  # both are short: twelve at each visit
        assert found.conditions.rounds == 4
        assert found.conditions.isolated
        assert found.process_memory_bytes > found.peak_memory_bytes
        assert len(found.processor_s) == 48


def test_a_hang_is_an_error_after_the_time_limit():
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^module:Hanging gave no answer within 10 s, and its"):
        measure(Hanging(), resolution=8, isolate=True, time_limit_s=1)
    assert time.monotonic() - started < 120


def test_a_training_step_travels_with_its_parts():
    lodger = lodge(Subject("net", nn.Conv2d(3, 4, 1), 8), Setting(mode="training"), time_limit_s=10)
    try:
        lodger.visit(2)
        assert lodger.facts.parts == ("forward", "backward", "optimizer")
        assert [len(timed.parts) for timed in lodger.passes] == [3, 3]
    finally:
        lodger.close()
    assert lodger.process.returncode is not None


def test_a_module_that_cannot_be_sent_is_refused_in_one_line():
    net = nn.Conv2d(3, 4, 1)
    net.note = lambda: None
    with pytest.raises(InputError, match=r"^module:Conv2d cannot be sent to a process of its own"):
        measure(net, resolution=8, isolate=True)


def test_a_module_of_the_main_script_is_refused_in_one_line(monkeypatch):
    import __main__

    class Net(nn.Conv2d):
        pass

    Net.__module__, Net.__qualname__ = "__main__", "Net"
    monkeypatch.setattr(__main__, "Net", Net, raising=False)
    assert pickle.dumps(Net(3, 4, 1))
    with pytest.raises(InputError, match=r"^module:Net cannot be made again in a process of its"):
        measure(Net(3, 4, 1), resolution=8, isolate=True)


def test_what_does_not_run_there_says_why():
    with pytest.raises(InputError, match=r"^module:Conv2d does not run at resolution 2 with batch"):
        measure(nn.Conv2d(3, 4, 7), resolution=2, isolate=True)


def test_several_failures_leave_every_network_in_its_place():
    nets = [
        Subject("a", nn.Conv2d(3, 4, 7), 2),
        Subject("b", nn.Conv2d(3, 4, 1), 8),
        Subject("c", nn.Conv2d(3, 4, 7), 2),
    ]
    found = measure_together(nets, rounds=3)
    assert [each.network for each in found] == ["a", "b", "c"]
    assert [each.failed is None for each in found] == [False, True, False]
    assert found[0].failed.startswith("a does not run at resolution 2 with batch size 1: ")


def test_any_error_of_a_network_is_a_row():
    class OwnError(Exception):
        pass

    class Net(nn.Module):
        def forward(self, images):
            raise OwnError("on purpose")

    [found] = measure_together([Subject("net", Net(), 8)], rounds=3)
    assert found.failed == "net does not run at resolution 8 with batch size 1: on purpose"


def test_one_pass_that_takes_longer_than_the_time_limit_is_one_line():
    class Slow(nn.Module):
        def forward(self, images):
            time.sleep(1.2)
            return images

    said = (
        r"^One pass of module:Slow takes 1\.2\d? s, and the time limit is 1 s\. Raise the time "
        r"limit, or use a smaller batch size\.$"
    )
    with pytest.raises(InputError, match=said):
        measure(Slow(), resolution=8, time_limit_s=1)

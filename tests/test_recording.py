"""Records of timm's networks: made once, by several processes where there are many."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from convscale.prediction import records
from convscale.prediction.records import FOLDER, cache_folder, is_recorded, record_of
from convscale.study import recording
from convscale.study.recording import FEW, record_ahead, unrecorded

SIDE = 32
NAMES = "lcnet_035 lcnet_050 lcnet_075 lcnet_100 lcnet_150 resnet18 resnet26 resnet34 resnet50"
MANY = [(name, SIDE) for name in NAMES.split()]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    found, popen = [], subprocess.Popen

    def start(*arguments, **options):
        found.append(popen(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(recording.subprocess, "Popen", start)
    return found


def test_many_networks_are_recorded_by_processes_as_they_are_here(cache, started):
    assert len(MANY) > FEW
    steps = []
    wanted = [*MANY, ("inception_v3", SIDE), MANY[0]]  # one does not run at that side
    assert unrecorded(wanted) == wanted[:-1]
    record_ahead(unrecorded(wanted), progress=lambda *step: steps.append(step))
    assert steps == [(done, len(MANY) + 1) for done in range(1, len(MANY) + 2)]
    assert unrecorded(wanted) == [("inception_v3", SIDE)]
    for name, side in (MANY[0], MANY[-1]):
        there, here = record_of(name, side), records._recorded(name, side)
        assert (there.family, there.params) == (here.family, here.params)
        assert np.array_equal(there.work.flops, here.work.flops)
        assert there.work.sources == here.work.sources
    assert started
    assert all(process.poll() is not None for process in started)


def test_an_interruption_ends_the_processes_and_keeps_what_was_recorded(cache, started):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_ahead(MANY, progress=stop)
    assert started
    assert all(process.poll() is not None for process in started)
    assert 1 <= len(MANY) - len(unrecorded(MANY)) < len(MANY)


def test_what_processes_do_not_record_is_left(cache, monkeypatch):
    monkeypatch.setattr(recording.sys, "executable", "false")
    record_ahead(MANY)
    assert unrecorded(MANY) == MANY


@pytest.mark.parametrize("damage", ["empty", "cut off", "other bytes", "other arrays"])
def test_a_damaged_record_is_made_anew(damage, cache):
    before = record_of("resnet18", SIDE)
    [file] = cache_folder().glob("*.npz")
    whole = file.read_bytes()
    middle = len(whole) // 2
    content = {
        "empty": b"",
        "cut off": whole[:middle],
        "other bytes": whole[: middle - 200] + bytes(400) + whole[middle + 200 :],
        "other arrays": b"",
    }[damage]
    file.write_bytes(content)
    if damage == "other arrays":
        np.savez(file, kind=np.zeros(3))
    again = record_of("resnet18", SIDE)
    assert again.params == before.params
    assert np.array_equal(again.work.flops, before.work.flops)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file"))
    assert record_of("resnet18", SIDE).params == 11_689_512
    assert not is_recorded("resnet18", SIDE)

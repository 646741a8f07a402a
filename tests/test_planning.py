"""Plans of trainings: arithmetic on a predicted step, and the memory beside it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convscale as cs
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.prediction.form import Execution
from convscale.prediction.plan import TrainingPlan
from convscale.prediction.prediction import Prediction
from tests.device_profiles import hand_made

TRAINS = Execution("gpu", "nhwc", "eager", "training", "amp")


def step(batch=256, ms=400.0):
    return Prediction("net", 224, batch, "mine", TRAINS, ms, (0.9 * ms, 1.2 * ms), 0.9)


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCALE_PROFILES", str(tmp_path))
    cs.save_profile(hand_made("infers"))
    cs.save_profile(hand_made("trains", work="training"))


def test_a_plan_by_hand():
    # 1,281,167 images, 8 x 256 a step: 625.6, so 626 steps of 400 / 0.8 = 500 ms: 313 s an epoch
    plan = TrainingPlan(step(), 1_281_167, 100, 8, efficiency=0.8, power_w=350.0)
    assert plan.steps_per_epoch == 626
    assert plan.step_ms == 500.0
    assert plan.epoch_s == pytest.approx(313.0)
    assert plan.total_s == pytest.approx(31_300.0)
    assert plan.device_hours == pytest.approx(8 * 31_300 / 3600)
    assert plan.energy_kwh == pytest.approx(0.35 * 8 * 31_300 / 3600)
    assert plan.interval(plan.epoch_s) == (pytest.approx(281.7), pytest.approx(375.6))


@given(
    images=st.integers(1, 10**8),
    epochs=st.integers(1, 1000),
    devices=st.integers(1, 1024),
    batch=st.integers(1, 4096),
)
def test_steps_see_all_images_and_the_last_is_not_empty(images, epochs, devices, batch):
    plan = TrainingPlan(step(batch), images, epochs, devices)
    together = batch * devices
    assert (plan.steps_per_epoch - 1) * together < images <= plan.steps_per_epoch * together
    assert plan.device_hours == pytest.approx(devices * plan.total_s / 3600)
    low, high = plan.interval(plan.total_s)
    assert low < plan.total_s < high


def test_a_plan_is_of_the_predicted_step_and_the_predicted_memory(profiles, capsys):
    words = ["plan", "resnet18", "--images", "1.28M", "--epochs", "100", "--profile", "trains"]
    words += ["--devices", "8", "--batch-size", "64", "--power", "300W"]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = cs.predict("resnet18", profile="trains", batch_size=64)
    needed = cs.memory("resnet18", batch_size=64, precision="mixed")
    assert found["schema_version"] == 1
    assert found["network"] == "timm:resnet18"
    assert found["step_ms"] == pytest.approx(expected.latency_ms)
    assert found["steps_per_epoch"] == 1_280_000 // 512
    assert found["epoch_s"] == pytest.approx(2500 * expected.latency_ms / 1e3)
    assert found["device_hours"] == pytest.approx(8 * 100 * found["epoch_s"] / 3600)
    assert found["energy_kwh"] == pytest.approx(0.3 * found["device_hours"])
    assert found["memory"]["training"]["peak_bytes"] == needed.training.peak_bytes
    assert found["intervals"]["step_ms"] == pytest.approx(list(expected.interval_ms))
    assert any("Perfect scaling is taken for granted: 8 devices" in n for n in found["notes"])
    assert run(words) == 0
    out = capsys.readouterr().out
    for part in ("epoch of 2,500 steps", "device-hours", "energy (kWh)", "Perfect scaling", "sgd"):
        assert part in out


def test_efficiency_lengthens_all_times(profiles):
    given_ = {"images": 10_000, "epochs": 3, "profile": "trains", "devices": 4, "batch_size": 64}
    whole = cs.plan("resnet18", **given_)
    less = cs.plan("resnet18", efficiency=0.5, **given_)
    assert less.total_s == pytest.approx(2 * whole.total_s)
    assert less.device_hours == pytest.approx(2 * whole.device_hours)
    assert any("keep 50% of its speed" in note for note in less.notes)


def test_one_device_is_taken_at_its_word(profiles):
    found = cs.plan("resnet18", images=1000, epochs=1, profile="trains", batch_size=64)
    assert not any("scaling" in note for note in found.notes)
    assert found.energy_kwh is None


def test_the_batch_is_by_default_one_that_the_profile_has_seen(profiles):
    found = cs.plan("resnet18", images=1000, epochs=1, profile="trains", resolution=96)
    assert found.step.batch_size == 256
    seen = hand_made().seen
    few = hand_made(work="training", seen=type(seen)((8, 64), *list(vars(seen).values())[1:]))
    found = cs.plan("resnet18", images=1000, epochs=1, profile=few, resolution=96)
    assert found.step.batch_size == 64


def test_a_profile_of_inference_is_refused_with_those_of_training(profiles):
    with pytest.raises(InputError) as caught:
        cs.plan("resnet18", images=1000, epochs=1, profile="infers")
    line = caught.value.line
    assert line.startswith("The profile infers is one of inference, and a plan needs one of train")
    assert "trains" in line


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--images": None}, "A plan needs the number of images: --images 1.28M."),
        ({"--epochs": None}, "A plan needs the number of epochs: --epochs 100."),
        ({"--profile": None}, "A plan needs a profile of training: --profile NAME."),
        ({"--images": "1.5"}, "The number of images is 1.5; it must be a whole number."),
        ({"--images": "0"}, "The number of images is 0"),
        ({"--epochs": "2.5"}, "Cannot read '2.5' as the number of epochs."),
        ({"--devices": "0"}, "The number of devices is 0; it must be at least 1."),
        ({"--batch-size": "-1"}, "The batch size is -1; it must be at least 1."),
        ({"--efficiency": "1.5"}, "The efficiency is 1.5; it must be at most 1, such as 0.9."),
        ({"--power": "0W"}, "The power in watts is 0"),
        ({"--power": "much"}, "Cannot read 'much' as a power in watts."),
        (
            {"--power": "300mW"},
            "Cannot read '300mW' as a power in watts. Write 300W",
        ),
        ({"--optimizer": "none"}, "Unknown optimizer 'none'."),
        ({"--profile": "train"}, "Unknown profile 'train'. Did you mean trains?"),
    ],
)
def test_bad_input_is_refused_in_one_line(changed, said, profiles, capsys):
    given_ = {"--images": "1000", "--epochs": "1", "--profile": "trains", **changed}
    words = [part for pair in given_.items() if pair[1] is not None for part in pair]
    assert run(["plan", "resnet18", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convscale: {said}")
    assert err.count("\n") == 1

"""The commands train, eval and recipe: what they leave, and that the same errors come again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import convscale as cs
from convscale.cli.main import run
from convscale.network.sources.network import from_family
from convscale.training.judging import judge
from convscale.training.recipe_files import read_recipe
from tests.test_datasets import write_images
from tests.training_commands import ERRORS, QUICK, judged, refused, trained, write_nets


@pytest.fixture
def nets(tmp_path):
    return write_nets(tmp_path)


@pytest.mark.parametrize("recipe", ["basic", "strong"])
def test_eval_of_a_run_gives_the_errors_of_its_result(tmp_path, nets, capsys, recipe):
    folder = tmp_path / "run"
    small = ("--resolution", 16, "--epochs", 3, "--set", "batch_size=100", "--set", "lr=1")
    found = trained(capsys, nets, "--data", "digits", "--recipe", recipe, "--out", folder, *small)
    assert json.loads((folder / "result.json").read_text()) == found
    again = judged(capsys, folder, "--data", "digits", "--base", nets)
    assert {e: again[e] for e in ERRORS} == {e: found[e] for e in ERRORS}
    assert {e: again["best"][e] for e in ERRORS} == {e: found["best"][e] for e in ERRORS}
    if recipe == "basic":
        assert again["ema"] is found["ema"] is None
    else:
        assert {e: again["ema"][e] for e in ERRORS} == found["ema"]
    assert again["images"] == 359
    assert again["validation_loss"] == found["validation_loss"]
    with (folder / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["top1_error_pct"]) == found["top1_error_pct"]
    columns = ["top1_error_pct", *(["ema_top1_error_pct"] if recipe == "strong" else [])]
    lowest = min(float(row[column]) for row in rows for column in columns)
    assert found["best"]["top1_error_pct"] == lowest


def test_processes_of_torchrun_leave_one_run_and_say_it_once(tmp_path, nets):
    folder = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "convscale.cli.main", "train", nets, "--data", "digits", "--resolution", "16"),
        *("--epochs", "1", "--out", str(folder), "--json", *QUICK),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert found["conditions"]["processes"] == 2
    assert found["evaluation"]["batch_size"] == 64
    again = judge(folder, base=nets, workers=0).as_document()
    assert {e: again[e] for e in ERRORS} == {e: found[e] for e in ERRORS}


def test_a_run_leaves_what_a_person_looks_at(tmp_path, nets, capsys):
    folder = tmp_path / "deep" / "run"
    found = trained(
        capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 2, "--out", folder
    )
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names >= {
        *("history.csv", "result.json", "recipe.yaml", "curves.png", "tensorboard", "state"),
        *("best.safetensors", "last.safetensors", "convscale.json"),
    }
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert read_recipe(str(folder / "recipe.yaml")).as_document() == found["recipe"]
    counted = cs.count(nets, resolution=16)
    assert found["complexity"] == {**counted.as_dict(), "resolution": 16}
    assert found["classes"] == [str(digit) for digit in range(10)]
    assert found["finished"]
    assert found["seconds"] > 0
    assert found["images_per_second"] > 0
    assert found["peak_memory_bytes"] > 0
    assert found["steps"] == 2 * (1438 // 128)
    assert found["recipe"]["seed"] == found["seed"] == 0
    assert found["conditions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_run_is_a_network_that_other_commands_take(tmp_path, capsys):
    folder = tmp_path / "run"
    name = "resnet18@w:0.0625"
    trained(capsys, name, "--data", "digits", "--resolution", 32, "--epochs", 1, "--out", folder)
    assert run(["count", str(folder), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    expected = cs.count(name, resolution=32, num_classes=10)
    assert (counted["flops"], counted["params"]) == (expected.flops, expected.params)
    module = cs.load(folder).module
    best = load_file(folder / "best.safetensors")
    assert all(torch.equal(value, best[key]) for key, value in module.state_dict().items())
    assert not module.training
    assert run(["scale", str(folder), "--strategy", "d", "--factor", "2"]) == 0
    capsys.readouterr()
    tuned = trained(capsys, folder, "--data", "digits", "--epochs", 1, "--out", tmp_path / "tuned")
    assert tuned["complexity"]["params"] == expected.params


def test_the_scale_of_a_network_is_its_flops_over_its_bases(tmp_path, capsys):
    knobs = ["--set", "drop_path=0.1", "--set", "drop_path_growth=0.05", "--set", "dropout=0.1"]
    base, scaled = (
        cs.count(name, resolution=16, num_classes=10).flops
        for name in ("resnet10t", "resnet10t@d:2")
    )
    found = trained(
        capsys, "resnet10t@d:2", "--data", "digits", "--resolution", 16, "--epochs", 1,
        "--out", tmp_path / "run", *knobs,
    )  # fmt: skip
    assert found["scale"] == pytest.approx(scaled / base)
    rates = read_recipe("basic", [knobs[1], knobs[3]]).rates(scaled / base)
    assert found["regularisation"]["drop_path"] == pytest.approx(rates["drop_path"])
    assert found["regularisation"]["dropout"] == 0.1


def test_training_and_test_resolution_may_differ(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    sides = ["--set", "train_resolution=12", "--set", "test_resolution=[20, 24]"]
    found = trained(
        capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 1, "--out", folder, *sides
    )
    assert (found["train_resolution"], found["test_resolution"]) == (12, [20, 24])
    again = judged(capsys, folder, "--base", nets)
    assert again["resolution"] == [20, 24]
    assert again["top1_error_pct"] == found["top1_error_pct"]
    other = judged(capsys, folder, "--base", nets, "--resolution", 8)
    assert other["resolution"] == 8


def test_grey_images_train_networks_of_one_channel(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    found = trained(
        capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 1, "--out", folder,
        "--in-chans", 1,
    )  # fmt: skip
    assert load_file(folder / "last.safetensors")["0.weight"].shape == (8, 1, 3, 3)
    assert judged(capsys, folder, "--base", nets)["top1_error_pct"] == found["top1_error_pct"]


def test_a_folder_of_images_with_broken_ones_trains(tmp_path, nets, capsys):
    data = write_images(tmp_path / "data", "train", {"a": 5, "b": 5, "c": 6}, side=16)
    write_images(data, "val", {"a": 3, "b": 3, "c": 3}, side=16)
    (data / "train" / "b" / "0.png").write_bytes(b"no image")
    (data / "val" / "c" / "1.png").write_bytes(b"")
    found = trained(
        capsys, nets, "--data", data, "--resolution", 16, "--epochs", 4, "--out", tmp_path / "run",
        "--set", "batch_size=8",
    )  # fmt: skip
    assert found["broken_images"] == ["train/b/0.png", "val/c/1.png"]
    assert found["top5_error_pct"] is None
    assert found["classes"] == ["a", "b", "c"]
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert weights["8.weight"].shape == (3, 16)


def test_a_precision_in_which_the_network_does_not_run_is_noted(tmp_path, nets, capsys):
    status = run([
        "train", nets.replace(":net", ":single"), "--data", "digits", "--resolution", "16",
        "--epochs", "1", "--out", str(tmp_path / "run"), "--set", "workers=0",
        "--set", "channels_last=false", "--json", "--device", "cpu",
    ])  # fmt: skip
    printed = capsys.readouterr()
    assert status == 0, printed.err
    found = json.loads(printed.out)
    assert found["variant"]["precision"] == "fp32"
    assert found["notes"] == ["bf16, contiguous does not run: single precision alone"]


def test_recipes_are_shown_as_yaml_and_as_json(tmp_path, capsys):
    assert run(["recipe", "show", "strong"]) == 0
    text = capsys.readouterr().out
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert read_recipe(str(file)) == read_recipe("strong")
    assert run(["recipe", "show", str(file), "--set", "lr=0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["lr"], found["epochs"]) == (0.5, read_recipe("strong").epochs)
    assert run(["recipe", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["recipes"]
    assert [entry["recipe"] for entry in listed] == ["basic", "strong"]
    assert "Did you mean strong?" in refused(capsys, "recipe", "show", "strng")
    assert "The commands are show, list." in refused(capsys, "recipe")


@pytest.mark.parametrize("name", ["RegNetX-200MF@w:0.2", "{nets}@w:4", "RegNetX-200MF@w:0.2@w:2"])
def test_what_is_scaled_on_the_spot_gets_the_classes_of_the_data(tmp_path, nets, capsys, name):
    given = name.format(nets=nets)
    found = trained(
        capsys, given, "--data", "digits", "--resolution", 16, "--epochs", 1,
        "--out", tmp_path / "run", "--set", "batch_size=700",
    )  # fmt: skip
    root, _, how = given.partition("@")
    base = cs.count(root, resolution=16, num_classes=10).flops
    scaled = cs.count(f"{root}@{how}", resolution=16, num_classes=10).flops
    assert found["complexity"]["flops"] == scaled
    assert found["scale"] == pytest.approx(scaled / base)


def test_networks_of_paper_families_train_and_come_back(tmp_path, capsys):
    name, folder = "RegNetX-400MF", tmp_path / "run"
    found = trained(
        capsys, name, "--data", "digits", "--resolution", 16, "--epochs", 1, "--out", folder,
        "--set", "batch_size=700",
    )  # fmt: skip
    module = cs.load(folder).module
    own = cs.families.named(name)
    built = from_family(name, own, {"num_classes": 10}).build("meta")
    assert module.state_dict().keys() == built.state_dict().keys()
    assert judged(capsys, folder)["top1_error_pct"] == found["top1_error_pct"]

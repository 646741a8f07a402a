"""The commands train, eval and recipe: what they leave, and that the same errors come again."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console
from rich.progress import Progress, TextColumn
from safetensors.torch import load_file

import convscale as cs
from convscale.cli.main import run
from convscale.cli.watch import Bar, Lines, Pace
from convscale.network.sources import from_family
from convscale.report.curves import curves_figure, curves_frame
from convscale.training.board import Board
from convscale.training.history import read_history
from convscale.training.judging import judge
from convscale.training.recipe_files import read_recipe
from convscale.training.watch import Tick
from tests.test_datasets import write_images

NETS = """
import torch
from torch import nn


def net(num_classes=10, in_chans=3):
    return nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )


def seven():
    return net(7)


class Single(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = net(num_classes)

    def forward(self, x):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("single precision alone")
        return self.body(x)


def single(num_classes=10):
    return Single(num_classes)


def texts(num_classes=10):
    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net(num_classes)

        def forward(self, x):
            return "scores", self.body(x)

    return Texts()
"""
QUICK = ["--set", "precision=fp32", "--set", "channels_last=false", "--set", "workers=0"]


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return f"{file}:net"


def trained(capsys, *arguments):
    """Train, and return what is printed as JSON."""
    status = run(["train", *map(str, arguments), *QUICK, "--json"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return json.loads(printed.out)


def refused(capsys, *arguments):
    """Return the one line of a command that is bad input."""
    status = run([*map(str, arguments)])
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, ""), printed.err
    assert printed.err.count("\n") == 1
    return printed.err.strip()


def judged(capsys, *arguments):
    status = run(["eval", *map(str, arguments), "--json"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return json.loads(printed.out)


ERRORS = ("top1_error_pct", "top5_error_pct")


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


STOPPING = """
import os, signal


def net(num_classes=10):
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_sigterm_while_a_run_gets_ready_ends_it_at_once(tmp_path, capsys, flags):
    file = tmp_path / "nets.py"
    file.write_text(STOPPING)
    words = ["train", f"{file}:net", "--data", "digits", "--out", str(tmp_path / "run")]
    assert run([*words, "--resolution", "16", *flags]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    if flags:
        assert json.loads(printed.out)["finished"] is False
    else:
        assert printed.out == (
            "Stopped before training began, with nothing to save. Start the same command again.\n"
        )
    assert not (tmp_path / "run").exists()


def heeds_sigterm(process) -> bool:
    """Tell whether a process has a handler of its own for SIGTERM."""
    with open(f"/proc/{process.pid}/status") as stream:
        caught = next(line for line in stream if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system has no /proc")
@pytest.mark.parametrize("later_s", [0, 0.1, 0.2, 0.5, 1])
def test_sigterm_while_the_program_is_imported_is_heeded(tmp_path, later_s):
    words = ["train", "resnet10t", "--data", "digits", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-m", "convscale.cli.main", *words], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        while process.poll() is None and not heeds_sigterm(process):
            time.sleep(0.001)
        time.sleep(later_s)
        process.terminate()
        said = process.communicate(timeout=60)
    told = "Stopped before training began, with nothing to save. Start the same command again.\n"
    assert (process.returncode, *said) == (0, told, "")
    assert not (tmp_path / "run").exists()


def contents(folder) -> dict:
    """Return the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_that_is_started_again_leaves_its_folder_as_it_is(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    words = [nets, "--data", "digits", "--resolution", 16, "--epochs", 2, "--out", folder]
    found = trained(capsys, *words)
    before = contents(folder)
    assert trained(capsys, *words) == found
    assert run(["train", *map(str, words), *QUICK]) == 0
    printed = capsys.readouterr()
    said = " ".join(printed.out.split())
    assert f"The run in {folder}/ is finished, and nothing in it was changed." in said
    assert "For more epochs write another --out" in said
    assert contents(folder) == before


def test_a_run_that_ended_before_its_result_was_written_gets_it(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    words = [nets, "--data", "digits", "--resolution", 16, "--epochs", 2, "--out", folder]
    found = trained(capsys, *words)
    (folder / "result.json").unlink()
    again = trained(capsys, *words)
    timed = ("peak_memory_bytes",)
    assert {k: v for k, v in again.items() if k not in timed} == {
        k: v for k, v in found.items() if k not in timed
    }
    assert json.loads((folder / "result.json").read_text()) == again


def test_a_result_without_its_parts_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "result.json").write_text('{"schema_version": 1, "network": "n", "data": "digits"}')
    assert refused(capsys, "eval", tmp_path) == (
        f"convscale: {tmp_path}/result.json lacks finished, classes, evaluation, variant, recipe, "
        "which every run writes."
    )


def test_the_table_of_epochs_grows_as_the_run_goes_on(tmp_path, nets, capsys, monkeypatch):
    folder, seen = tmp_path / "run", []
    on_epoch = Lines.on_epoch

    def look(display, row):
        seen.append(read_history(folder))
        on_epoch(display, row)

    monkeypatch.setattr(Lines, "on_epoch", look)
    trained(capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 3, "--out", folder)
    assert [len(rows) for rows in seen] == [1, 2, 3]
    assert seen[-1] == read_history(folder)


def test_curves_are_drawn_from_the_table_of_epochs(tmp_path, nets, capsys):
    folder = tmp_path / "run"
    trained(capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 3, "--out", folder)
    rows = read_history(folder)
    frame = curves_frame(rows)
    for panel, curve, column in (
        ("loss", "training", "train_loss"),
        ("loss", "validation", "validation_loss"),
        ("top-1 error (%)", "weights", "top1_error_pct"),
        ("learning rate", "learning rate", "lr"),
    ):
        own = frame[(frame["panel"] == panel) & (frame["curve"] == curve)]
        assert own["value"].tolist() == [row[column] for row in rows]
        assert own["epoch"].tolist() == [1, 2, 3]
    figure = curves_figure(frame, "net")
    for panel in figure.axes:
        highest = max(max(line.get_ydata()) for line in panel.get_lines())
        assert panel.get_ylim()[0] == 0
        assert panel.get_ylim()[1] > highest
    drawn = figure.axes[1].get_lines()[0]
    assert drawn.get_ydata().tolist() == [row["top1_error_pct"] for row in rows]


def test_tensorboard_shows_the_table_of_epochs_and_the_losses_on_the_way(tmp_path, nets, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    trained(capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 3, "--out", folder)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = read_history(folder)
    for name in ("train_loss", "validation_loss", "top1_error_pct", "top5_error_pct", "lr"):
        marks = events.Scalars(f"epoch/{name}")
        assert [mark.step for mark in marks] == [row["steps"] for row in rows]
        assert [mark.value for mark in marks] == pytest.approx([row[name] for row in rows])
    with (folder / "steps.csv").open() as stream:
        losses = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(stream)}
    marks = events.Scalars("train/loss")
    assert [mark.step for mark in marks] == [10, 20, 30]
    assert [mark.value for mark in marks] == pytest.approx([losses[10], losses[20], losses[30]])


class Full(io.BytesIO):
    """A file on a disk with room for four bytes."""

    def write(self, data):
        return super().write(data[: 4 - len(self.getvalue())])


def test_tensorboard_on_a_full_disk_ends_the_run_in_one_line(tmp_path, nets, capsys, monkeypatch):
    monkeypatch.setattr(Board, "_begun", lambda board, update: Full())
    folder = tmp_path / "run"
    words = ["train", nets, "--data", "digits", "--resolution", "16", "--epochs", "2", *QUICK]
    assert run([*words, "--out", str(folder)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"convscale: Cannot write in {folder}/tensorboard: No space left on device. There is no "
        "checkpoint yet: start the same command again to begin anew."
    )


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


def test_a_bar_shows_loss_throughput_and_what_is_left(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, auto_refresh=False) as shown:
        bar = Bar(shown, epochs=3)
        times = iter([0.0, 2.0])
        bar._pace = Pace(lambda: next(times))
        bar.on_update(Tick(update=10, updates=30, epoch=0, loss=1.25, lr=0.1, images=64))
        bar.on_update(Tick(update=11, updates=30, epoch=1, loss=1.5, lr=0.1, images=64))
        bar.on_epoch({"epoch": 1, "train_loss": 1.25, "top1_error_pct": 7.5})
        shown.refresh()
    lines = stream.getvalue()
    assert "epoch 2/3  37% · loss 1.500 · 32 images/s · 38.0 s left" in lines
    assert "epoch 1/3  loss 1.250 · top-1 error 7.50 %" in lines


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


def test_a_run_that_goes_on_knows_the_broken_images_of_before(tmp_path, nets, capsys, monkeypatch):
    data = write_images(tmp_path / "data", "train", {"a": 8, "b": 8}, side=16)
    write_images(data, "val", {"a": 3, "b": 3}, side=16)
    file = data / "train" / "b" / "3.png"
    whole = file.read_bytes()
    file.write_bytes(b"no image".ljust(len(whole)))  # as many bytes: it stays the same file
    asked = [nets, "--data", data, "--resolution", 16, "--epochs", 3, "--out", tmp_path / "run"]
    asked += ["--set", "batch_size=8"]

    def stop(display, row):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lines, "on_epoch", stop)
        assert run(["train", *map(str, asked), *QUICK]) == 130
    capsys.readouterr()
    file.write_bytes(whole)
    found = trained(capsys, *asked)
    assert found["broken_images"] == ["train/b/3.png"]
    assert found["epochs"] == 3


def test_too_many_broken_images_end_the_run_in_one_line(tmp_path, nets, capsys):
    data = write_images(tmp_path / "data", "train", {"a": 8, "b": 8}, side=16)
    write_images(data, "val", {"a": 3, "b": 3}, side=16)
    for index in range(4):
        (data / "train" / "b" / f"{index}.png").write_bytes(b"no image")
    line = refused(
        capsys, "train", nets, "--data", data, "--resolution", 16, "--epochs", 4,
        "--out", tmp_path / "run", "--set", "batch_size=8", "--set", "broken_limit=3", *QUICK,
    )  # fmt: skip
    assert "4 images cannot be read; broken_limit is 3" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{nets}:seven", "--data", "digits"], "puts out 7 scores an image and the data have 10"),
        (["{nets}:texts", "--data", "digits"], "puts out a tuple in evaluation"),
        (["resnet5", "--data", "digits"], "Unknown network 'resnet5'"),
        (["{nets}:net", "--data", "digit"], "Unknown data 'digit'. Did you mean digits?"),
        (["{nets}:net", "--data", "digits", "--recipe", "weak"], "Unknown recipe 'weak'."),
        (["{nets}:net", "--data", "digits", "--num-classes", "7"], "The data have 10 classes"),
        (["{nets}:net", "--data", "digits", "--epochs", "0"], "The number of epochs is 0"),
        (["{nets}:net", "--data", "digits", "--set", "lr"], "'lr' is no setting"),
        (["{nets}:net", "--data", "digits", "--set", "batch_size=2000"], "than the 1438 images"),
        (["{nets}:net", "--data", "digits", "--device", "tpu"], "tpu"),
        (["{nets}:net", "--data", "digits", "--set", "augment=rand-m9..5"], "'rand-m9..5'"),
        (["{nets}:net", "--data", "digits", "--in-chans", "4"], "4 input channels; images have 3"),
        (["torchvision:r3d_18", "--data", "digits"], "3-dimensional"),
        (["torchvision:alexnet", "--data", "digits", "--set", "test_resolution=16"], "at 16 px"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, nets, capsys, arguments, told):
    file = nets.removesuffix(":net")
    filled = [text.replace("{nets}", file) for text in arguments]
    size = ["--resolution", "32"] if filled[0].startswith(file) else []
    line = refused(capsys, "train", *filled, *size, "--out", tmp_path / "run", *QUICK)
    assert told in line
    assert not (tmp_path / "run").exists()


def test_control_c_does_not_wait_for_the_first_step(tmp_path):
    """A network that takes a minute to be built: there is nothing to write yet."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\n\n\ndef net():\n    print('ready')\n    time.sleep(60)\n")
    words = ["train", f"{slow}:net", "--data", "digits", "--resolution", "8"]
    out = ["--out", str(tmp_path / "run")]
    restored = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    with subprocess.Popen(
        [sys.executable, "-m", "convscale.cli.main", *words, *out], preexec_fn=restored,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)
    assert (process.returncode, *rest) == (130, "", "convscale: interrupted\n")


def test_half_precision_on_a_processor_is_refused(tmp_path, nets, capsys):
    line = refused(
        capsys, "train", nets, "--data", "digits", "--resolution", 16, "--out", tmp_path / "run",
        "--device", "cpu", "--set", "precision=fp16",
    )  # fmt: skip
    assert "Precision fp16 takes a GPU" in line
    assert not (tmp_path / "run").exists()


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


def test_eval_says_where_to_name_data_that_were_moved(tmp_path, nets, capsys, monkeypatch):
    for split in ("train", "val"):
        write_images(tmp_path / "pictures", split, {"a": 4, "b": 4})
    monkeypatch.chdir(tmp_path)
    trained(
        capsys, nets, "--data", "pictures", "--resolution", 16, "--epochs", 1, "--out", "run",
        "--set", "batch_size=4",
    )  # fmt: skip
    (tmp_path / "pictures").rename(tmp_path / "moved")
    line = refused(capsys, "eval", "run", "--base", nets)
    assert "Unknown data 'pictures'" in line
    assert "--data (data=) tells where they are now" in line
    assert judged(capsys, "run", "--base", nets, "--data", "moved")["images"] == 8


@pytest.mark.parametrize("place", ["/proc/no/run", "file/run", "full", ""])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(
    tmp_path, nets, capsys, monkeypatch, place
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    refused(
        capsys, "train", nets, "--data", "digits", "--resolution", 16, "--out", place, *QUICK
    )  # fmt: skip
    assert (tmp_path / "full" / "thesis.txt").read_text() == "all of it"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_saved_network_of_other_classes_is_refused(tmp_path, capsys):
    saved = cs.scale("resnet10t", strategy="w", factor=0.1, num_classes=5, resolution=32)
    saved.save(tmp_path / "saved")
    line = refused(
        capsys, "train", tmp_path / "saved", "--data", "digits", "--out", tmp_path / "run", *QUICK
    )
    assert "puts out 5 scores an image and the data have 10 classes" in line


def test_eval_refuses_what_is_no_run_and_other_classes(tmp_path, nets, capsys):
    assert "holds no result.json" in refused(capsys, "eval", tmp_path)
    data = write_images(tmp_path / "data", "train", {"a": 2, "b": 2}, side=8)
    write_images(data, "val", {"a": 1, "b": 1}, side=8)
    folder = tmp_path / "run"
    trained(capsys, nets, "--data", "digits", "--resolution", 16, "--epochs", 1, "--out", folder)
    line = refused(capsys, "eval", folder, "--data", data, "--base", nets)
    assert "trained on 10 classes (0, 1, 2, …) and the data have 2 (a, b)" in line
    assert "no code that a folder names is run" in refused(capsys, "eval", folder)


def test_loading_takes_no_weights_from_elsewhere(tmp_path, capsys):
    folder = cs.scale("resnet10t", strategy="w", factor=0.1).save(tmp_path / "saved")
    document = json.loads((folder / "convscale.json").read_text())
    for name in ("../model.safetensors", "/etc/passwd", "model.bin", ""):
        (folder / "convscale.json").write_text(json.dumps({**document, "weights": name}))
        with pytest.raises(cs.InputError, match="is no file of weights"):
            cs.load(folder)


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

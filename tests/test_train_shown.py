"""What a person sees of a training run: tables, curves, TensorBoard, a bar."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from convscale.cli.main import run
from convscale.cli.watch import Bar, Lines, Pace
from convscale.report.curves import curves_figure, curves_frame
from convscale.training.board import Board
from convscale.training.history import read_history
from convscale.training.watch import Tick
from tests.training_commands import QUICK, trained, write_nets


@pytest.fixture
def nets(tmp_path):
    return write_nets(tmp_path)


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

"""Views of a count on the terminal, as JSON, as CSV, and as figures drawn from a table."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

import convscale as cs
from convscale.cli.main import run
from convscale.complexity.calls import OperatorCall, StageSpan
from convscale.complexity.views import Operators
from convscale.report.along import COLUMNS, along_figure, along_frame, along_page
from convscale.report.bands import Band, bands, labels
from convscale.report.exports import write_csv, write_plot
from convscale.report.layout import plain_lines
from convscale.report.paper import paper_figure, rendered
from convscale.report.views import moved_table, view_table

METRICS = ("flops", "params", "acts")


def made_up() -> Operators:
    """A stem, two stages and a head, with numbers that nobody mistakes."""
    calls = (
        OperatorCall("stem", "aten.convolution", "convolution kxk", 100, 10, 50, 400, 200, 40),
        OperatorCall("act", "aten.relu", "activation", 0, 0, 0, 200, 200),
        OperatorCall("a.0", "aten.convolution", "convolution 1x1", 300, 30, 20, 320, 80, 120),
        OperatorCall("a.0", "aten.native_batch_norm", "norm", 0, 4, 0, 96, 80, 16),
        OperatorCall("b.0", "aten.convolution", "convolution depthwise", 60, 6, 10, 104, 40, 24),
        OperatorCall("", "aten.addmm", "linear", 40, 44, 4, 216, 16, 176),
    )
    spans = (StageSpan("a", ("a.0",)), StageSpan("b", ("b.0",)))
    return Operators("net", (64, 32), params=100, calls=calls, stages=spans)


def ran(arguments: list[str], capsys) -> str:
    assert run(["count", *arguments]) == 0
    return capsys.readouterr().out


def refused(arguments: list[str], capsys) -> str:
    assert run(["count", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_the_table_by_stage_shows_shares_where_there_is_room():
    wide = plain_lines(view_table(made_up(), "stage"), width=120)
    assert wide[0] == "By stage, one forward pass of 1 image in float32"
    assert wide[1] == "stage calls flops % params % acts % bytes weights flops/byte"
    assert wide[2] == "stem 2 100 20.0 10 10.0 50 59.5 1.00K 40 0.10"
    assert wide[-2] == "unused 0 0 0.0 6 6.0 0 0.0 0 0 –"
    assert wide[-1] == "total 6 500 100.0 100 100.0 84 100.0 1.95K 376 0.26"
    narrow = plain_lines(view_table(made_up(), "stage"), width=60)
    assert narrow[2] == "stem 2 100 10 50 1.00K 0.10"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("view", ["stage", "kind", "total"])
def test_tables_fit_the_window(view, width):
    from rich.console import Console

    found = cs.operators("timm:densenet121", stages=True)
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(view_table(found, view))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    rows = len(found.by(view))
    assert sum(bool(line.strip("─ ")) for line in lines) <= rows + 6  # no row is folded


def test_what_is_moved_stands_in_a_table():
    lines = plain_lines(moved_table(made_up()))
    assert lines[1:] == [
        "value short",
        "bytes read 1,336 1.34K",
        "of them weights 376 376",
        "bytes written 616 616",
        "flops/byte 0.2561",
    ]


def test_the_view_by_operator_has_a_line_a_call():
    lines = plain_lines(view_table(made_up(), "operator"))
    assert len(lines) == 2 + 6
    assert lines[-1] == "the network itself linear 40 44 4 232 0.17"


@pytest.mark.parametrize("view", ["layer", "stage", "kind"])
def test_json_has_the_parts_and_they_add_up(view, capsys):
    document = json.loads(ran(["resnet18", "--by", view, "--json"], capsys))
    parts = document[f"by_{view}"]
    for metric in METRICS:
        assert sum(part[metric] for part in parts) == document[metric]
    for metric in ("bytes_read", "bytes_written", "weight_bytes"):
        assert sum(part[metric] for part in parts) == document["moved"][metric]
    moved = document["moved"]["bytes_read"] + document["moved"]["bytes_written"]
    assert document["moved"]["flops_per_byte"] == document["flops"] / moved


def test_json_by_operator_lists_every_call(capsys):
    document = json.loads(ran(["resnet18", "--by", "operator", "--json"], capsys))
    first = document["operators"][0]
    assert (first["path"], first["kernel"], first["flops"]) == ("conv1", "7x7", 118_013_952)
    assert sum(call["flops"] for call in document["operators"]) == 1_814_073_344


def test_without_views_the_document_is_as_it_was(capsys):
    document = json.loads(ran(["resnet18", "--json"], capsys))
    assert "moved" not in document
    assert not any(key.startswith("by_") for key in document)


def test_dtype_and_batch_size_alone_show_what_is_moved(capsys):
    arguments = ["resnet18", "--dtype", "float16", "--batch-size", "4"]
    assert "one forward pass of 4 images in float16" in ran(arguments, capsys)
    document = json.loads(ran([*arguments, "--json"], capsys))
    assert document["moved"]["dtype"] == "float16"
    assert document["moved"]["batch_size"] == 4
    # 9600 running means and variances are read beside the params
    assert document["moved"]["weight_bytes"] == 2 * (11_689_512 + 9_600)
    assert document["flops"] == 1_814_073_344  # of one image, as always


@pytest.mark.parametrize("view", ["total", "layer", "stage", "kind", "operator"])
def test_csv_is_read_back_by_pandas_as_it_was(view, tmp_path):
    path = write_csv(made_up(), view, tmp_path / "new" / "net.csv")
    lines = pd.read_csv(path, keep_default_na=False, na_values=[])
    frame = made_up().frame(view)
    assert list(lines.columns) == list(frame.columns)
    assert len(lines) == len(frame)
    assert lines["flops"].tolist() == frame["flops"].tolist()
    assert set(lines["resolution_px"]) == {"64x32"}


def test_the_command_writes_csv_and_plot_beside_its_answer(capsys, tmp_path):
    csv, plot = tmp_path / "a.csv", tmp_path / "a.svg"
    arguments = ["resnet18", "--by", "kind", "--csv", str(csv), "--plot", str(plot)]
    out = ran(arguments, capsys)
    assert f"Table: {csv}" in out
    assert f"Plot: {plot}" in out
    frame = pd.read_csv(csv)
    assert frame["params"].sum() == 11_689_512
    assert list(frame["kind"])[:2] == ["convolution 1x1", "convolution kxk"]
    assert plot.read_text().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "colour"], "Unknown view 'colour'. Use total, layer, stage, kind or operator."),
        (["--csv", "."], "'.' is no file name. Write one, as in --csv resnet50.csv."),
        (["--plot", "a.gif"], "'a.gif' does not tell the form of the plot. End it in .html"),
        (["--dtype", "float3"], "Unknown dtype 'float3'. Use float64, float32"),
        (["--batch-size", "0"], "The batch size is 0; it must be at least 1."),
        (["--csv", "/proc/a.csv"], "Cannot write"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys):
    assert re.search(re.escape(message), refused(["resnet18", *arguments], capsys))


def test_the_figure_is_drawn_from_the_table():
    frame = along_frame(made_up())
    assert list(frame.columns) == COLUMNS
    assert frame["path"].tolist() == ["stem", "a.0", "a.0", "b.0", ""]
    assert frame["stage"].tolist() == ["stem", "a", "a", "b", "head"]
    expected = [
        (group, list(own["position"]), list(own[metric]))
        for metric in METRICS
        for group, own in frame.groupby("group", sort=False)
    ]
    drawn = [(bar.name, list(bar.x), list(bar.y)) for bar in along_figure(frame).data]
    assert sorted(drawn) == sorted(expected)


def test_the_figure_for_papers_has_the_same_bars():
    frame = along_frame(made_up())
    panels = paper_figure(frame, "net").axes
    for panel, metric in zip(panels, METRICS, strict=True):
        drawn = {
            (round(bar.get_x() + bar.get_width() / 2), bar.get_height())
            for bars in panel.containers
            for bar in bars
        }
        assert drawn == set(zip(frame["position"], frame[metric], strict=True))


@pytest.mark.parametrize(
    ("form", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_of_equal_tables_are_equal_files(form, start):
    frame = along_frame(made_up())
    first, second = (rendered(paper_figure(frame, "net"), form) for _ in range(2))
    assert first.startswith(start)
    assert first == second


def test_the_page_escapes_names_and_needs_no_other_file(tmp_path):
    call = OperatorCall("<b>", "aten.mm", "linear", flops=8, acts=2)
    found = Operators("<net>", 8, calls=(call,), stages=())
    page = along_page(found)
    assert "<net>" not in page
    assert "<script src" not in page
    path = write_plot(found, tmp_path / "a.html")
    assert "&lt;net&gt;" in path.read_text()


def test_stages_are_runs_and_their_names_do_not_touch():
    frame = along_frame(made_up())
    assert bands(frame) == [
        Band("stem", 1, 1),
        Band("a", 2, 3),
        Band("b", 4, 4),
        Band("head", 5, 5),
    ]
    many = [Band(f"stages.{i}.blocks", 5 * i + 1, 5 * i + 5) for i in range(9)]
    assert [name for _, name in labels(many)] == [f"stages.{i}" for i in range(9)]


def test_a_network_of_nothing_that_counts_has_an_empty_figure():
    empty = Operators("net", 8, calls=(OperatorCall("a", "aten.relu", "activation"),), stages=())
    assert len(along_figure(along_frame(empty)).data) == 0
    assert rendered(paper_figure(along_frame(empty), "net"), "svg")

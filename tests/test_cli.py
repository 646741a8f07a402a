"""The commands: what they print, and that nothing else reaches stdout."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

import convscale
from convscale.cli import program as cli
from convscale.cli import progress
from convscale.cli.answer import Page
from convscale.cli.main import run
from convscale.complexity import Count
from convscale.runtime import Spread
from convscale.study import Comparison, Row

HEAVY = {"torch", "torchvision", "timm", "pandas", "plotly", "scipy", "numpy"}
COMMAND = [sys.executable, "-m", "convscale.cli.main"]

NETS = """
import warnings

from torch import nn

print("the file says hello")


class Block(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )
        same = width == out and stride == 1
        self.right = nn.Identity() if same else nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, x):
        return (self.left(x) + self.right(x)).relu()


def net():
    print("and so does its factory")
    warnings.warn("this factory is old", FutureWarning)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.Sequential(Block(16, 32, 1), Block(32, 32, 1), Block(32, 32, 1)),
        nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )
"""


def convolution(k, c_in, c_out, side):
    """(flops, params, acts) of a convolution without bias, by the formula of FACTS 1."""
    weights = k * k * c_in * c_out
    return weights * side * side, weights, c_out * side * side


def net_by_formula(side):
    """(flops, params, acts) of NETS:net, summed from the formula of each layer."""
    half, quarter = side // 2, side // 4
    layers = [convolution(3, 3, 16, half), convolution(1, 16, 32, half)]
    layers += [convolution(3, 16, 32, half)] + 5 * [convolution(3, 32, 32, half)]
    layers += [convolution(1, 32, 64, quarter), convolution(3, 32, 64, quarter)]
    layers += 5 * [convolution(3, 64, 64, quarter)]
    norms = 2 * 6 * 32 + 2 * 6 * 64
    layers += [(640, 650 + norms, 10)]
    return tuple(sum(column) for column in zip(*layers, strict=True))


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return f"{path}:net"


@pytest.fixture
def ask(capsys):
    def asked(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out

    return asked


def test_help_names_every_command_and_touches_no_heavy_package():
    show = (
        "import sys; from convscale.cli.main import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    for name in ("count", "scale", "compare", "measure", "strategies"):
        assert f" {name} " in done.stdout
    assert "convscale" in (touched := set(done.stderr.split()))
    assert HEAVY.isdisjoint(touched)


@pytest.mark.parametrize(
    "code", ["import convscale.cli.program", "import convscale; dir(convscale)"]
)
def test_imports_touch_no_heavy_package(code):
    show = f"{code}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("command", ["count", "scale", "compare", "measure", "strategies"])
def test_each_command_explains_itself_without_showing_its_doctest(command, ask):
    shown = ask(command, "--help")
    assert f"Example: convscale {command}" in shown
    assert "--json" in shown
    assert ">>>" not in shown
    assert "<bool>" not in shown


def test_version_is_the_one_that_is_installed(ask):
    assert ask("--version") == f"convscale {metadata.version('convscale')}\n"


@pytest.mark.parametrize("name", convscale.__all__)
def test_every_export_of_the_library_is_there(name):
    assert getattr(convscale, name) is not None
    assert name in dir(convscale)


def test_an_unknown_attribute_of_the_library_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'convscale' has no attribute 'cuont'"):
        convscale.cuont  # noqa: B018


def test_count_prints_the_published_counts_of_resnet50(ask):
    document = json.loads(ask("count", "resnet50", "--json"))
    assert document["schema_version"] == 1
    assert (document["network"], document["resolution"]) == ("timm:resnet50", 224)
    counts = [document[metric] for metric in ("flops", "params", "acts")]
    assert counts == [4_089_184_256, 25_557_032, 11_114_984]
    assert document["uncounted"] == []
    shown = ask("count", "resnet50")
    assert all(f"{count:,}" in shown for count in counts)


def test_count_follows_the_formula_layer_by_layer(net, ask):
    document = json.loads(ask("count", net, "--resolution", 32, "--layers", "--json"))
    counts = tuple(document[metric] for metric in ("flops", "params", "acts"))
    assert counts == net_by_formula(32)
    for metric in ("flops", "acts"):
        assert sum(layer[metric] for layer in document["layers"]) == document[metric]


def test_count_takes_both_sides_classes_and_input_channels(ask):
    line = ("count", "resnet18", "--num-classes", 10, "--in-chans", 1, "--json")
    document = json.loads(ask(*line, "--resolution", "256x128"))
    assert document["resolution"] == [256, 128]
    default = json.loads(ask("count", "resnet18", "--json"))
    # The stem loses 2 of 3 input channels, the classifier 990 of 1000 classes.
    stem, classes = 2 * 7 * 7 * 64, 990 * (512 + 1)
    assert document["params"] == default["params"] - stem - classes


def test_scale_prints_what_was_asked_and_what_came(net, ask):
    line = ("scale", net, "--strategy", "w", "--factor", 4, "--resolution", 32, "--json")
    document = json.loads(ask(*line))
    base = net_by_formula(32)
    assert document["requested"] == {"factor": 4.0}
    assert (document["strategy"], document["factor"]) == ("w", 4.0)
    assert document["factors"] == {
        "depth": 1.0,
        "width": 2.0,
        "group_width": 2.0,
        "resolution": 1.0,
    }
    assert document["base"] == {
        "resolution": 32,
        **dict(zip(("flops", "params", "acts"), base, strict=True)),
    }
    for metric in ("flops", "params", "acts"):
        ratio = document["achieved"][metric] / document["base"][metric]
        assert document["ratio"][metric] == pytest.approx(ratio)
    assert document["ratio"]["flops"] == pytest.approx(4, rel=0.05)
    assert "w at 4x" in ask(*line[:-1])


@pytest.mark.parametrize(
    ("target", "written", "budget"),
    [("flops", "3.6G", 3.6e9), ("params", "2e7", 2e7), ("acts", "4000K", 4e6)],
)
def test_scale_meets_a_budget_in_any_notation(target, written, budget, ask):
    line = ("scale", "resnet18", "--strategy", "dWr", f"--{target}", written, "--json")
    document = json.loads(ask(*line))
    assert document["requested"] == {target: budget}
    assert document["achieved"][target] == pytest.approx(budget, rel=0.03)


def test_scale_keeps_an_axis_that_the_network_cannot_follow(ask):
    line = ("scale", "vgg11", "--strategy", "dWr", "--factor", 2, "--keep", "d", "--json")
    document = json.loads(ask(*line))
    # The shares of dWr are 0.1, 0.8 and 0.1; without d, w has 8/9 and r 1/9.
    assert document["factors"] == pytest.approx(
        {
            "depth": 1.0,
            "width": 2 ** (4 / 9),
            "group_width": 2 ** (4 / 9),
            "resolution": 2 ** (1 / 18),
        }
    )
    assert any(note.startswith("Kept d: ") for note in document["notes"])
    assert document["ratio"]["flops"] == pytest.approx(2, rel=0.1)


def test_scale_saves_a_folder_that_counts_the_same(tmp_path, ask):
    out = tmp_path / "deep" / "scaled"
    line = ("scale", "timm:test_resnet", "--strategy", "w", "--factor", 2, "--out", out, "--json")
    document = json.loads(ask(*line))
    counted = json.loads(ask("count", out, "--json"))
    for metric in ("flops", "params", "acts"):
        assert counted[metric] == document["achieved"][metric]


def test_scale_writes_nothing_unless_asked(net, tmp_path, ask, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    ask("scale", net, "--strategy", "w", "--factor", 2, "--resolution", 32)
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_compare_has_a_row_for_each_base_strategy_and_factor(net, ask):
    line = ("compare", net, "--strategies", "w,dWr,w", "--factors", "2,4,2", "--resolution", 32)
    document = json.loads(ask(*line, "--json"))
    rows = [(row["strategy"], row["factor"]) for row in document["rows"]]
    assert rows == [(None, 1.0), ("w", 2.0), ("w", 4.0), ("dWr", 2.0), ("dWr", 4.0)]
    assert document["correlation"] is None
    assert document["recommendations"] == []
    assert all("latency_ms" not in row for row in document["rows"])


def test_compare_measures_recommends_and_writes_a_report(net, tmp_path, ask):
    page = tmp_path / "new" / "report.html"
    line = ["compare", net, "--strategies", "w", "--factors", "2,4", "--resolution", 32]
    line += ["--measure", "--repeats", 3, "--threads", 1, "--latency-budget", "1000x"]
    shown = ask(*line, "--html", page)
    assert "flops stand in for accuracy" in shown
    assert "build" in shown
    assert "w at 4x" in shown
    assert "Measured on cpu" in shown
    assert "1 thread on" in shown
    assert f"Report: {page}" in shown
    assert "w at 4x" in page.read_text()
    document = json.loads(ask(*line, "--json"))
    assert set(document["correlation"]) == {"flops", "params", "acts"}
    assert document["best_predictor"] in document["correlation"]
    (chosen,) = document["recommendations"]
    assert (chosen["strategy"], chosen["factor"]) == ("w", 4.0)
    base = document["rows"][0]["latency_ms"]["median"]
    assert chosen["latency_budget_ms"] == pytest.approx(1000 * base)


def timed(network, strategy, factor, ms):
    grown = dict.fromkeys(("flops", "params", "acts"), factor)
    size = round(1000 * factor)
    latency = Spread(ms, 0.0, 3)
    return Row(network, strategy, factor, 32, size, size, size, ratio=grown, latency=latency)


@pytest.fixture
def comparing(monkeypatch):
    """Let `compare` find two networks of 1 and 10 ms, which grow to 2 and 20 ms."""
    rows = [timed("small", None, 1.0, 1.0), timed("small", "w", 2.0, 2.0)]
    rows += [timed("large", None, 1.0, 10.0), timed("large", "w", 2.0, 20.0)]
    found = Comparison(tuple(rows))
    monkeypatch.setattr("convscale.study.compare", lambda *_, **__: found)


@pytest.mark.usefixtures("comparing")
def test_compare_answers_where_something_fits_and_names_what_does_not(ask):
    line = ("compare", "small", "large", "--measure", "--latency-budget", "5ms")
    shown = " ".join(ask(*line).split())
    assert "Within 5.00 ms, build small scaled by w at 2x" in shown
    assert (
        "No scaled network of large fits 5.00 ms. The nearest, w at 2x, takes 20.0 ms, 15.0 ms too "
        "long."
    ) in shown
    small, large = json.loads(ask(*line, "--json"))["recommendations"]
    assert (small["strategy"], large["strategy"]) == ("w", None)
    assert large["violations"] == [{"strategy": "w", "factor": 2.0, "excess_ms": 15.0}]


@pytest.mark.usefixtures("comparing")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_compare_refuses_where_nothing_fits_at_all(more, capsys):
    line = ["compare", "small", "large", "--measure", "--latency-budget", "1ms", *more]
    assert run(line) == 3
    assert capsys.readouterr() == (
        "",
        "convscale: No scaled network of small fits 1.00 ms. The nearest, w at 2x, takes 2.00 ms, "
        "1.00 ms too long. No scaled network of large fits 1.00 ms. The nearest, w at 2x, takes "
        "20.0 ms, 19.0 ms too long. Raise --latency-budget or add smaller factors.\n",
    )


@pytest.mark.usefixtures("comparing")
def test_compare_without_a_budget_recommends_nothing_and_answers(ask):
    shown = ask("compare", "small", "large", "--measure")
    assert "build" not in shown
    assert "2.00 ± 0" in shown


def test_measure_tells_latency_spread_and_conditions(net, ask):
    line = ("measure", net, "--resolution", 32, "--repeats", 5, "--threads", 1)
    document = json.loads(ask(*line, "--batch-size", 2, "--json"))
    assert (document["resolution"], document["batch_size"]) == (32, 2)
    assert document["latency_ms"]["repeats"] == 5
    assert document["conditions"]["threads"] == 1
    seconds = document["latency_ms"]["median"] / 1e3
    assert document["images_per_second"] == pytest.approx(2 / seconds)
    assert "latency" in ask(*line)


def test_strategies_show_the_exponents_of_the_law(ask):
    rows = {row["strategy"]: row for row in json.loads(ask("strategies", "--json"))["strategies"]}
    assert list(rows) == ["d", "w", "r", "dw", "dr", "wr", "dwr", "dWr"]
    for row in rows.values():
        e = row["exponents"]
        assert math.isclose(e["depth"] + 2 * e["width"] + 2 * e["resolution"], 1)
    assert rows["dWr"]["growth"] == {"flops": 1.0, "params": 0.9, "acts": 0.6}
    assert "s^0.9" in ask("strategies")


def test_only_the_document_reaches_stdout_and_warnings_follow_on_stderr(net, capsys):
    assert run(["count", net, "--resolution", "32", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["flops"] == net_by_formula(32)[0]
    assert "the file says hello" in err
    assert err.splitlines()[-1] == "convscale: warning: this factory is old"


@pytest.fixture
def counting(monkeypatch):
    """Let `count` do something else than counting."""

    def replaced_by(function):
        monkeypatch.setattr("convscale.scaling.count", lambda *_, **__: function(), raising=False)

    return replaced_by


def interrupt():
    raise KeyboardInterrupt


def fail():
    warnings.warn("half way", UserWarning, stacklevel=1)
    sys.stdout.write("half an answer\n")
    raise KeyError("width")


def test_an_interruption_is_one_line_and_status_130(counting, capsys):
    counting(interrupt)
    assert run(["count", "net"]) == 130
    assert capsys.readouterr() == ("", "convscale: interrupted\n")


WAITING = "import sys, time\nprint('ready', flush=True)\ntime.sleep(60)\n"


@pytest.mark.parametrize("code", [WAITING, f"exec({WAITING!r})"], ids=["code", "code in a text"])
def test_control_c_ends_a_real_process_with_one_line(tmp_path, code):
    slow = tmp_path / "slow.py"
    slow.write_text(code)
    out = tmp_path / "scaled"
    line = ["scale", f"{slow}:net", "--strategy", "w", "--factor", "2", "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    restored = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    with subprocess.Popen([*COMMAND, *line], preexec_fn=restored, **pipes) as process:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)
    assert (process.returncode, *rest) == (130, "", "convscale: interrupted\n")
    assert not out.exists()


def test_a_defect_is_one_line_and_status_1(counting, capsys, monkeypatch):
    monkeypatch.delenv("CONVSCALE_TRACEBACK", raising=False)
    counting(fail)
    assert run(["count", "net"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "convscale: internal error: KeyError: 'width'; please report it" in err
    assert "Traceback" not in err
    assert "half way" not in err


def test_a_defect_shows_its_traceback_where_asked(counting, capsys, monkeypatch):
    monkeypatch.setenv("CONVSCALE_TRACEBACK", "1")
    counting(fail)
    assert run(["count", "net"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_number_that_json_cannot_hold_is_a_defect_and_prints_nothing(counting, capsys):
    counting(lambda: Count(1, 1, math.nan, network="net"))
    assert run(["count", "net", "--json"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [["strategies"], ["strategies", "--json"], ["--help"]])
def test_a_reader_who_has_gone_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = subprocess.run([*COMMAND, *arguments], stdout=stdout, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["strategies"], ["--help"], ["--version"]])
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith(b"convscale: Cannot write to the standard output: ")
    assert len(done.stderr.splitlines()) == 1


def test_output_survives_a_terminal_without_unicode():
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    done = subprocess.run([*COMMAND, "strategies"], env=environment, capture_output=True)
    assert done.returncode == 0
    assert b"s^0.9" in done.stdout
    assert done.stderr == b""


def test_a_long_line_is_not_cut_where_nobody_sets_a_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    line = "x" * 150
    page = Page(None)
    page.show([line])
    assert page.getvalue() == f"{line}\n"


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    seconds = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with progress.progress("Measuring") as report:
        for done in range(1, 10):
            report(done, 9)
    assert capsys.readouterr() == (
        "",
        "Measuring: 3 of 9\nMeasuring: 6 of 9\nMeasuring: 9 of 9\n",
    )


def test_progress_on_a_terminal_leaves_nothing_behind(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress("Measuring") as report:
        report(1, 2)
    assert "Measuring" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")


def test_every_command_is_run_through_the_class_that_guards_stdout():
    group = cli.typer.main.get_command(cli.app)
    assert {"count", "recipe"} <= set(group.commands)
    waiting = list(group.commands.values())
    while waiting:
        command = waiting.pop()
        if isinstance(command, cli.Group):
            assert command.commands
            waiting.extend(command.commands.values())
        else:
            assert isinstance(command, cli.Command), command.name


def test_what_to_keep_may_be_written_once_or_repeated(ask):
    line = ("scale", "resnet18", "--strategy", "w", "--factor", 4, "--json")
    once = json.loads(ask(*line, "--keep", "stem,head"))
    assert json.loads(ask(*line, "--keep", "stem", "--keep", "head")) == once
    assert once["achieved"] != json.loads(ask(*line, "--keep", "head"))["achieved"]

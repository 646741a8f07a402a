"""Bad input gets one clear line on stderr, an empty stdout and its exit status."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from convscale.cli.main import run
from convscale.errors import InputError
from convscale.quantities import parse_number

TWO_STAGES = """
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )


def broken():
    raise RuntimeError("no such luck")


def number():
    return 7


def needs(argument):
    return net()


def leaves():
    raise SystemExit(0)


def unfit():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(8, 16, 3))
"""

# Command line -> what its one line says. All of these are found before any network is touched.
PARSED = {
    "": r"Missing command\. The commands are count, scale, compare, measure, correlate, "
    r"calibrate, predict, profiles, plan, select, memory, stages, diff, strategies, laws, fit, "
    r"train, eval, recipe\.",
    "cuont resnet18": r"No such command 'cuont'\. Did you mean 'count'\?",
    "--bogus": r"No such option: --bogus\.",
    "count": r"Missing argument 'NETWORK'\. See 'convscale count --help'\.",
    "count a b": r"unexpected extra argument",
    "count resnet18 --bogus": r"No such option: --bogus\.",
    "count resnet18 --resolution": r"Option '--resolution' requires an argument\.",
    "count resnet18 --json=3": r"Option '--json' does not take a value\.",
    "count resnet18 --resolution 0": r"The resolution is 0; it must be at least 1\.",
    "count resnet18 --resolution -224": r"The resolution is -224; it must be at least 1\.",
    "count resnet18 --resolution 224x0": r"The resolution is 0; it must be at least 1\.",
    "count resnet18 --resolution big": r"Cannot read 'big' as a resolution\. Write 224,",
    "count resnet18 --resolution 1x2x3x4": r"Cannot read '1x2x3x4' as a resolution\.",
    "count resnet18 --convention pycsl": r"Unknown convention 'pycsl'\. Use .*, torch or all\.",
    "count resnet18 --num-classes x": r"Cannot read 'x' as the number of classes\. Write an int",
    "count resnet18 --num-classes -1": r"The number of classes is -1; it must be at least 1\.",
    "count resnet18 --in-chans 0": r"The number of input channels is 0; it must be at least 1\.",
    "scale resnet18 --factor 2": r"Missing option '--strategy'\.",
    "scale resnet18 --strategy w": r"No target was given\. Write exactly one of --factor, --flops, "
    r"--params, --acts, --latency and --memory, as in --factor 2\.",
    "scale resnet18 --strategy w --factor 2 --flops 1G": r"2 targets were given: --factor 2 and "
    r"--flops 1G\. Write exactly one of",
    "scale resnet18 --strategy w --params 1M --acts 1M --flops 1G": r"3 targets were given",
    "scale resnet18 --strategy w --factor 0": r"The factor is 0(\.0)?; it must be positive",
    "scale resnet18 --strategy w --factor -1": r"The factor is -1(\.0)?; it must be positive",
    "scale resnet18 --strategy w --factor=-1": r"The factor is -1(\.0)?; it must be positive",
    "scale resnet18 --strategy w --factor nan": r"The factor is nan; it must be positive",
    "scale resnet18 --strategy w --factor inf": r"The factor is inf; it must be positive",
    "scale resnet18 --strategy w --factor -inf": r"The factor is -inf; it must be positive",
    "scale resnet18 --strategy w --factor 1e999": r"The factor is inf; it must be positive",
    "scale resnet18 --strategy w --factor two": r"Cannot read 'two' as a factor\.",
    "scale resnet18 --strategy w --factor ''": r"Cannot read '' as a factor\.",
    "scale resnet18 --strategy w --flops 0": r"The flops budget is 0(\.0)?; it must be positive",
    "scale resnet18 --strategy w --flops 1.6Q": r"'1\.6Q' as a flops budget\. Write "
    r"1600000000, 1\.6e9 or 1\.6G\.",
    "scale resnet18 --strategy dWq --factor 2": r"Unknown axis 'q' in strategy 'dWq'\..* Use d, "
    r"w, g and r: 'dwr' \(uniform\), 'dWr' \(fast\)",
    "scale resnet18 --strategy '' --factor 2": r"Unknown strategy ''\.",
    "scale resnet18 --strategy dWr@1.5 --factor 2": r"α in 'dWr@1\.5' must be a number in \[0",
    "scale resnet18 --strategy dWr@-0.1 --factor 2": r"α in 'dWr@-0\.1' must be a number in \[0",
    "scale resnet18 --strategy dWr@nan --factor 2": r"α in 'dWr@nan' must be a number in \[0",
    "scale resnet18 --strategy w --factor 2 --rounding up": r"rounding 'up'\. Use nearest, ",
    "scale resnet18 --strategy w --factor 2 --convention no": r"Unknown convention 'no'\.",
    "scale resnet18 --strategy w --factor 2 --width-multiple 0": r"The width multiple is 0;",
    "scale resnet18 --strategy w --factor 2 --seed -1": r"The seed is -1; it must be at least 0\.",
    "scale resnet18 --strategy w --factor 2 --seed 1.5": r"Cannot read '1.5' as the seed\.",
    "scale resnet18 --strategy w --factor 2 --seed 99999999999999999999": r"must be below 2\*\*63",
    "scale resnet18 --strategy w --factor 2 --keep ,": r"The list of parts to keep is empty\.",
    "scale resnet18 --strategy w --factor 2 --out ''": r"The name of the output folder is empty\.",
    "measure resnet18 --batch-size 0": r"The batch size is 0; it must be at least 1\.",
    "measure resnet18 --batch-size -4": r"The batch size is -4; it must be at least 1\.",
    "measure resnet18 --batch-size many": r"Cannot read 'many' as the batch size\.",
    "measure resnet18 --resolution 0": r"The resolution is 0; it must be at least 1\.",
    "measure resnet18 --threads 0": r"The number of threads is 0; it must be at least 1\.",
    "measure resnet18 --repeats 0": r"The number of repeats is 0; it must be at least 1\.",
    "measure resnet18 --time-limit -1": r"The time limit in seconds is -1(\.0)?;",
    "measure resnet18 --device gpu": r"Unknown device 'gpu'\. Use cpu, cuda",
    "compare": r"Missing argument 'NETWORK'\.",
    "compare resnet18 --strategies ''": r"The list of strategies is empty\. Write at least one, as "
    r"in w,dwr,dWr\.",
    "compare resnet18 --strategies ,": r"The list of strategies is empty\.",
    "compare resnet18 --strategies w,x": r"Unknown axis 'x' in strategy 'x'\.",
    "compare resnet18 --factors ,": r"The list of factors is empty\. Write .*2,4\.",
    "compare resnet18 --factors 2,0": r"The factor is 0(\.0)?; it must be positive",
    "compare resnet18 --batch-size 0": r"The batch size is 0; it must be at least 1\.",
    "compare resnet18 --latency-budget 2x": r"The latency budget 2x needs latencies\. Add",
    "compare resnet18 --measure --latency-budget 2": r"Cannot read '2' as a latency budget\. "
    r"Write 2\.5x \(the base's\) or 8ms\.",
    "compare resnet18 --measure --latency-budget 0x": r"The latency budget is 0(\.0)?; it must be",
    "compare resnet18 --measure --latency-budget -8ms": r"The latency budget is -8(\.0)?;",
    "compare resnet18 --html ''": r"'' is no file name\. Write one, as in --html report\.html\.",
    "compare resnet18 --html new/": r"'new/' is no file name\.",
    "strategies dWr": r"unexpected extra argument",
}

# Found by resolving, running or scaling the network; {here} is a folder with files in it.
FOUND = {
    "count resnet5": r"resnet5\b.*Did you mean .*resnet50",
    "count timm:resnet5": r"resnet5\b.*Did you mean .*resnet50",
    "count torchvision:resnet5": r"resnet5\b.*Did you mean .*resnet50",
    "count qqqqqqqqqqqq": r"qqqqqqqqqqqq",
    "count ''": r"''",
    "count 'a\nb\tc'": r"a",
    "count nolibrary:resnet50": r"nolibrary",
    "count resnet18@dWr:0": r"0(\.0)?; it must be positive",
    "count resnet18@dWq:2": r"Unknown axis 'q'",
    "count {here}/nets.py:absent": r"absent",
    "count {here}/nets.py:": r"nets\.py",
    "count {here}/nets.py:number --resolution 32": r"number",
    "count {here}/nets.py:broken --resolution 32": r"no such luck",
    "count {here}/nets.py:needs --resolution 32": r"argument",
    "count {here}/nets.py:leaves --resolution 32": r"ended the process|SystemExit",
    "count {here}/nets.py:unfit --resolution 32": r"unfit|module|expected",
    "count {here}/nets.py:net": r"resolution",
    "count {here}/missing.py:net --resolution 32": r"missing\.py",
    "count {here}/notes.txt:net --resolution 32": r"notes\.txt",
    "count {here}/broken.py:net --resolution 32": r"broken\.py",
    "count {here}/stops.py:net --resolution 32": r"stops|ended the process",
    "count {here} --resolution 32": r".",
    "count torchvision:squeezenet1_1 --resolution 8": r"8",
    "count vgg11 --resolution 16x32x32": r"The resolution 16x32x32 has 3 sides; .* takes 2\.",
    "measure torchvision:squeezenet1_1 --resolution 8": r"8",
    "scale torchvision:squeezenet1_1 --strategy w --factor 2 --resolution 8": r"8",
    "scale resnet5 --strategy w --factor 2": r"resnet5\b.*Did you mean .*resnet50",
    "scale resnet18 --strategy w --flops 100": r"smallest",
    "scale resnet18 --strategy w --params 10": r"smallest",
    "scale resnet18 --strategy dWr --acts 10": r"smallest",
    "scale vgg11 --strategy dWr --factor 2 --keep d,q": r"Cannot keep 'q'\. What can be kept",
    "scale vgg11 --strategy dWr --factor 2 --keep d,w,r": r"Nothing is left to scale by 'dWr'",
    "scale resnet18 --strategy w --factor 2 --out {here}": r"exists already\. Name a folder",
    "scale resnet18 --strategy w --factor 2 --out {here}/nets.py/x": r"is not a folder",
    "compare resnet5 --factors 2": r"resnet5\b.*Did you mean .*resnet50",
    "compare {here}/nets.py:net resnet5 --resolution 32": r"resnet5\b.*Did you mean",
    "compare resnet18 --html {here}": r"is no file name",
    "compare resnet18 --html {here}/nets.py/x.html": r"is not a folder",
    "compare resnet5 --measure --latency-budget 2x": r"resnet5\b.*Did you mean .*resnet50",
}


@pytest.fixture
def here(tmp_path):
    (tmp_path / "nets.py").write_text(TWO_STAGES)
    (tmp_path / "notes.txt").write_text("some notes")
    (tmp_path / "broken.py").write_text("def net(:\n    return 1\n")
    (tmp_path / "stops.py").write_text("import sys\nsys.exit(0)\n")
    return tmp_path


def refused(arguments, capsys):
    status = run(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("convscale: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    assert "internal error" not in err
    return status, err


@pytest.mark.parametrize("line", PARSED)
def test_a_wrong_option_is_refused_before_any_work(line, capsys):
    status, err = refused(shlex.split(line), capsys)
    assert status == 2
    assert re.search(PARSED[line], err), err


@pytest.mark.parametrize("line", FOUND)
def test_what_cannot_be_used_is_refused_in_one_line(line, here, capsys):
    arguments = [word.replace("{here}", str(here)) for word in shlex.split(line)]
    status, err = refused(arguments, capsys)
    assert status == 2
    assert re.search(FOUND[line], err), err


def test_a_comparison_in_which_nothing_fits_is_refused_and_its_report_kept(here, capsys):
    page = here / "sub" / "report.html"
    line = f"compare {here}/nets.py:net --resolution 32 --strategies w --factors 2 --measure"
    more = ["--repeats", "3", "--latency-budget", "0.000001ms", "--html", str(page)]
    status, err = refused([*line.split(), *more], capsys)
    assert status == 3
    assert re.search(
        r"No scaled network of \S+ fits 1\.00e-06 ms\. The nearest, w at 2x, takes .* ms", err
    ), err
    assert str(page) in err
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


def test_a_real_process_says_one_line_and_no_traceback():
    command = [sys.executable, "-m", "convscale.cli.main", "scale", "resnet5", "--strategy", "w"]
    done = subprocess.run([*command, "--factor", "2"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Did you mean" in done.stderr


def test_a_number_that_cannot_be_read_is_named_with_its_article():
    with pytest.raises(InputError, match=r"^Cannot read 'x' as flops\. Write 16"):
        parse_number("x", what="flops")
    with pytest.raises(InputError, match=r"^Cannot read 'x' as a factor\. Write 16"):
        parse_number("x", what="factor")

"""Command lines of training for tests: small networks in a file, and what the commands say."""

from __future__ import annotations

import json
from pathlib import Path

from convscale.cli.main import run

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
ERRORS = ("top1_error_pct", "top5_error_pct")


def write_nets(folder: Path) -> str:
    """Write a file of networks, and return the name of the first of them."""
    file = folder / "nets.py"
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
    """Judge a run, and return what is printed as JSON."""
    status = run(["eval", *map(str, arguments), "--json"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return json.loads(printed.out)

"""SIGTERM and Ctrl-C while `convscale train` gets ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from convscale.cli.main import run

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

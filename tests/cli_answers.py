"""Answers of the command line in one process: the JSON document, or the line of a refusal."""

from __future__ import annotations

import json

from convscale.cli.main import run


def document(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, status, *arguments):
    assert run([*arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line

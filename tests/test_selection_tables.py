"""Tables of selections as they are shown."""

import convscale as cs
from convscale.report.layout import plain_lines
from convscale.report.selecting import selection_parts


def shown(*networks):
    found = cs.select(list(networks), limits=["flops<=500M"], strategies=["w"], candidates=8)
    parts = [part for part in selection_parts(found) if not isinstance(part, str)]
    return found, [line for part in parts for line in plain_lines(part)]


def test_tables_leave_out_what_the_names_of_one_base_share_and_say_so():
    found, lines = shown("RegNetY-400MF")
    assert "In tables, names stand for RegNetY-400MF@NAME:reference." in lines
    short = found.chosen.network.removeprefix("RegNetY-400MF@").removesuffix(":reference")
    assert short.startswith("w:")
    assert any(line.split()[0] == short for line in lines)
    assert lines[0].startswith(f"Take {found.chosen.network} at ")


def test_names_of_several_bases_are_whole():
    found, lines = shown("RegNetY-400MF", "RegNetY-200MF")
    assert not any(line.startswith("In tables") for line in lines)
    assert any(line.split()[0] == found.chosen.network for line in lines)

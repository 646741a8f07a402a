"""Figures are drawn from tables, and the page holds all of it in one file."""

from __future__ import annotations

import html
import os
import re
from dataclasses import replace

import pandas as pd
import pytest

from convscale.complexity.complexity import Count, LayerCount, Uncounted
from convscale.errors import InputError
from convscale.quantities import format_count
from convscale.report import (
    check_report_path,
    correlation_frame,
    decision_frame,
    growth_frame,
    latency_frame,
    law_frame,
    prediction_sentence,
    recommendation_sentence,
    tables,
    write_report,
)
from convscale.report.figures import decision_figure, growth_figure, latency_figure
from convscale.report.html import render_report
from convscale.report.look import Palette
from convscale.report.measured import measurement_table
from convscale.runtime import Conditions, Measurement, Spread
from convscale.scaling import scale
from convscale.selection import Choice, choose, correlation
from convscale.strategy import named_strategies, parse_strategy
from convscale.study import Comparison, Row

HERE = Conditions(
    "cpu", "Some <Processor>", 2, "float32", 2, "contiguous", "2.6.0", "1.0.20", "3.11.2"
)
NETWORKS = ("timm:resnet50", "timm:efficientnet_b0")


def made_up(networks=NETWORKS, strategies=("w", "dwr", "dWr"), *, measured=True) -> Comparison:
    """Rows that follow the laws exactly, with a latency in which acts count most."""
    rows = []
    for index, network in enumerate(networks):
        flops, params, acts = 4_000_000_000 // (1 + 9 * index), 25_000_000, 11_000_000
        rows.append(
            _row(network, None, 1.0, flops, params, acts, measured, dict.fromkeys("fpa", 1.0))
        )
        for name in strategies:
            growth = parse_strategy(name).growth
            for s in (2.0, 4.0):
                grown = {"f": s, "p": s**growth.params, "a": s**growth.acts}
                rows.append(_row(network, name, s, flops, params, acts, measured, grown))
    found = tuple(parse_strategy(name) for name in strategies)
    return Comparison(tuple(rows), found, conditions=HERE if measured else None)


def _row(network, strategy, factor, flops, params, acts, measured, grown) -> Row:
    ratio = {"flops": grown["f"], "params": grown["p"], "acts": grown["a"]}
    ms = flops / 1e8 * grown["a"]
    return Row(
        network,
        strategy,
        factor,
        224,
        round(flops * grown["f"]),
        round(params * grown["p"]),
        round(acts * grown["a"]),
        ratio=ratio,
        latency=Spread(ms, ms / 50, 9) if measured else None,
        processor=Spread(2 * ms, ms / 50, 9) if measured else None,
    )


def chosen(comparison: Comparison, times: float = 2.5) -> list[Choice]:
    found = []
    for network in comparison.networks:
        rows = comparison.of(network)
        found.append(choose(rows, times * rows[0].latency.median))
    return found


COMPARISON = made_up()
CHOICES = chosen(COMPARISON)
PALETTE = Palette(["w", "dwr", "dWr"], NETWORKS)


def without_script(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def marks(figure) -> pd.DataFrame:
    """Return what the marks of a figure show, legend entries and rings left out."""
    lines = [
        (x, y)
        for trace in figure.data
        if trace.mode == "markers" and trace.showlegend is False and trace.hovertemplate
        for x, y in zip(trace.x, trace.y, strict=True)
    ]
    return pd.DataFrame(lines, columns=["x", "y"]).sort_values(["x", "y"], ignore_index=True)


def points(frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    found = frame[[x, y]].set_axis(["x", "y"], axis=1)
    return found.sort_values(["x", "y"], ignore_index=True)


def test_the_latency_frame_has_a_line_a_row_and_metric():
    frame = latency_frame(COMPARISON)
    assert len(frame) == 3 * len(COMPARISON.rows)
    wide = frame[frame["metric"] == "acts"]
    assert list(wide["value"]) == [row.acts for row in COMPARISON.rows]
    assert list(wide["latency_ms"]) == [row.latency.median for row in COMPARISON.rows]
    assert list(wide["strategy"])[:3] == ["base", "w", "w"]


def test_the_latency_figure_shows_its_table():
    frame = latency_frame(COMPARISON)
    figure = latency_figure(frame, COMPARISON.correlation, PALETTE)
    pd.testing.assert_frame_equal(marks(figure), points(frame, "value", "latency_ms"))
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [f"{m}, r = {r:.3f}" for m, r in COMPARISON.correlation.items()]
    assert {axis.type for axis in figure.select_xaxes()} == {"log"}


def test_the_decision_figure_shows_its_table_and_rings_the_choice():
    frame = decision_frame(COMPARISON, CHOICES)
    figure = decision_figure(frame, PALETTE)
    pd.testing.assert_frame_equal(marks(figure), points(frame, "latency_ms", "flops"))
    rings = [t for t in figure.data if t.marker.symbol == "circle-open"]
    assert [(ring.x[0], ring.y[0]) for ring in rings] == [
        (choice.row.latency.median, choice.row.flops) for choice in CHOICES
    ]


def test_the_verdicts_follow_from_budget_and_choice():
    frame = decision_frame(COMPARISON, CHOICES)
    over = frame["latency_ms"] > frame["budget_ms"]
    assert set(frame[over]["verdict"]) == {"over budget"}
    assert set(frame[~over]["verdict"]) == {"base", "recommended", "fewer flops"}
    assert (frame["verdict"] == "recommended").sum() == len(NETWORKS)


def test_the_growth_figure_shows_its_table_on_the_laws():
    frame = growth_frame(COMPARISON)
    laws = law_frame(COMPARISON.strategies, lowest=1.0, highest=4.0)
    figure = growth_figure(frame, laws, PALETTE)
    pd.testing.assert_frame_equal(marks(figure), points(frame, "flops_ratio", "acts_ratio"))
    names = [note.text for note in figure.layout.annotations]
    assert names == ["w: s^0.5", "dwr: s^0.83", "dWr: s^0.6"]


def test_strategies_of_one_law_share_its_name():
    comparison = made_up(strategies=("d", "r", "w"))
    laws = law_frame(comparison.strategies, lowest=1.0, highest=4.0)
    figure = growth_figure(growth_frame(comparison), laws, Palette(["d", "r", "w"], NETWORKS))
    assert [note.text for note in figure.layout.annotations] == ["d, r: s^1", "w: s^0.5"]


@pytest.mark.parametrize(
    ("name", "exponent"), [("w", 1 / 2), ("dwr", 5 / 6), ("dWr", 0.6), ("d", 1.0)]
)
def test_the_laws_are_powers_of_the_flops(name, exponent):
    laws = law_frame([parse_strategy(name)], lowest=0.5, highest=8.0, points=9)
    expected = [0.5 * 2 ** (i / 2) for i in range(9)]
    assert list(laws["flops_ratio"]) == pytest.approx(expected)
    assert list(laws["acts_ratio"]) == pytest.approx([s**exponent for s in expected])


def test_correlations_are_given_over_all_and_within_each_network():
    frame = correlation_frame(COMPARISON).set_index(["rows", "time"])
    assert len(frame) == 2 * 3
    within = frame.loc[("timm:resnet50", "latency")]
    assert within["acts"] == pytest.approx(1.0)  # latency is proportional to them there
    assert within["best"] == "acts"
    assert within["networks"] == 7
    for metric, r in correlation(COMPARISON.rows).items():
        assert frame.loc[("all networks", "latency")][metric] == r


def test_one_network_has_no_correlation_of_its_own():
    assert list(correlation_frame(made_up(NETWORKS[:1]))["rows"]) == ["all networks"] * 2


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    path = write_report(COMPARISON, CHOICES, tmp_path / "new" / "report.html")
    page = path.read_text(encoding="utf-8")
    assert page.count("* plotly.js v") == 1  # its script is inside, once
    assert page.count("Plotly.newPlot(") >= 3
    outside = without_script(page)
    assert not re.search(r'(?:src|href)="(?!data:)', outside)
    assert "http" not in outside
    assert os.listdir(path.parent) == ["report.html"]


def test_a_narrow_window_scrolls_each_figure_in_its_own_box():
    page = without_script(render_report(COMPARISON, CHOICES))
    figures = page.count('class="plotly-graph-div"')
    assert figures == 3
    assert len(re.findall(r'<div class="scroll"><div style="min-width:\d+px">', page)) == figures


def test_marks_let_those_behind_them_shine_through():
    figure = decision_figure(decision_frame(COMPARISON, CHOICES), PALETTE)
    filled = [t.marker.color for t in figure.data if t.mode == "markers" and t.hovertemplate]
    assert filled
    assert all(re.fullmatch(r"rgba\(\d+,\d+,\d+,0\.\d+\)", colour) for colour in filled)


def test_the_page_says_every_number():
    text = html.unescape(without_script(render_report(COMPARISON, CHOICES)))
    for row in COMPARISON.rows:
        for value in (row.flops, row.params, row.acts):
            assert format_count(value) in text
    for r in COMPARISON.correlation.values():
        assert f"{r:.3f}" in text
    for choice in CHOICES:
        assert choice.reason in text
    assert prediction_sentence(COMPARISON) in text
    assert "Some <Processor>" in text
    assert "flops stand in for accuracy" in text


def test_the_recommendation_comes_first():
    text = without_script(render_report(COMPARISON, CHOICES))
    order = ["Build it scaled by", "Which metric predicts", "All networks", "How to read it"]
    positions = [text.index(part) for part in (*order, "Conditions of the measurement")]
    assert positions == sorted(positions)


def test_names_cannot_become_markup():
    evil = "a/<img src=x onerror=alert(1)>.py:f"
    comparison = made_up((evil,))
    comparison = replace(comparison, notes=("<b>note</b>",))
    page = render_report(comparison, chosen(comparison))
    assert "<img" not in page
    assert "<b>note" not in page
    assert html.escape(evil) in page


def test_notes_name_the_rows_they_belong_to():
    first, *rest = COMPARISON.rows
    rows = (replace(first, notes=("The stem stays.",)), *rest)
    page = render_report(replace(COMPARISON, rows=rows), CHOICES)
    assert "timm:resnet50: The stem stays." in page


def test_a_comparison_without_latency_has_a_page_too():
    text = without_script(render_report(made_up(measured=False), []))
    assert "No latency budget is given" in text
    assert "Latency is not measured" in text


def test_networks_alone_have_a_page_too():
    rows = tuple(row for row in COMPARISON.rows if row.strategy is None)
    assert "No scaled network." in render_report(Comparison(rows, conditions=HERE), [])


def test_a_network_without_feasible_choice_is_reported():
    tight = chosen(COMPARISON, times=0.5)
    text = html.unescape(without_script(render_report(COMPARISON, tight)))
    assert text.count("No scaled network fits") >= len(NETWORKS)
    assert tight[0].reason in text


def test_a_report_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(
        InputError, match=r"^Cannot write .*report.html: No space left on device\.$"
    ):
        write_report(COMPARISON, CHOICES, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_report_replaces_an_old_one(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(COMPARISON, CHOICES, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_report_needs_a_file_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a folder"):
        check_report_path(tmp_path)
    with pytest.raises(InputError, match="is a file, so that no report can be written under it"):
        check_report_path(tmp_path / "file" / "report.html")


def test_the_sentences_name_what_to_build_and_what_predicts():
    assert recommendation_sentence(CHOICES[0]) == (
        "Within 100 ms, build timm:resnet50 scaled by w at 4x: 16.0G flops in 80.0 ms."
    )
    one = made_up(NETWORKS[:1])
    r = one.correlation
    assert prediction_sentence(one) == (
        "Over the 7 networks measured here, acts predict latency best "
        f"(r = 1.000; flops {r['flops']:.3f}; params {r['params']:.3f})."
    )


def test_metrics_that_predict_equally_well_are_said_to():
    rows = [
        Row("net", "w", s, 8, int(100 * s), 7, int(10 * s), latency=Spread(s, 0.0, 9))
        for s in (1.0, 2.0, 4.0)
    ]
    said = prediction_sentence(Comparison(tuple(rows)))
    assert said.endswith("with acts within 0.005 of it.")


def test_the_comparison_table_shows_rows_correlation_and_choice():
    lines = tables.plain_lines(tables.comparison_table(COMPARISON, CHOICES))
    assert "timm:resnet50 w 4x 224 16.0G 100M 22.0M 80.0 ± 1.6 160 ± 1.6" in lines
    r = COMPARISON.correlation
    expected = f"all networks wall time 14 {r['flops']:.3f} {r['params']:.3f} {r['acts']:.3f}"
    assert expected in lines
    text = " ".join(lines)
    for choice in CHOICES:
        assert text.count(f"{recommendation_sentence(choice)} {choice.reason}") == 1


def test_the_comparison_table_tells_the_conditions_of_its_latencies():
    here = replace(HERE, load_average=0.5, rounds=15, interleaved_networks=14)
    text = " ".join(
        tables.plain_lines(tables.comparison_table(replace(COMPARISON, conditions=here)))
    )
    assert (
        "Measured on cpu (Some <Processor>), 2 threads on 2 processors, batch size 1, float32, "
        "contiguous, 15 rounds of 14 networks interleaved, torch 2.6.0, timm 1.0.20, load average "
        "0.5 at the start."
    ) in text
    counted = tables.plain_lines(tables.comparison_table(made_up(measured=False)))
    assert not any("Measured on" in line for line in counted)


@pytest.mark.parametrize(("width", "shown"), [(100, True), (80, False)])
def test_processor_times_are_shown_where_the_window_is_wide_enough(width, shown):
    lines = tables.plain_lines(tables.comparison_table(COMPARISON), width=width)
    assert ("processor ms" in lines[0]) == shown
    assert ("timm:resnet50 w 4x 224 16.0G 100M 22.0M 80.0 ± 1.6 160 ± 1.6" in lines) == shown
    assert any(line.startswith("timm:efficientnet_b0 w 4x") for line in lines)


def test_the_comparison_table_shows_its_notes_each_once():
    base, *scaled = COMPARISON.rows
    rows = (base, *(replace(row, notes=("The stem stays.",)) for row in scaled[:2]), *scaled[2:])
    found = replace(COMPARISON, rows=rows, notes=("One strategy is left out.",))
    lines = tables.plain_lines(tables.comparison_table(found))
    assert "Note: One strategy is left out." in lines
    assert "Note: timm:resnet50 (w at 2x, w at 4x): The stem stays." in lines
    assert sum("The stem stays." in line for line in lines) == 1


def test_the_comparison_table_without_latency_has_no_such_column():
    lines = tables.plain_lines(tables.comparison_table(made_up(measured=False)))
    assert lines[0] == "network strategy s px flops params acts"
    assert len(lines) == 1 + len(COMPARISON.rows)


def test_a_count_shows_totals_layers_and_what_is_not_counted():
    count = Count(
        4_089_184_256,
        25_557_032,
        11_114_984,
        network="net[bold]",
        resolution=(256, 128),
        uncounted=(Uncounted("my.op", 3, "head"),),
        layers=(LayerCount("stem", "Conv2d", (1, 64, 128, 64), 77_070_336, 9_408, 524_288),),
        notes=("[red]as it is[/red]",),
    )
    plain = tables.plain_lines(tables.count_table(count))
    assert plain[0] == "net[bold] at 256x128 px, convention default"
    assert "flops 4,089,184,256 4.09G" in plain
    assert "my.op 3 head" in plain
    assert plain[-1] == "Note: [red]as it is[/red]"
    layered = tables.plain_lines(tables.count_table(count, layers=True))
    assert "stem Conv2d 1x64x128x64 77,070,336 9,408 524,288" in layered
    assert not set(layered) <= set(plain)


def test_a_measurement_shows_latency_and_conditions():
    found = Measurement(
        "net", 224, 4, "inference", HERE, (0.02, 0.03, 0.04), peak_memory_bytes=4096
    )
    lines = tables.plain_lines(measurement_table(found))
    assert lines[0] == "net at 224 px, batch size 4, inference"
    assert lines[1:3] == ["median interquartile range 95 % interval", "latency (ms) 30.0 10.0 –"]
    assert lines[3].startswith("133.3 images a second, peak memory 4.0 KiB. 3 repeats, ")
    assert "Some <Processor>" in lines[-1]


def test_the_strategies_table_has_the_published_exponents():
    lines = tables.plain_lines(tables.strategies_table(named_strategies()))
    assert lines[2:] == [
        "d s 1 1 s s",
        "w 1 s^0.5 1 s s^0.5",
        "r 1 1 s^0.5 1 s",
        "dw s^0.5 s^0.25 1 s s^0.75",
        "dr s^0.5 1 s^0.25 s^0.5 s",
        "wr 1 s^0.25 s^0.25 s^0.5 s^0.75",
        "dwr s^0.333 s^0.167 s^0.167 s^0.667 s^0.833",
        "dWr s^0.1 s^0.4 s^0.05 s^0.9 s^0.6",
    ]


def test_a_scaled_network_shows_base_achieved_and_ratio():
    scaled = scale("resnet18", strategy="r", factor=4.0, weights=False)
    lines = tables.plain_lines(tables.scaled_table(scaled))
    assert lines[0] == "timm:resnet18 scaled by r at 4x"
    assert "params 11.7M 11.7M 1.00x" in lines
    assert "resolution (px) 224 448" in lines
    factors = "depth 1.000, width 1.000, group width 1.000, resolution 2.000."
    assert f"Requested factor 4. Factors before rounding: {factors}" in lines

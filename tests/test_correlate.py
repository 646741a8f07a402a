"""Which metric tells the time: statistics, visits in rounds, study files, table and figure."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from convscale.cli.main import run
from convscale.errors import InputError
from convscale.report.association import (
    agreement_sentence,
    association_frame,
    format_estimate,
    scatter_frame,
)
from convscale.report.correlations import correlations_markdown, correlations_table, sentences
from convscale.report.layout import plain_lines
from convscale.report.scatter import scatter_drawing, scatter_figure
from convscale.runtime import Conditions, Setting, Spread, Subject, measure
from convscale.selection.association import PREDICTORS
from convscale.study.comparison import Row
from convscale.study.correlate import correlate
from convscale.study.parking import Parked
from convscale.study.runtime_study import ALL_NETWORKS, RuntimeStudy, TimedNetwork
from convscale.study.study_file import continued, read_study, write_study
from convscale.study.trials import Trial
from convscale.study.visiting import Rounds, invite, needed_bytes

HERE = Conditions("cpu", "x86_64", 2, "float32", 1, "contiguous", "2.6.0")


def costed(flops, params, acts, wall_ms):
    return SimpleNamespace(
        flops=flops, params=params, acts=acts, latency=Spread(wall_ms, 0, 3), processor=None
    )


class Net(nn.Module):
    """Two convolutions of a width, large enough that their weights are parked."""

    def __init__(self, width: int = 32, *, fails: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 10)
        self.fails = fails

    def forward(self, images):
        if self.fails and images.device.type != "meta":
            raise RuntimeError("no such luck")
        return self.head(self.conv(self.norm(self.stem(images))).mean((2, 3)))


class Aborting(Net):
    """End the process, as a fault in a kernel does."""

    def forward(self, images):
        if self.armed:
            os.abort()
        return super().forward(images)


@pytest.fixture(scope="module")
def study() -> RuntimeStudy:
    return correlate(
        [Net(32), Net(64)],
        strategies=["w", "r"],
        factors=[1, 4, 16],
        resolution=32,
        rounds=3,
        passes=2,
    )


def test_parking_frees_large_weights_and_draws_like_ones():
    torch.manual_seed(0)
    net = Net(64).eval()
    with torch.no_grad():
        net.conv.weight.mul_(3).add_(0.5)
    small = {n: p.detach().clone() for n, p in net.named_parameters() if p.numel() <= 4096}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    weight = net.conv.weight
    mean, deviation = float(weight.detach().mean()), float(weight.detach().std())
    parked = Parked(net)
    assert parked.bytes == 4 * 64 * 64 * 9
    for _ in range(2):
        assert weight.untyped_storage().nbytes() == 0
        with parked.in_use() as module:
            assert module.conv.weight is weight
            assert float(weight.detach().mean()) == pytest.approx(mean, abs=0.002)
            assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.02)
            module(torch.randn(1, 3, 8, 8)).sum().backward()
        assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(p, small[n]) for n, p in net.named_parameters() if n in small)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


def test_weights_that_two_layers_share_are_parked_once_and_stay_shared():
    net = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3))
    net[1].weight = net[0].weight
    parked = Parked(net)
    assert parked.bytes == 4 * 64 * 64 * 9
    with parked.in_use() as module:
        assert torch.equal(module[0].weight, module[1].weight)


def test_constant_weights_stay_constant():
    net = nn.Conv2d(64, 64, 3)
    nn.init.constant_(net.weight, 0.25)
    with Parked(net).in_use() as module:
        assert torch.equal(module.weight, torch.full_like(module.weight, 0.25))


def test_there_is_one_row_at_factor_1_for_each_base(study):
    asked = [(None, 1.0), ("w", 4.0), ("w", 16.0), ("r", 4.0), ("r", 16.0)]
    assert study.bases == ("module:Net", "module:Net#2")
    for base in study.bases:
        assert [(r.strategy, r.factor) for r in study.rows if r.network == base] == asked


def test_every_network_has_all_its_passes_by_round(study):
    assert study.rounds == 3
    for network in study.networks:
        assert [len(visit) for visit in network.wall_s] == [2, 2, 2]
        assert [len(visit) for visit in network.processor_s] == [2, 2, 2]
        passes = [1e3 * s for visit in network.wall_s for s in visit]
        assert network.timed.latency.median == pytest.approx(np.median(passes))
    assert study.conditions.interleaved_networks == 10


def test_a_network_of_sixteen_times_the_pixels_takes_longer(study):
    for base in study.bases:
        rows = {(row.strategy, row.factor): row for row in study.rows if row.network == base}
        assert rows["r", 16.0].processor.median > rows[None, 1.0].processor.median


def test_the_base_network_is_as_before():
    net = Net()
    state = {name: (t, t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
    correlate([net], strategies=["w"], factors=[2], resolution=16, rounds=3, mode="training")
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert tensor is state[name][0]
        assert torch.equal(tensor, state[name][1])
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_training_step_takes_longer_than_a_forward_pass():
    # Three products of matrices for each of the forward pass.
    times = {}
    for mode in ("inference", "training"):
        options = {"strategies": ["w"], "factors": [2], "resolution": 64, "mode": mode}
        found = correlate([Net(64)], rounds=3, **options)
        times[mode] = found.rows[0].processor.median
        assert found.settings["mode"] == mode
    assert times["training"] > 1.5 * times["inference"]


def guests(*nets):
    trials = [
        Trial(Row(name, "w", 2.0, 8, 9, 9, 9), Subject(name, net, 8))
        for name, net in zip("abcdefgh", nets, strict=False)
    ]
    return [invite(trial) for trial in trials]


def blank(invited) -> RuntimeStudy:
    return RuntimeStudy(tuple(TimedNetwork(guest.trial.row) for guest in invited), {})


def test_each_round_visits_all_in_an_order_of_its_own(monkeypatch):
    from convscale.study import visiting

    seen: list[str] = []

    def visit(guest, setting, **limits):
        seen.append(guest.trial.row.network)
        return original(guest, setting, **limits)

    original = visiting.visit
    monkeypatch.setattr(visiting, "visit", visit)
    invited = guests(*(Net() for _ in range(6)))
    Rounds(invited, Setting(), rounds=4, passes=1, limit_s=60).run(blank(invited))
    orders = [tuple(seen[i : i + 6]) for i in range(0, 24, 6)]
    assert [sorted(order) for order in orders] == [list("abcdef")] * 4
    assert len(set(orders)) > 1


def test_a_network_that_fails_is_a_row_and_not_the_end():
    invited = guests(Net(), Net(fails=True), Net())
    found = Rounds(invited, Setting(), rounds=3, passes=1, limit_s=60).run(blank(invited))
    good, bad, other = found.networks
    assert good.passes == other.passes == 3
    assert bad.passes == 0
    assert bad.failed.endswith("no such luck")
    assert [row.network for row in found.rows] == ["a", "c"]


def test_a_network_beyond_the_memory_is_a_row_and_not_the_end(monkeypatch):
    from convscale.study import visiting

    small, large = guests(Net(32), Net(128))
    monkeypatch.setattr(visiting, "available_bytes", lambda: 3 * large.parked.bytes)
    found = Rounds([small, large], Setting(mode="training"), rounds=3, passes=1, limit_s=60).run(
        blank([small, large])
    )
    assert found.networks[0].passes == 3
    assert found.networks[1].failed.startswith("b@w:2 needs about 2.")
    assert "MiB, and 1.7 MiB are available. Use a smaller" in found.networks[1].failed


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("batch_size", [2, 16])
def test_the_memory_of_a_training_step_is_what_its_allocator_gives(optimizer, batch_size):
    net = timm.create_model("resnet18")
    options = {"mode": "training", "optimizer": optimizer, "batch_size": batch_size}
    real = measure(net, resolution=96, repeats=1, **options).peak_memory_bytes
    guest = invite(Trial(Row("a", "w", 2.0, 96, 9, 9, 9), Subject("a", net, 96)))
    # Beside what is measured there are the given weights, of which the trained ones are a copy.
    expected = real + guest.parked.bytes
    assert needed_bytes(guest, Setting(**options)) == pytest.approx(expected, rel=0.05)


def test_the_memory_of_inference_is_one_copy_of_the_weights_and_two_maps():
    [guest] = guests(Net(128))
    weights = 4 * (128 * 128 * 9 + 128 * 27 + 4 * 128 + 1290)
    found = needed_bytes(guest, Setting(batch_size=10))
    assert (
        weights + 10 * 2 * 4 * 128 * 64 <= found <= weights + 10 * 4 * 64 * (2 * 128 + 3) + 10_000
    )
    assert needed_bytes(guest, Setting(batch_size=10, channels_last=True)) == found + large_bytes()


def large_bytes() -> int:
    return 4 * 128 * 128 * 9


def test_the_time_limit_ends_the_rounds_but_not_before_the_third():
    invited = guests(Net())
    found = Rounds(invited, Setting(), rounds=50, passes=1, limit_s=1e-9).run
    with pytest.raises(InputError, match="time limit"):
        found(blank(invited))


def test_a_study_stops_at_its_time_limit_and_says_so():
    found = correlate(
        [Net()], strategies=["w"], factors=[2], resolution=32, rounds=5000, time_limit_s=2
    )
    assert 3 <= found.rounds < 5000
    assert found.notes[-1] == (
        f"Stopped after {found.rounds} of 5000 rounds: the time limit was reached."
    )


def test_a_study_is_read_from_its_file_as_it_was(study, tmp_path):
    path = tmp_path / "deep" / "study.json"
    write_study(study, path)
    found = read_study(path)
    assert found.as_document() == study.as_document()
    assert found.networks == study.networks
    assert found.conditions == study.conditions
    assert [file.name for file in path.parent.iterdir()] == ["study.json"]


def test_an_interrupted_study_keeps_its_rounds_and_goes_on(tmp_path):
    path = tmp_path / "study.json"
    asked = {"strategies": ["w"], "factors": [2], "resolution": 16, "rounds": 4, "file": path}

    def interrupt(done, total):
        if done > 2 + 2 * 2:  # two are built, and two rounds of two are over
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        correlate([Net()], progress=interrupt, **asked)
    before = read_study(path)
    assert before.rounds == 2
    found = correlate([Net()], **asked)
    assert found.rounds == 4
    # The first visit of the third round is kept too, and is not repeated.
    assert sorted(len(network.wall_s) for network in before.networks) == [2, 3]
    for old, new in zip(before.networks, found.networks, strict=True):
        assert new.wall_s[: len(old.wall_s)] == old.wall_s
        assert len(new.wall_s) == 4
    with pytest.raises(InputError, match=r"holds a study that differs in batch_size\. Ask"):
        correlate([Net()], **asked, batch_size=2)
    with pytest.raises(InputError, match="differs in the networks' complexity"):
        correlate([Net(40)], **asked)


def test_what_failed_in_a_study_file_is_tried_again(tmp_path, monkeypatch):
    from convscale.study import visiting

    path = tmp_path / "study.json"
    asked = {"strategies": ["w"], "factors": [2], "resolution": 16, "rounds": 3, "file": path}
    with monkeypatch.context() as patched:
        patched.setattr(visiting, "available_bytes", lambda: 100_000)
        none = correlate([Net(64)], **asked)
    assert [network.passes for network in none.networks] == [0, 0]
    assert all("are available" in network.failed for network in read_study(path).networks)
    found = correlate([Net(64)], **asked)
    assert [len(network.wall_s) for network in found.networks] == [3, 3]
    assert [network.failed for network in found.networks] == [None, None]


def test_a_crash_in_a_process_of_its_own_is_a_row_of_the_study():
    net = Aborting()
    net.armed = False
    found = guests(net, Net())
    found[0].parked.module.armed = True
    study = Rounds(found, Setting(), rounds=2, passes=2, limit_s=60, isolate=True).run(blank(found))
    assert study.networks[0].failed == "a ended its process: signal SIGABRT."
    assert study.networks[1].passes == 4


def test_a_study_does_not_go_on_under_another_version(study, tmp_path):
    path = tmp_path / "study.json"
    write_study(study, path)
    said = f"torch {study.conditions.torch}, now 9.9. Name another file."
    with pytest.raises(InputError, match=re.escape(said)):
        continued(study, path, replace(study.conditions, torch="9.9"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is no study: it is not JSON"),
        ("[]", "is no study (TypeError"),
        ('{"rows": [], "settings": {}}', "is no study (KeyError: 'conditions'). Give a file that"),
    ],
)
def test_what_is_no_study_gets_one_line(tmp_path, text, said):
    path = tmp_path / "study.json"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read_study(path)
    assert "\n" not in caught.value.line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factors": [1]}, "The only factor is 1, the base network. Write others too, as in"),
        ({"networks": []}, "The list of networks is empty. Give at least one."),
        ({"rounds": 0}, "The number of rounds is 0; it must be at least 1."),
        ({"passes": 0}, "The number of passes is 0; it must be at least 1."),
        ({"batch_size": "max"}, "The batch size is max: networks of one study need one batch"),
        ({"mode": "test"}, "Unknown mode 'test'. Use inference or training."),
        ({"device": "tpu"}, "Unknown device 'tpu'."),
        ({"time_limit_s": 0.1}, "The time limit is 0.1 s; it must be at least 1 s."),
    ],
)
def test_bad_values_get_one_line(options, said):
    asked = {"networks": [Net()], "strategies": ["w"], "factors": [2], "resolution": 16}
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        correlate(**{**asked, **options})


def timed(flops, acts, wall_s, processor_s, *, network="net", strategy="w") -> TimedNetwork:
    row = Row(network, strategy, 2.0, 8, flops, flops, acts)
    return TimedNetwork(row, ((wall_s,),), ((processor_s,),))


def test_processor_time_answers_where_most_networks_waited():
    quiet = [timed(10**8 * k, 10**6 * k, 0.01 * k, 0.01 * k) for k in range(1, 6)]
    acts = [3, 1, 4, 2, 5]
    loaded = [timed(10**8 * k, 10**6 * a, 0.09 * a, 0.01 * k) for k, a in enumerate(acts, start=1)]
    calm = RuntimeStudy(tuple(quiet), {}, HERE)
    busy = RuntimeStudy(tuple(loaded), {}, HERE)
    assert (calm.time, busy.time) == ("latency", "processor")
    assert calm.agreement == pytest.approx(1)
    assert agreement_sentence(calm).startswith("Wall time is used: 0% of the networks waited")
    said = agreement_sentence(busy)
    assert said.startswith("Processor time is used: 100% of the networks waited")
    assert "They disagree: wall time names acts" in said


def test_the_table_of_correlations_holds_every_coefficient_in_every_scope(study):
    frame = association_frame(study)
    assert set(frame["scope"]) == {ALL_NETWORKS, *study.bases}
    assert len(frame) == 2 * 3 * len(PREDICTORS) * 3
    for (time, scope, predictor), lines in frame.groupby(["time", "scope", "predictor"]):
        by_name = study.associations[time][scope].r[predictor]
        for line in lines.to_dict("records"):
            known = by_name[line["coefficient"]]
            assert np.isnan(line["r"]) if known is None else line["r"] == known.value


def test_the_scatter_is_drawn_from_its_table(study):
    frame = scatter_frame(study)
    assert len(frame) == len(PREDICTORS) * len(study.rows)
    for predictor in ("flops", "params", "acts"):
        lines = frame[frame["predictor"] == predictor]
        assert list(lines["value"]) == [getattr(row, predictor) for row in study.rows]
        spent = [getattr(row, study.time).median for row in study.rows]
        assert list(lines["time_ms"]) == spent
    figure = scatter_figure(frame, {}, time="wall time")
    drawing = scatter_drawing(frame, {}, time="wall time")
    asked = sorted(zip(frame["value"], frame["time_ms"], strict=True))
    drawn = [(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)]
    assert sorted(drawn) == asked
    marked = [point for axes in drawing.axes for line in axes.lines for point in line.get_xydata()]
    assert sorted(map(tuple, marked)) == asked


def test_a_colour_is_a_base_and_a_symbol_a_strategy(study):
    figure = scatter_figure(scatter_frame(study), {}, time="wall time")
    marks = {trace.name: (trace.marker.color, trace.marker.symbol) for trace in figure.data}
    names = [(base, strategy) for base in study.bases for strategy in ("base", "w", "r")]
    assert set(marks) == {", ".join(name) for name in names}
    for base, strategy in names:
        colour, symbol = marks[f"{base}, {strategy}"]
        assert colour == marks[f"{base}, base"][0]
        assert symbol == marks[f"{study.bases[0]}, {strategy}"][1]
    assert len({marks[f"{base}, base"][0] for base in study.bases}) == 2
    assert len({marks[f"{study.bases[0]}, {s}"][1] for s in ("base", "w", "r")}) == 3


def test_table_and_markdown_say_the_same(study):
    shown = " ".join(plain_lines(correlations_table(study), width=200))
    written = correlations_markdown(study)
    for by_name in study.associations[study.time][ALL_NETWORKS].r.values():
        for found in by_name.values():
            assert format_estimate(found) in shown
            assert format_estimate(found) in written
    assert "3 rounds of 10 networks interleaved" in shown
    assert "2 a visit, the bases at 32 px" in written


def test_the_command_measures_and_shows_the_study_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["resnet18", "--strategies", "w,r", "--factors", "1,2", "--resolution", "64"]
    asked += ["--rounds", "3", "--passes", "1", "--out", "s.json", "--json"]
    assert run(["correlate", *asked]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["network"] == "timm:resnet18"
    assert [(r["strategy"], r["factor"]) for r in document["rows"]] == [
        (None, 1.0),
        ("w", 2.0),
        ("r", 2.0),
    ]
    assert set(document["correlations"]["latency"][ALL_NETWORKS]["r"]) == set(PREDICTORS)
    assert json.loads(Path("s.json").read_text()) == document
    again = ["correlate", "--from", "s.json", "--csv", "s.csv", "--plot", "s.svg"]
    assert run(again) == 0
    shown = capsys.readouterr().out
    assert "Over these 3 networks" in shown
    assert "Written: s.svg" in shown
    assert Path("s.csv").read_text().count("\n") == 4
    assert Path("s.svg").read_text().lstrip().startswith("<?xml")
    first = Path("s.svg").read_bytes()
    assert run([*again[:-1], "s.html"]) == 0
    assert "<script src" not in Path("s.html").read_text()
    assert first.startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "No network was named. Write at least one, or --from FILE."),
        (["x", "--from", "y"], "A study that is shown again measures nothing. Name no network."),
        (["--from", "no.json"], "Cannot read 'no.json': No such file or directory."),
        (["resnet18", "--plot", "a.gif"], "Cannot draw 'a.gif'. End the name in .html, .png, .svg"),
        (["resnet18", "--factors", "1"], "The only factor is 1, the base network."),
        (["resnet18", "--rounds", "no"], "Cannot read 'no' as the number of rounds."),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(arguments, said, capsys):
    assert run(["correlate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"convscale: {said}")
    assert captured.err.count("\n") == 1


def test_two_networks_have_no_best_metric_and_no_interval_to_speak_of():
    timed = [
        TimedNetwork(Row("net", name, 1.0, 8, flops, 9, 9), ((flops / 1e5,),), ((flops / 2e5,),))
        for name, flops in ((None, 100), ("w", 200))
    ]
    said = " ".join(sentences(RuntimeStudy(tuple(timed), {}, HERE)))
    assert said.startswith("No metric can be told from another over 2 networks. ")
    assert "names the same best" not in said
    assert "Intervals" not in said


def test_a_batch_size_that_is_no_number_says_what_may_be_written(capsys):
    assert run(["measure", "resnet18", "--batch-size", "1e3"]) == 2
    said = "convscale: Cannot read '1e3' as the batch size. Write an integer, or max.\n"
    assert capsys.readouterr().err == said

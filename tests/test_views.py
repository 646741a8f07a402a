"""Views of a count: bytes against hand calculations and a recount, parts against totals."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from math import prod

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import convscale as cs
from convscale.complexity.calls import KINDS, OperatorCall, StageSpan
from convscale.complexity.views import Operators, Part
from convscale.errors import InputError
from convscale.input_sizes import InputSize
from convscale.network import resolve_base
from convscale.report.exports import write_plot
from tests.networks import Contraption, Grouped, Plain, Shared

NETWORKS = (
    "timm:resnet50",
    "timm:resnext50_32x4d",
    "timm:regnety_032",
    "timm:efficientnet_b0",
    "timm:convnext_tiny",
    "timm:densenet121",
    "timm:mobilenetv3_large_100",
    "timm:vgg16",
    "timm:nfnet_f0",
    "timm:coatnet_0_224",
    "timm:res2net50_14w_8s",
    "timm:ghostnet_100",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:googlenet",
    "torchvision:r3d_18",
)


@cache
def recorded(name: str) -> Operators:
    return cs.operators(name, stages=True)


def only(module: nn.Module, resolution=8, **options) -> OperatorCall:
    """The one operator that a network runs."""
    (call,) = cs.operators(module, resolution=resolution, **options).calls
    return call


class Uses(nn.Module):
    """A function of one feature map, behind a convolution that says how many channels it has."""

    def __init__(self, function, channels: int = 4) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, channels, 1, bias=False)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.entry(x))


def second(function, **options) -> OperatorCall:
    """The operator that a function of one feature map, 4 x 8 x 8, runs."""
    return cs.operators(Uses(function), resolution=8, **options).calls[1]


def moved(call: OperatorCall) -> tuple[int, int, int]:
    return call.bytes_read, call.bytes_written, call.weight_bytes


MAP = 4 * 8 * 8  # the elements of the feature map that `second` hands on


def test_a_convolution_reads_its_input_and_weights_and_writes_its_output():
    call = only(nn.Conv2d(3, 16, 3, stride=2, padding=1))
    weights = 16 * 3 * 9 + 16
    assert moved(call) == (4 * (3 * 8 * 8 + weights), 4 * 16 * 4 * 4, 4 * weights)
    assert (call.kind, call.flops, call.acts) == ("convolution kxk", 16 * 27 * 16, 16 * 16)
    assert call.params == weights
    assert call.input_shapes == ((1, 3, 8, 8), (16, 3, 3, 3), (16,))
    assert call.output_shapes == ((1, 16, 4, 4),)


def test_a_linear_layer_reads_a_row_and_all_its_weights():
    call = cs.operators(
        nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 10)), resolution=8
    ).calls[-1]
    assert moved(call) == (4 * (4 + 4 * 10 + 10), 4 * 10, 4 * (4 * 10 + 10))
    assert (call.kind, call.flops, call.params) == ("linear", 40, 50)


def test_a_batch_norm_reads_four_numbers_a_channel():
    call = cs.operators(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), resolution=8).calls[1]
    assert moved(call) == (4 * (MAP + 4 * 4), 4 * MAP, 4 * 4 * 4)
    assert (call.kind, call.flops, call.params) == ("norm", 0, 2 * 4)


@pytest.mark.parametrize("function", [lambda x: x + 2 * x, lambda x: x.add_(2 * x)])
def test_an_addition_reads_two_maps_and_writes_one_in_place_or_not(function):
    call = cs.operators(Uses(function), resolution=8).calls[-1]
    assert moved(call) == (4 * 2 * MAP, 4 * MAP, 0)
    assert call.kind == "elementwise"


def test_a_concatenation_reads_and_writes_all_of_its_parts():
    call = cs.operators(Uses(lambda x: torch.cat([x, -x, x.relu()], 1)), resolution=8).calls[-1]
    assert moved(call) == (4 * 3 * MAP, 4 * 3 * MAP, 0)
    assert call.kind == "concatenation"


def test_a_max_pooling_writes_values_and_where_they_were():
    call = second(lambda x: nn.functional.max_pool2d(x, 2))
    assert moved(call) == (4 * MAP, (4 + 8) * MAP // 4, 0)
    assert call.kind == "pooling"


def test_an_activation_in_place_reads_and_writes_the_same_map():
    assert moved(second(lambda x: x.relu_())) == (4 * MAP, 4 * MAP, 0)


def test_views_are_free_and_what_copies_is_not():
    calls = cs.operators(
        Uses(lambda x: x.view(1, 2, 2, 64).transpose(1, 2).flatten(1)), resolution=8
    ).calls
    assert [call.kind for call in calls] == ["convolution 1x1", "copy"]
    assert moved(calls[1]) == (4 * MAP, 4 * MAP, 0)


def test_what_is_expanded_is_read_once():
    gate = second(lambda x: x * x[:, :, :1, :1].expand_as(x))
    assert gate.bytes_read == 4 * (MAP + 4)


def test_overwriting_does_not_read():
    def overwrite(x):
        x.copy_(torch.ones(1))
        return x

    call = cs.operators(Uses(overwrite), resolution=8).calls[-1]
    assert moved(call) == (4, 4 * MAP, 4)


def test_a_lookup_reads_no_more_than_it_puts_out():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 4, 1)
            self.table = nn.Embedding(1000, 4)

        def forward(self, x):
            return self.entry(x).mean((2, 3)) + self.table(torch.arange(5))[0]

    call = next(c for c in cs.operators(Positions(), resolution=8).calls if c.kind == "lookup")
    assert moved(call) == (4 * 5 * 4 + 8 * 5, 4 * 5 * 4, 4 * 5 * 4 + 8 * 5)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_bytes_are_those_of_the_dtype_and_indices_keep_theirs(dtype, size):
    call = second(lambda x: nn.functional.max_pool2d(x, 2), dtype=dtype)
    assert moved(call) == (size * MAP, (size + 8) * MAP // 4, 0)


def test_a_batch_reads_its_weights_once():
    layer = nn.Conv2d(3, 16, 1, bias=False)
    one, eight = only(layer), only(layer, batch_size=8)
    assert (one.weight_bytes, eight.weight_bytes) == (4 * 48, 4 * 48)
    assert eight.bytes_read - 4 * 48 == 8 * (one.bytes_read - 4 * 48)
    assert eight.bytes_written == 8 * one.bytes_written
    assert eight.flops == 8 * one.flops


def test_arithmetic_intensity_is_flops_over_bytes():
    found = cs.operators(nn.Conv2d(64, 64, 1, bias=False), resolution=16)
    data, weights = 64 * 256, 64 * 64
    assert found.total.flops_per_byte == 64 * 64 * 256 / (4 * (2 * data + weights))


class Recount(TorchDispatchMode):
    """Bytes of all operators whose results lie in memory of their own, or are written in place."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        ins = {id(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        outs = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        held = {t.untyped_storage().data_ptr() for t in ins.values()}
        view = all(t.untyped_storage().data_ptr() in held for t in outs)
        name = func._schema.name
        if (view and not name.endswith("_")) or "empty" in name:
            return out
        for tensor in ins.values():
            steps = zip(tensor.shape, tensor.stride(), strict=True)
            self.total += prod(size for size, step in steps if step) * tensor.element_size()
        self.total += sum(t.numel() * t.element_size() for t in outs)
        return out


@pytest.mark.parametrize(
    "name",
    ["timm:resnet18", "timm:efficientnet_b0", "timm:densenet121", "torchvision:shufflenet_v2_x0_5"],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_recount_on_real_tensors_finds_the_same_bytes(name, batch_size):
    network, images = resolve_base(name).build("cpu").eval(), torch.zeros(batch_size, 3, 64, 64)
    with torch.no_grad(), Recount() as recount:
        network(images)
    total = cs.operators(name, resolution=64, batch_size=batch_size).total
    assert total.bytes_moved == recount.total


@pytest.mark.parametrize("name", NETWORKS)
def test_every_view_adds_up_to_the_count(name):
    count = cs.count(name)
    found = recorded(name)
    for parts in (found.by_kind(), found.by_stage(), found.by_layer(), (found.total,)):
        for metric in ("flops", "params", "acts"):
            assert sum(getattr(part, metric) for part in parts) == getattr(count, metric)
        for metric in ("calls", "bytes_read", "bytes_written", "weight_bytes"):
            total = getattr(found.total, metric)
            assert sum(getattr(part, metric) for part in parts) == total
    assert {call.kind for call in found.calls} <= set(KINDS) - {"other", "without a rule"}


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_cost_what_the_command_stages_says(name):
    parts = {part.name: part for part in recorded(name).by_stage()}
    for row in cs.stages(name).rows:
        own, told = parts[row.name], row.complexity
        assert (own.flops, own.params, own.acts) == (told.flops, told.params, told.acts)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_geometry_of_every_product_gives_its_flops_in_closed_form(name):
    calls = [call for call in cs.operators(name, batch_size=2).calls if call.geometry]
    assert calls
    assert all(call.geometry.flops == call.flops for call in calls)
    assert all(call.geometry.rows % 2 == 0 for call in calls if call.kind != "linear")


def test_resnet50_reads_each_param_and_each_running_statistic_once():
    found = cs.operators("timm:resnet50")
    channels = sum(
        m.num_features
        for m in resolve_base("timm:resnet50").build("meta").modules()
        if isinstance(m, nn.BatchNorm2d)
    )
    assert found.total.weight_bytes == 4 * (25_557_032 + 2 * channels)


def test_kinds_of_convolutions_follow_their_groups_and_kernels():
    kinds = [call.kind for call in cs.operators(Grouped(), resolution=8).calls if call.flops]
    assert kinds == ["convolution kxk", "convolution grouped", "convolution depthwise", "linear"]
    assert only(nn.ConvTranspose2d(4, 8, 2, 2)).kind == "convolution transposed"
    g = only(nn.ConvTranspose2d(4, 8, 2, 2)).geometry
    assert (g.in_channels, g.out_channels, g.rows, g.flops) == (4, 8, 64, 64 * 4 * 8 * 4)


def test_products_of_two_maps_are_told_from_linear_layers():
    call = second(lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2))
    assert (call.kind, call.flops, call.weight_bytes) == ("matrix product", 4 * 64 * 4, 0)


def test_params_count_where_they_first_meet_the_input():
    found = cs.operators(Shared(width=32), resolution=8)
    twice = [call for call in found.calls if call.path == "twice"]
    assert [call.params for call in twice] == [9 * 32 * 32 + 32, 0]
    assert [call.weight_bytes for call in twice] == [4 * (9 * 32 * 32 + 32)] * 2
    gain = next(call for call in found.calls if call.operator == "aten.mul")
    assert (gain.path, gain.params) == ("", 32)


def test_params_behind_a_reparametrisation_count_for_the_layer_that_uses_them():
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3, bias=False))
    found = cs.operators(nn.Sequential(layer), resolution=8)
    (conv,) = [call for call in found.calls if call.flops]
    assert conv.params == 8 * 27 + 8
    assert sum(call.params for call in found.calls) == conv.params


def test_params_that_nothing_uses_are_a_part_of_their_own():
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    network.register_parameter("spare", nn.Parameter(torch.zeros(7)))
    parts = cs.operators(network, resolution=8).by_kind()
    assert [(part.name, part.params) for part in parts] == [
        ("convolution kxk", 8 * 27 + 8),
        ("unused", 7),
    ]


def test_a_network_without_stages_says_so_and_is_one_part():
    found = cs.operators(nn.Conv2d(3, 8, 3), resolution=16, stages=True)
    assert [part.name for part in found.by_stage()] == ["network"]
    assert found.notes == ("module:Conv2d has no stage of blocks that can be repeated.",)


class Gated(nn.Sequential):
    """Blocks, and a gate that looks at values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_has_every_view_and_says_why_it_is_one_part(tmp_path):
    blocks = Gated(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(3)))
    found = cs.operators(blocks, resolution=8, stages=True)
    assert [(part.name, part.flops) for part in found.by_stage()] == [("network", 3 * 9 * 64)]
    first, second = found.notes
    assert first.startswith("Counted by a real forward pass")
    assert re.match(r"The stages cannot be told: module:Gated .* takes a number out of a", second)
    write_plot(found, tmp_path / "gated.html")
    assert (tmp_path / "gated.html").stat().st_size > 1000


def test_stages_that_nobody_looked_for_are_asked_for():
    message = r"The stages were not looked for. Write stages=True in operators\(...\)."
    with pytest.raises(InputError, match=f"^{message}$"):
        cs.operators(Plain(), resolution=8).by_stage()


def test_what_runs_before_between_and_after_stages_has_its_names():
    calls = tuple(
        OperatorCall(path, "aten.relu", "activation") for path in ("a", "s.0", "b", "t.0", "", "c")
    )
    spans = (StageSpan("s", ("s.0",)), StageSpan("t", ("t.0",)))
    names = Operators("net", 8, calls=calls, stages=spans).stage_names()
    assert names == ["stem", "s", "between stages", "t", "head", "head"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float3"}, "Unknown dtype 'float3'"),
        ({"batch_size": 0}, "batch size"),
        ({"convention": "mine"}, "Unknown convention 'mine'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message):
        cs.operators(Plain(), resolution=8, **options)


@pytest.mark.parametrize(
    "network", ["RegNetX-400MF", "resnet18@dWr:2", "tests/networks.py:contraption"]
)
def test_every_form_of_a_name_has_every_view(network):
    options = {"resolution": 64} if ".py" in network else {}
    found, count = cs.operators(network, stages=True, **options), cs.count(network, **options)
    assert len(found.by_stage()) > 3
    for parts in (found.by_kind(), found.by_stage(), found.by_layer()):
        assert sum(part.flops for part in parts) == count.flops
        assert sum(part.params for part in parts) == count.params


def test_recording_leaves_the_network_as_it_was():
    network = Contraption().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cs.operators(network, resolution=32, stages=True)
    assert network.training
    assert not network._forward_hooks
    assert all(torch.equal(before[name], after) for name, after in network.state_dict().items())


def test_frames_hold_numbers_with_their_conditions():
    found = cs.operators("resnet18", stages=True, dtype="float16", batch_size=2)
    frame = found.frame()
    assert len(frame) == len(found.calls)
    assert set(frame["batch_size"]) == {2}
    assert frame["flops"].sum() == found.total.flops == 2 * 1_814_073_344
    first = frame.iloc[0]
    assert (first["kernel"], first["stride"], first["in_channels"]) == ("7x7", "2x2", 3)
    assert first["input_shapes"] == "2x3x224x224 64x3x7x7"
    assert list(found.frame("stage")["stage"]) == [part.name for part in found.by_stage()]


@pytest.mark.parametrize("convention", ["pycls", "fvcore", "torch"])
@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vgg16", "timm:coatnet_0_224"])
def test_views_follow_the_convention(name, convention):
    count = cs.count(name, convention=convention)
    parts = cs.operators(name, convention=convention).by_kind()
    assert sum(part.flops for part in parts) == count.flops
    assert sum(part.acts for part in parts) == count.acts


def test_an_operator_with_a_rule_of_ones_own_counts_by_it():
    rules = {"aten::_fft_r2c": lambda bound, output: (1000, 10)}
    network = Uses(lambda x: torch.fft.rfft2(x).real)
    call = next(c for c in cs.operators(network, resolution=8).calls if "fft_r2c" in c.operator)
    assert (call.kind, call.flops) == ("without a rule", 0)
    found = cs.operators(network, resolution=8, rules=rules)
    call = next(c for c in found.calls if "fft_r2c" in c.operator)
    assert (call.kind, call.flops, call.acts) == ("other product", 1000, 10)
    # complex numbers are twice as wide: 4 channels of 8 x 5
    assert call.bytes_written == 8 * 4 * 8 * 5


def test_deformable_convolutions_and_matrix_times_vector_have_kinds():
    from torchvision.ops import DeformConv2d

    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Conv2d(3, 18, 3, padding=1)
            self.deform = DeformConv2d(3, 8, 3, padding=1)
            self.vector = nn.Parameter(torch.ones(64))

        def forward(self, x):
            return torch.mv(self.deform(x, self.offset(x)).flatten(2)[0], self.vector)

    calls = [call for call in cs.operators(Deformed(), resolution=8).calls if call.flops]
    kinds = [call.kind for call in calls]
    assert kinds == ["convolution kxk", "convolution deformable", "linear"]
    assert (calls[2].flops, calls[2].geometry.rows, calls[2].params) == (8 * 64, 8, 64)


def test_the_document_says_the_intensity_of_the_ends_of_resnet50():
    one, many = (cs.operators("timm:resnet50", batch_size=size) for size in (1, 64))
    stem, head = one.calls[0], one.calls[-1]
    assert (stem.bytes_read, stem.bytes_written) == (4 * (150_528 + 9_408), 4 * 802_816)
    assert (stem.flops, stem.bytes_moved) == (118_013_952, 3_851_008)
    assert head.flops == 2_048_000
    assert head.weight_bytes == many.calls[-1].weight_bytes == 4 * 2_049_000
    classifiers = [found.by_layer()[-1].flops_per_byte for found in (one, many)]
    assert classifiers == [
        pytest.approx(2_048_000 / (4 * (2048 + 2_049_000 + 1000))),
        pytest.approx(64 * 2_048_000 / (4 * (64 * 2048 + 2_049_000 + 64 * 1000))),
    ]


class Asking(nn.Module):
    """What it runs depends on values, which the meta device has none of."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        return x.relu() if bool(x.sum() < 1e9) else x


def test_a_network_that_needs_values_is_recorded_by_a_real_pass():
    found = cs.operators(Asking(), resolution=8, batch_size=2)
    assert found.notes[0].startswith("Counted by a real forward pass: the meta device fails")
    conv, *_, relu = found.calls
    assert moved(conv) == (4 * (2 * 3 * 64 + 16), 4 * 2 * MAP, 4 * 16)
    assert (relu.kind, relu.bytes_written) == ("activation", 4 * 2 * MAP)


class Pair(nn.Module):
    """It takes an image and a number for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, image: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return self.entry(image) * gain[:, :, None, None]


def test_several_inputs_are_all_data():
    found = cs.operators(Pair(), example_inputs=(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4)))
    assert found.resolution == 8
    assert [moved(call) for call in found.calls] == [
        (4 * (3 * 64 + 12), 4 * MAP, 4 * 12),
        (4 * (MAP + 4), 4 * MAP, 0),
    ]


def test_a_batch_of_tensors_that_are_given_is_their_own():
    inputs = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4))
    two = (torch.zeros(2, 3, 8, 8), torch.zeros(2, 4))
    (note,) = cs.operators(Pair(), example_inputs=two).notes
    assert note.endswith("the first has 2 entries along its first axis.")
    message = "^The batch size is 2, but tensors were given, which have a batch"
    with pytest.raises(InputError, match=message):
        cs.operators(Pair(), example_inputs=inputs, batch_size=2)


class Told(nn.Module):
    """A network of images that are shifted by the vectors of words first."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 3)
        self.body = body

    def forward(self, ids: torch.Tensor, *, image: torch.Tensor) -> torch.Tensor:
        return self.body(image + self.words(ids).mean(1)[:, :, None, None])


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vgg11", "torchvision:densenet121"])
def test_stages_are_those_of_the_network_inside_where_inputs_are_given(name):
    body = resolve_base(name).build("meta")
    sizes = {"image": InputSize((3, 64, 64)), "ids": InputSize((5,), "int64")}
    plain = cs.operators(body, resolution=64, stages=True, batch_size=2)
    found = cs.operators(
        Told(body),
        example_inputs=(sizes["ids"], replace(sizes["image"], name="image")),
        stages=True,
        batch_size=2,
    )
    inside = {part.name: part for part in plain.by_stage()}
    parts = {part.name.removeprefix("body."): part for part in found.by_stage()}
    # the words are looked up, averaged and added before the first stage
    words, stem = parts.pop("stem"), inside.pop("stem", Part("stem"))
    assert (words.flops, words.params, words.calls) == (
        stem.flops,
        stem.params + 60,
        stem.calls + 3,
    )
    assert parts == {name: replace(part, name=parts[name].name) for name, part in inside.items()}
    assert len(parts) > 3


def test_weights_that_quantised_layers_hold_packed_are_params_and_bytes():
    layers = nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.Linear(8, 10)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)
    found = cs.operators(quantised, resolution=8)
    last = found.calls[-1]
    assert (last.flops, last.params) == (80, 90)
    # one byte a weight, four a bias
    assert (last.weight_bytes, last.bytes_read) == (80 + 4 * 10, 80 + 4 * 10 + 4 * 8)
    assert found.total.params == cs.count(quantised, resolution=8).params
    assert "unused" not in [part.name for part in found.by_kind()]

"""Every operator that multiplies: flops and acts by hand, and half of PyTorch's own figure."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import convscale as cs
from convscale.complexity.tally import Counting
from convscale.errors import InputError
from convscale.network.channels.contractions import RULES
from convscale.network.running.execution import run

DEVICES = ("meta", "cpu")


class Runs(nn.Module):
    """A network of one function, that makes its own tensors on the device it runs on."""

    def __init__(self, function, device):
        super().__init__()
        self.function, self.device = function, device

    def forward(self, _image):
        def zeros(*shape):
            return torch.zeros(*shape, device=self.device)

        return self.function(zeros)


def counted(function, device: str):
    """What one call counts: flops, acts, the operators without a rule, those left out."""
    counter = Counting()
    run(Runs(function, device), (torch.zeros(1, device=device),), counter)
    flops, acts = sum(counter.flops.values()), sum(counter.acts.values())
    return SimpleNamespace(
        flops=flops, acts=acts, uncounted=counter.uncounted, excluded=counter.excluded
    )


def half_of_torch(function, device: str) -> float:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        Runs(function, device)(None)
    return counter.get_total_flops() / 2


# What is called, its flops and acts by hand.
SEEN_BY_TORCH = {
    "conv1d, dilated: 8 - 2·2 = 4 positions": (
        lambda z: F.conv1d(z(1, 3, 8), z(4, 3, 3), dilation=2),
        4 * 4 * (3 * 3),
        4 * 4,
    ),
    "conv1d without a batch": (lambda z: F.conv1d(z(3, 8), z(4, 3, 3)), 4 * 6 * (3 * 3), 4 * 6),
    "conv2d of a stem": (
        lambda z: F.conv2d(z(1, 3, 224, 224), z(64, 3, 7, 7), z(64), stride=2, padding=3),
        64 * 112 * 112 * (3 * 7 * 7),
        64 * 112 * 112,
    ),
    "conv2d, padded to the same size": (
        lambda z: F.conv2d(z(1, 3, 8, 8), z(4, 3, 5, 5), padding="same"),
        4 * 8 * 8 * (3 * 5 * 5),
        4 * 8 * 8,
    ),
    "conv2d, depthwise": (
        lambda z: F.conv2d(z(1, 6, 8, 8), z(6, 1, 3, 3), groups=6),
        6 * 6 * 6 * 9,
        6 * 6 * 6,
    ),
    "conv3d, grouped": (
        lambda z: F.conv3d(z(1, 4, 8, 8, 8), z(6, 2, 3, 3, 3), groups=2),
        6 * 6**3 * (2 * 27),
        6 * 6**3,
    ),
    "conv_transpose1d": (
        lambda z: F.conv_transpose1d(z(1, 4, 5), z(4, 3, 3), stride=2),
        4 * 5 * (3 * 3),
        3 * (2 * 4 + 3),
    ),
    "conv_transpose2d, grouped, with output padding": (
        lambda z: F.conv_transpose2d(
            z(1, 4, 5, 5), z(4, 3, 3, 3), stride=2, groups=2, output_padding=1
        ),
        4 * 25 * (3 * 9),
        6 * 12 * 12,
    ),
    "conv_transpose3d": (
        lambda z: F.conv_transpose3d(z(1, 4, 5, 5, 5), z(4, 3, 3, 3, 3), stride=2),
        4 * 125 * (3 * 27),
        3 * 11**3,
    ),
    "linear on positions": (lambda z: F.linear(z(2, 3, 4), z(5, 4), z(5)), 2 * 3 * 5 * 4, 30),
    "linear without bias": (lambda z: F.linear(z(2, 3, 4), z(5, 4)), 2 * 3 * 5 * 4, 30),
    "linear on what was transposed": (
        lambda z: F.linear(z(2, 3, 7, 4).transpose(1, 2), z(5, 4), z(5)),
        2 * 3 * 7 * 5 * 4,
        2 * 3 * 7 * 5,
    ),
    "a vector times a matrix": (lambda z: z(3) @ z(3, 4), 3 * 4, 4),
    "matmul of a batch": (lambda z: z(3, 4) @ z(7, 4, 5), 7 * 3 * 5 * 4, 7 * 3 * 5),
    "matmul of heads": (lambda z: z(2, 6, 3, 4) @ z(2, 6, 4, 5), 2 * 6 * 3 * 5 * 4, 2 * 6 * 3 * 5),
    "baddbmm": (
        lambda z: torch.baddbmm(z(2, 3, 5), z(2, 3, 4), z(2, 4, 5)),
        2 * 3 * 5 * 4,
        2 * 3 * 5,
    ),
    "einsum of two": (
        lambda z: torch.einsum("bchw,cd->bdhw", z(2, 3, 4, 5), z(3, 7)),
        2 * 4 * 5 * 7 * 3,
        2 * 4 * 5 * 7,
    ),
    "einsum of three, one after the other": (
        lambda z: torch.einsum("bi,ij,bj->b", z(2, 3), z(3, 4), z(2, 4)),
        2 * 3 * 4 + 2 * 4,
        2 * 4 + 2,
    ),
    "tensordot": (
        lambda z: torch.tensordot(z(2, 3, 4), z(4, 3, 5), dims=([1, 2], [1, 0])),
        2 * 5 * (3 * 4),
        2 * 5,
    ),
    "a chain of products": (
        lambda z: torch.linalg.multi_dot([z(2, 3), z(3, 4), z(4, 5)]),
        2 * 4 * 3 + 2 * 5 * 4,
        2 * 4 + 2 * 5,
    ),
    "a power of a matrix: squared twice, and once times itself": (
        lambda z: torch.linalg.matrix_power(z(3, 3), 5),
        3 * 27,
        3 * 9,
    ),
    "attention that is not fused": (
        lambda z: (z(2, 5, 8) @ z(2, 8, 7)).softmax(-1) @ z(2, 7, 6),
        2 * 5 * 7 * 8 + 2 * 5 * 6 * 7,
        2 * 5 * 7 + 2 * 5 * 6,
    ),
    "a cell of a recurrent layer": (
        lambda z: nn.LSTMCell(8, 6, device=z(1).device)(z(1, 8)),
        24 * 8 + 24 * 6,
        2 * 24,
    ),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SEEN_BY_TORCH)
def test_an_operator_counts_what_its_formula_says_and_half_of_what_torch_says(name, device):
    function, flops, acts = SEEN_BY_TORCH[name]
    found = counted(function, device)
    assert (found.flops, found.acts) == (flops, acts)
    assert found.flops == half_of_torch(function, device)
    assert not found.uncounted


@pytest.mark.parametrize("name", SEEN_BY_TORCH)
def test_what_runs_in_inference_mode_counts_the_same(name):
    function, flops, acts = SEEN_BY_TORCH[name]

    @torch.inference_mode()
    def inferring(zeros):
        return function(zeros)

    for found in (counted(inferring, "meta"), counted(inferring, "cpu")):
        assert (found.flops, found.acts) == (flops, acts)
        assert not found.uncounted


def test_a_count_made_in_inference_mode_is_the_same():
    with torch.inference_mode():
        assert cs.count("resnet18").flops == 1_814_073_344
        assert cs.count("vit_tiny_patch16_224").uncounted == ()


@pytest.mark.parametrize("name", ["hrnet_w18_small", "mobilevit_xxs"])
def test_every_convention_counts_the_same_in_inference_mode(name):
    plain = cs.count_conventions(name, resolution=64)
    with torch.inference_mode():
        found = cs.count_conventions(name, resolution=64)
    for convention, count in plain.items():
        assert found[convention].as_dict() == count.as_dict()
        assert found[convention].edges == count.edges


class Force(nn.Module):
    """The gradient of an energy with regard to the image, as networks of molecules put it out."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(4, 3, 3, 3))
        self.matrix = nn.Parameter(torch.zeros(5, 6))

    def forward(self, image):
        with torch.enable_grad():
            image = image.detach().requires_grad_()
            energy = F.linear(F.conv2d(image, self.kernel), self.matrix).sum()
            return torch.autograd.grad(energy, image)[0]


def test_gradients_that_a_forward_pass_computes_are_counted():
    convolution, linear = 4 * 6 * 6 * (3 * 9), 4 * 6 * 5 * 6
    found = cs.count(Force(), resolution=8)
    assert found.flops == 2 * (convolution + linear)
    assert found.acts == 4 * 6 * 6 + 4 * 6 * 5 + 3 * 8 * 8 + 4 * 6 * 6
    with FlopCounterMode(display=False) as counter:
        Force().forward(torch.zeros(1, 3, 8, 8))  # its modules' hooks do not bear a gradient
    assert counter.get_total_flops() == 2 * found.flops


# What PyTorch's own counter counts as nothing.
UNSEEN_BY_TORCH = {
    "mv": (lambda z: z(3, 4) @ z(4), 3 * 4, 3),
    "addmv": (lambda z: torch.addmv(z(3), z(3, 4), z(4)), 3 * 4, 3),
    "dot": (lambda z: z(4) @ z(4), 4, 1),
    "vdot": (lambda z: torch.vdot(z(4), z(4)), 4, 1),
    "addr": (lambda z: torch.addr(z(4, 3), z(4), z(3)), 4 * 3, 4 * 3),
    "addbmm": (lambda z: torch.addbmm(z(3, 5), z(2, 3, 4), z(2, 4, 5)), 2 * 3 * 4 * 5, 3 * 5),
    "conv_tbc: 5 + 2 - 3 + 1 steps": (
        lambda z: torch.conv_tbc(z(5, 2, 3), z(3, 3, 4), z(4), 1),
        5 * 2 * 4 * (3 * 3),
        5 * 2 * 4,
    ),
    "bilinear": (lambda z: F.bilinear(z(2, 3), z(2, 4), z(5, 3, 4), z(5)), 2 * 5 * 3 * 4, 2 * 5),
    "cdist": (lambda z: torch.cdist(z(2, 3, 4), z(2, 5, 4)), 2 * 3 * 5 * 4, 2 * 3 * 5),
    "cdist of many": (lambda z: torch.cdist(z(2, 30, 4), z(2, 50, 4)), 2 * 30 * 50 * 4, 3000),
    "pdist: 5·4/2 pairs": (lambda z: F.pdist(z(5, 4)), 10 * 4, 10),
    "deformable convolution": (
        lambda z: torchvision.ops.deform_conv2d(
            z(1, 4, 8, 8), z(1, 18, 8, 8), z(6, 4, 3, 3), z(6), padding=1, mask=z(1, 9, 8, 8)
        ),
        6 * 64 * (4 * 9),
        6 * 64,
    ),
    "deformable convolution, grouped": (
        lambda z: torchvision.ops.deform_conv2d(
            z(1, 4, 8, 8), z(1, 18, 6, 6), z(6, 2, 3, 3), stride=1
        ),
        6 * 36 * (2 * 9),
        6 * 36,
    ),
    "baddbmm in place": (
        lambda z: z(2, 3, 5).baddbmm_(z(2, 3, 4), z(2, 4, 5)),
        2 * 3 * 5 * 4,
        2 * 3 * 5,
    ),
    "addmv in place": (lambda z: z(3).addmv_(z(3, 4), z(4)), 3 * 4, 3),
    "a linear layer with its activation": (
        lambda z: torch._addmm_activation(z(5), z(3, 4), z(4, 5)),
        3 * 5 * 4,
        3 * 5,
    ),
    "rows of a table, weighted": (
        lambda z: F.embedding_bag(
            torch.zeros(2, 5, dtype=torch.int64, device=z(1).device),
            z(10, 4),
            mode="sum",
            per_sample_weights=z(2, 5),
        ),
        2 * 5 * 4,
        2 * 4,
    ),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", UNSEEN_BY_TORCH)
def test_an_operator_that_torch_leaves_out_counts_what_its_formula_says(name, device):
    function, flops, acts = UNSEEN_BY_TORCH[name]
    found = counted(function, device)
    assert (found.flops, found.acts) == (flops, acts)
    assert half_of_torch(function, device) == 0
    assert not found.uncounted


def attention(z, heads=2, keys=7, kv_heads=2, **options):
    query, key = z(1, heads, 5, 8), z(1, kv_heads, keys, 8)
    return F.scaled_dot_product_attention(query, key, z(1, kv_heads, keys, 6), **options)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "options",
    [{}, {"keys": 5, "is_causal": True}, {"heads": 4, "enable_gqa": True}],
    ids=["plain", "causal", "grouped queries"],
)
def test_attention_counts_both_products_fused_or_not(options, device):
    heads, keys = options.get("heads", 2), options.get("keys", 7)
    found = counted(lambda z: attention(z, **options), device)
    # queries of 5 by keys, and values of width 6; a causal mask takes nothing off
    assert found.flops == heads * (5 * keys * 8 + 5 * 6 * keys)
    assert found.acts == heads * (5 * keys + 5 * 6)


@pytest.mark.parametrize(
    "name",
    [
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_attention_math_for_mps",
    ],
)
def test_fused_attention_counts_alike_on_every_device(name):
    query, key, value = torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 7, 8), torch.zeros(1, 2, 7, 6)
    found = RULES[f"aten::{name}"]({"query": query, "key": key, "value": value}, None)
    assert sum(one.flops for one in found) == 2 * (5 * 7 * 8 + 5 * 6 * 7)
    assert sum(one.acts for one in found) == 2 * (5 * 7 + 5 * 6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("layer", "gates", "directions"),
    [(nn.LSTM, 4, 1), (nn.LSTM, 4, 2), (nn.GRU, 3, 1), (nn.RNN, 1, 2)],
)
def test_recurrent_layers_count_their_closed_form_fused_or_step_by_step(
    layer, gates, directions, device
):
    width, state, steps = 8, 6, 5

    def function(z):
        net = layer(
            width, state, num_layers=2, bidirectional=directions == 2, device=z(1).device
        ).eval()
        return net(z(steps, 1, width))

    found = counted(function, device)
    later = directions * state  # the second layer takes both directions of the first
    inputs = (width + state) + (later + state)
    assert found.flops == steps * directions * gates * state * inputs
    assert found.acts == steps * directions * gates * state * 2 * 2
    assert not found.uncounted


def test_the_layer_of_a_graphics_card_counts_every_weight_matrix_once_a_step():
    # what cuDNN is given: for each layer and direction two matrices and two biases
    weights = [torch.zeros(24, 8), torch.zeros(24, 6), torch.zeros(24), torch.zeros(24)]
    found = RULES["aten::_cudnn_rnn"]({"input": torch.zeros(5, 3, 8), "weight": weights}, None)
    assert sum(one.flops for one in found) == 5 * 3 * 24 * (8 + 6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_counts_its_projections_and_products(need_weights, device):
    def function(z):
        layer = nn.MultiheadAttention(8, 2, batch_first=True, device=z(1).device).eval()
        return layer(z(1, 5, 8), z(1, 5, 8), z(1, 5, 8), need_weights=need_weights)

    found = counted(function, device)
    assert found.flops == 4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4
    assert found.acts == 4 * 5 * 8 + 2 * 5 * 5 + 5 * 8


@pytest.mark.parametrize("device", DEVICES)
def test_an_encoder_layer_counts_alike_whether_it_is_fused_or_not(device):
    def function(z):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, device=z(1).device)
        return layer.eval()(z(1, 5, 8))

    found = counted(function, device)  # on the CPU one operator does all of it
    assert found.flops == 5 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 5 * 5 * 8
    assert found.acts == 5 * (4 * 8 + 16 + 8) + 2 * 5 * 5 + 5 * 8


# What multiplies no weights and sums no products.
LEFT_OUT = {
    "norms": lambda z: F.batch_norm(F.layer_norm(z(1, 3, 8, 8), (8,)), z(3), z(3)),
    "group norm": lambda z: F.group_norm(z(1, 4, 8), 2),
    "pooling": lambda z: F.adaptive_avg_pool2d(F.max_pool2d(z(1, 3, 8, 8), 2), 2),
    "resizing": lambda z: F.interpolate(z(1, 3, 8, 8), scale_factor=2, mode="bilinear"),
    "sampling": lambda z: F.grid_sample(z(1, 3, 8, 8), z(1, 4, 4, 2), align_corners=False),
    "elementwise": lambda z: F.silu(z(3, 4) * z(3, 4) + z(4)),
    "an outer product": lambda z: torch.outer(z(4), z(3)),
    "lookup": lambda z: F.embedding(
        torch.zeros(5, dtype=torch.int64, device=z(1).device), z(10, 4)
    ),
    "sums of rows": lambda z: F.embedding_bag(
        torch.zeros(2, 5, dtype=torch.int64, device=z(1).device), z(10, 4), mode="sum"
    ),
    "regions of interest": lambda z: torchvision.ops.roi_align(z(1, 4, 8, 8), z(2, 5), 3),
    "patches": lambda z: F.fold(F.unfold(z(1, 3, 8, 8), 3), (8, 8), 3),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_multiplies_no_weights_is_left_out_by_name(name):
    found = counted(LEFT_OUT[name], "meta")
    assert (found.flops, found.acts) == (0, 0)
    assert found.excluded
    assert not found.uncounted


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda z: torch.fft.rfft2(z(8, 8)), "aten._fft_r2c"),
        (lambda z: torch.linalg.matrix_exp(z(3, 3)), "aten.linalg_matrix_exp"),
        (lambda z: torch.linalg.svd(z(3, 3)), "aten._linalg_svd"),
        (lambda z: torch.linalg.qr(z(3, 3)), "aten.linalg_qr"),
        (lambda z: torch.linalg.det(z(3, 3)), "aten._linalg_det"),
        (lambda z: torch.linalg.pinv(z(3, 3)), "aten.linalg_pinv"),
        (lambda z: torch.linalg.slogdet(z(3, 3)), "aten._linalg_slogdet"),
    ],
)
def test_what_multiplies_and_has_no_rule_is_named(function, operator):
    found = counted(function, "meta")
    assert [name for name, _ in found.uncounted] == [operator]


def test_a_functional_call_and_a_module_used_twice_count_as_often_as_they_run():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            once = self.layer(x)
            return F.conv2d(self.layer(once), self.layer.weight, padding=1)

    count = cs.count(Net(), resolution=8)
    assert count.flops == 3 * (3 * 64 * 27)
    assert count.params == 81 + 3


def test_a_deformable_convolution_scales_like_any_other():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 32, 3, padding=1)
            self.offset = nn.Conv2d(32, 18, 3, padding=1)
            self.deformed = torchvision.ops.DeformConv2d(32, 64, 3, padding=1)
            self.exit = nn.Linear(64, 10)

        def forward(self, x):
            x = self.entry(x)
            return self.exit(self.deformed(x, self.offset(x)).mean((2, 3)))

    scaled = cs.scale(Net(), strategy="w", factor=4, resolution=16, weights=False)
    positions = 16 * 16
    assert scaled.base.flops == positions * 9 * (3 * 32 + 32 * 18 + 32 * 64) + 64 * 10
    assert scaled.achieved.flops == positions * 9 * (3 * 64 + 64 * 18 + 64 * 128) + 128 * 10


def test_an_operator_that_takes_functions_is_refused_by_name():
    flex = pytest.importorskip("torch.nn.attention.flex_attention")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv2d(3, 16, 3)

        def forward(self, x):
            x = self.entry(x).flatten(2).transpose(1, 2)[:, None]
            return flex.flex_attention(x, x, x)

    with pytest.raises(InputError, match="^module:Net calls flex_attention, an operator that .*$"):
        cs.count(Net(), resolution=10)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 4, 2),
        nn.ConvTranspose1d(6, 4, 2),
        nn.ConvTranspose2d(6, 4, 2, groups=2, bias=False),
    ],
)
def test_a_transposed_convolution_of_other_channels_is_refused_as_with_values(layer):
    side = (10,) * (layer.weight.ndim - 2)
    with pytest.raises(RuntimeError, match="to have 6 channels, but got 8"):
        layer(torch.zeros(1, 8, *side))
    with pytest.raises(InputError, match="to have 6 channels, but got 8"):
        cs.count(layer, example_inputs=torch.zeros(1, 8, *side))
    assert cs.count(layer, example_inputs=torch.zeros(1, 6, *side)).flops > 0


def test_a_deformable_convolution_of_other_channels_is_refused():
    layer = torchvision.ops.DeformConv2d(6, 4, 3, groups=2)
    offsets = torch.zeros(1, 18, 8, 8)
    with pytest.raises(InputError, match="cannot run on these inputs"):
        cs.count(layer, example_inputs=(torch.zeros(1, 8, 10, 10), offsets))
    found = cs.count(layer, example_inputs=(torch.zeros(1, 6, 10, 10), offsets))
    assert found.flops == 4 * 64 * (3 * 9)

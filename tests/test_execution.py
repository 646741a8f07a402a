"""A run: what it takes beside a forward pass, and what it says where the meta device fails.

Times are the benchmark's (`make counting`); here stands what is the same in every run.
"""

from __future__ import annotations

import copy
import random
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import convscale as cs
from benchmarks.counting import NETWORKS, Fresh, Row, meta_counters, missed
from convscale.errors import InputError
from convscale.network.running.execution import ForwardError, Observer, run


def python_calls(work) -> int:
    """Count the calls of Python functions that a piece of work makes, once it is warm."""
    made = 0

    def note(frame, event, argument) -> None:
        nonlocal made
        made += event == "call"

    work()
    work()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_a_count_makes_fewer_calls_than_a_forward_pass_on_the_meta_device(name):
    counters = meta_counters(name)
    plain, whole = counters["forward pass"], counters["convscale"]
    assert python_calls(whole) < python_calls(plain)  # the copy of the module included
    assert whole() == counters["torch FlopCounterMode"]()


def test_a_count_runs_the_network_once_and_copies_it_once():
    class Watched(nn.Module):
        runs = copies = 0

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def __setstate__(self, state) -> None:
            Watched.copies += 1
            super().__setstate__(state)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Watched.runs += 1
            return self.conv(x)

    assert cs.count(Watched(), resolution=8).acts == 8 * 36
    assert (Watched.runs, Watched.copies) == (1, 1)


class RealMemory(TorchDispatchMode):
    """Sum the bytes that operators put out on any device but the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor))
        self.bytes += sum(t.untyped_storage().nbytes() for t in tensors if not t.is_meta)
        return output


@pytest.mark.parametrize("name", ["timm:vit_giant_patch14_224", "timm:resnet50@w:45"])
def test_a_billion_parameters_are_counted_without_memory_for_them(name):
    with RealMemory() as real:
        assert cs.count(name).params > 1e9
    assert real.bytes < 1e6


def test_the_benchmark_names_every_limit_that_is_missed():
    rows = [
        Row("timm:a", "convscale", cpu_ms=12.0, ratio=1.2, flops=8),
        Row("timm:b", "convscale", cpu_ms=13.0, ratio=1.3, flops=8),
        Row("timm:b", "convscale, the run alone", cpu_ms=12.1, ratio=1.21, flops=8),
        Row("timm:b", "torch FlopCounterMode", cpu_ms=14.0, ratio=1.4, flops=9),
        Row("timm:b", "torchinfo", cpu_ms=20.0, ratio=2.0, flops=7),
    ]
    fresh = [
        Fresh("timm:resnet50", params=25, cpu_s=1.1, peak_bytes=100_000_000),
        Fresh("timm:big", params=10**9, cpu_s=0.2, peak_bytes=100_000_001),
    ]
    assert missed(rows, fresh) == [
        "timm:b: convscale takes 1.30 times the forward pass; the limit is 1.2.",
        "timm:b: convscale, the run alone takes 1.21 times the forward pass; the limit is 1.2.",
        "timm:b: convscale finds 8 flops, torch FlopCounterMode 9.",
        "timm:resnet50: 1.10 s of processor time from its name; the limit is 1 s.",
        "timm:big: 100.0 MB beyond the imports; the limit is 100 MB.",
    ]


class Looks(nn.Module):
    """A convolution, and what looks at the values that it puts out."""

    def __init__(self, look) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.gate = Gate(look)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.gate(self.stem(x))


class Gate(nn.Module):
    def __init__(self, look) -> None:
        super().__init__()
        self.look = look

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.look(x)


NUMBER = "takes a number out of a tensor, as .item() and an if on its values do"
SEARCH = "asks which elements of a tensor are not zero, as nonzero() and an index by a mask do"
LOOKS = {
    "if": (lambda x: x if x.sum() > 0 else -x, NUMBER),
    "item": (lambda x: x * x.max().item(), NUMBER),
    "float": (lambda x: x * float(x.max()), NUMBER),
    "nonzero": (lambda x: x.flatten()[x.flatten().nonzero()], SEARCH),
    "mask": (lambda x: x[x > 0], SEARCH),
    "where": (lambda x: torch.where(x > 0)[0], SEARCH),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), "turns a tensor into an array of NumPy"),
    "tolist": (
        lambda x: x * sum(x.flatten().tolist()),
        "reads the values of a tensor, as .tolist() and .cpu() do",
    ),
    "unique": (lambda x: x.unique(), "asks which values a tensor has, as unique() does"),
}


@pytest.mark.parametrize("way", LOOKS)
def test_what_depends_on_values_is_counted_by_a_real_pass_and_named(way):
    look, does = LOOKS[way]
    found = cs.count(Looks(look), resolution=8)
    assert (found.flops, found.acts) == (27 * 8 * 36, 8 * 36)
    (note,) = found.notes
    said = "Counted by a real forward pass: the meta device fails, since gate, a Gate, "
    assert note.startswith(f"{said}{does} (test_execution.py:")
    assert note.endswith(" Other values may execute other operators.")


def test_what_depends_on_values_cannot_be_traced_for_scaling():
    message = f"module:Looks cannot run on the meta device: gate, a Gate, {NUMBER} ("
    with pytest.raises(cs.UnscalableNetworkError, match=f"^{re.escape(message)}"):
        cs.scale(Looks(LOOKS["if"][0]), strategy="w", factor=2, resolution=8)


def test_an_operator_without_a_form_for_the_meta_device_is_named():
    @torch.library.custom_op("convscale_tests::bare", mutates_args=())
    def bare(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    found = cs.count(Looks(bare), resolution=8)
    (note,) = found.notes
    assert "gate, a Gate, calls convscale_tests::bare, which has no form that computes" in note
    assert [(e.operator, e.path) for e in found.uncounted] == [("convscale_tests.bare", "gate")]


def test_what_neither_device_runs_is_refused_with_the_module():
    def asks(x):
        return x.to("cuda:7")

    message = r"^module:Looks cannot run at 8 px: .*\(in gate, a Gate\)\..*$"
    with pytest.raises(InputError, match=message):
        cs.count(Looks(asks), resolution=8)


def numbers_to_come() -> tuple:
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    return (state[0].tolist(), *state[1:])


@pytest.mark.parametrize("way", ["on the meta device", "by a real pass"])
def test_a_count_leaves_module_hooks_and_random_numbers_alone(way):
    seen = []
    noise = nn.functional.dropout
    module = Looks(
        (lambda x: noise(x, training=True))
        if way == "on the meta device"
        else (lambda x: noise(x, training=True) * float(x.sum()))
    )
    module.gate.register_forward_hook(lambda *_: seen.append(1))
    module.gate.eval()
    before, numbers = {**module.state_dict()}, numbers_to_come()
    copies = {name: tensor.clone() for name, tensor in before.items()}
    found = cs.count(module, resolution=8)
    assert bool(found.notes) == (way == "by a real pass")
    assert numbers_to_come() == numbers
    assert not seen
    assert (module.training, module.gate.training) == (True, False)
    assert all(torch.equal(copies[name], tensor) for name, tensor in module.state_dict().items())
    assert all(
        tensor is before[name] or tensor.data_ptr() == before[name].data_ptr()
        for name, tensor in module.state_dict().items()
    )
    assert len(module.gate._forward_hooks) == 1


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_a_count_by_name_leaves_random_numbers_alone(name):
    numbers = numbers_to_come()
    cs.count(name, resolution=64)
    assert numbers_to_come() == numbers


class _Results(Observer):
    def __init__(self):
        self.made = []

    def visit(self, func, args, kwargs, output, path):
        self.made.append((tuple(output.shape), output.stride(), output.dtype))


@pytest.mark.parametrize(
    "act",
    [
        torch.nn.Hardswish(inplace=True),
        torch.nn.Hardsigmoid(),
        torch.nn.Hardsigmoid(inplace=True),
        torch.nn.ReLU(),
        torch.nn.ReLU6(inplace=True),
        torch.nn.LeakyReLU(inplace=True),
        torch.nn.ELU(),
        torch.nn.Mish(),
        torch.nn.ReLU(inplace=True),
        torch.nn.SiLU(inplace=True),
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_results_that_are_made_directly_are_shaped_and_laid_as_pytorch_does(act, transposed):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act = act

        def forward(self, x, y):
            x = x.transpose(1, 3) if transposed else x
            x = self.act(x + 0.0)
            z = y.permute(0, 3, 2, 1) if transposed else y
            return x * z + x - z

    shapes = (2, 3, 5, 7), (1, 3, 1, 1)
    seen = {}
    for device in ("cpu", "meta"):
        results = _Results()
        run(Net(), tuple(torch.empty(shape, device=device) for shape in shapes), results)
        seen[device] = results.made
    assert seen["meta"] == seen["cpu"]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.mean((-1, 1)),
        lambda x: x.mean(0),
        lambda x: x.mean(),
        lambda x: x.mean((), keepdim=True),
        lambda x: x.mean(1, dtype=torch.float64),
    ],
)
def test_means_that_are_made_directly_are_shaped_and_laid_as_pytorch_does(mean, transposed):
    class Net(torch.nn.Module):
        def forward(self, x):
            return mean((x.transpose(1, 3) if transposed else x) + 0.0)

    seen = {}
    for device in ("cpu", "meta"):
        results = _Results()
        run(Net(), (torch.empty(2, 3, 5, 7, device=device),), results)
        seen[device] = results.made
    assert seen["meta"] == seen["cpu"]


@pytest.mark.parametrize("dims", [(1, 4), (1, 1)])
def test_means_that_pytorch_refuses_are_refused_on_the_meta_device_too(dims):
    class Net(torch.nn.Module):
        def forward(self, x):
            return x.mean(dims)

    for device in ("cpu", "meta"):
        with pytest.raises(ForwardError):
            run(Net(), (torch.empty(2, 3, 5, 7, device=device),), Observer())


ARITHMETIC = {
    "a number": lambda x, y: x * 2 + 1e-6 - 3.5,
    "a number first": lambda x, y: 1.0 - x / 3,
    "a quotient of a number": lambda x, y: 2.0 / x,
    "a power": lambda x, y: x.pow(2) + x**0.5,
    "a power of a number": lambda x, y: 2.0 ** x.contiguous(),
    "a root": lambda x, y: torch.rsqrt(x.square() + 1e-6) * x.sqrt(),
    "functions": lambda x, y: (
        torch.tanh(x) + x.exp() - x.abs().log() - torch.nn.functional.softplus(-x)
    ),
    "fewer axes": lambda x, y: x * y[0, 0, 0] + y[0, 0],
    "fewer axes first": lambda x, y: y[0, 0, 0] * x - y[0, 0] / x,
    "an axis of its own": lambda x, y: x[0] + y,
    "sides of their own": lambda x, y: x[:, :, :1] * y[:, :, :, :1],
    "no axis": lambda x, y: x * y.sum() + y.sum() * 2,
    "another precision": lambda x, y: x.half() * y + x.double(),
    "integers": lambda x, y: x.int() * 2 + y.int(),
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", ARITHMETIC)
def test_arithmetic_that_is_made_directly_is_shaped_and_laid_as_pytorch_does(way, transposed):
    class Net(torch.nn.Module):
        def forward(self, x, y):
            return ARITHMETIC[way](*((x.mT, y.mT) if transposed else (x, y)))

    seen = {}
    for device in ("cpu", "meta"):
        results = _Results()
        operands = (torch.ones(2, 3, 5, 5, device=device), torch.ones(1, 3, 5, 5, device=device))
        run(Net(), operands, results)
        seen[device] = results.made
    assert seen["meta"] == seen["cpu"]


@pytest.mark.parametrize("function", ["add", "mul", "sub", "div"])
def test_arithmetic_of_unlike_tensors_is_refused_on_the_meta_device_too(function):
    class Net(torch.nn.Module):
        def forward(self, x, y):
            return getattr(torch, function)(x, y)

    inputs = torch.empty(1, 6, 2, 2, device="meta"), torch.empty(1, 4, 2, 2, device="meta")
    with pytest.raises(Exception, match="broadcast"):
        run(Net(), inputs)


PRODUCTS = {
    "mm": ((5, 3), (3, 4)),
    "addmm": ((4,), (5, 3), (3, 4)),
    "bmm": ((2, 5, 3), (2, 3, 4)),
}


class _Product(torch.nn.Module):
    def __init__(self, function, transposed):
        super().__init__()
        self.function, self.transposed = function, transposed

    def forward(self, *operands):
        *more, right = operands
        right = right.transpose(-1, -2) if self.transposed else right
        return getattr(torch, self.function)(*more, right)


@pytest.mark.parametrize("function", PRODUCTS)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_that_are_made_directly_are_shaped_and_laid_as_pytorch_does(function, transposed):
    *more, right = PRODUCTS[function]
    shapes = (*more, (*right[:-2], right[-1], right[-2]) if transposed else right)
    seen = {}
    for device in ("cpu", "meta"):
        results = _Results()
        operands = tuple(torch.zeros(shape, device=device) for shape in shapes)
        run(_Product(function, transposed), operands, results)
        seen[device] = results.made
    assert seen["meta"] == seen["cpu"]


@pytest.mark.parametrize("function", PRODUCTS)
def test_products_of_unlike_matrices_are_refused_on_the_meta_device_too(function):
    operands = tuple(torch.zeros(shape, device="meta") for shape in PRODUCTS[function])
    with pytest.raises(ForwardError):
        run(_Product(function, True), operands)


CONVOLUTIONS = {
    "plain": (nn.Conv2d(6, 8, 3), (2, 6, 9, 11)),
    "strided": (nn.Conv2d(6, 8, (3, 5), stride=(2, 3), padding=(1, 0)), (1, 6, 9, 11)),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=(2, 3), padding="same"), (1, 6, 9, 11)),
    "grouped": (nn.Conv2d(6, 9, 3, groups=3, bias=False), (1, 6, 9, 11)),
    "depthwise": (nn.Conv2d(6, 12, 2, groups=6, padding=1), (1, 6, 9, 11)),
    "channels last": (nn.Conv2d(6, 8, 3).to(memory_format=torch.channels_last), (1, 6, 9, 11)),
    "one image": (nn.Conv2d(6, 8, 3), (6, 9, 11)),
    "one position": (nn.Conv2d(6, 8, 1), (1, 6, 1, 1)),
    "a signal": (nn.Conv1d(6, 8, 3, stride=2), (1, 6, 9)),
    "a volume": (nn.Conv3d(6, 8, (1, 3, 3), padding=(0, 1, 1)), (1, 6, 4, 9, 11)),
    "transposed": (nn.ConvTranspose2d(6, 8, 4, stride=2, output_padding=1), (1, 6, 9, 11)),
    "padded by itself": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (1, 6, 9, 11)),
}


@pytest.mark.parametrize("way", CONVOLUTIONS)
def test_convolutions_that_are_made_directly_are_shaped_as_pytorch_does(way):
    layer, shape = CONVOLUTIONS[way]
    seen = {}
    for device in ("cpu", "meta"):
        results = _Results()
        run(copy.deepcopy(layer).to(device), (torch.zeros(shape, device=device),), results)
        seen[device] = results.made
    if way == "channels last":  # on the meta device PyTorch does not lay results so
        seen = {device: [(one[0], one[2]) for one in made] for device, made in seen.items()}
    assert seen["meta"] == seen["cpu"]


def with_shape(layer, shape):
    layer.weight = nn.Parameter(torch.zeros(shape))
    return layer


REFUSED = {
    "other channels": (nn.Conv2d(6, 8, 3), (1, 5, 9, 9)),
    "a map smaller than the kernel": (nn.Conv2d(6, 8, 5), (1, 6, 4, 9)),
    "groups that do not divide": (
        with_shape(nn.Conv2d(6, 8, 3, groups=2), (7, 3, 3, 3)),
        (1, 6, 9, 9),
    ),
    "another bias": (with_shape(nn.Conv2d(6, 8, 3), (9, 6, 3, 3)), (1, 6, 9, 9)),
    "fewer axes": (nn.Conv2d(6, 8, 3), (6, 9)),
}


@pytest.mark.parametrize("way", REFUSED)
def test_convolutions_that_pytorch_refuses_are_refused_on_the_meta_device_too(way):
    layer, shape = REFUSED[way]
    for device in ("cpu", "meta"):
        with pytest.raises(ForwardError):
            run(copy.deepcopy(layer).to(device), (torch.zeros(shape, device=device),), Observer())


def test_a_module_of_its_own_mode_keeps_it():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    class Seen(Observer):
        def __init__(self):
            self.modes = {}

        def enter(self, path, module, inputs):
            self.modes[path] = module.training

    for norms, frozen in ((nn.BatchNorm2d, True), (Frozen, False)):
        seen = Seen()
        net = nn.Sequential(nn.Conv2d(3, 4, 1), norms(4)).to("meta").eval()
        run(net, (torch.zeros(2, 3, 8, 8, device="meta"),), seen, training=True)
        assert seen.modes == {"": True, "0": True, "1": frozen}
        run(net, (torch.zeros(2, 3, 8, 8, device="meta"),), seen)
        assert set(seen.modes.values()) == {False}

"""Casts of a network's own code under autocast, against real runs under autocast on the CPU."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2dFp32
from torch import nn
from torch.overrides import TorchFunctionMode

from convscale.complexity.counting import count_network
from convscale.complexity.operators import record_network
from convscale.network import resolve_base
from convscale.network.modules.copies import full_copy
from convscale.prediction import workload
from convscale.prediction.execution import Execution
from convscale.prediction.fusion import executed

# Of these, the CPU's autocast runs what is compared as a GPU's does: products in half precision.
# Operators that only a GPU's autocast runs in full precision (norms, softmax) are not compared.
NETWORKS = (
    "timm:resnet18",
    "timm:efficientvit_b0",
    "timm:resnetv2_50d_evos",
    "timm:levit_conv_128s",
    "timm:convnext_atto",
    "timm:edgenext_xx_small",
)
GPU_ALONE = {"native_layer_norm", "native_group_norm", "_softmax", "sum", "pow", "rsqrt"}
BOTH = {torch.float32, torch.bfloat16}
CASTS = {"float", "to", "type", "type_as", "half", "bfloat16"}


class Casts(TorchFunctionMode):
    """Counts the casts that code makes, by module."""

    def __init__(self):
        super().__init__()
        self.found, self.stack = Counter(), [""]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.__name__ in CASTS and {result.dtype, args[0].dtype} == BOTH:
            precision = "full" if result.dtype is torch.float32 else "half"
            self.found[self.stack[-1], precision] += 1
        return result


def real(module, size):
    """Run a module under the CPU's autocast: the casts of its code, what modules put out."""
    mode, precisions = Casts(), {}

    def leave(path):
        def hook(_module, _inputs, output):
            mode.stack.pop()
            if isinstance(output, torch.Tensor):
                precisions[path] = output.dtype is torch.float32

        return hook

    for path, part in module.named_modules():
        part.register_forward_pre_hook(lambda _m, _i, path=path: mode.stack.append(path))
        part.register_forward_hook(leave(path))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), mode:
        module.eval()(torch.zeros(1, 3, size, size))
    return mode.found, precisions


def of_weights(call):
    return call.bytes_read == call.weight_bytes


def recorded(network, **more):
    return record_network(network, dtype="float8", autocast=True, **more)


@pytest.mark.parametrize("name", NETWORKS)
def test_casts_and_precisions_are_those_of_a_real_run(name):
    network = resolve_base(name)
    found = recorded(network)
    casts, precisions = real(full_copy(network.build("cpu")), network.resolution)
    assert Counter((call.path, call.cast) for call in found.calls if call.cast) == casts
    flow = workload(found.calls).flow
    last = {call.path: place for place, call in enumerate(found.calls) if call.path}
    last = {p: i for p, i in last.items() if not of_weights(found.calls[i])}
    other = set()  # what only a GPU has in full precision
    for place, call in enumerate(found.calls):
        product = call.flops > 0
        if flow.names[place] in GPU_ALONE or (not product and other & {*call.sources}):
            other.add(place)
    told = {
        path: bool(flow.full_written[place])
        for path, place in last.items()
        if place not in other and path in precisions
    }
    assert len(told) > 20
    assert told == {path: precisions[path] for path in told}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_autocast_nothing_changes(name):
    network = resolve_base(name)
    plain, found = record_network(network, dtype="float8"), recorded(network)
    kept = [dataclasses.replace(c, sources=(), autocast=True) for c in found.calls if not c.cast]
    assert kept == [dataclasses.replace(call, sources=()) for call in plain.calls]
    assert found.total.flops == count_network(network).flops
    before = workload(plain.calls)
    for dtype in ("float32", "float16"):
        after = executed(workload(found.calls), Execution(dtype=dtype))
        assert after.sources == before.sources
        assert np.array_equal(after.read, before.read)
        assert np.array_equal(after.written, before.written)
        assert np.array_equal(after.launches, before.launches)


class Net(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)
        self.norm = LayerNorm2dFp32(8)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.code = code

    def forward(self, x):
        return self.code(self, self.conv(x))


def off_by_device(net, y):
    with torch.autocast(y.device.type, enabled=False):
        return net.linear(y.float().mT.reshape(-1, 8))


def stored(net, y):
    dtype = y.dtype
    y = F.softmax(y, dim=1)
    return y.to(dtype) + 1


# By hand: the casts, and whether the last operator puts out full precision (4 bytes).
BY_HAND = {
    "float": (lambda net, y: y.float() * 2, ["full"], True),
    "to": (lambda net, y: y.to(torch.float32) * 2, ["full"], True),
    "to keyword": (lambda net, y: y.to(dtype=torch.float) * 2, ["full"], True),
    "type": (lambda net, y: y.type(torch.float32) * 2, ["full"], True),
    "type_as a weight": (lambda net, y: y.type_as(net.scale) * 2, ["full"], True),
    "twice": (lambda net, y: y.float().float() * 2, ["full"], True),
    "there and back": (lambda net, y: y.float().to(y.dtype) * 2, ["full", "half"], False),
    "of full precision": (lambda net, y: F.softmax(y, 1).float() * 2, [], True),
    "weight as the input": (lambda net, y: y * net.scale.to(y.dtype), ["half"], False),
    "weight by type_as": (lambda net, y: y * net.scale.type_as(y), ["half"], False),
    "weight to full": (lambda net, y: y * net.scale.float(), [], True),
    "weight not cast": (lambda net, y: y * net.scale, [], True),
    "weight cast, then computed": (lambda net, y: y * (net.scale.to(y.dtype) + 1), ["half"], False),
    "a product after": (lambda net, y: net.linear(y.float().flatten(2).mT), ["full"], False),
    "autocast off": (off_by_device, ["full"], True),
    "a stored dtype": (stored, ["half"], False),
    "a norm in full precision": (lambda net, y: net.norm(y) + 1, ["full", "half"], False),
    "a half product": (lambda net, y: y.float().flatten(2) @ y.flatten(2).mT, ["full"], False),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_way_to_cast_is_seen(name):
    code, casts, full = BY_HAND[name]
    found = recorded(resolve_base(Net(code)), resolution=8)
    assert not found.notes
    assert [call.cast for call in found.calls if call.cast] == casts
    assert bool(workload(found.calls).flow.full_written[-1]) == full
    plain = record_network(resolve_base(Net(code)), resolution=8)
    assert not any(call.cast for call in plain.calls)


def test_a_cast_reads_one_precision_and_writes_the_other():
    code = BY_HAND["there and back"][0]
    work = workload(recorded(resolve_base(Net(code)), resolution=8).calls)
    places = [place for place, name in enumerate(work.flow.names) if name == "cast"]
    assert work.read[places].tolist() == work.written[places].tolist() == [8 * 64] * 2
    assert work.flow.full_read[places].tolist() == [0, 1]
    assert work.flow.full_written[places].tolist() == [1, 0]
    assert work.launches[places].tolist() == [1, 1]


def test_where_autocast_is_off_products_take_what_they_get():
    found = recorded(resolve_base(Net(off_by_device)), resolution=8)
    work = workload(found.calls)
    product = next(place for place, call in enumerate(found.calls) if call.kind == "linear")
    assert not found.calls[product].autocast
    assert found.calls[0].autocast
    flow = work.flow
    assert (flow.full_read[product], flow.full_written[product], flow.cast[product]) == (1, 1, 0)


def test_the_state_of_autocast_is_as_before():
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    recorded(resolve_base(Net(off_by_device)), resolution=8)
    assert (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")) == before


def test_a_network_that_fails_under_autocast_is_recorded_without_casts():
    class Strict(Net):
        def forward(self, x):
            y = self.conv(x)
            if y.dtype is not torch.float32:
                raise TypeError("full precision alone")
            return y

    found = recorded(resolve_base(Strict(None)), resolution=8)
    assert [call.kind for call in found.calls] == ["convolution 1x1"]
    assert found.notes[0].startswith("Casts that the network makes under autocast are not seen:")

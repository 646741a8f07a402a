"""Modules that stand for another one, or that are made in an unusual way: counted or refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.ao.quantization import (
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
    quantize_dynamic,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from torch.nn.utils import parametrizations, prune

import convscale as cs
from convscale.errors import InputError
from tests.networks import Contraption
from tests.zoo import residual
from tests.zoo.checks import shapes

SIDE = 32
BASES = {
    "small": Contraption,
    "torchvision": lambda: torchvision.models.resnet18(weights=None),
}


def image() -> torch.Tensor:
    return torch.zeros(1, 3, SIDE, SIDE)


def layers(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def compiled_and_run(module: nn.Module) -> nn.Module:
    module.eval().compile(backend="eager")
    module(image())
    return module


def compiled_inside(module: nn.Module) -> nn.Module:
    name, part = next(iter(module.named_children()))
    setattr(module, name, torch.compile(part, backend="eager"))
    return module


def pruned(module: nn.Module) -> nn.Module:
    for part in layers(module):
        prune.l1_unstructured(part, "weight", 0.5)
    return module


def on_two_devices(module: nn.Module) -> nn.Module:
    layers(module)[-1].to("meta")
    return module


def changed_in_place_by_hooks(module: nn.Module) -> nn.Module:
    module.register_forward_pre_hook(lambda _, given: (given[0].add_(1),))
    layers(module)[0].register_forward_hook(lambda _, __, output: output.mul_(2))
    return module


# Each makes a module of another that executes the same, with the same parameters.
SAME = {
    "compiled": torch.compile,
    "compiled twice over": lambda m: torch.compile(nn.DataParallel(m)),
    "compiled in place, and run": compiled_and_run,
    "a part compiled": compiled_inside,
    "data-parallel": nn.DataParallel,
    "exported": lambda m: torch.export.export(m.eval(), (image(),)).module(),
    "symbolically traced": torch.fx.symbolic_trace,
    "prepared for quantisation": lambda m: prepare_qat_fx(
        m.train(), get_default_qat_qconfig_mapping("fbgemm"), (image(),)
    ),
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "channels last": lambda m: m.to(memory_format=torch.channels_last),
    "pruned": pruned,
    "on two devices": on_two_devices,
    "with hooks": changed_in_place_by_hooks,
    "on the meta device": lambda m: m.to("meta"),
    "averaged": torch.optim.swa_utils.AveragedModel,
    "frozen": lambda m: m.requires_grad_(False),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("way", SAME)
def test_a_module_made_from_another_counts_as_that(way, base):
    module = BASES[base]()
    plain = cs.count(copy.deepcopy(module), resolution=SIDE)
    found = cs.count(SAME[way](module), resolution=SIDE)
    assert found.as_dict() == plain.as_dict()
    assert found.uncounted == ()
    assert found.notes == ()


@pytest.mark.parametrize("base", BASES)
def test_a_compiled_module_has_the_paths_and_the_name_of_its_original(base):
    module = BASES[base]()
    plain = cs.count(module, resolution=SIDE)
    assert cs.count(torch.compile(module), resolution=SIDE) == plain
    assert cs.count(nn.DataParallel(module), resolution=SIDE) == plain


def test_a_compiled_module_scales_as_its_original():
    module = Contraption()
    arguments = {"strategy": "w", "factor": 2, "resolution": SIDE}
    scaled = cs.scale(torch.compile(module), **arguments)
    assert scaled.achieved == cs.scale(module, **arguments).achieved
    assert type(scaled.module) is Contraption


@pytest.mark.parametrize("how", ["torch.compile", "nn.DataParallel"])
def test_a_factory_that_wraps_its_module_scales_as_one_that_does_not(how, tmp_path):
    body = "nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())"
    file = tmp_path / "net.py"
    file.write_text(
        f"import torch\nfrom torch import nn\ndef plain():\n    return {body}\n"
        f"def wrapped():\n    return {how}(plain())\n"
    )
    plain, wrapped = (
        cs.scale(f"{file}:{name}", strategy="dw", factor=4, resolution=16)
        for name in ("plain", "wrapped")
    )
    assert wrapped.achieved == plain.achieved
    assert wrapped.module.state_dict().keys() == plain.module.state_dict().keys()
    wrapped.save(tmp_path / "out")
    loaded = cs.load(tmp_path / "out", base=cs.network.resolve_base(f"{file}:wrapped").build("cpu"))
    assert loaded.achieved == plain.achieved


def test_a_compiled_module_is_measured_as_it_is():
    calls = []

    def backend(graph, _inputs):
        return lambda *values: calls.append(1) or graph(*values)

    measured = cs.measure(torch.compile(Contraption(), backend=backend), resolution=16, repeats=3)
    assert measured.network == "module:OptimizedModule"
    assert len(calls) >= 3


def test_weight_norms_own_parameters_beside_the_same_flops():
    module = Contraption()
    plain = cs.count(module, resolution=SIDE)
    more = sum(part.weight.shape[0] for part in layers(module))  # the length of each filter
    for part in layers(module):
        parametrizations.weight_norm(part)
    found = cs.count(module, resolution=SIDE)
    assert (found.flops, found.acts) == (plain.flops, plain.acts)
    assert found.params == plain.params + more


def scripted_inside(module: nn.Module) -> nn.Module:
    name, part = next(iter(module.named_children()))
    setattr(module, name, torch.jit.script(part))
    return module


SCRIPTED = r"cannot be traced\. Give the nn\.Module it was made from\."
REFUSED = {
    "scripted": (torch.jit.script, rf"^A scripted module {SCRIPTED}$"),
    "traced": (lambda m: torch.jit.trace(m.eval(), image()), rf"^A scripted module {SCRIPTED}$"),
    "a part scripted": (scripted_inside, rf"^Its part \w+ is scripted: it {SCRIPTED}$"),
    "an exported program": (
        lambda m: torch.export.export(m.eval(), (image(),)),
        r"^An ExportedProgram is no network\. Give its module: program\.module\(\)\.$",
    ),
    "exported for another size": (
        lambda m: torch.export.export(m.eval(), (torch.zeros(1, 3, 48, 48),)).module(),
        r"^module:GraphModule cannot run at 32 px: AssertionError: Guard failed: .* An exported "
        r"module runs at the sizes it was exported with\.$",
    ),
    "lazy": (
        lambda m: nn.Sequential(m, nn.LazyLinear(3)),
        r"^The network has lazy parameters without a shape\. Run it once before it is given\.$",
    ),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_seen_into_is_refused_in_one_line(way, base):
    make, message = REFUSED[way]
    module = make(BASES[base]())
    with pytest.raises(InputError, match=message):
        cs.count(module, resolution=SIDE)


@pytest.fixture
def _one_process(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("base", BASES)
def test_a_module_of_several_processes_is_counted_where_it_is_whole(base):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    module = BASES[base]()
    plain = cs.count(module, resolution=SIDE)
    assert cs.count(nn.parallel.DistributedDataParallel(module), resolution=SIDE) == plain
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    message = r"has its parameters spread over processes\. Give the module as it was before"
    sharded = FullyShardedDataParallel(BASES[base](), device_id=torch.device("cpu"))
    with pytest.raises(InputError, match=message):
        cs.count(sharded, resolution=SIDE)
    with pytest.raises(InputError, match=message):
        cs.count(fully_shard(BASES[base](), mesh=mesh), resolution=SIDE)


def test_copies_stay_fast_after_something_was_compiled():
    from convscale.network.modules.copies import _is_ordinary

    torch.compile(nn.Sequential(nn.ReLU()), backend="eager")(torch.zeros(1))
    assert _is_ordinary(nn.Sequential)
    assert _is_ordinary(Contraption)


def statically_quantised(module: nn.Module) -> nn.Module:
    prepared = prepare_fx(module.eval(), get_default_qconfig_mapping("fbgemm"), (image(),))
    prepared(image())
    return convert_fx(prepared)


class Transposing(nn.Sequential):
    """Grouped and transposed convolutions, which have biases, and no norms."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, groups=2),
            nn.ConvTranspose2d(16, 6, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
        )  # fmt: skip


@pytest.mark.parametrize("base", [*BASES.values(), Transposing])
def test_a_quantised_module_counts_as_the_float_one(base):
    module = base()
    plain = cs.count(module, resolution=SIDE)
    # A norm's scale and shift go into the weight before it, and into a bias that it lacked.
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    found = cs.count(statically_quantised(module), resolution=SIDE)
    assert (found.flops, found.acts) == (plain.flops, plain.acts)
    assert found.params == plain.params - sum(norm.num_features for norm in norms)
    assert found.params == sum(layer.params for layer in found.layers)
    assert found.uncounted == ()
    assert "has no form that computes shapes alone" in found.notes[0]


@pytest.mark.parametrize("base", [*BASES.values(), Transposing])
def test_a_dynamically_quantised_module_counts_as_the_float_one(base):
    plain = cs.count(base(), resolution=SIDE)
    found = cs.count(quantize_dynamic(base(), {nn.Linear}), resolution=SIDE)
    assert found.as_dict() == plain.as_dict()
    assert found.params == sum(layer.params for layer in found.layers)
    assert found.uncounted == ()


def test_the_quantised_networks_of_torchvision_count_as_the_float_ones():
    quantised = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=True)
    plain = cs.count("torchvision:mobilenet_v2", resolution=64)
    found = cs.count(quantised, resolution=64)
    assert (found.flops, found.acts) == (plain.flops, plain.acts)
    assert found.uncounted == ()


def test_marks_of_a_profiler_are_no_work():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.DataParallel(nn.Conv2d(8, 8, 3)))
    found = cs.count(module, resolution=SIDE)
    assert found.flops == 27 * 8 * 30 * 30 + 72 * 8 * 28 * 28
    assert found.uncounted == ()


@pytest.mark.parametrize(
    "quantised",
    [
        lambda: quantize_dynamic(Transposing(), {nn.Linear}),
        lambda: statically_quantised(Transposing()),
    ],
)
def test_scaling_a_quantised_network_asks_for_the_float_one(quantised):
    with pytest.raises(cs.UnscalableNetworkError, match="quantised.* give the float network.$"):
        cs.scale(quantised(), strategy="w", factor=2, resolution=SIDE)


class _StandIn:
    """Passes for the module that it holds, and is none."""

    def __init__(self, module):
        self.__dict__["module"] = module

    def __getattr__(self, name):
        return getattr(self.__dict__["module"], name)

    def __setattr__(self, name, value):
        setattr(self.__dict__["module"], name, value)

    def __call__(self, *args):
        return self.module(*args)

    def __reduce__(self):
        return _StandIn, (self.module,)

    @property
    def __class__(self):
        return type(self.module)


def test_an_object_that_passes_for_a_module_is_scaled_as_that_module():
    net = residual.of(residual.Basic)(1, 1)
    scaled = cs.scale(_StandIn(net), strategy="w", factor=4.0, resolution=32, weights=False)
    assert shapes(scaled.module) == shapes(residual.of(residual.Basic)(2, 1))

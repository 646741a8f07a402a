"""A scaled network is exported wherever its base is."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import convscale as cs

# One of each kind: residual, squeezed, dense, grouped, layer-normed, split, ghost, unnormed,
# mixed kernels, plain, aggregated.
EXPORTED = """
resnet18 mobilenetv3_small_050 densenet121 regnety_002 convnext_atto skresnet18 ghostnet_050
nfnet_l0 mixnet_s vgg11_bn dla34
""".split()
SIDE = 64


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    image = torch.zeros(1, 3, SIDE, SIDE, device=next(module.parameters()).device)
    return torch.export.export(module.eval(), (image,), strict=False)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_scaled_network_is_exported_by_torch(name):
    with torch.device("meta"):
        base = timm.create_model(name, pretrained=False)
    scaled = cs.scale(base, strategy="dw", factor=2, resolution=SIDE, weights=False)
    program = exported(scaled.module)
    assert set(program.state_dict) == set(scaled.module.state_dict())


def test_the_program_of_a_scaled_network_computes_what_the_network_does():
    scaled = cs.scale("timm:resnet10t", strategy="dw", factor=2, resolution=SIDE).module.eval()
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(scaled).module()(image), scaled(image))


# Network, strategy, factor.
TO_ONNX = [
    ("timm:resnet10t", "dw", 1.5),
    ("timm:mobilenetv3_small_050", "dWr", 2.0),
    ("timm:convnext_atto", "w", 0.5),
]
# More of them, and sides (px) of those that do not run at 64.
MORE_TO_ONNX = """
timm:regnety_002 timm:efficientnet_b0 timm:densenet121 timm:ghostnet_050 timm:res2net50_26w_4s
timm:skresnet18 timm:nfnet_l0 timm:hrnet_w18_small timm:resnest14d timm:coatnet_pico_rw_224@224
timm:fastvit_t8 timm:vgg11_bn torchvision:shufflenet_v2_x0_5 torchvision:lraspp_mobilenet_v3_large
torchvision:fcn_resnet50 torchvision:deeplabv3_mobilenet_v3_large timm:botnet26t_256@256
timm:efficientvit_b0 timm:mobilevit_xxs@256 timm:repvgg_a0 timm:dpn48b timm:dla34
""".split()


def in_onnx(module: nn.Module, image: torch.Tensor, path) -> list[torch.Tensor]:
    """What ONNX Runtime makes of an image with an exported module."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs what is exported")
    torch.onnx.export(module, (image,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    return [torch.from_numpy(output) for output in found]


def check_onnx(name: str, strategy: str, factor: float, side: int, folder) -> None:
    pytest.importorskip("onnxscript", reason="the ONNX exporter of PyTorch needs it")
    scaled = cs.scale(name, strategy=strategy, factor=factor, resolution=side)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, scaled.resolution, scaled.resolution, generator=generator)
    found = in_onnx(scaled.module.eval(), image, folder / "scaled.onnx")
    with torch.no_grad():
        output = scaled.module(image)
    wanted = list(output.values()) if isinstance(output, dict) else [output]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize(("name", "strategy", "factor"), TO_ONNX)
def test_onnx_computes_what_a_scaled_network_does(name, strategy, factor, tmp_path):
    check_onnx(name, strategy, factor, SIDE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("network", MORE_TO_ONNX)
@pytest.mark.parametrize(("strategy", "factor"), [("dWr", 2.0), ("w", 0.5)])
def test_more_scaled_networks_are_exported_to_onnx(network, strategy, factor, tmp_path):
    name, _, side = network.partition("@")
    check_onnx(name, strategy, factor, int(side or SIDE), tmp_path)

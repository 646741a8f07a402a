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


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_onnx_computes_what_a_scaled_network_does(name, tmp_path):
    pytest.importorskip("onnxscript", reason="the ONNX exporter of PyTorch needs it")
    reference = pytest.importorskip("onnx.reference", reason="it runs what is exported")
    scaled = cs.scale(name, strategy="dw", factor=1.5, resolution=SIDE).module.eval()
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "scaled.onnx"
    torch.onnx.export(scaled, (image,), path, dynamo=True, verbose=False)
    runner = reference.ReferenceEvaluator(str(path))
    (found,) = runner.run(None, {runner.input_names[0]: image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), scaled(image), rtol=1e-3, atol=1e-4)

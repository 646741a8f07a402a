"""Predicted memory against measured memory, on networks of different kinds: `make memory`.

Every network runs for inference in two precisions, and in four kinds of training steps, in which
each precision, optimizer and use of checkpoints occurs twice and each pair of them once.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

import convscale as cs
from benchmarks.memory_truth import Loop, Truth
from convscale.complexity.memory import Memory

NETWORKS = (
    "timm:resnet50",
    "timm:resnext50_32x4d",
    "timm:res2net50_26w_4s",
    "timm:seresnet50",
    "timm:regnety_016",
    "timm:efficientnet_b0",
    "timm:tf_efficientnetv2_b0",
    "timm:mobilenetv3_large_100",
    "timm:ghostnet_100",
    "timm:convnext_tiny",
    "timm:nf_resnet50",
    "timm:dm_nfnet_f0",
    "timm:hrnet_w18_small",
    "timm:repvgg_a0",
    "timm:coatnet_0_rw_224",
    "timm:convmixer_768_32",
    "torchvision:vgg11_bn",
    "torchvision:densenet121",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:deeplabv3_resnet50",
)
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.05}),
}
OWN_SIZE = {"timm:coatnet_0_rw_224": 224}


@dataclass(frozen=True)
class Setting:
    """How a network is run; without an optimizer for inference.

    Example:
        >>> str(Setting("mixed", "adamw", True))
        'mixed, adamw, checkpoints'
    """

    precision: str
    optimizer: str | None = None
    checkpointing: bool = False

    def __str__(self) -> str:
        how = [self.precision, self.optimizer or "inference"]
        return ", ".join([*how, *(["checkpoints"] if self.checkpointing else [])])


SETTINGS = (
    Setting("float32"),
    Setting("mixed"),
    Setting("float32", "sgd"),
    Setting("mixed", "adamw"),
    Setting("float32", "adamw", checkpointing=True),
    Setting("mixed", "sgd", checkpointing=True),
)


@dataclass(frozen=True)
class Row:
    """One comparison, in bytes.

    Example:
        >>> row = Row("net", Setting("float32"), 8, 128, 102, Truth(100, 120))
        >>> round(row.tensors_error, 3), round(row.allocator_error, 3)
        (0.02, -0.15)
    """

    network: str
    setting: Setting
    batch_size: int
    resolution: int
    predicted_bytes: int
    truth: Truth

    @property
    def tensors_error(self) -> float:
        """The error of the prediction relative to the storages of tensors."""
        return self.predicted_bytes / self.truth.tensors_bytes - 1

    @property
    def allocator_error(self) -> float:
        """The error of the prediction relative to what the allocator handed out."""
        return self.predicted_bytes / self.truth.allocator_bytes - 1

    def __str__(self) -> str:
        sizes = (self.predicted_bytes, self.truth.tensors_bytes, self.truth.allocator_bytes)
        cells = [self.network, str(self.setting), *(f"{size / 2**20:.1f}" for size in sizes)]
        errors = [f"{self.tensors_error:+.2%}", f"{self.allocator_error:+.2%}"]
        return " | ".join([*cells, *errors])


def compare(name: str, setting: Setting, *, batch: int, px: int, device: str = "cpu") -> Row:
    """Predict and measure the memory of one network in one setting.

    Raises:
        convscale.InputError: If the setting is not for the network.

    Example:
        >>> compare("timm:resnet18", Setting("float32"), batch=1, px=32).network
        'timm:resnet18'
    """
    px = OWN_SIZE.get(name, px)
    found = cs.memory(
        name,
        resolution=px,
        batch_size=batch,
        optimizer=setting.optimizer,
        precision=setting.precision,
        checkpointing=setting.checkpointing,
    )
    truth = measure(cs.build(name, resolution=px), setting, found, device)
    return Row(name, setting, batch, px, found.peak_bytes, truth)


def measure(module: nn.Module, setting: Setting, found: Memory, device: str = "cpu") -> Truth:
    """Measure a module in a setting, with checkpoints around the blocks that the answer names.

    Example:
        >>> found = cs.memory(nn.Conv2d(3, 4, 1), resolution=8, optimizer=None)
        >>> measure(nn.Conv2d(3, 4, 1), Setting("float32"), found).tensors_bytes
        1856
    """
    size = found.resolution
    assert isinstance(size, int)
    images = torch.zeros(found.batch_size, 3, size, size, device=device)
    optimizer, options = OPTIMIZERS.get(setting.optimizer or "", (None, {}))
    mixed = setting.precision == "mixed"
    loop = Loop(module.to(device), (images,), optimizer, options, mixed, found.checkpoints)
    truth = loop.measure()
    del loop
    gc.collect()
    return truth


def rows(names: Iterable[str], *, batch: int, px: int, device: str) -> Iterator[Row]:
    """Yield all comparisons; say on stderr which setting a network does not take.

    Example:
        >>> list(rows([], batch=1, px=32, device="cpu"))
        []
    """
    for name in names:
        for setting in SETTINGS:
            try:
                yield compare(name, setting, batch=batch, px=px, device=device)
            except cs.InputError as error:
                print(f"{name}, {setting}: {error}", file=sys.stderr)


def summary(found: list[Row], kind: str) -> str:
    """Say in one line how large the errors are.

    Example:
        >>> summary([Row("net", Setting("float32"), 8, 128, 102, Truth(100, 120))], "inference")
        'inference: 1 runs; tensors median 2.00% largest 2.00%; allocator median 15.00% ...'
    """
    parts = []
    for name in ("tensors", "allocator"):
        errors = [abs(getattr(row, f"{name}_error")) for row in found]
        parts.append(f"{name} median {median(errors):.2%} largest {max(errors):.2%}")
    return f"{kind}: {len(found)} runs; {'; '.join(parts)}"


def main() -> None:
    """Compare all networks and print a table of every comparison, and the errors in short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = {"batch": options.batch_size, "px": options.resolution}
    print("network | setting | predicted MiB | tensors MiB | allocator MiB | error | error")
    found = []
    for row in rows(options.networks, device=options.device, **size):
        print(row, flush=True)
        found.append(row)
    for kind, wanted in (("inference", False), ("training", True)):
        chosen = [row for row in found if (row.setting.optimizer is not None) == wanted]
        if chosen:
            print(summary(chosen, kind))


if __name__ == "__main__":
    main()

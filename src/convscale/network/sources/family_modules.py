"""Modules of the paper families: what a description builds, initialised as the papers do."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from math import sqrt
from typing import Any

import torch
from torch import nn

from convscale.families.description import GROUPED, AnyNet, Border, Description, EfficientNet

_ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU}
# arXiv 1905.11946, the authors' code: batch norm decays by 0.99 and adds 1e-3.
_EFFICIENTNET_NORM = {"eps": 1e-3, "momentum": 0.01}


class ConvNorm(nn.Sequential):
    """A convolution without biases, batch norm, and an activation if any.

    Example:
        >>> [name for name, _ in ConvNorm(8, 16, 3, activation="relu").named_children()]
        ['conv', 'norm', 'act']
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
        norm: dict[str, float] | None = None,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(
            inputs, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        layers["norm"] = nn.BatchNorm2d(width, **(norm or {}))  # type: ignore[arg-type]
        if activation is not None:
            layers["act"] = _ACTIVATIONS[activation]()
        super().__init__(layers)


class Excitation(nn.Module):
    """Squeeze-and-excitation: channels weighted by what their means say. arXiv 1709.01507.

    Example:
        >>> Excitation(16, 4, "relu")(torch.zeros(1, 16, 2, 2)).shape
        torch.Size([1, 16, 2, 2])
    """

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(width, inner, 1)
        self.act = _ACTIVATIONS[activation]()
        self.excite = nn.Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map with its channels weighted."""
        return x * torch.sigmoid(self.excite(self.act(self.squeeze(self.pool(x)))))


class Bottleneck(nn.Module):
    """1×1, grouped 3×3 and 1×1 convolution with a shortcut.

    A linear one has no activation behind the addition, and no shortcut where shapes differ.

    Example:
        >>> from convscale.families import named
        >>> block = Bottleneck(64, 256, 64, 64, 1, named("ResNet-50"))
        >>> block(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 256, 8, 8])
    """

    def __init__(
        self, inputs: int, width: int, inner: int, group_width: int, stride: int, net: AnyNet
    ) -> None:
        super().__init__()
        early, late = (stride, 1) if net.stride_in_1x1 else (1, stride)
        groups = inner // group_width
        act = net.activation
        self.reduce = ConvNorm(inputs, inner, stride=early, activation=act)
        self.spatial = ConvNorm(inner, inner, 3, stride=late, groups=groups, activation=act)
        self.excitation: nn.Module | None = None
        if net.se_ratio:
            self.excitation = Excitation(inner, max(1, round(net.se_ratio * inputs)), act)
        self.expand = ConvNorm(inner, width)
        linear = net.block == "linear_bottleneck"
        self.shortcut = _shortcut(inputs, width, stride, projected=not linear)
        self.act = nn.Identity() if linear else _ACTIVATIONS[act]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's map."""
        y = self.spatial(self.reduce(x))
        if self.excitation is not None:
            y = self.excitation(y)
        y = self.expand(y)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.act(y)  # type: ignore[no-any-return]


class Basic(nn.Module):
    """Two 3×3 convolutions, with a shortcut if residual.

    Example:
        >>> from convscale.families import named
        >>> Basic(64, 128, 2, named("ResNet-18"))(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 128, 4, 4])
    """

    def __init__(self, inputs: int, width: int, stride: int, net: AnyNet) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, width, 3, stride=stride, activation=net.activation)
        self.second = ConvNorm(width, width, 3)
        residual = net.block == "basic"
        self.shortcut = _shortcut(inputs, width, stride, projected=True) if residual else None
        self.act = _ACTIVATIONS[net.activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's map."""
        y = self.second(self.first(x))
        return self.act(y if self.shortcut is None else y + self.shortcut(x))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """1×1 expansion, depthwise k×k and linear 1×1 convolution. arXiv 1801.04381, 1905.11946.

    Example:
        >>> from convscale.families import named
        >>> Inverted(16, 24, 6, 3, 2, named("EfficientNet-B0"))(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 24, 4, 4])
    """

    def __init__(
        self, inputs: int, width: int, ratio: float, kernel: int, stride: int, net: EfficientNet
    ) -> None:
        super().__init__()
        inner, act, norm = int(inputs * ratio), net.activation, _norm(net)
        self.expand = ConvNorm(inputs, inner, activation=act, norm=norm) if ratio != 1 else None
        self.depthwise = ConvNorm(
            inner, inner, kernel, stride=stride, groups=inner, activation=act, norm=norm
        )
        self.excitation: nn.Module | None = None
        if net.se_ratio:
            self.excitation = Excitation(inner, max(1, int(net.se_ratio * inputs)), act)
        self.project = ConvNorm(inner, width, norm=norm)
        self.residual = stride == 1 and inputs == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's map."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.excitation is not None:
            y = self.excitation(y)
        y = self.project(y)
        return x + y if self.residual else y  # type: ignore[no-any-return]


class Head(nn.Module):
    """A 1×1 convolution if any, the mean over positions, and the classifier.

    Example:
        >>> from convscale.families import named
        >>> Head(320, named("EfficientNet-B0"))(torch.zeros(1, 320, 7, 7)).shape
        torch.Size([1, 1000])
    """

    def __init__(self, width: int, net: AnyNet | EfficientNet) -> None:
        super().__init__()
        self.conv: nn.Module | None = None
        if net.head_width:
            norm = _norm(net)
            self.conv = ConvNorm(width, net.head_width, activation=net.activation, norm=norm)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Linear(net.head_width or width, net.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, classes)."""
        if self.conv is not None:
            x = self.conv(x)
        return self.classifier(self.flatten(self.pool(x)))  # type: ignore[no-any-return]


class FamilyNet(nn.Module):
    """A network of a paper family: stem, stages of blocks, head.

    Args:
        net: The description.

    Example:
        >>> from convscale.families import named
        >>> with torch.device("meta"):
        ...     module = FamilyNet(named("RegNetX-400MF"))
        >>> [len(stage) for stage in module.stages]
        [1, 2, 7, 12]
    """

    def __init__(self, net: Description) -> None:
        super().__init__()
        self.description = net
        self.stem = _stem(net)
        self.stages = nn.Sequential(*_stages(net))
        self.head = Head(net.widths[-1], net)
        self.init_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images, shape (batch, channels, height, width)."""
        return self.head(self.stages(self.stem(x)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw fresh weights as the papers do.

        Convolutions are normal with variance 2 / fan-out, where an EfficientNet's fan-out is
        that of a group; norms are 1 and 0, biases 0. Classifiers are normal with deviation
        0.01, those of an EfficientNet uniform within 1 / outputs^(1/2). Sources: arXiv
        1502.01852; the authors' code of RegNet and of EfficientNet.
        """
        own_groups = isinstance(self.description, EfficientNet)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels
                fan_out //= part.groups if own_groups else 1
                part.weight.normal_(0.0, sqrt(2.0 / fan_out))
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()
            elif isinstance(part, nn.Linear):
                bound = part.out_features**-0.5
                if own_groups:
                    part.weight.uniform_(-bound, bound)
                else:
                    part.weight.normal_(0.0, 0.01)
                part.bias.zero_()


def build_family(net: Description) -> FamilyNet:
    """Build the module of a description, with fresh weights.

    Example:
        >>> from convscale.families import named
        >>> with torch.device("meta"):
        ...     module = build_family(named("ResNet-50"))
        >>> sum(parameter.numel() for parameter in module.parameters())
        25557032
    """
    return FamilyNet(net)


def described(module: FamilyNet) -> Description:
    """Read the description of a module whose widths and depths have changed since it was built.

    Of a stage the last block is read; its multiplier is the inner width over the width.

    Example:
        >>> from convscale.families import named
        >>> with torch.device("meta"):
        ...     module = build_family(named("RegNetY-400MF"))
        >>> described(module) == named("RegNetY-400MF")
        True
    """
    parts: Any = module
    net = module.description
    last = [stage[-1] for stage in parts.stages]
    border: dict[str, Any] = {
        "depths": tuple(len(stage) for stage in parts.stages),
        "stem_width": parts.stem[0].conv.out_channels,
        "head_width": 0 if parts.head.conv is None else parts.head.conv.conv.out_channels,
    }
    if isinstance(net, EfficientNet):
        return replace(
            net,
            widths=tuple(block.project.conv.out_channels for block in last),
            expansion_ratios=tuple(_expansion(block) for block in last),
            **border,
        )
    if net.block not in GROUPED:
        widths = tuple(block.second.conv.out_channels for block in last)
        return replace(net, widths=widths, group_widths=widths, **border)
    inner = [block.spatial.conv for block in last]
    widths = tuple(block.expand.conv.out_channels for block in last)
    return replace(
        net,
        widths=widths,
        bottleneck_multipliers=tuple(
            conv.out_channels / width for conv, width in zip(inner, widths, strict=True)
        ),
        group_widths=tuple(conv.in_channels // conv.groups for conv in inner),
        **border,
    )


def _expansion(block: Any) -> float:
    conv = None if block.expand is None else block.expand.conv
    return 1 if conv is None else _short(conv.out_channels / conv.in_channels)


def _short(value: float) -> float:
    return int(value) if value == int(value) else value


def _norm(net: Border) -> dict[str, float]:
    return _EFFICIENTNET_NORM if isinstance(net, EfficientNet) else {}


def _shortcut(inputs: int, width: int, stride: int, *, projected: bool) -> nn.Module | None:
    if inputs == width and stride == 1:
        return nn.Identity()
    return ConvNorm(inputs, width, stride=stride) if projected else None


def _stem(net: Description) -> nn.Sequential:
    kind = "simple" if isinstance(net, EfficientNet) else net.stem
    kernel, stride = {"simple": (3, 2), "pooled": (7, 2), "small": (3, 1)}[kind]
    layers: list[nn.Module] = [
        ConvNorm(
            net.in_chans,
            net.stem_width,
            kernel,
            stride=stride,
            activation=net.activation,
            norm=_norm(net),
        )
    ]
    if kind == "pooled":
        layers.append(nn.MaxPool2d(3, 2, padding=1))
    return nn.Sequential(*layers)


def _stages(net: Description) -> list[nn.Sequential]:
    found, inputs = [], net.stem_width
    for index, (depth, width, stride) in enumerate(
        zip(net.depths, net.widths, net.strides, strict=True)
    ):
        blocks = []
        for position in range(depth):
            step = stride if position == 0 else 1
            blocks.append(_block(net, index, inputs, width, step))
            inputs = width
        found.append(nn.Sequential(*blocks))
    return found


def _block(net: Description, index: int, inputs: int, width: int, stride: int) -> nn.Module:
    if isinstance(net, EfficientNet):
        ratio, kernel = net.expansion_ratios[index], net.kernels[index]
        return Inverted(inputs, width, ratio, kernel, stride, net)
    if net.block in GROUPED:
        inner, group = net.inner_widths[index], net.group_widths[index]
        return Bottleneck(inputs, width, inner, group, stride, net)
    return Basic(inputs, width, stride, net)

"""The networks that are timed where none are named."""

from __future__ import annotations

from convscale.study.timing import Side

DEFAULT_SIDES = tuple(map(Side.of, ("timm:resnet18@160", "timm:mobilenetv3_small_100@224")))

"""What all widths of feature maps are multiples of, of many networks of a family at once."""

from __future__ import annotations

import numpy as np

from convscale.families.candidates import Candidates
from convscale.families.description import EfficientNet
from convscale.families.regnet import Ints


def width_multiples(candidates: Candidates) -> Ints:
    """Return the largest number that all widths of maps are multiples of, shape (n,).

    Widths are the output channels of convolutions at more than one position: those of the stem,
    inside and behind blocks, and of the last convolution; not those of squeeze-and-excitation.

    Args:
        candidates: The networks.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> net = named("ResNet-50")
        >>> found = read_candidates(net, depths=[net.depths], widths=[net.widths],
        ...                         group_widths=[net.group_widths],
        ...                         bottleneck_multipliers=net.bottleneck_multipliers)
        >>> width_multiples(found).tolist()
        [64]
    """
    part = candidates.part(slice(0, len(candidates)))
    present = part.depths > 0
    found = np.gcd(part.stem, part.head)
    before = part.stem
    for depth, width, inner, ratio, own in zip(
        part.depths, part.widths, part.inner, part.ratios, present, strict=True
    ):
        if isinstance(candidates.like, EfficientNet):
            first = np.floor(before * ratio).astype(np.int64)
            inner = np.gcd(first, np.where(depth > 1, inner, 0))
        stage = np.gcd(width, inner)
        found = np.where(own, np.gcd(found, stage), found)
        before = np.where(own, width, before)
    return np.asarray(found, np.int64)

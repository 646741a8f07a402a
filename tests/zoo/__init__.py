"""A zoo of small networks, each of a kind that other zoos have.

`make(k, d)` multiplies every width by k and the blocks of every stage by d, so that
`make(2, 1)` is `make(1, 1)` scaled by width 2, written by hand. Widths are multiples of 16, so
that no rounding is in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from tests.zoo import (
    attention,
    branches,
    habits,
    held,
    lines,
    maps,
    others,
    plain,
    residual,
    unusual,
    volumes,
)


@dataclass(frozen=True)
class Kind:
    """A network of the zoo; `deep` where d does something, `chans` input channels."""

    make: Callable[..., nn.Module]
    deep: bool = False
    side: int | tuple[int, ...] = 32
    chans: int = 3


ZOO = {
    # residual.py
    "basic": Kind(residual.of(residual.Basic), deep=True),
    "bottleneck": Kind(residual.of(residual.Bottleneck), deep=True),
    "grouped bottleneck": Kind(residual.of(residual.GroupedBottleneck), deep=True),
    "pre-activated": Kind(residual.of(residual.PreActivated), deep=True),
    "zero-padded shortcut": Kind(residual.of(residual.Padded), deep=True),
    "shortcut padded by size": Kind(residual.of(residual.PaddedBySize), deep=True),
    "pyramidal widths": Kind(residual.Pyramid),
    "shake-shake": Kind(residual.of(residual.Shaken), deep=True),
    "stochastic depth": Kind(residual.of(residual.Dropped), deep=True),
    "layer scale, channels last": Kind(residual.LayerScaled, deep=True),
    "weight-standardised": Kind(residual.of(residual.Standardised), deep=True),
    "norm-free": Kind(residual.of(residual.NormFree), deep=True),
    "reversible": Kind(residual.reversible, deep=True),
    "inverted residual": Kind(residual.Mobile, deep=True),
    "hierarchical splits": Kind(residual.of(residual.Hierarchical), deep=True),
    "unequal chunks": Kind(residual.of(residual.Chunked), deep=True),
    "cross-stage": Kind(residual.cross_stage, deep=True),
    "darknet from a list": Kind(residual.Darknet, deep=True),
    "convolutions that blocks share": Kind(residual.sharing, deep=True),
    "one block again and again": Kind(residual.Shared),
    # branches.py
    "inception with a second head": Kind(branches.Inception),
    "factorised kernels": Kind(branches.Factorised),
    "fire": Kind(branches.Fires),
    "dense": Kind(branches.Dense),
    "dense stages in a sequence": Kind(branches.DenseStages, deep=True),
    "dense, of masked kernels": Kind(branches.masked_dense, deep=True),
    "aggregated once": Kind(branches.Aggregated),
    "channel shuffle": Kind(branches.shuffle, deep=True),
    "shuffled stem": Kind(branches.shuffled_stem, deep=True),
    "shuffled, of unequal parts": Kind(branches.unequal_shuffle, deep=True),
    "shuffled groups": Kind(branches.group_shuffle, deep=True),
    "ghost": Kind(branches.ghost),
    "high resolution": Kind(branches.HighResolution),
    "re-parametrised": Kind(residual.of(branches.Reparametrised), deep=True),
    "mixed kernels": Kind(branches.mixed_kernels),
    "mixture of experts": Kind(branches.experts),
    "maxout": Kind(branches.maxout),
    "partial convolution": Kind(branches.partial, deep=True),
    # attention.py
    "channel kernel": Kind(attention.of(attention.ChannelKernel), deep=True),
    "channels, then places": Kind(attention.of(attention.ChannelThenPlace), deep=True),
    "selective kernels": Kind(attention.of(attention.Selective), deep=True),
    "split attention": Kind(attention.of(attention.SplitAttention), deep=True),
    "heads of attention": Kind(attention.of(attention.HeadAttention), deep=True),
    "packed attention": Kind(attention.of(attention.PackedAttention), deep=True),
    "non-local": Kind(attention.of(attention.NonLocal), deep=True),
    "global context": Kind(attention.of(attention.GlobalContext), deep=True),
    "coordinate attention": Kind(attention.of(attention.Coordinates), deep=True),
    "gated": Kind(attention.of(attention.Gated), deep=True),
    "unfolded patches": Kind(attention.of(attention.Unfolded), deep=True),
    "multi-head module": Kind(attention.of(attention.MultiHead), deep=True),
    # maps.py
    "u-net": Kind(maps.UNet),
    "rebuilt in training": Kind(maps.Rebuilt, deep=True),
    "raised channel by channel": Kind(maps.RaisedByChannel, deep=True),
    "feature pyramid": Kind(maps.Pyramid),
    "atrous": Kind(maps.Atrous),
    "pooled pyramid": Kind(maps.PooledPyramid),
    "coordinates as channels": Kind(maps.Placed),
    "space to depth": Kind(maps.Focus, deep=True),
    "super-resolution": Kind(maps.SuperResolution, deep=True),
    "auto-encoder": Kind(maps.AutoEncoder),
    "unpooled": Kind(maps.Unpooled),
    "dilated, two outputs": Kind(maps.Dilated),
    "anchors": Kind(maps.Detector),
    # habits.py
    "partly given shortcut": Kind(habits.of(habits.PartlyGiven), deep=True),
    "shortcut of a closure": Kind(habits.of(habits.QuarterPadded), deep=True),
    "dynamic convolution": Kind(habits.dynamic),
    "deformable": Kind(habits.of(habits.Deformable)),
    "attention between channels": Kind(habits.DualAttention),
    "distilled splits": Kind(habits.Enhanced, deep=True),
    "pooled and put back": Kind(habits.Pooled),
    "spectral norm by a hook": Kind(habits.NormedBefore),
    "unfolded windows": Kind(habits.Windowed),
    "two answers": Kind(habits.TwoAnswers),
    # held.py
    "strides in a tensor": Kind(held.Anchored, deep=True),
    "tensors of a class of their own": Kind(held.OwnTensors, deep=True),
    "recurrent": Kind(held.Recurrent, deep=True),
    "gated recurrent": Kind(partial(held.Recurrent, kind=nn.GRU), deep=True),
    "complex numbers": Kind(held.Spectral, deep=True),
    "spectral norm of groups": Kind(held.GroupedDiscriminator),
    "nothing beside some blocks": Kind(held.Gap, deep=True),
    # others.py
    "bare blocks": Kind(others.of(others.Bare), deep=True),
    "mirrored": Kind(others.of(others.Mirrored), deep=True),
    "octaves": Kind(others.of(others.Octave), deep=True),
    "places in groups": Kind(others.of(others.PlacesInGroups), deep=True),
    "kernels in a pyramid": Kind(others.of(others.KernelPyramid), deep=True),
    "as many heads": Kind(others.of(others.AsManyHeads), deep=True),
    # unusual.py
    "all channels with all": Kind(unusual.Bilinear),
    "aligned points": Kind(unusual.Aligned, side=(64,)),
    "binary, in a column": Kind(unusual.of(unusual.Binary), deep=True),
    "routed by einsum": Kind(unusual.of(unusual.Routed), deep=True),
    "kernels in rows": Kind(unusual.Conditional),
    "modulated": Kind(unusual.Styled),
    "channels as images": Kind(unusual.Blurring),
    "added to the first channels": Kind(unusual.Rex),
    "joints": Kind(unusual.Skeleton, deep=True),
    "scales in a list": Kind(unusual.Scaled, deep=True),
    "all blocks joined": Kind(unusual.Detecting, deep=True),
    "heat maps fed back": Kind(unusual.Stacked),
    "coarse scores": Kind(unusual.Context),
    "shuffled attention": Kind(unusual.of(unusual.Shuffled), deep=True),
    "watched by hooks": Kind(unusual.Hooked),
    # plain.py
    "flattened, two wide layers": Kind(plain.Alex),
    "view of a computed size": Kind(plain.LocalResponse),
    "a loop over layers": Kind(plain.Visual),
    "network in network": Kind(plain.network_in_network),
    "spectral norm": Kind(plain.Discriminator),
    "weight norm": Kind(plain.WeightNormed),
    "siamese": Kind(plain.Siamese),
    "one dimension": Kind(plain.Line, side=(32,)),
    "three dimensions": Kind(plain.Volume, chans=1, side=(32, 32, 32)),
    "gray": Kind(plain.Gray, chans=1),
    "channels-last memory": Kind(plain.Laid),
    "optional arguments": Kind(plain.Optional),
    "parameters of its own": Kind(plain.Owner),
    "nested lists": Kind(plain.Nested),
    "conditional on shape": Kind(plain.Conditional),
    "a layer at three places": Kind(plain.Twice),
    "cut by attributes": Kind(plain.Grouped),
    "learned positions": Kind(plain.Learned),
    "blurred": Kind(plain.Blurred),
    "computed names": Kind(plain.Named),
    # lines.py
    "heart beats": Kind(lines.Heart, deep=True, side=(256,), chans=12),
    "heart beats, group-normed": Kind(lines.group_normed, deep=True, side=(256,), chans=12),
    "causal": Kind(lines.Causal, deep=True, side=(128,), chans=4),
    "causal, hooked weight norm": Kind(lines.hooked, deep=True, side=(128,), chans=4),
    "gated wave": Kind(lines.Wave, deep=True, side=(64,), chans=1),
    "raw audio": Kind(lines.Audio, side=(2000,), chans=1),
    "separable speech": Kind(lines.Speech, deep=True, side=(64,), chans=64),
    "gated linear units": Kind(lines.Denoiser, side=(256,), chans=1),
    "points": Kind(lines.Points, side=(64,)),
    "channel shuffle of a signal": Kind(lines.shuffled, deep=True, side=(128,), chans=1),
    "attention between times": Kind(lines.attending, deep=True, side=(128,), chans=1),
    "signal padded by zeros": Kind(lines.Growing, deep=True, side=(64,), chans=1),
    "without channels": Kind(lines.Bare, side=(512,), chans=0),
    "spectrum": Kind(lines.Spectrum, side=(512,), chans=0),
    # volumes.py
    "u-net of volumes": Kind(volumes.UNet, side=(16, 16, 16), chans=1),
    "residual volumes": Kind(volumes.Brain, deep=True, side=(16, 16, 16), chans=1),
    "repeated input": Kind(volumes.Repeated, side=(16, 16, 16), chans=1),
    "slow and fast": Kind(volumes.TwoPaths, side=(16, 16, 16)),
    "flattened clip": Kind(volumes.Flat, side=(8, 16, 16)),
    "frames one by one": Kind(volumes.Frames, side=(8, 16, 16)),
    "spectrogram": Kind(volumes.Spectrogram, side=(16, 32), chans=1),
    "along channels": Kind(volumes.Channels),
    "channels as depth": Kind(volumes.Depths),
    "wavelets": Kind(volumes.Wavelets, side=(512,), chans=1),
}

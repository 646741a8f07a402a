"""The networks that are timed where none are named, and those that a choice is made from.

They are a choice by `convscale.prediction.design`, made for profiles of three kinds at once (a GPU
with the channels first and last, a processor): those whose times tell most about the times of the
convolutional networks of timm. Allowed were networks of 0.25 to 3.5 GMAC and up to 30 M params at
a side of up to 256 px, which run anywhere in little time, that the form of the model tells well on
all three: what it misses of them cannot be taken for what another device does. The default has
one network a family, the list of candidates up to two.
"""

from __future__ import annotations

from convscale.study.timing import Side

_DEFAULT = """
resnet26d@224 efficientnet_blur_b0@224 gernet_m@224 convnextv2_pico@224 legacy_seresnet18@224
dpn68@224 mobilenetv4_hybrid_medium_075@224 mobilevitv2_100@256 cs3darknet_focus_m@256
hgnetv2_b4@224 efficientvit_m3@224 poolformer_s24@224 densenet169@224 fastvit_mci0@256
regnetx_008@224 botnet26t_256@256 ghostnetv2_130@224 dla60_res2next@224 hrnet_w18_small_v2@224
rexnetr_130@224
"""
_FURTHER = """
resnet18@224 convnext_nano@224 efficientnet_em@240 mobileone_s0@224
mobilenetv4_hybrid_large_075@256 hgnetv2_b1@224 efficientvit_b1@256 regnety_008_tv@224
cs3darknet_m@256 poolformer_s12@224 hardcorenas_b@224 resnest14d@224 mobilevitv2_050@256
efficientvit_m5@224 repghostnet_200@224 skresnet18@224 repvit_m1_5@224 dpn68b@224 rexnetr_200@224
halonet26t@256 efficientformer_l1@224 densenet121@224 hrnet_w18_small@224 repghostnet_150@224
ghostnetv2_160@224 hardcorenas_c@224 repvit_m1_1@224
"""

DEFAULT_SIDES = tuple(Side.of(f"timm:{name}") for name in _DEFAULT.split())
CANDIDATES = (*DEFAULT_SIDES, *(Side.of(f"timm:{name}") for name in _FURTHER.split()))

"""A fixed stratified sample of timm: 80 architectures, and those that are refused today.

One of each module of timm.models that has an architecture in the list, the smallest by
params, and 17 more from the modules that hold several kinds.
"""

from __future__ import annotations

FAMILIES = (
    "botnet26t_256",
    "halonet_h1",
    "lambda_resnet26t",
    "gernet_s",
    "mobileone_s1",
    "repvgg_a0",
    "convmixer_768_32",
    "convnext_zepto_rms",
    "convnextv2_atto",
    "cpubone_nano",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "mixnet_s",
    "mobilenetv2_035",
    "mobilenetv2_100",
    "tf_efficientnet_cc_b0_4e",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "ghostnet_050",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_small",
    "levit_conv_128s",
    "lowformer_b0",
    "mambaout_femto",
    "coatnet_pico_rw_224",
    "coatnext_nano_rw_224",
    "convformer_s18",
    "poolformerv2_s12",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "nasnetalarge",
    "nextvit_small",
    "dm_nfnet_f0",
    "nf_regnet_b0",
    "pnasnet5large",
    "rdnet_tiny",
    "regnetx_002",
    "regnety_002",
    "regnetz_005",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "ecaresnet26t",
    "resnet10t",
    "resnetblur50",
    "resnext50_32x4d",
    "resnetv2_18",
    "rexnet_100",
    "selecsls42",
    "legacy_seresnet18",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "tresnet_m",
    "vgg11",
    "visformer_tiny",
    "vit_small_r26_s32_224",
    "ese_vovnet19b_slim_dw",
    "legacy_xception",
    "xception41p",
)

# These take so long that they are scaled in width only.
LARGE = ("hrnet_w18_small", "nasnetalarge", "pnasnet5large", "selecsls42")

# Where a network is refused today: (name, strategy) -> the start of the message, as a pattern.
_FIXED = "^timm:{} has a number in its code that does not follow its widths: RuntimeError: {}"
REFUSED = {
    (name, strategy): _FIXED.format(name, reason)
    for name, strategies, reason in (
        (
            "tf_efficientnet_cc_b0_4e",
            ("w", "dWr"),
            "(Invalid channel dimensions|running_mean should contain) .*",
        ),
    )
    for strategy in strategies
}

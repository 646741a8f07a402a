"""Descriptions in YAML files: our own, and those of the public reference code."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import yaml

import convscale as cs
from convscale import families
from convscale.cli.main import run
from convscale.errors import InputError
from convscale.families.reference import from_reference
from tests.test_paper_families import PAGE, random_regnet
from tests.test_paper_modules import random_anynet, random_efficientnet


@pytest.mark.parametrize("seed", range(15))
def test_descriptions_survive_a_yaml_file(seed, tmp_path):
    draw = random.Random(seed)
    for net in (random_anynet(draw), random_efficientnet(draw)):
        families.write_yaml(net, tmp_path / "net.yaml")
        assert families.read_yaml(tmp_path / "net.yaml") == net
    regnet = random_regnet(draw)
    families.write_yaml(regnet, tmp_path / "net.yaml")
    assert families.read_yaml(tmp_path / "net.yaml") == regnet.anynet()


REFERENCE = {
    "RegNetY-4.0GF": """
MODEL: {TYPE: regnet, NUM_CLASSES: 1000}
REGNET: {SE_ON: true, DEPTH: 22, W0: 96, WA: 31.41, WM: 2.24, GROUP_W: 64}
OPTIM: {LR_POLICY: cos}
""",
    "RegNetX-400MF": """
MODEL: {TYPE: anynet, NUM_CLASSES: 1000}
ANYNET:
  STEM_TYPE: simple_stem_in
  STEM_W: 32
  BLOCK_TYPE: res_bottleneck_block
  DEPTHS: [1, 2, 7, 12]
  WIDTHS: [32, 64, 160, 384]
  STRIDES: [2, 2, 2, 2]
  BOT_MULS: [1.0, 1.0, 1.0, 1.0]
  GROUP_WS: [16, 16, 16, 16]
TRAIN: {IM_SIZE: 224}
TEST: {IM_SIZE: 256}
""",
    "EfficientNet-B0": """
MODEL: {TYPE: effnet, NUM_CLASSES: 1000}
EN:
  STEM_W: 32
  STRIDES: [1, 2, 2, 2, 1, 2, 1]
  DEPTHS: [1, 2, 2, 3, 3, 4, 1]
  WIDTHS: [16, 24, 40, 80, 112, 192, 320]
  EXP_RATIOS: [1, 6, 6, 6, 6, 6, 6]
  KERNELS: [3, 3, 5, 3, 5, 5, 3]
  HEAD_W: 1280
""",
    "ResNeXt-50-32x4d": """
MODEL: {TYPE: resnet, DEPTH: 50, NUM_CLASSES: 1000}
RESNET: {TRANS_FUN: bottleneck_transform, NUM_GROUPS: 32, WIDTH_PER_GROUP: 4, STRIDE_1X1: false}
""",
    "RegNetZ-4GF": """
MODEL: {TYPE: regnet, NUM_CLASSES: 1000, ACTIVATION_FUN: silu}
REGNET:
  BLOCK_TYPE: res_bottleneck_linear_block
  SE_ON: True
  DEPTH: 28
  W0: 48
  WA: 14.5
  WM: 2.226
  GROUP_W: 8
  BOT_MUL: 4.0
  HEAD_W: 1536
TRAIN: {IM_SIZE: 256}
TEST: {IM_SIZE: 293}
""",
}


@pytest.mark.parametrize("name", REFERENCE)
def test_files_of_the_reference_code_are_read(name, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(REFERENCE[name])
    assert families.read_yaml(path) == families.named(name)


BESIDE = """
OPTIM: {LR_POLICY: cos, WEIGHT_DECAY: 5.0e-5, MAX_EPOCH: 100}
DATA_LOADER: {NUM_WORKERS: 8}
BN: {USE_CUSTOM_WEIGHT_DECAY: true}
OUT_DIR: somewhere
NUM_GPUS: 8
3: 4
"""


@pytest.mark.parametrize("name", REFERENCE)
def test_sections_beside_the_network_and_small_letters_do_not_matter(name, tmp_path):
    document = yaml.safe_load(REFERENCE[name]) | yaml.safe_load(BESIDE)
    document["MODEL"]["LOSS_FUN"] = "cross_entropy"
    document["TRAIN"] = {"BATCH_SIZE": 512, **document.get("TRAIN", {})}
    path = tmp_path / "net.yaml"
    path.write_text(yaml.safe_dump(document))
    assert families.read_yaml(path) == families.named(name)
    small = {
        str(section).lower(): {entry.lower(): value for entry, value in entries.items()}
        for section, entries in yaml.safe_load(REFERENCE[name]).items()
    }
    path.write_text(yaml.safe_dump(small))
    assert families.read_yaml(path) == families.named(name)


def test_what_a_file_leaves_out_has_the_default_of_the_reference_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "MODEL: {TYPE: anynet}\n"
        "ANYNET: {DEPTHS: [1, 2], WIDTHS: [32, 64], STRIDES: [1, 2]}\n"
        "TRAIN:\n"  # all entries left out
    )
    net = families.read_yaml(path)
    assert (net.bottleneck_multipliers, net.group_widths) == ((1, 1), (1, 1))
    assert (net.num_classes, net.resolution, net.test_resolution) == (10, 224, 256)
    assert (net.stem_width, net.head_width, net.se_ratio) == (32, 0, 0.0)
    assert (net.block, net.stem, net.activation) == ("bottleneck", "simple", "relu")


def test_what_a_file_sets_to_null_has_the_default_of_the_reference_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "MODEL: {TYPE: anynet, ACTIVATION_FUN: null}\n"
        "ANYNET: {DEPTHS: [1, 2], WIDTHS: [32, 64], STRIDES: [1, 2], BOT_MULS: null,\n"
        "  GROUP_WS: [null, null], HEAD_W: null, STEM_TYPE: null, SE_ON: null}\n"
        "TEST: {IM_SIZE: null}\n"
    )
    net = families.read_yaml(path)
    assert (net.bottleneck_multipliers, net.group_widths) == ((1, 1), (1, 1))
    assert (net.head_width, net.stem, net.se_ratio) == (0, "simple", 0.0)
    assert (net.activation, net.test_resolution) == ("relu", 256)


@pytest.mark.parametrize("block", ["res_basic_block", "vanilla_block"])
def test_widths_of_basic_regnets_fit_the_group_width_that_they_do_not_have(block):
    """24, 56, 152 and 368 become multiples of 16, half to even, as in the reference code."""
    net = from_reference(
        {
            "MODEL": {"TYPE": "regnet"},
            "REGNET": {"BLOCK_TYPE": block, "DEPTH": 13, "W0": 24, "WA": 36.44, "WM": 2.49},
        }
    )
    assert net.anynet().widths == net.anynet().group_widths == (32, 64, 160, 368)
    values = ("depth", "w0", "wa", "wm", "group_width")
    for multiplier in (1.0, 0.25, 2.0):
        one = replace(net, bottleneck_multiplier=multiplier)
        many = families.count_regnets(
            net,
            **{name: [getattr(net, name)] for name in values},
            bottleneck_multiplier=multiplier,
        )
        cost = families.count(one.anynet())
        assert (many.flops, many.params, many.acts) == (cost.flops, cost.params, cost.acts)


def test_small_resnets_of_the_reference_code_have_three_stages():
    net = from_reference(
        {
            "MODEL": {"TYPE": "resnet", "DEPTH": 56},
            "TRAIN": {"DATASET": "cifar10", "IM_SIZE": 32},
            "TEST": {"IM_SIZE": 32},
        }
    )
    # arXiv 1512.03385, section 4.2: 6n + 2 layers, 0.85 M params at n = 9
    assert (net.depths, net.widths, net.resolution) == ((9, 9, 9), (16, 32, 64), 32)
    assert f"{families.count(net).params / 1e6:.2f}" == "0.86"  # with projections
    assert net.num_classes == 10


def test_a_file_stands_for_a_network_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "net.yaml"
    path.write_text(REFERENCE["RegNetX-400MF"])
    assert run(["count", str(path), "--json"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["network"] == str(path)
    assert document["flops"] == families.count(families.named("RegNetX-400MF")).flops
    scaled = cs.scale(str(path), strategy="w", factor=2, num_classes=10, weights=False)
    assert scaled.module.head.classifier.out_features == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family: anynet\ndepths: [1\n", "net.yaml is no YAML: while parsing a flow sequence .*"),
        ("- 1\n", "net.yaml: A description is a table of entries, but \\[1\\] came. .*"),
        ("family: vgg\n", "net.yaml: The family is 'vgg'; it must be one of anynet, regnet, .*"),
        (
            "family: regnet\ndepht: 12\nw0: 20\nwa: 8.0\nwm: 2\ngroup_width: x\nstem: deep\n",
            "net.yaml: This is no regnet: depht is no entry of it, did you mean depth\\?; "
            "depth is missing; w0 is 20, it must be a multiple of 8; "
            "group_width is 'x', it must be an integer of at least 1; "
            "stem is 'deep', it must be one of simple, pooled, small.",
        ),
        (
            "family: anynet\ndepths: [1, 2]\nwidths: [8]\nstrides: [1, 2]\n"
            "bottleneck_multipliers: [1, 1]\ngroup_widths: [8, 8]\n",
            "net.yaml: This is no anynet: all lists must have a value a stage, but their lengths "
            "are depths 2, widths 1, strides 2, group_widths 2, bottleneck_multipliers 2.",
        ),
        (
            "MODEL: {TYPE: regnet, NUM_CLASSES: many}\nREGNET: {W0: 20, BLOCK_TYPE: best}\n",
            "net.yaml: REGNET.BLOCK_TYPE is 'best', it must be one of .*; MODEL.NUM_CLASSES is "
            "'many', it must be an integer; This is no regnet: w0 is 20, it must be .*",
        ),
        ("MODEL: {TYPE: vit}\n", "net.yaml: MODEL.TYPE is 'vit', it must be one of anynet, .*"),
        ("MODEL:\n", "net.yaml: MODEL.TYPE is missing, it must be one of anynet, .*"),
        ("MODEL: {TYPE: 3}\n", "net.yaml: MODEL.TYPE is 3, it must be one of anynet, .*"),
        ("DEPTHS: [1]\n", "net.yaml: The family is missing; it must be one of anynet, .*"),
        (
            "MODEL: {TYPE: regnet}\nREGNET: {DEPHT: 22, W0: 20, GROUPW: 64}\n",
            "net.yaml: REGNET.DEPHT is no entry of it, did you mean DEPTH\\?; REGNET.GROUPW is no "
            "entry of it, did you mean GROUP_W\\?; This is no regnet: w0 is 20, .*",
        ),
        (
            "MODEL: {TYPE: regnet}\nREGNETS: {DEPTH: 22}\n",
            "net.yaml: REGNET is missing, did you mean REGNETS\\?.",
        ),
        (
            "MODEL: {TYPE: effnet, NUM_CLASSES: -1}\nEN: {DEPTHS: [1, x], WIDTHS: [8, 8]}\n",
            "net.yaml: EN.DEPTHS is \\[1, 'x'\\], it must be a list of numbers; EN.STRIDES is "
            "missing; EN.EXP_RATIOS is missing; EN.KERNELS is missing; This is no efficientnet: "
            "num_classes is -1, it must be an integer of at least 1.",
        ),
        (
            "MODEL: {TYPE: resnet, DEPTH: 9}\nTRAIN: {DATASET: cifar10}\n"
            "RESNET: {TRANS_FUN: bottleneck_transform, NUM_GROUPS: 2}\n",
            "net.yaml: RESNET.TRANS_FUN is 'bottleneck_transform', on cifar10 it must be basic_.*"
            "; MODEL.DEPTH is 9, on cifar10 it must be 6n \\+ 2.",
        ),
        (
            "MODEL: {TYPE: regnet, NUM_CLASES: 1000}\nTRAIN: {IMG_SIZE: 96, BATCH_SIZE: 8}\n",
            "net.yaml: MODEL.NUM_CLASES is no entry of it, did you mean NUM_CLASSES\\?; "
            "TRAIN.IMG_SIZE is no entry of it, did you mean IM_SIZE\\?.",
        ),
        (
            "family: anynet\nwidths: [8]\nwidths: [16]\n",
            "net.yaml: widths stands twice, in lines 2 and 3. This is no anynet: depths is .*",
        ),
        (
            "MODEL: {TYPE: regnet}\nREGNET: {WA: 5, wa: 6}\n",
            "net.yaml: REGNET.WA stands twice, in capitals and in small letters.",
        ),
        ("MODEL: {TYPE: resnet}\n", "net.yaml: RESNET.TRANS_FUN is .*; MODEL.DEPTH is 0, .*"),
        ("MODEL: {TYPE: anynet}\nANYNET: 3\n", "net.yaml: ANYNET is 3, it must be a table .*"),
    ],
)
def test_all_mistakes_of_a_file_are_named_in_one_line(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(text)
    with pytest.raises(InputError, match=f"^{message}$") as caught:
        families.read_yaml("net.yaml")
    assert run(["count", "net.yaml"]) == 2
    assert capsys.readouterr().err == f"convscale: {caught.value.line}\n"


def test_an_entry_that_stands_twice_is_a_mistake_by_itself(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("family: regnet\ndepth: 22\nw0: 24\nwa: 24.48\nwm: 2.54\nwm: 2.5\n"
                    "group_width: 16\n")  # fmt: skip
    with pytest.raises(InputError, match=r"net.yaml: wm stands twice, in lines 5 and 6\.$"):
        families.read_yaml(path)
    path.write_text("family: regnet\ndepth: 22\nw0: 24\nwa: 2448e-2\nwm: 2.54e0\ngroup_width: 16\n")
    assert families.read_yaml(path) == families.named("RegNetX-400MF")


def test_a_yaml_file_cannot_run_code(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("!!python/object/apply:os.system ['false']\n")
    with pytest.raises(InputError, match="^.*net.yaml is no YAML: could not determine a con.*$"):
        families.read_yaml(path)


def test_the_files_of_the_page_on_families_are_one_network(tmp_path):
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert families.read_yaml(path) == families.named("RegNetY-4.0GF")

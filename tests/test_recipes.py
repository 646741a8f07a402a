"""Recipes: every knob in one file, all mistakes at once, rates that grow with scale."""

from __future__ import annotations

import re
from math import log2

import pytest

from convscale.errors import InputError
from convscale.training.recipe import HIGHEST_RATE, Recipe
from convscale.training.recipe_files import NAMES, read_recipe, write_recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_that_is_written_reads_back_as_itself(name, tmp_path):
    recipe = read_recipe(name)
    file = tmp_path / "mine.yaml"
    file.write_text(write_recipe(recipe))
    assert read_recipe(str(file)) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_knob_stands_in_the_files_that_come_along(name):
    text = write_recipe(read_recipe(name))
    assert [line.split(":")[0] for line in text.splitlines()] == list(Recipe.model_fields)


def test_what_a_file_leaves_out_is_as_in_basic(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("lr: 0.3\n")
    basic = read_recipe("basic").as_document()
    mine = read_recipe(str(file)).as_document()
    assert {k for k in basic if basic[k] != mine[k]} == {"lr", "summary"}


def test_the_strong_recipe_has_what_strong_recipes_have():
    strong, basic = read_recipe("strong"), read_recipe("basic")
    assert strong.epochs > basic.epochs
    assert strong.label_smoothing > 0
    assert strong.augment.startswith("rand-")
    assert strong.mixup > 0
    assert strong.drop_path > 0
    assert strong.drop_path_growth > 0
    assert strong.dropout > 0
    assert strong.dropout_growth > 0
    assert strong.ema is not None
    assert strong.warmup_epochs > 0
    for recipe in (strong, basic):
        assert recipe.schedule == "cosine"
        assert recipe.lr_batch is not None
        assert not recipe.decay_norms_and_biases


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0, 4.0, 16.0, 1e9, 1e-9])
def test_rates_grow_linearly_with_the_logarithm_of_the_scale(scale):
    recipe = Recipe(drop_path=0.1, drop_path_growth=0.05, dropout=0.2, dropout_growth=-0.02)
    rates = recipe.rates(scale)
    limited = [
        min(HIGHEST_RATE, max(0.0, start + growth * log2(scale)))
        for start, growth in ((0.1, 0.05), (0.2, -0.02))
    ]
    assert list(rates.values()) == pytest.approx(limited, abs=1e-6)


@pytest.mark.parametrize("batch", [32, 128, 256, 1024])
def test_the_learning_rate_is_linear_in_the_batch(batch):
    assert Recipe(lr=0.2, lr_batch=256, batch_size=batch).peak_lr == 0.2 * batch / 256
    assert Recipe(lr=0.2, lr_batch=None, batch_size=batch).peak_lr == 0.2


def test_epochs_stretch_the_warm_up_with_them():
    assert read_recipe("basic", epochs=10).warmup_epochs == 0.5
    assert read_recipe("basic", ["warmup_epochs=2"], epochs=10).warmup_epochs == 2
    with pytest.raises(InputError, match=re.escape("warmup_epochs is 2 and epochs is 1")):
        read_recipe("basic", ["warmup_epochs=2"], epochs=1)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(
        "lr: fast\nepochs: 0\nlabel_smooth: 0.1\nlabel_smoothing: 0.1\nlabel_smoothing: 0.2\n"
        "augment: rnd-m9\ntrain_resolution: [1]\nmixup: 0.2\nbatch_size: 33\n"
    )
    with pytest.raises(InputError) as found:
        read_recipe(str(file), ["ema=2", "lr 3"])
    for part in (
        "lr: input should be a valid number (it is 'fast')",
        "epochs: input should be greater than or equal to 1 (it is 0)",
        "label_smooth is unknown (did you mean label_smoothing?)",
        "label_smoothing stands twice, in lines 4 and 5",
        "augment: write none, flip-crop, or a policy such as rand-m9-mstd0.5 (it is 'rnd-m9')",
        "train_resolution: write a value such as 224, [256, 128], null (it is [1])",
        "batch_size is 33; it must be even",
        "ema: input should be less than 1 (it is 2)",
        "'lr 3' is no setting; write KEY=VALUE",
    ):
        assert part in found.value.line


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("learning_rate=1", "did you mean lr?"),
        ("warmup=1", "did you mean warmup_epochs?"),
        ("lr=", "is no setting"),
        ("lr=.nan", "lr: input should be a finite number"),
        ("lr=true", "lr: input should be a valid number"),
        ("epochs=1.5", "epochs: input should be a valid integer"),
        ("epochs=1_000_000_000_000", "epochs: input should be less than"),
        ("lr=[", "lr: '[' is no YAML"),
        ("crop_scale=[1.0, 0.5]", "write two shares above 0, the smaller first"),
        ("precision=fp8", "precision: input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ("channels_last=maybe", "channels_last: write a value such as auto, true, false"),
        ("workers=-1", "workers: write a value such as auto, 4"),
        ("seed=-1", "seed: input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_setting_is_refused(setting, told):
    with pytest.raises(InputError, match=re.escape(told)):
        read_recipe("basic", [setting])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("strng", "Unknown recipe 'strng'. Did you mean strong?"),
        ("none.yaml", "There is no file none.yaml."),
        ("", "Unknown recipe ''."),
    ],
)
def test_an_unknown_recipe_is_refused(name, told):
    with pytest.raises(InputError, match=re.escape(told)):
        read_recipe(name)


def test_a_file_that_holds_no_mapping_is_refused(tmp_path):
    for text in ("- lr\n", "", "3\n"):
        file = tmp_path / "list.yaml"
        file.write_text(text)
        with pytest.raises(InputError, match="holds no mapping"):
            read_recipe(str(file))


@pytest.mark.parametrize(
    "policy", ["none", "flip-crop", "rand-m9-mstd0.5-inc1", "rand-n2-m7", "augmix-m5-w4-d2", "3a"]
)
def test_policies_of_timm_are_taken(policy):
    assert read_recipe("basic", [f"augment={policy}"]).augment == policy
